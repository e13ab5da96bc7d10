package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds a document after its aliases are written out, so that a few nested anchors
// cannot fill the memory.
const maxNodes = 1 << 20

// ParseYAML reads one YAML 1.1 document as Patroni does (config.md 1.4): on and off are booleans,
// numbers may be octal, binary, sexagesimal or have underscores, the last of several equal keys
// wins, merge keys and anchors work. An empty text is nil. The name stands in errors and origins.
func ParseYAML(name string, text []byte) (v any, err error) {
	defer func() {
		// The library promises not to panic and has broken the promise before; a configuration
		// file must not be able to end the agent.
		if p := recover(); p != nil {
			v, err = nil, fmt.Errorf("read %s: the YAML parser gave up: %v", name, p)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, syntaxError(name, err)
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, fmt.Errorf("read %s:%d: a second document begins, expected one; remove the line ---", name, max(second.Line, 1))
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(name, err)
	}
	r := &yamlReader{name: name, open: map[*yaml.Node]bool{}}
	v = r.value(&doc)
	return v, errors.Join(r.errs...)
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func syntaxError(name string, err error) error {
	at := name
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if m[1] != "" {
			at += ":" + m[1]
		}
	}
	return fmt.Errorf("read %s: %s", at, text)
}

// yamlReader turns nodes into values and collects every mistake on the way.
type yamlReader struct {
	name  string
	open  map[*yaml.Node]bool // nodes that are being read: an alias to one of them is a loop
	nodes int
	errs  []error
}

func (r *yamlReader) complain(n *yaml.Node, format string, args ...any) any {
	r.errs = append(r.errs, fmt.Errorf("read %s:%d: "+format, append([]any{r.name, n.Line}, args...)...))
	return nil
}

func (r *yamlReader) value(n *yaml.Node) any {
	if r.nodes++; r.nodes > maxNodes {
		if r.nodes == maxNodes+1 {
			return r.complain(n, "more than %d values once the aliases are written out", maxNodes)
		}
		return nil
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 0 {
			return nil
		}
		return r.value(n.Content[0])
	case yaml.AliasNode:
		if n.Alias == nil || r.open[n.Alias] {
			return r.complain(n, "alias *%s contains itself", n.Value)
		}
		return r.value(n.Alias)
	case yaml.SequenceNode:
		r.open[n] = true
		defer delete(r.open, n)
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			list = append(list, r.value(c))
		}
		return list
	case yaml.MappingNode:
		r.open[n] = true
		defer delete(r.open, n)
		return r.mapping(n)
	case yaml.ScalarNode:
		return r.scalar(n)
	default:
		return nil
	}
}

// mapping reads the merged mappings first: what the mapping itself says comes later and wins.
func (r *yamlReader) mapping(n *yaml.Node) *Map {
	m := NewMap()
	for i := 0; i+1 < len(n.Content); i += 2 {
		if isMerge(n.Content[i]) {
			r.merge(m, n.Content[i+1])
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if isMerge(k) {
			continue
		}
		for k.Kind == yaml.AliasNode && k.Alias != nil {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			r.complain(n.Content[i], "a key is a list or a mapping, expected a word")
			continue
		}
		m.set(Text(r.scalar(k)), r.value(n.Content[i+1]), Origin{r.name, n.Content[i].Line})
	}
	return m
}

func isMerge(k *yaml.Node) bool {
	return k.Kind == yaml.ScalarNode && k.Value == "<<" && k.Style == 0
}

// merge adds the keys of a mapping, or of a list of mappings of which the first one wins.
func (r *yamlReader) merge(into *Map, n *yaml.Node) {
	v := r.value(n)
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for i := len(list) - 1; i >= 0; i-- {
		from, ok := list[i].(*Map)
		if !ok {
			r.complain(n, "<< needs a mapping or a list of mappings, have %s", Text(list[i]))
			continue
		}
		for _, p := range from.pairs {
			into.set(p.key, p.value, p.origin)
		}
	}
}

func (r *yamlReader) scalar(n *yaml.Node) any {
	if n.Style&yaml.TaggedStyle != 0 {
		return r.tagged(n)
	}
	if n.Style != 0 {
		return n.Value // quoted or block text
	}
	return resolve(n.Value)
}

func (r *yamlReader) tagged(n *yaml.Node) any {
	bad := func(want string) any { return r.complain(n, "%s is tagged as %s and is none", n.Value, want) }
	switch n.ShortTag() {
	case "!!str", "!", "!!timestamp":
		return n.Value
	case "!!null":
		return nil
	case "!!bool":
		if v, ok := resolve(n.Value).(bool); ok {
			return v
		}
		return bad("a boolean")
	case "!!int":
		if v, ok := resolve(n.Value).(int64); ok {
			return v
		}
		return bad("an integer")
	case "!!float":
		switch v := resolve(n.Value).(type) {
		case float64:
			return v
		case int64:
			return float64(v)
		}
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
			return f
		}
		return bad("a number")
	default:
		return r.complain(n, "could not determine a constructor for the tag %s", n.Tag)
	}
}

// The implicit types of YAML 1.1 in the safe subset that Patroni's parser uses.
var (
	yamlInt   = regexp.MustCompile(`^[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$`)
	yamlFloat = regexp.MustCompile(`^([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?)$`)
	yamlSexa  = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)
	yamlInf   = regexp.MustCompile(`^[-+]?\.(inf|Inf|INF)$`)
	yamlWords = map[string]any{
		"": nil, "~": nil, "null": nil, "Null": nil, "NULL": nil,
		"yes": true, "Yes": true, "YES": true, "no": false, "No": false, "NO": false,
		"true": true, "True": true, "TRUE": true, "false": false, "False": false, "FALSE": false,
		"on": true, "On": true, "ON": true, "off": false, "Off": false, "OFF": false,
		".nan": math.NaN(), ".NaN": math.NaN(), ".NAN": math.NaN(),
	}
)

// resolve gives a plain scalar its type. Dates stay text: nothing in the configuration is a date,
// and their text form is the same.
func resolve(s string) any {
	if v, ok := yamlWords[s]; ok {
		return v
	}
	if strings.IndexByte("+-.0123456789", s[0]) < 0 {
		return s
	}
	plain := strings.ReplaceAll(s, "_", "")
	switch {
	case yamlInt.MatchString(s):
		if v, ok := yamlInteger(plain); ok {
			return v
		}
	case yamlFloat.MatchString(s):
		if f, err := strconv.ParseFloat(plain, 64); err == nil || math.IsInf(f, 0) {
			return f
		}
	case yamlInf.MatchString(s):
		if s[0] == '-' {
			return math.Inf(-1)
		}
		return math.Inf(1)
	case yamlSexa.MatchString(s):
		return sexagesimal(s, plain)
	}
	return s
}

func yamlInteger(plain string) (any, bool) {
	sign, digits := "", plain
	if digits[0] == '-' || digits[0] == '+' {
		sign, digits = strings.TrimPrefix(digits[:1], "+"), digits[1:]
	}
	base := 10
	switch {
	case strings.HasPrefix(digits, "0b"):
		base, digits = 2, digits[2:]
	case strings.HasPrefix(digits, "0x"):
		base, digits = 16, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base = 8
	}
	i, err := strconv.ParseInt(sign+digits, base, 64)
	if err == nil {
		return i, true
	}
	if errors.Is(err, strconv.ErrRange) && base == 10 {
		f, _ := strconv.ParseFloat(plain, 64)
		return f, true
	}
	return nil, false
}

// sexagesimal reads 1:30 as 90. An integer may not begin with a zero, so 08:30 is text.
func sexagesimal(s, plain string) any {
	sign := int64(1)
	switch plain[0] {
	case '-':
		sign, plain = -1, plain[1:]
	case '+':
		plain = plain[1:]
	}
	whole, fraction, isFloat := strings.Cut(plain, ".")
	if !isFloat && whole[0] == '0' {
		return s
	}
	var sum int64
	for part := range strings.SplitSeq(whole, ":") {
		d, err := strconv.ParseInt(part, 10, 64)
		if err != nil || sum > math.MaxInt64/60-60 || d > math.MaxInt64/2 {
			return s
		}
		sum = sum*60 + d
	}
	if !isFloat {
		return sign * sum
	}
	f, err := strconv.ParseFloat("0."+fraction+"0", 64)
	if err != nil {
		return s
	}
	return float64(sign) * (float64(sum) + f)
}
