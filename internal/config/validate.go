package config

import (
	"fmt"
	"slices"
	"strconv"
)

// Options are the circumstances of a validation.
type Options struct {
	IgnoreListenPort bool   // do not look whether something answers on a listen port
	DocumentOnly     bool   // look at nothing but the document: at no directory, program, name or port
	RequireDCS       bool   // a missing DCS section is an error, as Patroni sees it; else etcd runs inside the agent
	Probes           Probes // where a function is nil: the system's
}

// Validate reports every problem of a local configuration, in the order of Patroni's validator
// (config.md 7.1), unknown keys and contradictions as warnings. It changes nothing, but it connects
// to listen ports and to the hosts of the DCS, and asks the postgres binary for its version.
func Validate(f *File, o Options) []Problem {
	v := &validation{options: o, probes: o.Probes.withDefaults(), document: f.Document}
	v.problems = slices.Clone(f.Problems)
	root(v, "", f.Document)
	for _, w := range tagWarnings(toValue(f.Document.Map("tags")).Fields) {
		v.problems = append(v.problems, Problem{Path: "tags", Message: string(w), Warning: true, Origin: f.Document.Origin("tags")})
	}
	return v.problems
}

// HasErrors says whether one of the problems is more than a warning.
func HasErrors(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return !p.Warning })
}

// validation collects the problems of one document.
type validation struct {
	options  Options
	probes   Probes
	document *Map
	origin   Origin // of the value that is being checked
	problems []Problem
}

// check looks at one value and reports what is wrong with it.
type check func(v *validation, path string, value any)

// field is one key of a mapping.
type field struct {
	name     string
	check    check
	required bool
}

func required(name string, c check) field { return field{name, c, true} }
func optional(name string, c check) field { return field{name, c, false} }

func (v *validation) report(path string, value any, format string, args ...any) {
	v.problems = append(v.problems, Problem{Path: path, Value: show(path, value), Message: fmt.Sprintf(format, args...), Origin: v.origin})
}

// refuse reports a value of the right type that cannot work.
func (v *validation) refuse(path string, value any, format string, args ...any) {
	v.report(path, value, "didn't pass validation: "+format, args...)
}

func (v *validation) undefined(path string) {
	v.problems = append(v.problems, Problem{Path: path, Message: "is not defined.", Origin: v.origin})
}

func (v *validation) warn(path, format string, args ...any) {
	v.problems = append(v.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...), Origin: v.origin, Warning: true})
}

// under joins a path.
func under(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// object checks a mapping with known keys; others get a warning, since a typing error there means
// that a setting silently does not count.
func object(fields ...field) check { return mappingOf(false, fields) }

// openObject is object where other keys are somebody else's.
func openObject(fields ...field) check { return mappingOf(true, fields) }

func mappingOf(open bool, fields []field) check {
	return func(v *validation, path string, value any) {
		m, ok := value.(*Map)
		if !ok {
			v.report(path, value, "is not a dictionary")
			return
		}
		here := v.origin
		for _, f := range fields {
			sub, ok := m.Lookup(f.name)
			v.origin = here
			switch {
			case ok:
				v.origin = m.Origin(f.name)
				f.check(v, under(path, f.name), sub)
			case f.required:
				v.undefined(under(path, f.name))
			}
		}
		if !open {
			v.unknown(path, m, fields)
		}
		v.origin = here
	}
}

func (v *validation) unknown(path string, m *Map, fields []field) {
	for _, key := range m.Keys() {
		if slices.ContainsFunc(fields, func(f field) bool { return f.name == key }) {
			continue
		}
		hint := ""
		for _, f := range fields {
			if typo(key, f.name) {
				hint = fmt.Sprintf("; do you mean %s?", f.name)
			}
		}
		v.origin = m.Origin(key)
		v.warn(under(path, key), "is not a known setting and does not count%s", hint)
	}
}

// typo says whether two different words are at most one letter added, lost, changed or swapped apart.
func typo(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b) < 4 || len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch {
	case len(a) < len(b):
		return a[i:] == b[i+1:]
	case i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i]:
		return a[i+2:] == b[i+2:]
	default:
		return i < len(a) && a[i+1:] == b[i+1:]
	}
}

func anything(*validation, string, any) {}

func isText(v *validation, path string, value any) {
	if _, ok := value.(string); !ok {
		v.report(path, value, "is not a string")
	}
}

// simple is text or a number: where Patroni wants text and a number works as well.
func simple(v *validation, path string, value any) {
	if !scalar(value) {
		v.report(path, value, "is not a string")
	}
}

func isBool(v *validation, path string, value any) {
	if _, ok := value.(bool); !ok {
		v.report(path, value, "is not a boolean")
	}
}

func dictionary(v *validation, path string, value any) {
	if _, ok := value.(*Map); !ok {
		v.report(path, value, "is not a dictionary")
	}
}

// between checks an integer, also as text with a unit when base names one.
func between(least, most int64, base string) check {
	return func(v *validation, path string, value any) {
		n, ok := value.(int64)
		if s, ok1 := value.(string); ok1 && base != "" {
			n, ok = parseInt(s, base)
		}
		switch {
		case !ok:
			v.report(path, value, "is not an integer")
		case n < least || n > most:
			v.refuse(path, value, "Wrong value")
		}
	}
}

// count checks an integer that may as well be written as text, as in the environment and in what
// --generate-config writes.
func count(least, most int64) check {
	return func(v *validation, path string, value any) {
		n, ok := parseInt(value, "")
		switch {
		case !ok:
			v.report(path, value, "is not an integer")
		case n < least || n > most:
			v.refuse(path, value, "Wrong value")
		}
	}
}

func enum(choices ...any) check {
	return func(v *validation, path string, value any) {
		if value != nil && !scalar(value) || !slices.Contains(choices, value) { // a list is not comparable
			v.refuse(path, value, "Wrong value")
		}
	}
}

// listOf checks a list that must not be empty.
func listOf(item check) check {
	return func(v *validation, path string, value any) {
		list, ok := value.([]any)
		switch {
		case !ok:
			v.report(path, value, "is not a list")
		case len(list) == 0:
			v.report(path, value, "is an empty list")
		}
		for i, e := range list {
			item(v, under(path, strconv.Itoa(i)), e)
		}
	}
}

// program checks options of a program: a list of words and one-pair mappings, or a mapping.
func program(v *validation, path string, value any) {
	switch value := value.(type) {
	case *Map:
	case []any:
		for i, e := range value {
			if m, ok := e.(*Map); !scalar(e) && (!ok || m.Len() != 1) {
				v.report(under(path, strconv.Itoa(i)), e, "is not an option: expected a word, or one pair name: value")
			}
		}
	default:
		v.report(path, value, "is not a list")
	}
}
