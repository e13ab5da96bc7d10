package rest

import (
	"fmt"

	"github.com/regent-ha/regent/internal/cluster"
)

// object collects the fields of a JSON object in the order in which they are shown.
type object []cluster.Field

func (o *object) add(name string, v cluster.Value) {
	*o = append(*o, cluster.Field{Name: name, Value: v})
}

// text adds a string unless it is empty.
func (o *object) text(name, s string) {
	if s != "" {
		o.add(name, cluster.Text(s))
	}
}

// flag adds true, or nothing.
func (o *object) flag(name string, set bool) {
	if set {
		o.add(name, cluster.Flag(true))
	}
}

func (o object) value() cluster.Value { return cluster.Value{Kind: cluster.Object, Fields: o} }

// list makes an array.
func list(items ...cluster.Value) cluster.Value {
	return cluster.Value{Kind: cluster.Array, Items: items}
}

// number makes an integer of any of our counted types.
func number[T ~int | ~int64 | ~uint32 | ~uint64](n T) cluster.Value {
	return cluster.Value{Kind: cluster.Number, Text: fmt.Sprint(uint64(n))}
}

// orNull turns an empty text into null.
func orNull(s string) cluster.Value {
	if s == "" {
		return cluster.Value{}
	}
	return cluster.Text(s)
}
