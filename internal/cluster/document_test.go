package cluster

import "testing"

func parse(t testing.TB, text string) Value {
	t.Helper()
	v, err := ParseValue([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestMerge(t *testing.T) {
	tests := []struct {
		name, base, patch, want string
		changed                 bool
	}{
		{"nothing", `{"a":1}`, `{}`, `{"a":1}`, false},
		{"null removes", `{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`, true},
		{"null of nothing", `{"a":1}`, `{"b":null}`, `{"a":1}`, false},
		{"same text keeps the type", `{"ttl":20}`, `{"ttl":"20"}`, `{"ttl":20}`, false},
		{"other text replaces", `{"ttl":20,"x":1}`, `{"ttl":"21"}`, `{"ttl":"21","x":1}`, true},
		{"spelling of numbers counts", `{"x":1.0}`, `{"x":1}`, `{"x":1}`, true},
		{"true is not \"true\"", `{"x":true}`, `{"x":"true"}`, `{"x":"true"}`, true},
		{"true is \"True\"", `{"x":true}`, `{"x":"True"}`, `{"x":true}`, false},
		{"objects merge", `{"p":{"a":1,"b":{"c":2}}}`, `{"p":{"b":{"c":null,"d":3}}}`, `{"p":{"a":1,"b":{"d":3}}}`, true},
		{"objects merge to the same", `{"p":{"a":1}}`, `{"p":{"a":"1","z":null}}`, `{"p":{"a":1}}`, false},
		{"object over scalar", `{"p":1}`, `{"p":{"a":1}}`, `{"p":{"a":1}}`, true},
		{"scalar over object", `{"p":{"a":1}}`, `{"p":"{\"a\":1}"}`, `{"p":"{\"a\":1}"}`, true},
		{"lists are replaced", `{"l":[1,2]}`, `{"l":[2]}`, `{"l":[2]}`, true},
		{"new ones at the end, nulls inside kept", `{"z":1}`, `{"a":{"n":null}}`, `{"z":1,"a":{"n":null}}`, true},
	}
	for _, c := range tests {
		base := parse(t, c.base)
		have, changed := base.Merge(parse(t, c.patch))
		if string(have.Encode()) != c.want || changed != c.changed {
			t.Errorf("%s: have %s, %v; want %s, %v", c.name, have.Encode(), changed, c.want, c.changed)
		}
		if string(base.Encode()) != c.base {
			t.Errorf("%s: the base became %s, want %s", c.name, base.Encode(), c.base)
		}
	}
}

func TestSet(t *testing.T) {
	base := parse(t, `{"a":1,"p":{"q":2}}`)
	tests := []struct {
		value Value
		path  []string
		want  string
	}{
		{Int(5), []string{"a"}, `{"a":5,"p":{"q":2}}`},
		{Flag(true), []string{"pause"}, `{"a":1,"p":{"q":2},"pause":true}`},
		{Text("x"), []string{"p", "r", "s"}, `{"a":1,"p":{"q":2,"r":{"s":"x"}}}`},
		{Int(1), []string{"a", "b"}, `{"a":{"b":1},"p":{"q":2}}`},
		{Value{}, []string{"p", "q"}, `{"a":1,"p":{}}`},
		{Value{}, []string{"none"}, `{"a":1,"p":{"q":2}}`},
	}
	for _, c := range tests {
		if have := string(base.Set(c.value, c.path...).Encode()); have != c.want {
			t.Errorf("%v = %s: have %s, want %s", c.path, c.value, have, c.want)
		}
	}
	if have := string(base.Encode()); have != `{"a":1,"p":{"q":2}}` {
		t.Errorf("the base became %s", have)
	}
}

func TestEncodeIsASCII(t *testing.T) {
	v := parse(t, `{ "é" : "\u001f\b\f\n\r\t\"\\/<>&\u007f😀", "n": [1.50, -0, 1e5, true, null] }`)
	const want = `{"\u00e9":"\u001f\b\f\n\r\t\"\\/<>&\u007f\ud83d\ude00","n":[1.50,-0,1e5,true,null]}`
	if have := string(v.Encode()); have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}

func TestParseValueRefuses(t *testing.T) {
	deep := make([]byte, 100000)
	for i := range deep {
		deep[i] = '['
	}
	for _, text := range []string{"", "{", "[1", `{"a":1}x`, `{"a" 1}`, "nul", `{"a":}`, string(deep)} {
		if v, err := ParseValue([]byte(text)); err == nil {
			t.Errorf("%.20q: have %s, want an error", text, v)
		}
	}
}

func TestLastOfTwoEqualNamesWins(t *testing.T) {
	if have := string(parse(t, `{"a":1,"b":2,"a":3}`).Encode()); have != `{"a":3,"b":2}` {
		t.Errorf("have %s", have)
	}
}
