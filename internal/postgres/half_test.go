package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

// halfRecord makes two standbys that have received the same half of a record, up to the end of a segment, from a leader that is lost. The
// first is promoted: its timeline begins where that record did. The second follows it. before is done on the leader and the standbys first.
func halfRecord(t *testing.T, before func(leader *Instance, standbys ...*Instance)) (leader, standby *Instance) {
	t.Helper()
	a := bootstrapped(t)
	b, c := cloned(t, a, "pg2"), cloned(t, a, "pg3")
	a.sql(t, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
	before(a, b, c)
	a.sql(t, "INSERT INTO t VALUES (0)")
	caughtUp(t, b, a)
	caughtUp(t, c, a)
	stopFast(t, b)
	stopFast(t, c)
	segment := a.sql(t, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	a.sql(t, "SELECT pg_logical_emit_message(false, 'half', repeat('x', 20000000))") // longer than a segment and all that is buffered
	must(t, a.Kill(within(t, 10*time.Second)))
	half, err := os.ReadFile(filepath.Join(a.Settings().DataDir, "pg_wal", segment))
	must(t, err)
	for _, p := range []*Instance{b, c} {
		must(t, os.WriteFile(filepath.Join(p.Settings().DataDir, "pg_wal", segment), half, 0o600))
	}
	must(t, b.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby}))
	must(t, b.Promote(within(t, 10*time.Second), 0, nil))
	follow(t, c, b)
	return b, c
}

// asksAhead waits until the leader has refused what the standby asks for.
func asksAhead(t *testing.T, p *Instance) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", p.lastWords())
		}
	})
	pgtest.Eventually(t, "the standby asks for WAL that is not written", func() bool {
		return strings.Contains(string(p.lastWords()), "is ahead of the ")
	})
}

func TestHalfRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		before func(leader *Instance, standbys ...*Instance)
	}{
		{"redo begins in its segment", func(*Instance, ...*Instance) {}},
		{"redo begins before", func(leader *Instance, standbys ...*Instance) {
			leader.sql(t, "CHECKPOINT")
			for _, p := range standbys {
				caughtUp(t, p, leader)
				p.sql(t, "CHECKPOINT")
			}
			leader.sql(t, "SELECT pg_switch_wal()")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			leader, standby := halfRecord(t, c.before)
			asksAhead(t, standby)
			v := standby.Observe(t.Context(), ObserveOptions{})
			flush := leader.sql(t, "SELECT pg_current_wal_flush_lsn()")
			t.Logf("the standby says of its connection: %q, %+v", v.ReplicationState(), v.Receiver)
			if v.Received <= v.Replayed || leader.sql(t, "SELECT '"+v.Received.String()+"' > pg_current_wal_flush_lsn()") != "t" {
				t.Errorf("have received %s, replayed %s, the leader at %s; want more received than the leader has", v.Received, v.Replayed, flush)
			}
			verdict(t, standby, leader, 2, NotNeeded)

			// It does not help. Where the receiver waits (17.12), it hears of the stop after wal_receiver_timeout, 60 s.
			must(t, standby.Stop(within(t, 40*time.Second), StopOptions{Mode: Fast}))
			follow(t, standby, leader)
			asksAhead(t, standby)

			timed(t, "cut", 0, func() { must(t, standby.CutHalfRecord(within(t, 20*time.Second), leader.source())) })
			follow(t, standby, leader)
			leader.sql(t, "INSERT INTO t SELECT generate_series(1, 400000)") // over the end of the segment
			caughtUp(t, standby, leader)
			if have, want := standby.sql(t, "SELECT count(*), sum(i) FROM t"), leader.sql(t, "SELECT count(*), sum(i) FROM t"); have != want {
				t.Errorf("rows of the standby: have %s, want %s", have, want)
			}
			if kept, _ := filepath.Glob(filepath.Join(standby.Settings().DataDir, "pg_wal", "*.partial")); len(kept) != 1 {
				t.Errorf("the segment as it was: have %v, want one", kept)
			}
			err := standby.CutHalfRecord(within(t, 20*time.Second), leader.source())
			if err == nil || standby.postmaster() == nil {
				t.Errorf("nothing to cut: have %v, running %v; want an error, and running", err, standby.postmaster() != nil)
			}
		})
	}
}

// What may not be cut: a record that is whole, only not replayed; what a leader's history does not continue; nothing.
func TestCutHalfRecordRefused(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	b := cloned(t, a, "pg2")
	caughtUp(t, b, a)
	refused := func(what string, leader *Instance, want string) {
		t.Helper()
		err := b.CutHalfRecord(within(t, 10*time.Second), leader.source())
		if err == nil || !strings.Contains(err.Error(), want) || b.postmaster() == nil {
			t.Errorf("%s: have %v, running %v; want an error with %q, and running", what, err, b.postmaster() != nil, want)
		}
	}
	if err := b.CutHalfRecord(within(t, 10*time.Second), a.source()); !errors.Is(err, ErrRewindImpossible) {
		t.Errorf("nothing follows: have %v, want ErrRewindImpossible", err)
	}
	b.sql(t, "SELECT pg_wal_replay_pause()")
	a.sql(t, "SELECT pg_logical_emit_message(true, 'whole', repeat('x', 300000))")
	at := a.sql(t, "SELECT pg_current_wal_flush_lsn()")
	pgtest.Eventually(t, "received, not replayed", func() bool {
		have, err := pgtest.TrySQL(b.Settings().Port, "SELECT pg_last_wal_receive_lsn() >= '"+at+"' AND pg_last_wal_replay_lsn() < '"+at+"'")
		return err == nil && have == "t"
	})
	refused("a whole record of many pages", a, "it is whole")
	stopFast(t, a)
	refused("a leader that is down", a, "cut off half a record")
}
