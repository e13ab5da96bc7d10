package explore

import (
	"flag"
	"testing"
	"time"
)

func visit(t *testing.T, b Bounds) Result {
	t.Helper()
	begun := time.Now()
	r := Explore(b)
	t.Logf("%d members, %d ticks, %d rows, %d faults, %d requests: %d states, %d steps, %d endings, complete %v, %s", b.Members, b.Ticks, b.Rows, b.Faults, b.Requests, r.States, r.Steps, r.Endings, r.Complete, time.Since(begun).Round(time.Millisecond))
	return r
}

// Larger bounds by hand: go test ./internal/sim/explore -run Small -v -args -states 5000000
var states = flag.Int("states", 40_000, "how many states of each cluster to visit at most")

func TestSmallClusters(t *testing.T) {
	for _, b := range []Bounds{
		{Members: 2, Ticks: 1, Rows: 1, Requests: 1, Endings: 200},
		{Members: 2, Ticks: 5, Rows: 1, Faults: 1, Endings: 500},
		{Members: 3, Ticks: 1, Faults: 1, Endings: 500},
	} {
		b.States = *states
		if r := visit(t, b); r.Violation != nil {
			t.Error(r.Violation)
		}
	}
}

// The check can fail: a leader's agent dies and stays dead, and without the guard its primary outlives the lock.
func TestADeadAgentWithoutGuardIsSeen(t *testing.T) {
	for _, noGuard := range []bool{true, false} {
		w := healthy(Bounds{Members: 2, NoGuard: noGuard})
		w.bounds.Ticks = w.now + 20
		w.members[0].alive = false
		w.orphan(0)
		for w.broken == nil && w.now < w.bounds.Ticks {
			for _, s := range w.steps() {
				if s.name != "agent m0 starts" {
					s.do(w)
					break
				}
			}
		}
		switch {
		case noGuard && (w.broken == nil || w.broken.Oracle != "V1"):
			t.Errorf("without guard: have %v, want two primaries (V1)", w.broken)
		case !noGuard && (w.broken != nil || !w.members[1].pg.writable()):
			t.Errorf("with guard: have %v, m1 writable %v; want m1 alone", w.broken, w.members[1].pg.writable())
		}
	}
}
