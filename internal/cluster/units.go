package cluster

import (
	"math"
	"strconv"
	"strings"
)

// ParseBool reads the words that Patroni takes for a boolean, in any case (config.md 1.12).
func ParseBool(text string) (value, ok bool) {
	switch strings.ToLower(text) {
	case "on", "true", "yes", "1":
		return true, true
	case "off", "false", "no", "0":
		return false, true
	default:
		return false, false
	}
}

// ParseInt reads an integer as PostgreSQL reads a setting: decimal, 0x hexadecimal or octal with a leading 0,
// or a fraction, then an optional unit (memory B kB MB GB TB, time us ms s min h d). The result counts
// in base, for example "kB", "8kB" or "s"; a unit without a base, or of the other sort, is not readable.
// A fraction is first rounded to the next smaller unit, then to an integer, ties to even (config.md 1.12).
func ParseInt(text, base string) (n int64, ok bool) {
	value, rest := leadingInteger(text)
	if rest != "" && strings.ContainsRune(".eE", rune(rest[0])) {
		if value, rest, ok = leadingReal(text); !ok {
			return 0, false
		}
	} else if rest == text {
		return 0, false
	}
	real, ok := convertUnit(value, strings.TrimSpace(rest), base)
	real = math.RoundToEven(real)
	if !ok || math.Abs(real) >= math.MaxInt64 {
		return 0, false
	}
	return int64(real), true
}

// ParseReal reads a decimal number with optional exponent and unit, counted in base.
func ParseReal(text, base string) (x float64, ok bool) {
	value, rest, ok := leadingReal(text)
	if !ok {
		return 0, false
	}
	return convertUnit(value, strings.TrimSpace(rest), base)
}

// leadingInteger reads a C integer at the beginning of text; rest is text when there is none.
func leadingInteger(text string) (value float64, rest string) {
	s := strings.TrimLeft(text, " \t\n\v\f\r")
	sign := 1.0
	if s != "" && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	base := 10.0
	switch {
	case len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X") && digit(s[2]) < 16:
		base, s = 16, s[2:]
	case len(s) > 1 && s[0] == '0':
		base = 8
	}
	i := 0
	for ; i < len(s) && digit(s[i]) < base; i++ {
		value = value*base + digit(s[i])
	}
	if i == 0 {
		if strings.HasPrefix(s, ".") {
			return 0, s // a fraction without an integer part
		}
		return 0, text
	}
	return sign * value, s[i:]
}

// digit is the value of a hexadecimal digit, 99 for anything else.
func digit(c byte) float64 {
	switch {
	case c >= '0' && c <= '9':
		return float64(c - '0')
	case c >= 'a' && c <= 'f':
		return float64(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return float64(c-'A') + 10
	default:
		return 99
	}
}

// leadingReal reads a decimal number at the beginning of text.
func leadingReal(text string) (value float64, rest string, ok bool) {
	s := strings.TrimLeft(text, " \t\n\v\f\r")
	end, digits := 0, 0
	if end < len(s) && (s[end] == '-' || s[end] == '+') {
		end++
	}
	for point := false; end < len(s); end++ {
		if s[end] == '.' && !point {
			point = true
		} else if s[end] >= '0' && s[end] <= '9' {
			digits++
		} else {
			break
		}
	}
	if digits == 0 {
		return 0, text, false
	}
	if e := end; e < len(s) && (s[e] == 'e' || s[e] == 'E') {
		e++
		if e < len(s) && (s[e] == '-' || s[e] == '+') {
			e++
		}
		start := e
		for e < len(s) && s[e] >= '0' && s[e] <= '9' {
			e++
		}
		if e > start {
			end = e
		}
	}
	value, err := strconv.ParseFloat(s[:end], 64)
	return value, s[end:], err == nil
}

// unit is a unit and its size in the smallest one of its sort.
type unit struct {
	name string
	size float64
}

// Largest first: the unit after one is its next smaller one.
var (
	memoryUnits = []unit{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}
	timeUnits   = []unit{{"d", 86400e6}, {"h", 3600e6}, {"min", 60e6}, {"s", 1e6}, {"ms", 1e3}, {"us", 1}}
)

// convertUnit counts value, given in unit name, in base; without a name it is in base already.
func convertUnit(value float64, name, base string) (float64, bool) {
	if name == "" {
		return value, true
	}
	factor, baseName := 1.0, base
	if f, rest := leadingInteger(base); rest != base {
		factor, baseName = f, rest
	}
	for _, units := range [][]unit{memoryUnits, timeUnits} {
		for i, u := range units {
			if u.name != name {
				continue
			}
			value *= u.size
			if i+1 < len(units) {
				value = math.RoundToEven(value/units[i+1].size) * units[i+1].size
			}
			for _, b := range units {
				if b.name == baseName && factor > 0 {
					return value / (b.size * factor), true
				}
			}
		}
	}
	return 0, false
}
