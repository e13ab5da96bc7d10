// Package verdict judges a run by its history alone, so that anybody can repeat it from the file.
package verdict

import (
	"fmt"
	"strings"

	"github.com/regent-ha/regent/test/chaos/history"
)

// Check is one question to a history.
type Check struct {
	Name     string   `json:"name"`
	Asks     string   `json:"asks"`
	Facts    string   `json:"facts"`              // what was looked at, with counts
	Problems []string `json:"problems,omitempty"` // what is against the rule; none: it holds
	More     int      `json:"more,omitempty"`     // so many problems are not told
}

// Verdict is the answers to all questions.
type Verdict struct {
	Checks []Check `json:"checks"`
}

// Holds says whether no rule was broken.
func (v Verdict) Holds() bool {
	for _, c := range v.Checks {
		if len(c.Problems) > 0 {
			return false
		}
	}
	return true
}

// Judge asks a history everything.
func Judge(h history.History) Verdict {
	terms := termsOf(h.Rows)
	v := Verdict{Checks: []Check{
		complete(h),
		onePrimary(terms),
		timelinesRise(terms),
		nothingLost(h, terms),
		appendsKept(h, terms),
		linearizable(h),
		serializable(h),
		steady(h, terms),
		heals(h.Rounds),
		allEqual(h),
		newestKept(h, terms),
		nobodyDied(h),
	}}
	if h.Run.Mode == history.Failsafe {
		v.Checks = append(v.Checks, leadsOn(h, terms))
	}
	return v
}

// most is how many problems of one check are told; the others are counted.
const most = 20

// tell adds a problem to a check.
func (c *Check) tell(format string, args ...any) {
	if len(c.Problems) == most {
		c.More++
		return
	}
	c.Problems = append(c.Problems, fmt.Sprintf(format, args...))
}

// complete asks whether there is something to judge: a history without acknowledged rows or without an end proves nothing.
func complete(h history.History) Check {
	c := Check{Name: "complete", Asks: "the run came to its end and its applications had something to do"}
	done := 0
	for _, r := range h.Rows {
		if r.Outcome == history.Done {
			done++
		}
	}
	c.Facts = fmt.Sprintf("%d rounds, %d faults, %d acknowledged rows, %d operations on registers, %d transactions on lists", len(h.Rounds), len(h.Faults), done, len(h.Ops), len(h.Txns))
	waiting := 0
	for _, r := range h.Rounds {
		if r.Standbys > 0 {
			waiting++
		}
	}
	if h.Run.Waits() {
		c.Facts += fmt.Sprintf(", %d rounds began while commits waited for standbys", waiting)
	}
	switch {
	case h.Run.Waits() && len(h.Rounds) > 0 && waiting == 0:
		c.tell("no round began while commits waited for standbys")
	case h.End == nil:
		c.tell("the history has no end: the run was cut short")
	case len(h.Rounds) == 0 || done == 0 || len(h.Ops) == 0 || h.Run.Mode != "" && len(h.Txns) == 0: // older files have no mode, and no transactions
		c.tell("nothing was tried: have %s", c.Facts)
	}
	return c
}

// heals asks whether the cluster is whole again in time after each round. On a machine where processes wait for a processor most of the
// time, how long something takes says nothing; that it never ends still does.
func heals(rounds []history.Round) Check {
	c := Check{Name: "heals", Asks: "after the last fault of a round the cluster is whole within the bound: one leader, everybody streams from it, rows are accepted"}
	longest, late, unplayed := history.Time(0), 0, 0
	for _, r := range rounds {
		took := r.Healed - r.Lifted
		if r.Unplayed != "" {
			unplayed++
		}
		if !r.Cut && r.Healed != 0 {
			longest = max(longest, took)
		}
		switch {
		case r.Cut:
		case r.Healed == 0:
			c.tell("round %d: not whole %s after the faults: %s", r.Number, 3*r.Bound, r.Ill)
		case took <= r.Bound:
		case r.Busy > tooBusy:
			late++
		default:
			c.tell("round %d: whole %s after the faults, want at most %s", r.Number, took, r.Bound)
		}
	}
	c.Facts = fmt.Sprintf("%d rounds, longest %s, %d late ones not counted as the machine was busy, %d with a fault that could not be played", len(rounds), longest, late, unplayed)
	return c
}

// tooBusy is the percentage of time with a waiting process above which durations are not judged.
const tooBusy = 70

// allEqual asks whether all members have the same data in the end.
func allEqual(h history.History) Check {
	c := Check{Name: "equal", Asks: "in the end everybody streams and has the leader's rows, registers, lists and system identifier"}
	if h.End == nil {
		return c
	}
	leader, ok := h.End.Members[h.End.Leader]
	if !ok {
		c.tell("nobody led in the end")
		return c
	}
	if leader.SystemID == "" || len(leader.Sums) == 0 {
		c.tell("the leader %s said nothing about its data", h.End.Leader)
	}
	for _, name := range h.Run.Members {
		m, ok := h.End.Members[name]
		switch {
		case !ok:
			c.tell("%s did not answer in the end", name)
			continue
		case name != h.End.Leader && !m.Streams:
			c.tell("%s does not stream from the leader", name)
		}
		if m.SystemID != leader.SystemID {
			c.tell("%s has system identifier %s, the leader %s", name, m.SystemID, leader.SystemID)
		}
		for table, sum := range leader.Sums {
			if m.Sums[table] != sum {
				c.tell("%s has table %s with sum %s, the leader with %s", name, table, m.Sums[table], sum)
			}
		}
	}
	c.Facts = fmt.Sprintf("%d members, leader %s on timeline %d", len(h.End.Members), h.End.Leader, leader.Timeline)
	return c
}

// newestKept asks whether a data directory was removed that had what nobody else has.
func newestKept(h history.History, terms []term) Check {
	c := Check{Name: "kept", Asks: "no data directory was removed while it had the newest data"}
	for _, w := range h.Wiped {
		newest := uint32(0)
		for _, tl := range w.Others {
			newest = max(newest, tl)
		}
		switch {
		case newest == 0:
			c.tell("%s: the data of %s was removed while nobody else had any", w.At, w.Member)
		case newest < w.Timeline:
			c.tell("%s: the data of %s was removed, on timeline %d, while the others had %d at most", w.At, w.Member, w.Timeline, newest)
		case newest == w.Timeline && wrote(terms, w.Member, w.Timeline):
			c.tell("%s: the data of %s was removed, which had written timeline %d itself, and nobody had a newer one", w.At, w.Member, w.Timeline)
		}
	}
	c.Facts = fmt.Sprintf("%d removed data directories", len(h.Wiped))
	return c
}

func wrote(terms []term, member string, timeline uint32) bool {
	for _, t := range terms {
		if t.member == member && t.timeline == timeline {
			return true
		}
	}
	return false
}

// nobodyDied asks whether agents live as long as they are let.
func nobodyDied(h history.History) Check {
	c := Check{Name: "alive", Asks: "no agent ended by itself"}
	for _, d := range h.Died {
		c.tell("%s: the agent of %s ended: %s", d.At, d.Member, d.How)
	}
	c.Facts = fmt.Sprintf("%d ended", len(h.Died))
	return c
}

// String is the verdict as a table for people.
func (v Verdict) String() string {
	var b strings.Builder
	b.WriteString("| check | asks whether | verdict | seen |\n|---|---|---|---|\n")
	for _, c := range v.Checks {
		word := "holds"
		if len(c.Problems) > 0 {
			word = "**BROKEN**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Name, c.Asks, word, c.Facts)
	}
	for _, c := range v.Checks {
		for _, p := range c.Problems {
			fmt.Fprintf(&b, "\n- %s: %s", c.Name, p)
		}
		if c.More > 0 {
			fmt.Fprintf(&b, "\n- %s: and %d more", c.Name, c.More)
		}
	}
	return b.String()
}
