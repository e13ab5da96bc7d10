package ctl

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/regent-ha/regent/internal/cluster"
)

// blockYAML writes a value as YAML 1.1 in block style with sorted keys, in the spelling of PyYAML
// (ctl.md 4.2): lists in a mapping are not indented, texts are quoted where a reader of YAML 1.1 could
// take them for something else, and long texts are folded at blanks beyond width.
func blockYAML(v value, width int) string {
	w := &yamlWriter{width: width}
	switch {
	case v.Kind == cluster.Object && len(v.Fields) > 0:
		w.mapping(v, 0, true)
	case v.Kind == cluster.Array && len(v.Items) > 0:
		w.sequence(v, 0, true)
	default:
		w.leaf(v, 0)
	}
	return w.b.String() + "\n"
}

// flowYAML writes a value on one line, with sorted keys: {a: 1, b: [x]}.
func flowYAML(v value) string {
	switch v.Kind {
	case cluster.Object:
		parts := make([]string, 0, len(v.Fields))
		for _, f := range sortedFields(v) {
			parts = append(parts, scalarText(cluster.Text(f.Name), true)+": "+flowYAML(f.Value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case cluster.Array:
		parts := make([]string, 0, len(v.Items))
		for _, item := range v.Items {
			parts = append(parts, flowYAML(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return scalarText(v, true)
	}
}

type yamlWriter struct {
	b      strings.Builder
	column int // of the next character
	width  int
}

func (w *yamlWriter) write(s string) {
	w.b.WriteString(s)
	w.column += utf8.RuneCountInString(s)
}

func (w *yamlWriter) newline(indent int) {
	w.b.WriteString("\n" + strings.Repeat(" ", indent))
	w.column = indent
}

// mapping writes the entries at an indent; inline: the first one goes on where we are.
func (w *yamlWriter) mapping(v value, indent int, inline bool) {
	for i, f := range sortedFields(v) {
		if i > 0 || !inline {
			w.newline(indent)
		}
		w.write(keyText(f.Name) + ":")
		switch {
		case f.Value.Kind == cluster.Object && len(f.Value.Fields) > 0:
			w.mapping(f.Value, indent+2, false)
		case f.Value.Kind == cluster.Array && len(f.Value.Items) > 0:
			w.sequence(f.Value, indent, false)
		default:
			w.write(" ")
			w.leaf(f.Value, indent+2)
		}
	}
}

func (w *yamlWriter) sequence(v value, indent int, inline bool) {
	for i, item := range v.Items {
		if i > 0 || !inline {
			w.newline(indent)
		}
		w.write("- ")
		switch {
		case item.Kind == cluster.Object && len(item.Fields) > 0:
			w.mapping(item, indent+2, true)
		case item.Kind == cluster.Array && len(item.Items) > 0:
			w.sequence(item, indent+2, true)
		default:
			w.leaf(item, indent+2)
		}
	}
}

// leaf writes a scalar or an empty collection; lines that follow start at the indent.
func (w *yamlWriter) leaf(v value, indent int) {
	switch v.Kind {
	case cluster.Object:
		w.write("{}")
	case cluster.Array:
		w.write("[]")
	case cluster.String:
		w.text(v.Text, indent)
	default:
		w.write(scalarText(v, false))
	}
}

func (w *yamlWriter) text(s string, indent int) {
	switch styleOf(s, false) {
	case plainStyle:
		w.folded(s, indent)
	case singleStyle:
		w.write("'")
		w.folded(strings.ReplaceAll(s, "'", "''"), indent)
		w.write("'")
	default:
		w.write(doubleQuoted(s))
	}
}

// folded writes words; a line break is written once more than it occurs, since a reader takes a
// single one for a blank.
func (w *yamlWriter) folded(s string, indent int) {
	for {
		line, rest, more := strings.Cut(s, "\n")
		w.words(line, indent)
		if !more {
			return
		}
		s = strings.TrimLeft(rest, "\n")
		w.b.WriteString(strings.Repeat("\n", 1+len(rest)-len(s)))
		w.newline(indent)
	}
}

func (w *yamlWriter) words(line string, indent int) {
	words := strings.Split(line, " ")
	for i, word := range words {
		switch {
		case i == 0:
		case w.column > w.width && word != "" && words[i-1] != "":
			w.newline(indent)
		default:
			w.write(" ")
		}
		w.write(word)
	}
}

type style uint8

const (
	plainStyle style = iota
	singleStyle
	doubleStyle
)

func scalarText(v value, flow bool) string {
	switch v.Kind {
	case cluster.Null:
		return "null"
	case cluster.String:
		switch styleOf(v.Text, flow) {
		case plainStyle:
			return v.Text
		case singleStyle:
			if !strings.Contains(v.Text, "\n") {
				return "'" + strings.ReplaceAll(v.Text, "'", "''") + "'"
			}
		}
		return doubleQuoted(v.Text)
	default:
		return v.Text
	}
}

func keyText(name string) string { return scalarText(cluster.Text(name), false) }

// notText are the words that YAML 1.1 takes for a boolean, a null, a number, a date, a merge key or a
// default value when they are not quoted.
var notText = regexp.MustCompile(`^(?:|~|null|Null|NULL|yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF|<<|=` +
	`|[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+` +
	`|[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*` +
	`|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)` +
	`|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)$`)

// styleOf says how a text has to be written to come back as the same text.
func styleOf(s string, flow bool) style {
	for i, r := range s {
		printable := r == '\n' || r >= ' ' && r != 0x7f && (r < 0x80 || unicode.IsPrint(r))
		if !printable || r == utf8.RuneError || r == '\ufeff' {
			return doubleStyle
		}
		if r == '\n' && (i > 0 && s[i-1] == ' ' || strings.HasPrefix(s[i+1:], " ")) {
			return doubleStyle // folding would eat the blank
		}
	}
	if notText.MatchString(s) || strings.Contains(s, "\n") || s[0] == ' ' || s[len(s)-1] == ' ' || indicates(s, flow) {
		return singleStyle
	}
	return plainStyle
}

// indicates says whether a plain text would be read as YAML's own signs.
func indicates(s string, flow bool) bool {
	if strings.HasPrefix(s, "---") || strings.HasPrefix(s, "...") || strings.ContainsRune("#,[]{}&*!|>'\"%@`", rune(s[0])) {
		return true
	}
	blankAt := func(i int) bool { return i >= len(s) || s[i] == ' ' }
	for i := range len(s) {
		switch s[i] {
		case '-':
			if i == 0 && blankAt(1) {
				return true
			}
		case ':', '?':
			if (s[i] == ':' || i == 0) && blankAt(i+1) || flow {
				return true
			}
		case ',', '[', ']', '{', '}':
			if flow {
				return true
			}
		case '#':
			if i > 0 && s[i-1] == ' ' {
				return true
			}
		}
	}
	return false
}

var yamlEscapes = map[rune]string{
	0: `\0`, '\a': `\a`, '\b': `\b`, '\t': `\t`, '\n': `\n`, '\v': `\v`, '\f': `\f`, '\r': `\r`, 0x1b: `\e`,
	'"': `\"`, '\\': `\\`, 0x85: `\N`, 0xa0: `\_`, 0x2028: `\L`, 0x2029: `\P`,
}

// doubleQuoted writes a text on one line with escapes.
func doubleQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		esc, ok := yamlEscapes[r]
		switch {
		case ok:
			b.WriteString(esc)
		case unicode.IsPrint(r) && r != '\ufeff':
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02X`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	return b.String() + `"`
}
