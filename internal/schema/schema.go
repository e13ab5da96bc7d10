// Package schema checks values against JSON Schemas, so that documents about our JSON can be held against what we really
// print. It knows the few words that those documents need; an unknown word is reported, since it would not be checked.
//
// Source: JSON Schema 2020-12, which OpenAPI 3.1 uses.
package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Schema is one schema, as read from YAML or JSON.
type Schema = map[string]any

// Set are schemas by name. A $ref ends in the name of another one.
type Set map[string]Schema

// Check returns what is wrong with a value that encoding/json has read; the name is that of the schema.
func (s Set) Check(name string, v any) []string {
	if _, ok := s[name]; !ok {
		return []string{"there is no schema " + name}
	}
	return s.check(name, s[name], v)
}

// CheckText is Check of JSON text against a schema that need not have a name.
func (s Set) CheckText(schema Schema, text []byte) []string {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return []string{err.Error()}
	}
	return s.check("", schema, v)
}

func (s Set) check(at string, schema Schema, v any) (problems []string) {
	bad := func(format string, args ...any) {
		problems = append(problems, at+": "+fmt.Sprintf(format, args...))
	}
	for _, word := range slices.Sorted(maps.Keys(schema)) {
		arg := schema[word]
		switch word {
		case "description", "title", "example", "examples", "format", "required", "additionalProperties", "deprecated":
		case "$ref":
			text := fmt.Sprint(arg)
			name := text[strings.LastIndex(text, "/")+1:]
			if _, ok := s[name]; !ok {
				bad("there is no schema %s", text)
				continue
			}
			problems = append(problems, s.check(at, s[name], v)...)
		case "type":
			if names := listOf(arg); !slices.ContainsFunc(names, func(n any) bool { return isA(v, fmt.Sprint(n)) }) {
				bad("have %s, want %v", short(v), arg)
			}
		case "enum":
			if !slices.ContainsFunc(listOf(arg), func(n any) bool { return fmt.Sprint(n) == fmt.Sprint(v) }) {
				bad("have %s, want one of %v", short(v), arg)
			}
		case "items":
			list, _ := v.([]any)
			for i, item := range list {
				problems = append(problems, s.check(fmt.Sprintf("%s[%d]", at, i), asSchema(arg), item)...)
			}
		case "properties":
			object, ok := v.(map[string]any)
			if ok {
				problems = append(problems, s.object(at, schema, asSchema(arg), object)...)
			}
		default:
			bad("the schema's word %s is not known here", word)
		}
	}
	return problems
}

// object checks the fields of an object: required ones are there, none is unknown unless that is allowed.
func (s Set) object(at string, schema, properties Schema, object map[string]any) (problems []string) {
	for _, name := range listOf(schema["required"]) {
		if _, ok := object[fmt.Sprint(name)]; !ok {
			problems = append(problems, fmt.Sprintf("%s: %v is missing", at, name))
		}
	}
	more, limited := schema["additionalProperties"]
	for _, name := range slices.Sorted(maps.Keys(object)) {
		switch property, ok := properties[name]; {
		case ok:
			problems = append(problems, s.check(at+"."+name, asSchema(property), object[name])...)
		case limited && more == false:
			problems = append(problems, fmt.Sprintf("%s: %s is not documented", at, name))
		}
	}
	return problems
}

func asSchema(v any) Schema {
	m, _ := v.(map[string]any)
	return m
}

func listOf(v any) []any {
	if v == nil {
		return nil
	}
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

func isA(v any, name string) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case float64:
		return name == "number" || name == "integer" && v == float64(int64(v))
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	default:
		return false
	}
}

func short(v any) string {
	text := fmt.Sprint(v)
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return text
}
