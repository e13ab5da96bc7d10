package integration

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/test/integration/harness"
)

// slowly has a loop_wait so long that only events can make anything quick, and a ttl so long that nobody else comes to lead meanwhile.
var slowly = harness.Options{LoopWait: 10 * time.Second, TTL: time.Minute}

// The postmaster dies: the leader keeps its lock and starts PostgreSQL again on the same timeline. The agent dies: PostgreSQL
// does not notice, and the next agent goes on with it. Both die and are back before the lock ends: the member still leads, on
// a new timeline.
func TestLeaderCrashes(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, slowly)
	m, w := c.Healthy(t, harness.Patience), c.Write(t)

	killed := time.Now()
	m.CrashPostmaster(t)
	w.AdvanceOn(t, m, harness.Patience)
	harness.Quick(t, "outage when the postmaster is killed, less than loop_wait", harness.OutageSince(w.Acks(), killed), 9*time.Second)
	if now := c.Healthy(t, harness.Patience); now != m || m.Now(t).Timeline != 1 {
		t.Errorf("postmaster killed: have leader %s on timeline %d, want %s on 1", now.Name, m.Now(t).Timeline, m.Name)
	}

	killed, before := time.Now(), m.Postmaster()
	m.KillAgent(t)
	w.Advance(t, 20, harness.Patience)
	m.Start(t)
	if now := c.Healthy(t, harness.Patience); now != m || m.Postmaster() != before {
		t.Errorf("agent killed: have leader %s with postmaster %d, want %s with %d", now.Name, m.Postmaster(), m.Name, before)
	}
	harness.Quick(t, "outage when the agent is killed, none at all", harness.OutageSince(w.Acks(), killed), 2*time.Second)

	killed = time.Now()
	m.KillAll(t)
	m.Start(t)
	w.AdvanceOn(t, m, harness.Patience)
	harness.Quick(t, "outage when both are killed, much less than ttl", harness.OutageSince(w.Acks(), killed), 15*time.Second)
	if now := c.Healthy(t, harness.Patience); now != m || m.Now(t).Timeline != 2 {
		t.Errorf("both killed: have leader %s on timeline %d, want %s on 2", now.Name, m.Now(t).Timeline, m.Name)
	}
	w.Audit(t, 0)
}

// The leader's machine is gone for longer than the ttl, and it has written what nobody else has: the other member leads, and
// the old leader gives up those rows and streams again. Their loss is what asynchronous replication risks; it is counted.
func TestLeaderGoneForLong(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{})
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	other := c.Others(old)[0]
	reached := w.Reached(t, old, other)
	kill(t, backend(t, old, "select pid from pg_stat_replication where application_name = '"+other.Name+"'"), syscall.SIGSTOP)
	old.SQL(t, "insert into numbered values (-1, 'nobody has me')")
	w.Advance(t, 10, harness.Patience)
	harness.Eventually(t, harness.Patience, "the leader tells what losing it would cost", func() bool {
		why, err := old.API.Why(t.Context(), time.Time{}, 1)
		return err == nil && why.Risk != nil && why.Risk.Heir == other.Name && why.Risk.Bytes > 0
	})
	old.KillAll(t)
	gone := time.Now()
	w.AdvanceOn(t, other, harness.Patience)
	harness.Quick(t, "the other member writes, after ttl and a little", harness.Since(gone), 25*time.Second)
	if row := other.SQL(t, "select count(*) from numbered where id = -1"); row != "0" {
		t.Fatal("the row that was to be lost was replicated: nothing has diverged")
	}
	old.Start(t)
	if now := c.Healthy(t, harness.Patience); now != other {
		t.Errorf("have leader %s, want %s", now.Name, other.Name)
	}
	if row := old.SQL(t, "select count(*) from numbered where id = -1"); row != "0" {
		t.Error("the old leader streams and still has a row that the leader lacks")
	}
	if !old.Logged("reason=rewind") {
		t.Error("the old leader came back by other means than a rewind")
	}
	harness.Eventually(t, harness.Patience, "the new leader tells what the failover has cost", func() bool {
		why, err := other.API.Why(t.Context(), time.Time{}, 1)
		return err == nil && why.Loss != nil && why.Loss.Timeline == 1 && why.Loss.Member == old.Name && why.Loss.Bytes > 0 && why.Loss.Fate == "rewound"
	})
	if said := c.Command(t, "history"); !strings.Contains(said, old.Name+" had ") || !strings.Contains(said, "pg_rewind has overwritten it") {
		t.Errorf("history does not tell what the failover has cost:\n%s", said)
	}
	for m, line := range map[*harness.Member]string{
		other: "INFO: promoted self to leader",
		old:   "INFO: running pg_rewind from " + other.Name + " reason=rewind",
	} {
		if !m.Logged(line) {
			t.Errorf("the log of %s has no line with %q", m.Name, line)
		}
	}
	if missing := w.Audit(t, reached.Since()); missing == 0 {
		t.Error("have no lost row although replication was stopped: the comparison is blind")
	}
}

// The same, but all of the old leader's WAL was replicated, and use_pg_rewind is off: how far that goes is known only when PostgreSQL runs, so the old
// leader is started as it is, at once, and streams.
func TestLeaderGoneThatCannotBeRewound(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Dynamic: harness.Map{"postgresql": harness.Map{"parameters": harness.Map{"max_connections": 50, "shared_buffers": "16MB", "autovacuum": false}}}})
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	other := c.Others(old)[0]
	w.Advance(t, 10, harness.Patience)
	w.Stop()
	for _, writes := range []string{"checkpointer", "background writer"} { // they log something now and then
		kill(t, backend(t, old, "select pid from pg_stat_activity where backend_type = '"+writes+"'"), syscall.SIGSTOP)
	}
	harness.Eventually(t, harness.Patience, "everything is replicated", func() bool {
		return old.SQL(t, "select count(*) from pg_stat_replication where replay_lsn = pg_current_wal_lsn()") == "1"
	})
	old.KillAll(t)
	harness.Eventually(t, harness.Patience, other.Name+" leads", func() bool { return other.Ready("primary") })
	old.Start(t)
	back := time.Now()
	if now := c.Healthy(t, harness.Patience); now != other {
		t.Errorf("have leader %s, want %s", now.Name, other.Name)
	}
	harness.Quick(t, "the old leader streams, without waiting for a ttl", harness.Since(back), 15*time.Second)
	if old.Logged("reason=compare-history") {
		t.Error("the old leader was compared while the end of its WAL was not known")
	}
	w.Audit(t, 0)
}

// Every process of every member dies at once. They come back in any order; whoever led goes on if it is in time.
func TestWholeClusterCrashes(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{TTL: time.Minute}) // long enough to be in time
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	other := c.Others(old)[0]
	old.KillAll(t)
	other.KillAll(t)
	other.Start(t)
	harness.Eventually(t, harness.Patience, "the replica's agent answers", func() bool { return other.Status() != nil })
	old.Start(t)
	if now := c.Healthy(t, harness.Patience); now != old {
		t.Errorf("have leader %s, want %s, whose lock had not ended", now.Name, old.Name)
	}
	w.AdvanceOn(t, old, harness.Patience)
	if tl := old.Now(t).Timeline; tl != 2 {
		t.Errorf("have timeline %d, want 2", tl)
	}

	// Now the replica alone is back, after the lock has ended. It died first, so what was acknowledged since is lost.
	shorten(t, old)
	reached := w.Reached(t, old, other)
	other.KillAll(t)
	old.KillAll(t)
	harness.Eventually(t, harness.Patience, "the lock ends", func() bool { return c.Leader() == nil })
	other.Start(t)
	w.AdvanceOn(t, other, harness.Patience)
	old.Start(t)
	if now := c.Healthy(t, harness.Patience); now != other {
		t.Errorf("have leader %s, want %s", now.Name, other.Name)
	}
	w.Audit(t, reached.Since())
}

// backend is the one process id that a query returns.
func backend(t *testing.T, m *harness.Member, query string) string {
	t.Helper()
	pid := m.SQL(t, query)
	if pid == "" || strings.Contains(pid, "\n") {
		t.Fatalf("%s: have %q, want one process", query, pid)
	}
	return pid
}

// The leader's PostgreSQL crashes, is started again, and crashes again: two times that is borne, the third time the other member leads.
// The first comes back as its replica.
func TestPrimaryCrashesAgainAndAgain(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{})
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	other := c.Others(old)[0]
	for range 2 {
		old.CrashPostmaster(t)
		w.AdvanceOn(t, old, harness.Patience)
		if now := c.Healthy(t, harness.Patience); now != old {
			t.Fatalf("have leader %s, want %s", now.Name, old.Name)
		}
	}
	reached := w.Reached(t, old, other)
	old.SignalPostmaster(t, syscall.SIGKILL)
	last := time.Now()
	w.AdvanceOn(t, other, harness.Patience)
	harness.Quick(t, "the other member writes after the third crash", harness.Since(last), 10*time.Second)
	if !old.Logged("it crashed 3 times within 5m0s") {
		t.Error("the log does not say why the lock was handed over")
	}
	if now := c.Healthy(t, harness.Patience); now != other {
		t.Errorf("have leader %s, want %s", now.Name, other.Name)
	}
	w.Audit(t, reached.Since()) // what the crashed one had not sent
}
