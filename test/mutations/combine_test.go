package main

import (
	"strings"
	"testing"
)

// Nearly all mistakes are in one simulator, each in copies of the functions that it changes.
func TestCombine(t *testing.T) {
	list := append(mutations(), defects()...)
	files, apart, err := combine(root, list)
	if err != nil {
		t.Fatal(err)
	}
	alone := 0
	for i, m := range list {
		if apart[i] {
			t.Logf("%s needs a simulator of its own", m.Name)
			alone++
		}
	}
	if alone > len(list)/10 {
		t.Errorf("%d of %d mistakes need a simulator of their own, want a tenth at most", alone, len(list))
	}
	for name, text := range files {
		if _, err := declarations(name, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChanges(t *testing.T) {
	const before = "package p\n\nvar a = 1\n\nfunc (t *T) f(x int, more ...string) int { return x }\n\nfunc g(int) {}\n"
	for name, c := range map[string]struct{ from, to, head, copy string }{
		"a function":             {"return x", "return x + 1", " if mutation__ == 7 { return t.f__7(x, more...) };", "\nfunc (t *T) f__7(x int, more ...string) int { return x + 1 }\n"},
		"a variable":             {"a = 1", "a = 2", "", ""},
		"a parameter, no name":   {"g(int) {}", "g(int) { return }", "", ""},
		"a function more":        {"func g(int) {}", "func g(int) {}\nfunc h() {}", "", ""},
		"a function's name":      {"func g(", "func h(", "", ""},
		"a type in a signature ": {"func g(int", "func g(uint", "", ""},
	} {
		list, err := changes("p.go", before, strings.Replace(before, c.from, c.to, 1), 7)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case c.head == "" && list != nil:
			t.Errorf("%s: have %+v, want it left to a simulator of its own", name, list)
		case c.head != "" && (len(list) != 1 || list[0].head != c.head || list[0].copy != c.copy):
			t.Errorf("%s: have %+v, want %q and %q", name, list, c.head, c.copy)
		}
	}
}
