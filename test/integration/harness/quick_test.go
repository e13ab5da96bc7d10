package harness

import (
	"testing"
	"time"
)

func TestWaitedForTheMachine(t *testing.T) {
	now, stalled := at(0), time.Duration(0)
	l := ledger{stalled: func() time.Duration { return stalled }, now: func() time.Time { return now }}
	pass := func(passed, waited time.Duration) {
		now, stalled = now.Add(passed), stalled+waited
		l.look()
	}
	l.look()
	for range 20 { // one second, idle
		pass(tick, 0)
	}
	for range 20 { // one second, in which somebody waits three fifths of the time
		pass(tick, 30*time.Millisecond)
	}
	pass(2*time.Second, 0)                // the whole machine stands still
	pass(tick, time.Minute)               // more than has passed is never counted
	now = now.Add(100 * time.Millisecond) // the last look is while it is asked
	for name, tt := range map[string]struct {
		from, to float64
		want     time.Duration
	}{
		"idle":           {0, 1, 0},
		"busy":           {1, 2, 600 * time.Millisecond},
		"standing still": {2, 4, 1950 * time.Millisecond},
		"a part of it":   {3, 3.5, 500 * time.Millisecond},
		"all":            {0, 4.05, 2600 * time.Millisecond},
		"since":          {4.05, 9, 50 * time.Millisecond},
	} {
		if have := l.waited(Span{at(tt.from), at(tt.to)}); have != tt.want {
			t.Errorf("%s: have %s, want %s", name, have, tt.want)
		}
	}
}
