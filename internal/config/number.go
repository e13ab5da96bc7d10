package config

import (
	"math"
	"strconv"

	"github.com/regent-ha/regent/internal/cluster"
)

// parseBool reads a boolean by its text form (config.md 1.12).
func parseBool(v any) (b, ok bool) { return cluster.ParseBool(Text(v)) }

// parseInt reads an integer, also from text with a unit that fits base. A boolean is none.
func parseInt(v any, base string) (n int64, ok bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case float64:
		r := math.RoundToEven(v)
		if math.IsNaN(r) || math.Abs(r) >= math.MaxInt64 {
			return 0, false
		}
		return int64(r), true
	case string:
		return cluster.ParseInt(v, base)
	}
	return 0, false
}

func parseReal(v any, base string) (f float64, ok bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case string:
		return cluster.ParseReal(v, base)
	}
	return 0, false
}

// toValue turns a value of a document into the DCS's form, where order and spelling count.
func toValue(v any) cluster.Value {
	switch v := v.(type) {
	case nil:
		return cluster.Value{}
	case bool:
		return cluster.Flag(v)
	case string:
		return cluster.Text(v)
	case int64:
		return cluster.Int(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return cluster.Text(Text(v)) // JSON has no number for it
		}
		return cluster.Value{Kind: cluster.Number, Text: Text(v)}
	case []any:
		out := cluster.Value{Kind: cluster.Array}
		for _, item := range v {
			out.Items = append(out.Items, toValue(item))
		}
		return out
	case *Map:
		out := cluster.Value{Kind: cluster.Object}
		if v != nil {
			for _, p := range v.pairs {
				out.Fields = append(out.Fields, cluster.Field{Name: p.key, Value: toValue(p.value)})
			}
		}
		return out
	default:
		return cluster.Text(Text(v))
	}
}

// fromValue is the way back.
func fromValue(v cluster.Value) any {
	switch v.Kind {
	case cluster.Bool:
		return v.Text == "true"
	case cluster.String:
		return v.Text
	case cluster.Number:
		return jsonNumber(v.Text)
	case cluster.Array:
		list := make([]any, 0, len(v.Items))
		for _, item := range v.Items {
			list = append(list, fromValue(item))
		}
		return list
	case cluster.Object:
		m := NewMap()
		for _, f := range v.Fields {
			m.Set(f.Name, fromValue(f.Value))
		}
		return m
	default:
		return nil
	}
}

// jsonNumber reads a number of JSON: an integer when it is spelled as one and fits.
func jsonNumber(text string) any {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) {
		return text
	}
	return f
}
