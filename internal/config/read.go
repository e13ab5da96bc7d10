package config

import (
	"slices"
	"strings"
)

// word reads a text; a number or a boolean counts by its text form, a list or mapping does not.
func word(m *Map, key, otherwise string) string {
	v, ok := m.Lookup(key)
	if !ok || !scalar(v) || v == "" {
		return otherwise
	}
	return Text(v)
}

func scalar(v any) bool {
	switch v.(type) {
	case nil, []any, *Map:
		return false
	}
	return true
}

func secret(m *Map, key string) Secret { return NewSecret(word(m, key, "")) }

func flag(m *Map, key string, otherwise bool) bool {
	if v, ok := m.Lookup(key); ok && v != nil {
		b, _ := parseBool(v)
		return b
	}
	return otherwise
}

func number(m *Map, key string, otherwise int64) int64 {
	v, _ := m.Lookup(key)
	if n, ok := parseInt(v, "s"); ok {
		return n
	}
	return otherwise
}

// words reads a list, or text with commas; nil when absent.
func words(m *Map, key string) []string {
	v, _ := m.Lookup(key)
	var out []string
	switch v := v.(type) {
	case []any:
		out = []string{}
		for _, item := range v {
			if item != nil {
				out = append(out, Text(item))
			}
		}
	case string:
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// lines reads a list whose items may have commas in them; nil when there is no list.
func lines(m *Map, key string) []string {
	if _, ok := m.Get(key).([]any); !ok {
		return nil
	}
	return words(m, key)
}

// table reads a mapping of text forms; nil when absent. A null drops its key.
func table(m *Map, key string) map[string]string {
	sub := m.Map(key)
	if sub == nil {
		return nil
	}
	out := make(map[string]string, sub.Len())
	for _, p := range sub.pairs {
		if p.value != nil {
			out[p.key] = Text(p.value)
		}
	}
	return out
}

// oneOf returns the choice that text names in any case, else the first one.
func oneOf(text string, choices ...string) string {
	if i := slices.Index(choices, strings.ToLower(text)); i >= 0 {
		return choices[i]
	}
	return choices[0]
}

// options reads options of a program: a list of words and one-pair mappings, or a mapping.
func options(v any) []Option {
	switch v := v.(type) {
	case []any:
		var out []Option
		for _, item := range v {
			out = append(out, option(item)...)
		}
		return out
	case *Map:
		return option(v)
	}
	return nil
}

func option(v any) []Option {
	m, ok := v.(*Map)
	if !ok {
		if v == nil {
			return nil
		}
		return []Option{{Name: Text(v), Flag: true}}
	}
	return arguments(m)
}

// arguments turns the keys of a mapping into options, but for those named.
func arguments(m *Map, but ...string) []Option {
	var out []Option
	for _, key := range m.Keys() {
		if v, _ := m.Lookup(key); !slices.Contains(but, key) && v != nil {
			out = append(out, Option{Name: key, Value: Text(v)})
		}
	}
	return out
}

func credential(m *Map) Credential {
	a := m.Map("authentication")
	return Credential{Username: word(a, "username", ""), Password: secret(a, "password")}
}

func account(m *Map) Account {
	return Account{
		Username: word(m, "username", ""), Password: secret(m, "password"),
		SSLMode: word(m, "sslmode", ""), SSLCert: word(m, "sslcert", ""), SSLKey: word(m, "sslkey", ""),
		SSLPassword: secret(m, "sslpassword"), SSLRootCert: word(m, "sslrootcert", ""), SSLCRL: word(m, "sslcrl", ""),
		SSLCRLDir: word(m, "sslcrldir", ""), GSSEncMode: word(m, "gssencmode", ""),
		ChannelBinding: word(m, "channel_binding", ""), SSLNegotiation: word(m, "sslnegotiation", ""),
	}
}
