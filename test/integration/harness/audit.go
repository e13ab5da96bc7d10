package harness

import (
	"fmt"
	"slices"
	"time"
)

// TwoPrimaries names what proves that two members were writable at once: a row accepted on a timeline although one that was
// sent later than another's acknowledgement on a newer timeline, or two members on one timeline. A row sent before and
// acknowledged after proves nothing: it may have been committed before.
func TwoPrimaries(acks []Ack) (problems []string) {
	type span struct {
		member string
		first  time.Time // the earliest acknowledgement on the timeline
	}
	timelines := map[uint32]span{}
	for _, a := range acks {
		s, ok := timelines[a.Timeline]
		switch {
		case !ok:
			timelines[a.Timeline] = span{a.Member, a.Acked}
		case s.member != a.Member:
			problems = append(problems, fmt.Sprintf("timeline %d was written by %s and by %s (row %d)", a.Timeline, s.member, a.Member, a.ID))
		case a.Acked.Before(s.first):
			timelines[a.Timeline] = span{a.Member, a.Acked}
		}
	}
	for _, a := range acks {
		for tl, s := range timelines {
			if tl > a.Timeline && a.Sent.After(s.first) {
				problems = append(problems, fmt.Sprintf("%s accepted row %d on timeline %d, sent %s after %s had begun to accept on timeline %d",
					a.Member, a.ID, a.Timeline, a.Sent.Sub(s.first).Round(time.Millisecond), s.member, tl))
			}
		}
	}
	if len(problems) > 5 {
		problems = append(problems[:5], fmt.Sprintf("and %d more", len(problems)-5))
	}
	return problems
}

// Outage is the longest time between two acknowledgements.
func Outage(acks []Ack) (longest Span) {
	sorted := slices.SortedFunc(slices.Values(acks), func(a, b Ack) int { return a.Acked.Compare(b.Acked) })
	for i := 1; i < len(sorted); i++ {
		if s := (Span{sorted[i-1].Acked, sorted[i].Acked}); s.Took() > longest.Took() {
			longest = s
		}
	}
	return longest
}

// OutageSince is Outage of what was acknowledged from that moment on; the time until the first one counts.
func OutageSince(acks []Ack, t time.Time) Span {
	late := []Ack{{Acked: t}}
	for _, a := range acks {
		if a.Acked.After(t) {
			late = append(late, a)
		}
	}
	return Outage(late)
}

// AckedBy counts a member's rows since a moment.
func AckedBy(acks []Ack, m *Member, since time.Time) (rows int) {
	for _, a := range acks {
		if a.Member == m.Name && a.Acked.After(since) {
			rows++
		}
	}
	return rows
}

// LastSent is when the last row left that the member acknowledged; the zero time: none.
func LastSent(acks []Ack, m *Member) (last time.Time) {
	for _, a := range acks {
		if a.Member == m.Name && a.Sent.After(last) {
			last = a.Sent
		}
	}
	return last
}

// FirstAcked is when the member acknowledged its first row after a moment; the zero time: it did not.
func FirstAcked(acks []Ack, m *Member, after time.Time) (first time.Time) {
	for _, a := range acks {
		if a.Member == m.Name && a.Acked.After(after) && (first.IsZero() || a.Acked.Before(first)) {
			first = a.Acked
		}
	}
	return first
}
