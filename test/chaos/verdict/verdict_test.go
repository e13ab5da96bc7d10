package verdict

import (
	"strings"
	"testing"

	"github.com/regent-ha/regent/test/chaos/history"
)

// second makes times readable.
func second(s float64) history.Time { return history.Time(s * 1e9) }

// row is an acknowledged row; its position in the WAL is a hundred times its number.
func row(id int64, member string, timeline uint32, sent, acked float64) history.Row {
	return history.Row{ID: id, Member: member, Outcome: history.Done, Timeline: timeline, LSN: uint64(id) * 100, Sent: second(sent), Ended: second(acked)}
}

// healed is a round from begin to end whose fault is over in the middle.
func healed(number int, begin, end float64) history.Round {
	return history.Round{Number: number, Begin: second(begin), Lifted: second((begin + end) / 2), Healed: second(end), Bound: second(90)}
}

// hit is a fault that may cost its member what only that has.
func hit(round int, member string, begin, end float64) history.Fault {
	return history.Fault{Round: round, Name: "power off", Targets: []string{member}, Hits: []string{member}, Begin: second(begin), End: second(end)}
}

// good is a history in which everything is as it should be: a has led on timeline 1 and is lost at 10 s; b leads on timeline 2 from 30 s on,
// which begins at position 450. Row 5 came after that position and is lost.
func good() history.History {
	h := history.History{
		Run:    history.Run{Seed: 1, Members: []string{"a", "b"}},
		Rounds: []history.Round{healed(1, 8, 40)},
		Faults: []history.Fault{hit(1, "a", 10, 35)},
	}
	for id := int64(1); id <= 5; id++ {
		h.Rows = append(h.Rows, row(id, "a", 1, float64(id)+4, float64(id)+4.5))
	}
	h.Rows = append(h.Rows, row(6, "b", 2, 30, 30.1), row(7, "b", 2, 31, 31.1))
	h.Ops = []history.Op{op(history.Read, "b", 1, 1.1, 0)}
	copied := history.Copy{
		SystemID: "1", Timeline: 2, Streams: true, Switches: []history.Switch{{Timeline: 1, LSN: 450}},
		Rows: [][2]int64{{1, 4}, {6, 7}}, Sums: map[string]string{"numbered": "x"},
	}
	h.End = &history.End{At: second(50), Leader: "b", Members: map[string]history.Copy{"a": copied, "b": copied}}
	return h
}

// op is an answered operation on register 1 in b's term.
func op(kind, member string, timeline uint32, sent float64, value int64) history.Op {
	o := history.Op{Key: 1, Kind: kind, Outcome: history.Done, Member: member, Timeline: timeline, Sent: second(sent), Ended: second(sent + 0.1)}
	if kind == history.Read {
		o.Found = value
	} else {
		o.New = value
	}
	return o
}

// broken lists the checks that do not hold.
func broken(v Verdict) string {
	var names []string
	for _, c := range v.Checks {
		if len(c.Problems) > 0 {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}

// Each case changes the good history a little; the named checks, and no others, must notice.
func TestJudge(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(h *history.History)
		want   string
	}{
		"nothing is wrong": {func(*history.History) {}, ""},

		"a second primary": {func(h *history.History) {
			h.Rows = append(h.Rows, row(8, "a", 1, 30.2, 30.3))
			h.Faults[0].End = second(20) // so that the loss of the row has its excuse, and only the overlap is wrong
		}, "one primary"},
		"sent before the new leader's first row, answered after it": {func(h *history.History) {
			h.Rows = append(h.Rows, row(8, "a", 1, 29, 33))
		}, ""},
		"the new leader's first row is proven only by its answer": {func(h *history.History) {
			h.Rows = append(h.Rows, row(8, "a", 1, 30.05, 30.2))
		}, ""},
		"one timeline, two authors": {func(h *history.History) {
			h.Rows = append(h.Rows, row(8, "a", 2, 37, 37.1))
			h.End.Members["b"] = withRows(h.End.Members["b"], 8)
		}, "timelines, steady"},
		"an older timeline after a newer one": {func(h *history.History) {
			h.Rows = append(h.Rows, row(8, "c", 1, 35, 35.1))
			h.End.Members["b"] = withRows(h.End.Members["b"], 8)
		}, "one primary, timelines, steady"},

		"nobody leads in the end: what is lost cannot be told": {func(h *history.History) { h.End.Leader = "" }, "equal"},
		"a row is missing that the new leader had": {func(h *history.History) {
			h.End.Members["b"] = withoutRow(h.End.Members["b"], 3)
		}, "nothing lost"},
		"a row is missing of the last timeline": {func(h *history.History) {
			h.End.Members["b"] = withoutRow(h.End.Members["b"], 7)
		}, "nothing lost"},
		"a row is missing after a planned switchover": {func(h *history.History) {
			h.Faults[0].Name, h.Faults[0].Hits = "switchover", nil
		}, "nothing lost"},
		"a row is missing, and the fault hit another member": {func(h *history.History) {
			h.Faults[0].Hits = []string{"b"}
		}, "nothing lost"},
		"a row is missing that was acknowledged long before the fault": {func(h *history.History) {
			h.Rounds[0].Begin, h.Faults[0].Begin = second(12), second(12)
		}, "nothing lost"},
		"a row is missing that was acknowledged long after the fault": {func(h *history.History) {
			h.Rows[5].Sent, h.Rows[5].Ended, h.Rows[6].Sent, h.Rows[6].Ended = second(70), second(70.1), second(71), second(71.1)
			h.Rows[4].Sent, h.Rows[4].Ended = second(60), second(60.1)
		}, "nothing lost"},
		"the fault came only when the next leader led": {func(h *history.History) {
			h.Faults[0].Begin = second(30.5)
		}, "nothing lost"},
		"a row is missing that was acknowledged when all had healed": {func(h *history.History) {
			h.Rounds[0].Lifted, h.Rounds[0].Healed, h.Faults[0].End = second(9.2), second(9.3), second(9.1)
		}, "nothing lost"},
		"a row that nobody sent": {func(h *history.History) {
			h.End.Members["b"] = withRows(h.End.Members["b"], 99)
		}, "nothing lost"},
		"a row whose answer got lost is there": {func(h *history.History) {
			r := row(8, "a", 1, 9.6, 13)
			r.Outcome, r.Timeline, r.LSN = history.Unknown, 0, 0
			h.Rows = append(h.Rows, r)
			h.End.Members["b"] = withRows(h.End.Members["b"], 8)
		}, ""},
		"the last leader has accepted nothing": {func(h *history.History) {
			h.Rows = h.Rows[:5]
			h.End.Members["b"] = withoutRow(withoutRow(h.End.Members["b"], 6), 7)
		}, ""},

		"a stale read": {func(h *history.History) {
			h.Ops = append(h.Ops, op(history.Write, "b", 2, 32, 5), op(history.Write, "b", 2, 33, 6), op(history.Read, "b", 2, 34, 5))
		}, "linearizable"},
		"a stale read of another term": {func(h *history.History) {
			h.Ops = append(h.Ops, op(history.Write, "a", 1, 5, 5), op(history.Read, "b", 2, 34, 4))
		}, ""},
		"two compare-and-sets from one value": {func(h *history.History) {
			one, two := op(history.CAS, "b", 2, 32, 6), op(history.CAS, "b", 2, 33, 7)
			one.Old, one.Applied, two.Old, two.Applied = 5, true, 5, true
			h.Ops = append(h.Ops, one, two)
		}, "linearizable"},
		"a compare-and-set refused although the value was right": {func(h *history.History) {
			o := op(history.CAS, "b", 2, 33, 7)
			o.Old = 5
			h.Ops = append(h.Ops, op(history.Write, "b", 2, 32, 5), o)
		}, "linearizable"},
		"a write whose answer got lost is seen later": {func(h *history.History) {
			o := op(history.Write, "b", 2, 33, 6)
			o.Outcome = history.Unknown
			h.Ops = append(h.Ops, op(history.Write, "b", 2, 32, 5), o, op(history.Read, "b", 2, 34, 5), op(history.Read, "b", 2, 35, 6))
		}, ""},
		"a write whose answer got lost is undone": {func(h *history.History) {
			o := op(history.Write, "b", 2, 33, 6)
			o.Outcome = history.Unknown
			h.Ops = append(h.Ops, op(history.Write, "b", 2, 32, 5), o, op(history.Read, "b", 2, 34, 6), op(history.Read, "b", 2, 35, 5))
		}, "linearizable"},

		"the leader changes although a fault concerned nobody": {func(h *history.History) {
			h.Faults[0].Targets, h.Faults[0].Hits = nil, nil
			h.End.Members["b"] = withRows(h.End.Members["b"], 5)
		}, "steady"},
		"the leader changes although the fault was a replica's": {func(h *history.History) {
			h.Faults[0].Targets, h.Faults[0].Hits = []string{"b"}, []string{"b"}
			h.End.Members["b"] = withRows(h.End.Members["b"], 5)
		}, "steady"},
		"the leader changes without a reason on a busy machine": {func(h *history.History) {
			h.Faults[0].Targets, h.Faults[0].Hits, h.Rounds[0].Busy = nil, nil, 90
			h.End.Members["b"] = withRows(h.End.Members["b"], 5)
		}, ""},

		"it never heals": {func(h *history.History) { h.Rounds[0].Healed = 0 }, "heals"},
		"it heals late":  {func(h *history.History) { h.Rounds[0].Bound = second(10) }, "heals"},
		"it heals late on a busy machine": {func(h *history.History) {
			h.Rounds[0].Bound, h.Rounds[0].Busy = second(10), 90
		}, ""},

		"a replica has other rows": {func(h *history.History) {
			c := h.End.Members["a"]
			c.Sums = map[string]string{"numbered": "y"}
			h.End.Members["a"] = c
		}, "equal"},
		"a replica does not stream": {func(h *history.History) {
			c := h.End.Members["a"]
			c.Streams = false
			h.End.Members["a"] = c
		}, "equal"},
		"a member is another cluster's": {func(h *history.History) {
			c := h.End.Members["a"]
			c.SystemID = "2"
			h.End.Members["a"] = c
		}, "equal"},
		"a member does not answer": {func(h *history.History) { delete(h.End.Members, "a") }, "equal"},

		"a replica's data was removed": {func(h *history.History) {
			h.Wiped = append(h.Wiped, history.Wiped{At: second(36), Member: "a", Timeline: 2, Others: map[string]uint32{"b": 2}})
		}, ""},
		"an old leader's data was removed when there was a newer timeline": {func(h *history.History) {
			h.Wiped = append(h.Wiped, history.Wiped{At: second(36), Member: "a", Timeline: 1, Others: map[string]uint32{"b": 2}})
		}, ""},
		"the only data was removed": {func(h *history.History) {
			h.Wiped = append(h.Wiped, history.Wiped{At: second(36), Member: "b", Timeline: 2})
		}, "kept"},
		"the author's data was removed when nobody had a newer timeline": {func(h *history.History) {
			h.Wiped = append(h.Wiped, history.Wiped{At: second(36), Member: "b", Timeline: 2, Others: map[string]uint32{"a": 2}})
		}, "kept"},
		"the newest data was removed": {func(h *history.History) {
			h.Wiped = append(h.Wiped, history.Wiped{At: second(36), Member: "b", Timeline: 2, Others: map[string]uint32{"a": 1}})
		}, "kept"},

		"an agent ended by itself": {func(h *history.History) {
			h.Died = append(h.Died, history.Died{At: second(36), Member: "a", How: "exit code 2"})
		}, "alive"},
		"the run was cut short": {func(h *history.History) { h.End = nil }, "complete"},
		"nothing was written": {func(h *history.History) {
			h.Rows, h.End.Members["b"], h.End.Members["a"] = nil, bare(h, "b"), bare(h, "a")
		}, "complete"},
	} {
		t.Run(name, func(t *testing.T) {
			h := good()
			tt.change(&h)
			v := Judge(h)
			if have := broken(v); have != tt.want {
				t.Errorf("have broken %q, want %q:\n%s", have, tt.want, v)
			}
			if v.Holds() != (tt.want == "") {
				t.Errorf("have Holds %t with %q broken", v.Holds(), broken(v))
			}
		})
	}
}

// What a mode demands beyond the others, and what it does not forgive.
func TestModes(t *testing.T) {
	storeOnly := func(h *history.History) { // while the store was hit, b took over from a
		h.Run.Mode = history.Failsafe
		h.Faults[0].Targets = []string{"e1", "e2"}
		h.Rounds[0].Busy = 10
	}
	waits := func(h *history.History) {
		h.Run.Mode, h.Rounds[0].Standbys = history.Sync, 1
		h.End.Members["b"] = withRows(h.End.Members["b"], 5)
		h.Txns = []history.Txn{parse(t, "a/1 4-5 append 6:1 unknown")}
		h.Ops = append(h.Ops, op(history.Write, "a", 1, 5, 5))
	}
	for name, tt := range map[string]struct {
		change func(h *history.History)
		want   string
	}{
		"commits wait, and all is kept":            {waits, ""},
		"a row is missing although commits waited": {func(h *history.History) { waits(h); h.End.Members["b"] = withoutRow(h.End.Members["b"], 5) }, "nothing lost"},
		"commits never waited":                     {func(h *history.History) { waits(h); h.Rounds[0].Standbys = 0 }, "complete"},
		"no transaction was tried":                 {func(h *history.History) { waits(h); h.Txns = nil }, "complete"},
		"the next leader's register is the last one's": {func(h *history.History) {
			waits(h)
			h.Ops = append(h.Ops, op(history.Read, "b", 2, 34, 5))
		}, ""},
		"the next leader's register is older": {func(h *history.History) {
			waits(h)
			h.Ops = append(h.Ops, op(history.Read, "b", 2, 34, 4))
		}, "linearizable"},
		"a term ends though only the store was hit": {func(h *history.History) {
			storeOnly(h)
			h.Txns = []history.Txn{parse(t, "a/1 4-5 append 6:1 unknown")}
		}, "leads on"},
		"a term ends when a member was hit, too": {func(h *history.History) {
			storeOnly(h)
			h.Txns = []history.Txn{parse(t, "a/1 4-5 append 6:1 unknown")}
			h.Faults = append(h.Faults, hit(1, "a", 11, 12))
		}, ""},
		"a term ends though only the store was hit, on a busy machine": {func(h *history.History) {
			storeOnly(h)
			h.Txns = []history.Txn{parse(t, "a/1 4-5 append 6:1 unknown")}
			h.Rounds[0].Busy = 90
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := good()
			tt.change(&h)
			if v := Judge(h); broken(v) != tt.want {
				t.Errorf("have broken %q, want %q:\n%s", broken(v), tt.want, v)
			}
		})
	}
}

func withRows(c history.Copy, ids ...int64) history.Copy {
	c.Rows = append([][2]int64{}, c.Rows...)
	for _, id := range ids {
		c.Rows = append(c.Rows, [2]int64{id, id})
	}
	return c
}

func withoutRow(c history.Copy, gone int64) history.Copy {
	var ids []int64
	for _, span := range c.Rows {
		for id := span[0]; id <= span[1]; id++ {
			if id != gone {
				ids = append(ids, id)
			}
		}
	}
	c.Rows = nil
	return withRows(c, ids...)
}

func bare(h *history.History, member string) history.Copy {
	c := h.End.Members[member]
	c.Rows = nil
	return c
}

func TestManyProblems(t *testing.T) {
	var c Check
	for i := range most + 5 {
		c.tell("problem %d", i)
	}
	v := Verdict{Checks: []Check{c}}
	if len(c.Problems) != most || c.More != 5 || !strings.Contains(v.String(), "and 5 more") {
		t.Errorf("have %d problems and %d more, want %d and 5:\n%s", len(c.Problems), c.More, most, v)
	}
}

// The excuse needs each of its parts; the facts name what was lost.
func TestFactsNameTheFault(t *testing.T) {
	v := Judge(good())
	for _, c := range v.Checks {
		if c.Name == "nothing lost" && c.Facts != "of 7 acknowledged rows 1 are missing, 1 after power off" {
			t.Errorf("have %q", c.Facts)
		}
	}
}
