package verdict

import (
	"fmt"
	"slices"

	"github.com/regent-ha/regent/test/chaos/history"
)

// steady asks whether the leader changes only for a reason: in a round in which a fault or an operator concerned it, or the store as a whole.
// On a busy machine an agent may come too late to renew its lock.
func steady(h history.History, terms []term) Check {
	c := Check{Name: "steady", Asks: "the leader changes only when a fault or an operator concerned it, or the store's quorum"}
	changes, busy := 0, 0
	for i := 1; i < len(terms); i++ {
		old, young := terms[i-1], terms[i]
		if old.member == young.member {
			continue // it was restarted, and promoted again
		}
		changes++
		around := roundAt(h.Rounds, young.firstAcked)
		switch {
		case around != nil && concerned(h.Faults, around.Number, old.member):
		case around != nil && around.Busy > tooBusy:
			busy++
		default:
			c.tell("%s led on timeline %d until %s and %s since %s, although nothing concerned %s", old.member, old.timeline, old.lastAcked, young.member, young.firstAcked, old.member)
		}
	}
	c.Facts = fmt.Sprintf("%d changes of the leader, %d without a reason not counted as the machine was busy", changes, busy)
	return c
}

// roundAt is the last round that had begun at a moment; nil: none.
func roundAt(rounds []history.Round, t history.Time) (last *history.Round) {
	for i := range rounds {
		if rounds[i].Begin <= t {
			last = &rounds[i]
		}
	}
	return last
}

func concerned(faults []history.Fault, round int, member string) bool {
	return slices.ContainsFunc(faults, func(f history.Fault) bool {
		return f.Round == round && (slices.Contains(f.Targets, member) || slices.Contains(f.Hits, member))
	})
}
