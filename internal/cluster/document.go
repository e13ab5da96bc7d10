package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Kind is the JSON type of a Value.
type Kind uint8

const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

func (k Kind) String() string {
	return [...]string{"null", "boolean", "number", "string", "array", "object"}[k]
}

// Value is a JSON value that remembers the order of its fields and the spelling of its numbers, so
// that editing one setting leaves the rest of a document as its author wrote it (dcs.md section 1.2).
// It is never changed in place: the editing methods return another Value. The zero value is null.
type Value struct {
	Kind   Kind
	Text   string  // of a String its content, of a Number its spelling, of a Bool "true" or "false"
	Fields []Field // of an Object, each name once
	Items  []Value // of an Array
}

// Field is one entry of an object.
type Field struct {
	Name  string
	Value Value
}

// Text makes a string value.
func Text(s string) Value { return Value{Kind: String, Text: s} }

// Int makes a number.
func Int(n int64) Value { return Value{Kind: Number, Text: fmt.Sprint(n)} }

// Flag makes a boolean.
func Flag(b bool) Value { return Value{Kind: Bool, Text: fmt.Sprint(b)} }

// maxDepth bounds the nesting of what we read: nobody nests settings deeper, and a value made to
// overflow the stack must not stop a member.
const maxDepth = 100

var errDepth = fmt.Errorf("nested deeper than %d levels", maxDepth)

// ParseValue reads one JSON value of any layout. Of a name that occurs twice in an object the last
// value wins, at the place of the first.
func ParseValue(text []byte) (Value, error) {
	if v, ok := parsePlain(text); ok {
		return v, nil
	}
	return parseAny(text)
}

// parseAny is the general way.
func parseAny(text []byte) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Value{}, errors.New("the JSON text is empty or ends too early")
	}
	if err != nil {
		return Value{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Value{}, errors.New("something follows after the end of the JSON value")
	}
	return v, nil
}

func parseValue(d *json.Decoder, depth int) (Value, error) {
	if depth > maxDepth {
		return Value{}, errDepth
	}
	token, err := d.Token()
	if err != nil {
		return Value{}, err
	}
	switch t := token.(type) {
	case string:
		return Text(t), nil
	case json.Number:
		return Value{Kind: Number, Text: t.String()}, nil
	case bool:
		return Flag(t), nil
	case json.Delim:
		if t == '[' {
			return parseArray(d, depth)
		}
		return parseObject(d, depth)
	default:
		return Value{}, nil
	}
}

func parseArray(d *json.Decoder, depth int) (Value, error) {
	v := Value{Kind: Array}
	for d.More() {
		item, err := parseValue(d, depth+1)
		if err != nil {
			return Value{}, err
		}
		v.Items = append(v.Items, item)
	}
	_, err := d.Token()
	return v, err
}

func parseObject(d *json.Decoder, depth int) (Value, error) {
	v := Value{Kind: Object}
	at := map[string]int{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return Value{}, err
		}
		item, err := parseValue(d, depth+1)
		if err != nil {
			return Value{}, err
		}
		key, _ := name.(string)
		if i, twice := at[key]; twice {
			v.Fields[i].Value = item
			continue
		}
		at[key] = len(v.Fields)
		v.Fields = append(v.Fields, Field{key, item})
	}
	_, err := d.Token()
	return v, err
}

// Encode writes compact JSON in pure ASCII, as Patroni does for keys (dcs.md section 1.2).
func (v Value) Encode() []byte { return v.append(make([]byte, 0, 256), ",", ":") }

// EncodeSpaced writes JSON on one line with a blank after commas and colons, in pure ASCII, as Patroni does for people
// (rest-api.md 4.1, ctl.md 4.2).
func (v Value) EncodeSpaced() []byte { return v.append(make([]byte, 0, 1024), ", ", ": ") }

// append adds the encoded value to b.
func (v Value) append(b []byte, comma, colon string) []byte {
	switch v.Kind {
	case Bool, Number:
		return append(b, v.Text...)
	case String:
		return appendText(b, v.Text)
	case Array:
		b = append(b, '[')
		for i, item := range v.Items {
			if i > 0 {
				b = append(b, comma...)
			}
			b = item.append(b, comma, colon)
		}
		return append(b, ']')
	case Object:
		b = append(b, '{')
		for i, f := range v.Fields {
			if i > 0 {
				b = append(b, comma...)
			}
			b = appendText(b, f.Name)
			b = append(b, colon...)
			b = f.Value.append(b, comma, colon)
		}
		return append(b, '}')
	default:
		return append(b, "null"...)
	}
}

// appendText writes a JSON string: all but printable ASCII escaped, nothing for HTML's sake.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\b':
			b = append(b, `\b`...)
		case r == '\f':
			b = append(b, `\f`...)
		case r >= ' ' && r <= '~':
			b = append(b, byte(r))
		case r > 0xffff:
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}

// Get follows field names from v; ok is false where a name is missing or its parent is no object.
func (v Value) Get(path ...string) (found Value, ok bool) {
	for _, name := range path {
		i := v.index(name)
		if i < 0 {
			return Value{}, false
		}
		v = v.Fields[i].Value
	}
	return v, true
}

func (v Value) index(name string) int {
	return slices.IndexFunc(v.Fields, func(f Field) bool { return f.Name == name })
}

// text returns the content of a string field, "" for anything else.
func (v Value) text(name string) string {
	if f, _ := v.Get(name); f.Kind == String {
		return f.Text
	}
	return ""
}

// Set returns v with the value at the path replaced, or added at the end; parents that are missing
// or no objects become objects. A null removes the field.
func (v Value) Set(value Value, path ...string) Value {
	if len(path) == 0 {
		return value
	}
	out := Value{Kind: Object, Fields: slices.Clone(v.Fields)}
	i := out.index(path[0])
	last := len(path) == 1
	switch {
	case last && value.Kind == Null && i < 0:
	case last && value.Kind == Null:
		out.Fields = slices.Delete(out.Fields, i, i+1)
	case i < 0:
		out.Fields = append(out.Fields, Field{path[0], Value{}.Set(value, path[1:]...)})
	default:
		out.Fields[i].Value = out.Fields[i].Value.Set(value, path[1:]...)
	}
	return out
}

// Merge returns v with the patch applied and says whether that changed anything (config.md 1.3): null
// removes, objects merge, anything else is replaced when its text form differs; new fields are added
// at the end as they are, nulls inside them included.
func (v Value) Merge(patch Value) (merged Value, changed bool) {
	merged = Value{Kind: Object, Fields: slices.Clone(v.Fields)}
	for _, p := range patch.Fields {
		i := merged.index(p.Name)
		switch {
		case i < 0 && p.Value.Kind == Null:
			continue
		case i < 0:
			merged.Fields = append(merged.Fields, p)
		case p.Value.Kind == Null:
			merged.Fields = slices.Delete(merged.Fields, i, i+1)
		case p.Value.Kind == Object && merged.Fields[i].Value.Kind == Object:
			sub, subChanged := merged.Fields[i].Value.Merge(p.Value)
			if !subChanged {
				continue
			}
			merged.Fields[i].Value = sub
		case p.Value.Kind != Object && merged.Fields[i].Value.Kind != Object && p.Value.String() == merged.Fields[i].Value.String():
			continue
		default:
			merged.Fields[i].Value = p.Value
		}
		changed = true
	}
	return merged, changed
}

// String is the text form that comparisons use: a string as it is, True and False, None, numbers as
// spelled, arrays and objects as JSON. So the number 1 and the string "1" look the same, true and
// "true" do not (dcs.md section 1.2).
func (v Value) String() string {
	switch v.Kind {
	case Null:
		return "None"
	case Bool:
		return strings.ToUpper(v.Text[:1]) + v.Text[1:]
	case String, Number:
		return v.Text
	default:
		return string(v.Encode())
	}
}

// DeepEqualLoose says whether two values are the same for the rule "nothing changed, so do not write":
// equal names in objects, in any order, and equal text forms elsewhere. A missing field differs from a
// null one, and an object equals objects only.
func DeepEqualLoose(a, b Value) bool {
	if a.Kind != Object || b.Kind != Object {
		return a.Kind != Object && b.Kind != Object && a.String() == b.String()
	}
	if len(a.Fields) != len(b.Fields) {
		return false
	}
	for _, f := range a.Fields {
		other, ok := b.Get(f.Name)
		if !ok || !DeepEqualLoose(f.Value, other) {
			return false
		}
	}
	return true
}

// Truthy says whether Patroni takes the value for true where it does not parse words: everything but
// null, false, zero and empty. The text "false" is true.
func (v Value) Truthy() bool {
	switch v.Kind {
	case Bool:
		return v.Text == "true"
	case Number:
		return strings.Trim(mantissa(v.Text), "-0.") != ""
	case String:
		return v.Text != ""
	case Array:
		return len(v.Items) > 0
	case Object:
		return len(v.Fields) > 0
	default:
		return false
	}
}

// mantissa cuts the exponent off a number's spelling.
func mantissa(number string) string {
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		return number[:i]
	}
	return number
}

// parseObjectKey reads a key's value that must be a JSON object.
func parseObjectKey(text []byte) (Value, error) {
	v, err := ParseValue(text)
	if err != nil {
		return Value{}, fmt.Errorf("read value %s: %w", excerpt(text), err)
	}
	if v.Kind != Object {
		return Value{}, fmt.Errorf("read value %s: have %s, want a JSON object", excerpt(text), v.Kind)
	}
	return v, nil
}

// excerpt quotes the beginning of a value for an error text.
func excerpt(text []byte) string {
	const most = 60
	if len(text) <= most {
		return fmt.Sprintf("%q", text)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return fmt.Sprintf("%q (and %d bytes more)", text[:cut], len(text)-cut)
}
