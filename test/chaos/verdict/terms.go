package verdict

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/regent-ha/regent/test/chaos/history"
)

// term is what one member accepted on one timeline.
type term struct {
	member     string
	timeline   uint32
	rows       []history.Row // acknowledged ones
	firstAcked history.Time  // it certainly accepted rows before this
	lastSent   history.Time  // and certainly accepted one after this
	lastAcked  history.Time
}

// termsOf sorts acknowledged rows into terms, in the order in which these began.
func termsOf(rows []history.Row) []term {
	type key struct {
		member   string
		timeline uint32
	}
	found := map[key]*term{}
	for _, r := range rows {
		if r.Outcome != history.Done {
			continue
		}
		k := key{r.Member, r.Timeline}
		t := found[k]
		if t == nil {
			t = &term{member: r.Member, timeline: r.Timeline, firstAcked: r.Ended, lastSent: r.Sent, lastAcked: r.Ended}
			found[k] = t
		}
		t.rows = append(t.rows, r)
		t.firstAcked, t.lastSent, t.lastAcked = min(t.firstAcked, r.Ended), max(t.lastSent, r.Sent), max(t.lastAcked, r.Ended)
	}
	terms := make([]term, 0, len(found))
	for _, t := range found {
		terms = append(terms, *t)
	}
	slices.SortFunc(terms, func(a, b term) int {
		return cmp.Or(cmp.Compare(a.firstAcked, b.firstAcked), cmp.Compare(a.timeline, b.timeline), cmp.Compare(a.member, b.member))
	})
	return terms
}

// onePrimary asks whether two members accepted rows at overlapping times: an older timeline must have ended when a newer one begins. A
// row that was sent before and acknowledged after proves nothing: nobody knows when it was accepted.
func onePrimary(terms []term) Check {
	c := Check{Name: "one primary", Asks: "no two members accept rows at overlapping times"}
	count := 0
	for i, a := range terms {
		count += len(a.rows)
		for _, b := range terms[i+1:] {
			old, young := a, b
			if b.timeline < a.timeline {
				old, young = b, a
			}
			if a.member == b.member || old.lastSent <= young.firstAcked {
				continue
			}
			late := 0
			for _, r := range old.rows {
				if r.Sent > young.firstAcked {
					late++
				}
			}
			c.tell("%s accepted %d rows on timeline %d, until %s at least, after %s had accepted on timeline %d, at %s at the latest",
				old.member, late, old.timeline, old.lastSent, young.member, young.timeline, young.firstAcked)
		}
	}
	c.Facts = fmt.Sprintf("%d acknowledged rows in %d terms", count, len(terms))
	return c
}

// timelinesRise asks whether each term is on a newer timeline than those before, so that no timeline has two authors.
func timelinesRise(terms []term) Check {
	c := Check{Name: "timelines", Asks: "each term is on a newer timeline than the one before, and no timeline has two authors"}
	for i := 1; i < len(terms); i++ {
		before, now := terms[i-1], terms[i]
		switch {
		case now.timeline == before.timeline:
			c.tell("timeline %d was written by %s and, since %s, by %s", now.timeline, before.member, now.firstAcked, now.member)
		case now.timeline < before.timeline:
			c.tell("%s began to accept on timeline %d at %s, after %s had begun on %d at %s", now.member, now.timeline, now.firstAcked, before.member, before.timeline, before.firstAcked)
		}
	}
	authors := map[uint32]string{}
	for i, t := range terms {
		if other, ok := authors[t.timeline]; ok && other != t.member && (i == 0 || terms[i-1].timeline != t.timeline) {
			c.tell("timeline %d was written by %s and, since %s, by %s", t.timeline, other, t.firstAcked, t.member)
		}
		authors[t.timeline] = t.member
	}
	if n := len(terms); n > 0 {
		c.Facts = fmt.Sprintf("%d terms, timelines %d to %d", n, terms[0].timeline, terms[n-1].timeline)
	}
	return c
}
