package config

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestScalarsAreYAML11(t *testing.T) {
	for text, want := range map[string]any{
		"on": true, "Off": false, "YES": true, "no": false, "True": true, "tRue": "tRue", "y": "y", "n": "n",
		"0644": int64(420), "0x1F": int64(31), "0b11": int64(3), "1_000": int64(1000), "1:30": int64(90), "-1:30": int64(-90),
		"0o644": "0o644", "08": "08", "08:30": "08:30", "127.0.0.1:5432": "127.0.0.1:5432",
		"1e3": "1e3", "1.0e3": "1.0e3", "1.0e+3": 1000.0, "1:30.5": 90.5, ".5": 0.5, "-.inf": math.Inf(-1), "1.": 1.0,
		"~": nil, "null": nil, "": nil, "2024-01-01": "2024-01-01", "'on'": "on", `"5"`: "5", "!!str 5": "5", "!!int '5'": int64(5),
		"99999999999999999999": 1e20, "0x_": "0x_",
	} {
		have, err := ParseYAML("x", []byte(text))
		if err != nil || have != want {
			t.Errorf("%q: have %#v (%v), want %#v", text, have, err, want)
		}
	}
}

func TestStructure(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"last of equal keys wins", "a: 1\nb: 2\na: 3", `{"a":3,"b":2}`},
		{"merge key", "x: &x {a: 1, b: 2}\ny: {b: 3, <<: *x}", `{"x":{"a":1,"b":2},"y":{"a":1,"b":3}}`},
		{"first of several merged wins", "y: {<<: [{a: 1}, {a: 2, b: 2}]}", `{"y":{"a":1,"b":2}}`},
		{"anchors", "a: &p [1, on]\nb: *p", `{"a":[1,true],"b":[1,true]}`},
		{"keys are text", "1: a\non: b", `{"1":"a","True":"b"}`},
		{"block text", "a: |\n  on\n", `{"a":"on\n"}`},
		{"order stays", "z: 1\na: 2", `{"z":1,"a":2}`},
		{"empty", "", `null`},
		{"infinity has no JSON", "a: .inf", `{"a":"inf"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := ParseYAML("x", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if have, err := json.Marshal(v); err != nil || string(have) != c.want {
				t.Errorf("have %s (%v), want %s", have, err, c.want)
			}
		})
	}
}

func TestMistakesAreReportedTogetherWithTheirLines(t *testing.T) {
	_, err := ParseYAML("x.yml", []byte("a: !!int no\nb: {? [k] : 1}\nc: &c [*c]\nd: !!python/name:x y\ne: {<<: 1}\n"))
	if err == nil {
		t.Fatal("have no error, want five")
	}
	for _, want := range []string{"x.yml:1: no is tagged as an integer", "x.yml:2: a key is a list", "x.yml:3: alias *c contains itself",
		"x.yml:4: could not determine a constructor", "x.yml:5: << needs a mapping"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("have %v, want also %s", err, want)
		}
	}
}

func TestSecondDocumentIsRefused(t *testing.T) {
	if _, err := ParseYAML("x.yml", []byte("a: 1\n---\nb: 2\n")); err == nil || !strings.Contains(err.Error(), "second document") {
		t.Errorf("have %v, want an error about the second document", err)
	}
}

func TestAliasBombIsRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 10; i++ {
		n, p := string(rune('0'+i)), string(rune('0'+i-1))
		b.WriteString("a" + n + ": &a" + n + " [" + strings.TrimSuffix(strings.Repeat("*a"+p+",", 10), ",") + "]\n")
	}
	if _, err := ParseYAML("x.yml", []byte(b.String())); err == nil {
		t.Error("have no error, want a refusal of 10^10 values")
	}
}

// What we print is read back as the same, whatever is in it.
func TestPrintedYAMLReadsBack(t *testing.T) {
	words := []string{"on", "0644", "1:30", "~", "", "a: b", "- x", "it's", "* #", "x\ny", "null", "=", "1_0", " lead", "é", "!tag", "&a", "%x", "@y", "0o7", "1e3"}
	value := rapid.OneOf(
		rapid.SampledFrom(words).AsAny(), rapid.String().Filter(printable).AsAny(), rapid.Int64().AsAny(), rapid.Bool().AsAny(),
		rapid.Just[any](nil), rapid.Float64Range(-1e9, 1e9).AsAny())
	rapid.Check(t, func(t *rapid.T) {
		m := NewMap()
		for range rapid.IntRange(0, 5).Draw(t, "keys") {
			m.Set(rapid.SampledFrom(words).Draw(t, "key"), value.Draw(t, "value"))
		}
		m.Set("list", []any{value.Draw(t, "item"), NewMap()})
		text := YAML(m)
		back, err := ParseYAML("x", text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !Equal(m, back) {
			t.Fatalf("have %s, want %s; printed\n%s", Text(back), Text(m), text)
		}
	})
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return r < ' ' || r == 0x7f || r > 0x2fff || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029
	}) < 0
}

func FuzzEverythingBeforeAStart(f *testing.F) {
	for _, seed := range []string{"a: 1", "postgresql: {listen: '[::1]:5', parameters: {a: .inf}}", "a: &a [*a]", "<<: {<<: 1}", "restapi: {listen: x:y}",
		"etcd3: {url: 'http://u:p@h'}", "bootstrap: {dcs: {ttl: 1e99, postgresql: {parameters: []}}, initdb: [1, {a: b, c: d}]}",
		"postgresql: {authentication: 1, rewind: {m: {command: x}}}", "log: {format: [{a: b}]}\ntags: {nosync: 1, sync_priority: -1}", "raft: on"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) { survive(text) })
}

// survive takes a text through all that happens to it before a start.
func survive(text string) {
	v, err := ParseYAML("x", []byte(text))
	m, ok := v.(*Map)
	if err != nil || !ok {
		return
	}
	file := &File{Document: m}
	_, _ = file.Settings()
	Validate(file, Options{Probes: Probes{
		Resolve: func(string) error { return nil }, Answers: func(string) bool { return false },
		Version: func(string) string { return "" }, LookupBin: func(string) string { return "" },
	}})
	s := readBootstrap(m.Map("bootstrap"))
	if e, _, err := NewEffective(file, s.DCS); err == nil {
		e.ForRole("primary")
		Diff(e, Effective{})
	}
	YAML(Redacted(m))
}

func TestNothingPanics(t *testing.T) {
	sections := []string{"scope", "name", "restapi", "ctl", "etcd3", "raft", "bootstrap", "dcs", "postgresql", "parameters", "authentication",
		"superuser", "initdb", "tags", "log", "format", "watchdog", "mode", "listen", "ttl", "hosts", "url", "pg_hba", "<<", "standby_cluster",
		"max_connections", "wal_keep_segments", "command", "nosync", "sync_priority", "callbacks", "basebackup"}
	leaf := rapid.SampledFrom([]string{"1", "on", "~", "x", "[]", "{}", "-1", "99999999999999999999", "1:30", "'::1'", "'*:5'", "'http://a:b@c'",
		"0.5", "[{a: b}, 1, ~]", ".nan", "'[::]:5432'", "':'", "','", "1e+300", "&a [*a]"})
	var build func(t *rapid.T, depth int) string
	build = func(t *rapid.T, depth int) string {
		if depth == 0 || rapid.IntRange(0, 3).Draw(t, "leaf") == 0 {
			return leaf.Draw(t, "value")
		}
		var parts []string
		for range rapid.IntRange(1, 4).Draw(t, "keys") {
			parts = append(parts, rapid.SampledFrom(sections).Draw(t, "key")+": "+build(t, depth-1))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	rapid.Check(t, func(t *rapid.T) { survive(build(t, 4)) })
}
