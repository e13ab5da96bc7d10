package verdict

import (
	"fmt"
	"slices"

	"github.com/regent-ha/regent/test/chaos/history"
)

const (
	// early is how long before a round begins a row may have been acknowledged and not been sent to anybody yet.
	early = history.Time(2e9)
	// caughtUp is how long after a fault replication may still lag because of it, when the round never healed.
	caughtUp = history.Time(15e9)
)

// nothingLost asks whether acknowledged rows are missing that must not be. Replication is asynchronous, so the rows are lost that a
// leader had not sent when it was lost itself; no others: the member that acknowledged the row was hit by a fault around that time, and the
// row came after the position at which the next timeline began.
func nothingLost(h history.History, terms []term) Check {
	c := Check{Name: "nothing lost", Asks: "an acknowledged row is missing only where its leader was hit by a fault, and only beyond what the next leader had"}
	if h.End == nil {
		return c
	}
	if h.End.Leader == "" {
		c.Facts = "not judged: nobody led in the end, which another rule holds against the run"
		return c
	}
	last := h.End.Members[h.End.Leader]
	have := set(last.Rows)
	lost := map[string]int{}
	total := 0
	for i, t := range terms {
		ends := endOf(h.End, terms, i)
		for _, r := range t.rows {
			if have.has(r.ID) {
				continue
			}
			total++
			fault := excuse(h, r, ends)
			switch {
			case ends == never:
				c.tell("row %d, which %s acknowledged on timeline %d at %s, is missing although nobody led after it", r.ID, r.Member, r.Timeline, r.Ended)
			case fault == nil:
				c.tell("row %d, which %s acknowledged on timeline %d at %s, is missing although no fault had hit that member", r.ID, r.Member, r.Timeline, r.Ended)
			case before(last.Switches, t, r):
				c.tell("row %d, which %s acknowledged on timeline %d at %s, is missing although the timeline was left only after it", r.ID, r.Member, r.Timeline, r.Ended)
			default:
				lost[fault.Name]++
			}
		}
	}
	sent := map[int64]bool{}
	for _, r := range h.Rows {
		sent[r.ID] = true
	}
	for _, span := range last.Rows {
		for id := span[0]; id <= span[1]; id++ {
			if !sent[id] {
				c.tell("row %d is there although nobody sent it, or it was refused", id)
			}
		}
	}
	c.Facts = fmt.Sprintf("%d acknowledged rows are missing", total)
	for _, name := range sortedKeys(lost) {
		c.Facts += fmt.Sprintf(", %d after %s", lost[name], name)
	}
	return c
}

// never is the end of a term that nobody followed.
const never = history.Time(1<<63 - 1)

// endOf is when the next term began, by its first acknowledged row; the last one ends with the run when somebody leads on a newer
// timeline, who has not accepted anything.
func endOf(end *history.End, terms []term, i int) history.Time {
	switch {
	case i+1 < len(terms):
		return terms[i+1].firstAcked
	case end.Members[end.Leader].Timeline > terms[i].timeline:
		return end.At
	default:
		return never
	}
}

// excuse is the fault by which the row may have been lost, the latest one: it hit the row's member before the term ended, and the row is
// not older than the fault's round, nor younger than the moment at which everybody streamed again.
func excuse(h history.History, r history.Row, termEnds history.Time) (found *history.Fault) {
	for i := range h.Faults {
		f := &h.Faults[i]
		begin, end := f.Begin, f.End+caughtUp
		for _, round := range h.Rounds {
			if round.Number == f.Round {
				begin = min(begin, round.Begin)
				if round.Healed != 0 {
					end = round.Healed
				}
			}
		}
		if slices.Contains(f.Hits, r.Member) && f.Begin <= termEnds && r.Ended >= begin-early && r.Ended <= end && (found == nil || found.Begin < f.Begin) {
			found = f
		}
	}
	return found
}

// before says whether the row was certainly part of what the next timeline began with. A row's commit lies between the position that
// was read in its transaction and that of any row that was sent on that timeline after its acknowledgement.
func before(switches []history.Switch, t term, r history.Row) bool {
	for _, s := range switches {
		if s.Timeline != t.timeline {
			continue
		}
		for _, later := range t.rows {
			if later.Sent > r.Ended && later.LSN > r.LSN && later.LSN <= s.LSN {
				return true
			}
		}
	}
	return false
}

// spans are ranges of numbers, sorted.
type spans [][2]int64

func set(ranges [][2]int64) spans {
	s := slices.Clone(ranges)
	slices.SortFunc(s, func(a, b [2]int64) int { return int(min(max(a[0]-b[0], -1), 1)) })
	return s
}

func (s spans) has(n int64) bool {
	_, found := slices.BinarySearchFunc(s, n, func(span [2]int64, n int64) int {
		switch {
		case span[1] < n:
			return -1
		case span[0] > n:
			return 1
		default:
			return 0
		}
	})
	return found
}

func sortedKeys(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
