package verdict

import (
	"cmp"
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

// write is something that was acknowledged.
type write struct {
	what     string
	member   string
	timeline uint32
	lsn      uint64
	ended    history.Time
}

// losses judges acknowledged writes that are missing in the end. Where commits wait for standbys nothing may be. Otherwise that is lost which a
// leader had not sent when it was lost itself, and nothing else: the member that acknowledged it was hit by a fault around that time, and it
// came after the position at which the next timeline began.
type losses struct {
	h       history.History
	terms   []term
	last    history.Copy
	total   int
	excused map[string]int // by the fault
}

func lossesOf(h history.History, terms []term) *losses {
	return &losses{h: h, terms: terms, last: h.End.Members[h.End.Leader], excused: map[string]int{}}
}

func (l *losses) missing(c *Check, w write) {
	l.total++
	ends := l.endOf(w.timeline)
	fault := excuse(l.h, w, ends)
	told := fmt.Sprintf("%s, which %s acknowledged on timeline %d at %s, is missing although ", w.what, w.member, w.timeline, w.ended)
	switch {
	case l.h.Run.Waits():
		c.tell("%scommits waited for standbys", told)
	case ends == never:
		c.tell("%snobody led after it", told)
	case fault == nil:
		c.tell("%sno fault had hit that member", told)
	case l.before(w):
		c.tell("%sthe timeline was left only after it", told)
	default:
		l.excused[fault.Name]++
	}
}

// String says how many are missing, and by what.
func (l *losses) String() string {
	text := fmt.Sprintf("%d are missing", l.total)
	for _, name := range sortedKeys(l.excused) {
		text += fmt.Sprintf(", %d after %s", l.excused[name], name)
	}
	return text
}

// nothingLost asks whether acknowledged rows are missing that must not be.
func nothingLost(h history.History, terms []term) Check {
	c := Check{Name: "nothing lost", Asks: "an acknowledged row is missing only where its leader was hit by a fault, and only beyond what the next leader had"}
	if h.Run.Waits() {
		c.Asks = "no acknowledged row is missing"
	}
	if h.End == nil {
		return c
	}
	if h.End.Leader == "" {
		c.Facts = "not judged: nobody led in the end, which another rule holds against the run"
		return c
	}
	l := lossesOf(h, terms)
	have := set(l.last.Rows)
	rows := 0
	for _, t := range terms {
		rows += len(t.rows)
		for _, r := range t.rows {
			if !have.has(r.ID) {
				l.missing(&c, write{fmt.Sprintf("row %d", r.ID), r.Member, r.Timeline, r.LSN, r.Ended})
			}
		}
	}
	sent := map[int64]bool{}
	for _, r := range h.Rows {
		sent[r.ID] = true
	}
	for _, span := range l.last.Rows {
		for id := span[0]; id <= span[1]; id++ {
			if !sent[id] {
				c.tell("row %d is there although nobody sent it, or it was refused", id)
			}
		}
	}
	c.Facts = fmt.Sprintf("of %d acknowledged rows %s", rows, l)
	return c
}

// never is the end of a term that nobody followed.
const never = history.Time(1<<63 - 1)

// endOf is when a term ended, by the first row that was acknowledged on a newer timeline; the last one ends with the run when somebody leads on a newer
// timeline, who has not accepted anything.
func (l *losses) endOf(timeline uint32) history.Time {
	for _, t := range l.terms {
		if t.timeline > timeline {
			return t.firstAcked
		}
	}
	if l.last.Timeline > timeline {
		return l.h.End.At
	}
	return never
}

// excuse is the fault by which a write may have been lost, the latest one: it hit the write's member before the term ended, and the write is
// not older than the fault's round, nor younger than the moment at which everybody streamed again.
func excuse(h history.History, w write, termEnds history.Time) (found *history.Fault) {
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
		if slices.Contains(f.Hits, w.member) && f.Begin <= termEnds && w.ended >= begin-early && w.ended <= end && (found == nil || found.Begin < f.Begin) {
			found = f
		}
	}
	return found
}

// before says whether the write was certainly part of what the next timeline began with. Its commit lies between the position that
// was read in its transaction and that of any row that was sent on that timeline after its acknowledgement.
func (l *losses) before(w write) bool {
	for _, s := range l.last.Switches {
		if s.Timeline != w.timeline {
			continue
		}
		for _, t := range l.terms {
			for _, later := range t.rows {
				if t.timeline == w.timeline && later.Sent > w.ended && later.LSN > w.lsn && later.LSN <= s.LSN {
					return true
				}
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

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
