package integration

import (
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/test/integration/harness"
)

// A replica takes no WAL any more, and its walsender on the leader waits for ever (wal_sender_timeout is 0). PostgreSQL would not end
// before that: the leader's agent, told to leave, hands over all the same, and ends with its PostgreSQL in time.
func TestWalsenderNeverEnds(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Members: 3, Dynamic: harness.Map{
		"postgresql": harness.Map{"parameters": harness.Map{"max_connections": 50, "shared_buffers": "16MB", "wal_keep_size": "64MB", "wal_sender_timeout": 0}},
	}})
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	heir, stuck := c.Others(old)[0], c.Others(old)[1]
	receiver := backend(t, stuck, "select pid from pg_stat_wal_receiver")
	kill(t, receiver, syscall.SIGSTOP)
	old.SQL(t, "create table big as select repeat(md5(i::text), 100) as text from generate_series(1, 10000) i") // more than connections hold
	sender := backend(t, old, "select pid from pg_stat_replication where application_name = '"+stuck.Name+"'")

	told := time.Now()
	old.SignalAgent(t, syscall.SIGTERM)
	w.AdvanceOn(t, heir, harness.Patience)
	harness.Quick(t, "another member writes though a walsender waits", harness.Since(told), 10*time.Second)
	if code := old.AwaitExit(t, harness.Patience); code != 0 {
		t.Errorf("have exit code %d, want 0", code)
	}
	harness.Quick(t, "the agent has ended with its PostgreSQL", harness.Since(told), 40*time.Second)
	if pid := old.Postmaster(); pid != 0 {
		t.Errorf("postmaster %d is left behind, and walsender %s with it", pid, sender)
	}
	resume(t, receiver) // its agent may have ended it meanwhile
	old.Start(t)
	if now := c.Healthy(t, harness.Patience); now != heir {
		t.Errorf("have leader %s, want %s", now.Name, heir.Name)
	}
	w.Audit(t, 0)
}

// The only replica takes no WAL any more when the leader's agent is told to leave. Nobody has what the leader acknowledged last, so nobody
// takes over: the lock is left to run out, and who starts the agent again before it has loses nothing.
func TestLeaderLeavesWithTheLastRows(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{TTL: time.Minute}) // long enough to start the agent again
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	stuck := c.Others(old)[0]
	receiver := backend(t, stuck, "select pid from pg_stat_wal_receiver")
	kill(t, receiver, syscall.SIGSTOP)
	w.Advance(t, 20, harness.Patience)
	old.SignalAgent(t, syscall.SIGTERM)
	if code := old.AwaitExit(t, harness.Patience); code != 0 {
		t.Errorf("have exit code %d, want 0", code)
	}
	resume(t, receiver)
	old.Start(t)
	if now := c.Healthy(t, harness.Patience); now != old {
		t.Errorf("have leader %s, want %s, which alone had the last rows", now.Name, old.Name)
	}
	w.Audit(t, 0)
}
