package postgres

import (
	"testing"
	"time"
)

// Two members are promoted from the same point, one after the other, and neither knows of the other: both begin timeline 2.
func TestTwoTimelinesOfTheSameNumber(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	b, c := cloned(t, a, "pg2"), cloned(t, a, "pg3")
	a.sql(t, "CREATE TABLE t (i int)")
	caughtUp(t, b, a)
	caughtUp(t, c, a)
	stopFast(t, a) // both get the shutdown checkpoint
	must(t, b.Promote(within(t, 10*time.Second), 0, nil))
	b.sql(t, "INSERT INTO t VALUES (1)")
	stopFast(t, b)
	must(t, c.Promote(within(t, 10*time.Second), 0, nil))
	c.sql(t, "INSERT INTO t SELECT generate_series(1, 10000)") // the leader is further by far, so positions tell nothing

	twin := func(what string) {
		t.Helper()
		v, err := b.Divergence(within(t, 10*time.Second), c.source(), 2)
		if err != nil || v.Outcome != Needed || v.NoRewind == "" {
			t.Errorf("%s: have %v (no rewind: %q), %v; want needed, and not by pg_rewind", what, v, v.NoRewind, err)
		}
		t.Logf("%s: %v", what, v)
	}
	twin("the former primary of the other timeline 2")
	must(t, b.Start(within(t, 10*time.Second), StartOptions{Mode: AsStandby}))
	twin("the same as a standby")
	verdict(t, a, c, 2, NotNeeded) // it never was on either

	must(t, b.stopAndErase(t))
	must(t, b.Clone(within(t, 30*time.Second), c.source(), nil))
	follow(t, b, c)
	caughtUp(t, b, c)
	verdict(t, b, c, 2, NotNeeded) // the same first record
}

func (p *Instance) stopAndErase(t *testing.T) error {
	stopFast(t, p)
	return p.Erase()
}

// A leader that was lost began timelines that nobody here has a history file of: their numbers are not used again.
func TestPromoteAboveTimelinesThatNobodyKnows(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	stopFast(t, a)

	// A promotion that did not happen: the standby starts again, and runs on when it looks for newer timelines.
	must(t, b.takeNumbers(1, 3))
	stopFast(t, b)
	must(t, b.Start(within(t, 10*time.Second), StartOptions{Mode: AsStandby}))

	must(t, b.Promote(within(t, 10*time.Second), 3, nil))
	if have := b.sql(t, "SELECT timeline_id FROM pg_control_checkpoint()") + " " + b.sql(t, "SELECT pg_walfile_name(pg_current_wal_lsn())")[:8]; have != "1 00000004" && have != "4 00000004" {
		t.Errorf("have %s, want timeline 4", have)
	}
	history, err := b.LocalHistory(4)
	if err != nil || len(history) != 1 || history[0].Timeline != 1 {
		t.Errorf("have history %v, %v; want timeline 1 alone before it", history, err)
	}
	b.sql(t, "INSERT INTO t VALUES (1)")
	verdict(t, a, b, 4, NotNeeded)
	follow(t, a, b)
	caughtUp(t, a, b)
	stopFast(t, b)
	startPrimary(t, b)
	caughtUp(t, a, b)
	stopFast(t, b)
	must(t, a.Promote(within(t, 10*time.Second), 0, nil))
	if have := a.sql(t, "SELECT pg_walfile_name(pg_current_wal_lsn())")[:8]; have != "00000005" {
		t.Errorf("have timeline %s, want 5", have)
	}
}
