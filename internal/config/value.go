package config

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Origin is where a value was written; the zero value means nowhere in a file.
type Origin struct {
	File string // path of the file, or the name of the environment variable
	Line int    // from 1; 0 when there are no lines
}

func (o Origin) String() string {
	if o.Line == 0 {
		return o.File
	}
	return o.File + ":" + strconv.Itoa(o.Line)
}

// Map is a mapping of a document, in the order in which it was written. Values are nil, bool,
// int64, float64, string, []any and *Map. A nil *Map is an empty one to read from.
type Map struct {
	pairs []pair
	index map[string]int
}

type pair struct {
	key    string
	value  any
	origin Origin
}

// NewMap returns an empty mapping.
func NewMap() *Map { return &Map{index: map[string]int{}} }

// Len is the number of keys.
func (m *Map) Len() int {
	if m == nil {
		return 0
	}
	return len(m.pairs)
}

// Keys returns the keys in order.
func (m *Map) Keys() []string {
	keys := make([]string, 0, m.Len())
	if m != nil {
		for _, p := range m.pairs {
			keys = append(keys, p.key)
		}
	}
	return keys
}

// Lookup returns the value of a key; ok is false when it is absent (a null is present).
func (m *Map) Lookup(key string) (v any, ok bool) {
	if m == nil {
		return nil, false
	}
	i, ok := m.index[key]
	if !ok {
		return nil, false
	}
	return m.pairs[i].value, true
}

// Get returns the value at a path of keys, nil when it is absent.
func (m *Map) Get(path ...string) any {
	var v any = m
	for _, key := range path {
		sub, ok := v.(*Map)
		if !ok {
			return nil
		}
		v, _ = sub.Lookup(key)
	}
	return v
}

// Map returns the mapping at a path of keys, nil when there is none.
func (m *Map) Map(path ...string) *Map {
	sub, _ := m.Get(path...).(*Map)
	return sub
}

// Origin says where the key was written.
func (m *Map) Origin(key string) Origin {
	if m == nil {
		return Origin{}
	}
	if i, ok := m.index[key]; ok {
		return m.pairs[i].origin
	}
	return Origin{}
}

// Set replaces the value of a key or adds it at the end.
func (m *Map) Set(key string, v any) { m.set(key, v, Origin{}) }

func (m *Map) set(key string, v any, o Origin) {
	if i, ok := m.index[key]; ok {
		m.pairs[i].value, m.pairs[i].origin = v, o
		return
	}
	m.index[key] = len(m.pairs)
	m.pairs = append(m.pairs, pair{key, v, o})
}

// Delete removes a key.
func (m *Map) Delete(key string) {
	i, ok := m.index[key]
	if !ok {
		return
	}
	m.pairs = append(m.pairs[:i:i], m.pairs[i+1:]...)
	delete(m.index, key)
	for ; i < len(m.pairs); i++ {
		m.index[m.pairs[i].key] = i
	}
}

// Clone returns a deep copy.
func (m *Map) Clone() *Map {
	c := NewMap()
	if m != nil {
		for _, p := range m.pairs {
			c.set(p.key, clone(p.value), p.origin)
		}
	}
	return c
}

func clone(v any) any {
	switch v := v.(type) {
	case *Map:
		return v.Clone()
	case []any:
		c := make([]any, len(v))
		for i := range v {
			c[i] = clone(v[i])
		}
		return c
	default:
		return v
	}
}

// Format prints the document with its secrets hidden, whatever the verb.
func (m *Map) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Text(redact(m))) }

// MarshalJSON hides the secrets as well: the form for the DCS is made elsewhere.
func (m *Map) MarshalJSON() ([]byte, error) { return toValue(redact(m)).Encode(), nil }

// Text is the text form of a value as Patroni writes it into files and compares it: booleans are
// True and False, which PostgreSQL accepts (config.md 1.4).
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return floatText(v)
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = quoted(v[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case *Map:
		parts := make([]string, 0, v.Len())
		for _, p := range v.pairs {
			parts = append(parts, quoted(p.key)+": "+quoted(p.value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	default:
		return fmt.Sprint(v)
	}
}

func quoted(v any) string {
	if s, ok := v.(string); ok {
		return "'" + strings.ReplaceAll(s, "'", `\'`) + "'"
	}
	return Text(v)
}

func floatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
