package cluster

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// String writes the position as PostgreSQL does: "16/B374D848".
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// value is the JSON form: an absolute position in decimal.
func (l LSN) value() Value { return Value{Kind: Number, Text: strconv.FormatUint(uint64(l), 10)} }

// ParseLSN reads PostgreSQL's text form of a position.
func ParseLSN(text string) (LSN, error) {
	high, low, ok := strings.Cut(text, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !ok || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("read WAL position %q: want two hexadecimal numbers of up to 8 digits, such as 0/3000060", text)
	}
	return LSN(h<<32 | l), nil
}

// lsn reads a position as other writers may have put it: integer, decimal or 0x string, or a float,
// rounded. Everything else is unknown (dcs.md section 1.2).
func (v Value) lsn() LSN {
	if v.Kind != Number && v.Kind != String {
		return 0
	}
	if n, err := strconv.ParseUint(v.Text, 10, 64); err == nil {
		return LSN(n)
	}
	n, ok := v.integer("")
	if !ok || n < 0 {
		return 0
	}
	return LSN(n)
}

// integer reads a number, rounded, or a number as text; booleans are no integers (config.md section 3).
func (v Value) integer(base string) (int64, bool) {
	switch v.Kind {
	case String:
		return ParseInt(v.Text, base)
	case Number:
		if n, err := strconv.ParseInt(v.Text, 10, 64); err == nil {
			return n, true
		}
		x, err := strconv.ParseFloat(v.Text, 64)
		if x = math.RoundToEven(x); err != nil || math.Abs(x) >= math.MaxInt64 {
			return 0, false
		}
		return int64(x), true
	default:
		return 0, false
	}
}

// timeline reads a timeline number; zero is unknown.
func (v Value) timeline() Timeline {
	n, ok := v.integer("")
	if !ok || n < 0 || n > math.MaxUint32 {
		return 0
	}
	return Timeline(n)
}
