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

// leadsOn asks whether a primary in failsafe mode goes on when only the store is hit.
func leadsOn(h history.History, terms []term) Check {
	c := Check{Name: "leads on", Asks: "no term ends in a round that hits servers of the store and no member"}
	rounds, busy, longest := 0, 0, history.Time(0)
	for _, r := range h.Rounds {
		if !onlyStore(h, r.Number) {
			continue
		}
		rounds++
		for i := 1; i < len(terms); i++ {
			switch t := terms[i]; {
			case t.firstAcked < r.Begin || t.firstAcked > max(r.Healed, r.Lifted):
			case r.Busy > tooBusy:
				busy++
			default:
				c.tell("round %d: the term of %s on timeline %d ended, and %s led on timeline %d at %s", r.Number, terms[i-1].member, terms[i-1].timeline, t.member, t.timeline, t.firstAcked)
			}
		}
		longest = max(longest, Outage(h.Rows, r.Begin, max(r.Healed, r.Lifted)))
	}
	c.Facts = fmt.Sprintf("%d such rounds, longest time without an acknowledged row %s, %d terms that ended not counted as the machine was busy", rounds, longest, busy)
	return c
}

// onlyStore says whether something was hit in a round, but no member.
func onlyStore(h history.History, round int) (hit bool) {
	for _, f := range h.Faults {
		if f.Round == round {
			if slices.ContainsFunc(f.Targets, func(name string) bool { return slices.Contains(h.Run.Members, name) }) {
				return false
			}
			hit = true
		}
	}
	return hit
}

// Outage is the longest time without an acknowledged row between two moments.
func Outage(rows []history.Row, begin, end history.Time) history.Time {
	var acked []history.Time
	for _, r := range rows {
		if r.Outcome == history.Done && r.Ended > begin && r.Ended < end {
			acked = append(acked, r.Ended)
		}
	}
	slices.Sort(acked)
	longest, last := history.Time(0), begin
	for _, t := range append(acked, end) {
		longest, last = max(longest, t-last), t
	}
	return longest
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
