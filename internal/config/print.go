package config

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"

	"go.yaml.in/yaml/v3"
)

// YAML writes a document as Patroni prints it: keys sorted, lists not indented, a text that YAML 1.1
// would read as something else in quotes. Secrets are written out; see Redacted.
func YAML(m *Map) []byte {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(node(m)); err != nil {
		panic(fmt.Sprintf("encode a tree of plain nodes: %v", err)) // nothing in it can fail
	}
	return b.Bytes()
}

func node(v any) *yaml.Node {
	switch v := v.(type) {
	case *Map:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		keys := v.Keys()
		slices.Sort(keys)
		for _, k := range keys {
			value, _ := v.Lookup(k)
			n.Content = append(n.Content, node(k), node(value))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, item := range v {
			n.Content = append(n.Content, node(item))
		}
		return n
	case string:
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v}
		if got, ok := resolve(v).(string); !ok || got != v {
			n.Style = yaml.SingleQuotedStyle
		}
		return n
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(v)}
	case float64:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: yamlReal(v)}
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: Text(v)}
	}
}

func yamlReal(f float64) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return map[string]string{"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}[Text(f)]
	}
	return Text(f)
}

// CheckFile is --validate-config: it loads as a start does, validates, writes one line per problem
// to stderr, and the document to stdout if asked and nothing is wrong. It returns the exit status:
// 0, or 1 when the agent should not be started like this (config.md 7.1).
func CheckFile(path string, environ []string, o Options, print bool, stdout, stderr io.Writer) int {
	f, err := Read(path, environ)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	problems := Validate(f, o)
	for _, p := range problems {
		line := p.String()
		if p.Warning {
			line = "warning: " + line
			if p.Origin.Line > 0 {
				line += " (" + p.Origin.String() + ")"
			}
		}
		fmt.Fprintln(stderr, line)
	}
	if HasErrors(problems) {
		return 1
	}
	if print {
		_, _ = stdout.Write(YAML(f.Document))
	}
	return 0
}
