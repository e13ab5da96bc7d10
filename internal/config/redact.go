package config

import (
	"net/url"
	"strings"
)

// secretKeys are the keys whose values never appear in findings, differences and logs.
var secretKeys = map[string]bool{"password": true, "keyfile_password": true, "sslpassword": true, "key_password": true,
	"token": true, "auth_data": true, "passphrase": true}

// show is a value's text form for people: what may be a secret is hidden.
func show(path string, v any) string {
	keys := strings.Split(path, ".")
	last := keys[len(keys)-1]
	if secretKeys[last] && v != nil {
		return hidden
	}
	return Text(redact(v))
}

// Redacted returns a copy of a document with the secrets hidden.
func Redacted(m *Map) *Map { return redact(m).(*Map) }

func redact(v any) any {
	switch v := v.(type) {
	case *Map:
		out := NewMap()
		for _, key := range v.Keys() {
			value, _ := v.Lookup(key)
			if secretKeys[key] && value != nil {
				value = hidden
			}
			out.set(key, redact(value), v.Origin(key))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = redact(v[i])
		}
		return out
	case string:
		return redactURL(v)
	default:
		return v
	}
}

// redactURL hides the password of an URL.
func redactURL(s string) string {
	if !strings.Contains(s, "://") || !strings.Contains(s, "@") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return hidden // no telling where the password ends
	}
	return u.Redacted()
}
