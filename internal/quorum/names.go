package quorum

import (
	"slices"
	"strconv"
	"strings"
)

// Placeholder is a standby that never is: commits wait for it for ever. No member may have the name.
const Placeholder = "__patroni_strict_sync_replica_placeholder__"

// Names is a value of synchronous_standby_names. The zero value waits for nobody.
type Names struct {
	Any   bool // ANY count (list), else FIRST
	Count int
	List  []string
}

// Everybody waits for all of these. With nobody to wait for, commits are local, or in strict mode blocked.
func Everybody(names []string, strict bool) Names {
	switch {
	case len(names) > 0:
		return Names{Count: len(names), List: slices.Sorted(slices.Values(names))}
	case strict:
		return Names{Count: 1, List: []string{Placeholder}}
	}
	return Names{}
}

// Waits says whether a commit waits for that standby, or may.
func (n Names) Waits(name string) bool { return has(n.List, name) || slices.Contains(n.List, "*") }

// all are the standbys of which each has every commit.
func (n Names) all() []string {
	if n.Count < len(n.List) || slices.Contains(n.List, "*") {
		return nil
	}
	return n.List
}

// Equal says whether both mean the same.
func (n Names) Equal(other Names) bool {
	return n.Any == other.Any && n.Count == other.Count && len(n.List) == len(other.List) && len(both(n.List, other.List)) == len(n.List)
}

// String is the value as Patroni writes it (ha.md 2.17e).
func (n Names) String() string {
	list := make([]string, len(n.List))
	for i, name := range n.List {
		list[i] = quote(name)
	}
	text := strings.Join(list, ",")
	switch {
	case len(list) == 0:
		return ""
	case n.Any:
		return "ANY " + strconv.Itoa(n.Count) + " (" + text + ")"
	case len(list) == 1:
		return text
	}
	return strconv.Itoa(n.Count) + " (" + text + ")"
}

func quote(name string) string {
	bare := name != "" && !strings.EqualFold(name, "first") && !strings.EqualFold(name, "any")
	for i := range len(name) {
		c := name[i] | 0x20
		letter := c >= 'a' && c <= 'z' || name[i] == '_'
		bare = bare && (letter || i > 0 && (name[i] >= '0' && name[i] <= '9' || name[i] == '$'))
	}
	if bare || name == "*" {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// ParseNames reads a value of synchronous_standby_names; ok is false for what PostgreSQL would not take (syncrep_gram.y).
func ParseNames(text string) (names Names, ok bool) {
	t := tokens(text)
	if len(t) == 0 {
		return Names{}, strings.TrimSpace(text) == ""
	}
	names.Count = 1
	method := !t[0].quoted && (strings.EqualFold(t[0].text, "first") || strings.EqualFold(t[0].text, "any"))
	if method && len(t) > 1 {
		names.Any = strings.EqualFold(t[0].text, "any")
		t = t[1:]
	}
	if n := len(t); n > 3 && t[1].is("(") && t[n-1].is(")") {
		count, err := strconv.Atoi(t[0].text)
		if err != nil || count < 1 || t[0].quoted {
			return Names{}, false
		}
		names.Count = count
		t = t[2 : n-1]
	} else if method {
		return Names{}, false
	}
	for i, token := range t {
		switch comma := token.is(","); {
		case comma != (i%2 == 1), token.is("("), token.is(")"):
			return Names{}, false
		case !comma:
			names.List = append(names.List, token.text)
		}
	}
	return names, len(t)%2 == 1
}

type token struct {
	text   string
	quoted bool
}

func (t token) is(mark string) bool { return !t.quoted && t.text == mark }

// tokens cuts the value into names, numbers and marks; nil when it cannot be cut.
func tokens(text string) (list []token) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		switch c := text[0]; {
		case strings.IndexByte("(),", c) >= 0:
			list, text = append(list, token{text: text[:1]}), text[1:]
		case c == '"':
			end := 1
			for end < len(text) && (text[end] != '"' || strings.HasPrefix(text[end:], `""`)) {
				if text[end] == '"' {
					end++
				}
				end++
			}
			if end >= len(text) {
				return nil
			}
			list, text = append(list, token{strings.ReplaceAll(text[1:end], `""`, `"`), true}), text[end+1:]
		default:
			end := strings.IndexAny(text, "(),\" \t\n\r")
			if end < 0 {
				end = len(text)
			}
			list, text = append(list, token{text: text[:end]}), text[end:]
		}
	}
	return list
}
