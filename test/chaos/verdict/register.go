package verdict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/regent-ha/regent/test/chaos/history"
)

// register is the state of one key. At the beginning of a term nobody knows what the new leader has.
type register struct {
	known bool
	value int64
}

// model says how a register behaves. An operation whose answer got lost may have happened at any time after it was sent, or never, which is
// the same as after everything else.
var model = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, _ any) (bool, any) {
		s, o := state.(register), input.(history.Op)
		answered := o.Outcome == history.Done
		switch o.Kind {
		case history.Read:
			return !s.known || s.value == o.Found, register{true, o.Found}
		case history.Write:
			return true, register{true, o.New}
		case history.CAS:
			switch {
			case answered && o.Applied:
				return !s.known || s.value == o.Old, register{true, o.New}
			case answered:
				return !s.known || s.value != o.Old, s
			case s.known && s.value == o.Old:
				return true, register{true, o.New}
			default:
				return true, s // of an unknown value nobody knows what it is afterwards
			}
		default:
			return false, s
		}
	},
	Equal: func(a, b any) bool { return a.(register) == b.(register) },
	DescribeOperation: func(input, _ any) string {
		o := input.(history.Op)
		return fmt.Sprintf("%s key %d old %d new %d found %d applied %t %s", o.Kind, o.Key, o.Old, o.New, o.Found, o.Applied, o.Outcome)
	},
}

// patience bounds the search for an order in which one key's operations of one term make sense.
const patience = 20 * time.Second

// linearizable asks whether the operations on each key have an order that explains all answers and does not contradict true time: within
// what one member led on one timeline, and over the whole run where commits wait for standbys. Asynchronous replication loses operations between terms; rows show which.
func linearizable(h history.History) Check {
	c := Check{Name: "linearizable", Asks: "within a term, reads, writes and compare-and-sets of each register have an order that explains all answers"}
	if h.Run.Waits() {
		c.Asks = "over all terms, reads, writes and compare-and-sets of each register have an order that explains all answers"
	}
	type key struct {
		member   string
		timeline uint32
		key      int
	}
	parts := map[key][]porcupine.Operation{}
	for _, o := range h.Ops {
		if o.Outcome != history.Done && o.Kind == history.Read {
			continue // it has changed nothing and told nothing
		}
		ended := int64(o.Ended)
		if o.Outcome != history.Done {
			ended = math.MaxInt64
		}
		k := key{o.Member, o.Timeline, o.Key}
		if h.Run.Waits() {
			k = key{"all", 0, o.Key}
		}
		parts[k] = append(parts[k], porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Sent), Return: ended})
	}
	keys := make([]key, 0, len(parts))
	for k := range parts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.timeline, b.timeline), cmp.Compare(a.member, b.member), cmp.Compare(a.key, b.key))
	})
	undecided := 0
	for _, k := range keys {
		switch porcupine.CheckOperationsTimeout(model, parts[k], patience) {
		case porcupine.Illegal:
			where := fmt.Sprintf("on timeline %d of %s", k.timeline, k.member)
			if h.Run.Waits() {
				where = "over all terms"
			}
			c.tell("register %d %s: no order of its %d operations explains the answers", k.key, where, len(parts[k]))
		case porcupine.Unknown:
			undecided++
		case porcupine.Ok:
		}
	}
	c.Facts = fmt.Sprintf("%d operations, %d sequences of one register, %d undecided after %s", len(h.Ops), len(keys), undecided, patience)
	return c
}
