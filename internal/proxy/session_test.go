package proxy

import (
	"strings"
	"testing"
)

// What a server says until a client has got through, in pieces of any size.
func TestStartup(t *testing.T) {
	message := func(kind byte, body string) string {
		n := len(body) + 4
		return string([]byte{kind, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + body
	}
	sasl := message('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00")
	done := message('R', "\x00\x00\x00\x00") + message('S', "Z\x00Z\x00") + message('K', "ZZZZZZZZ")
	for name, c := range map[string]struct {
		said          string
		ready, secret bool
	}{
		"nothing":                      {"", false, false},
		"a password is asked for":      {sasl, false, false},
		"in, but not ready":            {sasl + done, false, false},
		"ready":                        {sasl + done + message('Z', "I"), true, false},
		"no encryption, ready":         {"NN" + sasl + done + message('Z', "I"), true, false},
		"TLS":                          {"S" + "\x16\x03\x03", false, true},
		"no GSSAPI, TLS":               {"NS", false, true},
		"GSSAPI":                       {"G", false, true},
		"TLS without a question":       {"\x16\x03\x03", false, true},
		"an error":                     {message('E', "SFATAL\x00\x00"), false, false},
		"another version, then ready":  {message('v', "\x00\x03\x00\x00\x00\x00\x00\x00") + done + message('Z', "I"), true, false},
		"a notice in between":          {done + message('N', strings.Repeat("Z", 5000)) + message('Z', "I"), true, false},
		"no length can be so short":    {"R\x00\x00\x00\x01", false, true},
		"nobody sends such a message":  {"R\x7f\x00\x00\x00", false, true},
		"ready, and what follows is T": {done + message('Z', "I") + "S", true, false},
	} {
		for _, size := range []int{1, 3, 4096, 1 << 20} {
			var u startup
			for rest := c.said; len(rest) > 0 && u.waits(); {
				n := min(size, len(rest))
				u.see([]byte(rest[:n]))
				rest = rest[n:]
			}
			if u.ready != c.ready || u.secret != c.secret {
				t.Errorf("%s, in pieces of %d: have ready %t, secret %t, want %t, %t", name, size, u.ready, u.secret, c.ready, c.secret)
			}
		}
	}
}
