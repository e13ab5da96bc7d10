package main

import (
	"strings"
	"testing"
)

const root = "../.."

// The table follows the code: each text that it changes is there, once, and what comes out is Go.
func TestEveryMutationApplies(t *testing.T) {
	names := map[string]bool{}
	for _, m := range append(mutations(), defects()...) {
		if names[m.Name] {
			t.Errorf("%s is there twice", m.Name)
		}
		names[m.Name] = true
		if len(m.Expect) == 0 && m.Open == "" {
			t.Errorf("%s: no oracle is expected to see it", m.Name)
		}
		if _, err := mutate(root, m.Edits); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	if len(names) < 25 {
		t.Errorf("have %d mutations, want 25 at least", len(names))
	}
}

func TestMutateRefuses(t *testing.T) {
	const file = "internal/ha/decide.go"
	for name, c := range map[string]struct {
		e    edit
		want string
	}{
		"a text that is gone":       {edit{file, "no such text", ""}, "0 times"},
		"a text that occurs often":  {edit{file, "return", "return"}, "want it once"},
		"a file that is gone":       {edit{"internal/ha/no_such.go", "a", "b"}, "read what is to be mutated"},
		"what is not Go afterwards": {edit{file, "func Decide(v View) Decision {", "func Decide(v View) Decision"}, file},
	} {
		if _, err := mutate(root, []edit{c.e}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: have %v, want an error with %q", name, err, c.want)
		}
	}
}

// --check begins with the seeds that --write has written.
func TestTableIsReadBack(t *testing.T) {
	caught := outcome{mutation: mutation{Name: "a mistake", Edits: []edit{{}}}, Oracle: "V1", Seed: 17}
	silent := outcome{mutation: mutation{Name: "no mistake at all", Seeds: 20000}}
	have := recorded("before" + tableBegin + "\n" + table([]outcome{silent, caught}) + tableEnd + "after")
	if len(have) != 1 || have["a mistake"] != 17 {
		t.Errorf("have %v, want seed 17 of the mistake alone", have)
	}
}
