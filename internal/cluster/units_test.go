package cluster

import "testing"

func TestParseInt(t *testing.T) {
	tests := []struct {
		text, base string
		want       int64
		ok         bool
	}{
		{"10", "", 10, true},
		{" -7 ", "", -7, true},
		{"+7", "", 7, true},
		{"0x1F", "", 31, true},
		{"0644", "", 420, true},
		{"08", "", 0, false}, // no octal number, and 8 is no unit
		{"1.6", "", 2, true},
		{".5", "", 0, true}, // ties to even
		{"2.5", "", 2, true},
		{"1e3", "", 1000, true},
		{"1MB", "", 0, false}, // a unit of what?
		{"1MB", "kB", 1024, true},
		{"16 kB", "B", 16384, true},
		{"16KB", "B", 0, false},
		{"1mb", "B", 0, false},
		{"1GB", "8kB", 131072, true},
		{"1GB", "16MB", 64, true},
		{"1.5GB", "kB", 1536 * 1024, true},
		{"30.1GB", "kB", 30822 * 1024, true}, // first rounded to MB, as PostgreSQL does
		{"30min", "s", 1800, true},
		{"1h", "ms", 3600000, true},
		{"1500ms", "s", 2, true},
		{"2d", "min", 2880, true},
		{"1MB", "s", 0, false},
		{"1s", "kB", 0, false},
		{"", "s", 0, false},
		{"kB", "kB", 0, false},
		{"1 x", "s", 0, false},
		{"1e30", "", 0, false},
	}
	for _, c := range tests {
		if have, ok := ParseInt(c.text, c.base); ok != c.ok || ok && have != c.want {
			t.Errorf("ParseInt(%q, %q): have %d, %v; want %d, %v", c.text, c.base, have, ok, c.want, c.ok)
		}
	}
}

func TestParseReal(t *testing.T) {
	tests := []struct {
		text, base string
		want       float64
		ok         bool
	}{
		{"0.5", "", 0.5, true},
		{"-1e-2", "", -0.01, true},
		{"100us", "ms", 0.1, true},
		{"2s", "ms", 2000, true},
		{"0x10", "", 0, false},
		{"e5", "", 0, false},
		{"1e", "", 0, false},
	}
	for _, c := range tests {
		if have, ok := ParseReal(c.text, c.base); ok != c.ok || ok && have != c.want {
			t.Errorf("ParseReal(%q, %q): have %v, %v; want %v, %v", c.text, c.base, have, ok, c.want, c.ok)
		}
	}
}

func TestParseBool(t *testing.T) {
	for text, want := range map[string][2]bool{
		"on": {true, true}, "True": {true, true}, "YES": {true, true}, "1": {true, true},
		"off": {false, true}, "FALSE": {false, true}, "no": {false, true}, "0": {false, true},
		"": {false, false}, "y": {false, false}, "2": {false, false},
	} {
		if value, ok := ParseBool(text); value != want[0] || ok != want[1] {
			t.Errorf("%q: have %v, %v; want %v, %v", text, value, ok, want[0], want[1])
		}
	}
}

func TestLSN(t *testing.T) {
	for text, want := range map[string]LSN{"0/3000060": 50331744, "16/B374D848": 0x16B374D848, "0/0": 0, "FFFFFFFF/FFFFFFFF": 1<<64 - 1} {
		have, err := ParseLSN(text)
		if err != nil || have != want || have.String() != text {
			t.Errorf("%s: have %d %s, %v; want %d", text, have, have, err, want)
		}
	}
	for _, text := range []string{"", "0", "0/", "/0", "0/G", "100000000/0", "0/0/0", "-1/0"} {
		if have, err := ParseLSN(text); err == nil {
			t.Errorf("%q: have %d, want an error", text, have)
		}
	}
}
