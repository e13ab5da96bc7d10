package integration

import (
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/test/integration/harness"
)

// The agent of the leader is frozen. Less than the ttl costs nothing. More costs it the lock, and its guard kills PostgreSQL before
// that ends: nobody accepts a row beside the new leader. When it wakes it comes back as a replica.
func TestAgentFrozen(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{TTL: time.Minute})
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	other := c.Others(old)[0]
	before := old.Postmaster()
	frozen := time.Now()
	old.SignalAgent(t, syscall.SIGSTOP)
	harness.Eventually(t, harness.Patience, "6 s have passed", func() bool { return time.Since(frozen) > 6*time.Second })
	old.SignalAgent(t, syscall.SIGCONT)
	if now := c.Healthy(t, harness.Patience); now != old || old.Postmaster() != before {
		t.Errorf("frozen for less than ttl: have leader %s with postmaster %d, want %s with %d", now.Name, old.Postmaster(), old.Name, before)
	}
	harness.Quick(t, "outage when the agent is frozen for less than ttl, none at all", harness.OutageSince(w.Acks(), frozen), 2*time.Second)

	shorten(t, old)
	reached := w.Reached(t, old, other)
	old.SignalAgent(t, syscall.SIGSTOP)
	guarded(t, w, old, other, time.Now().Add(ttl)) // it has asked for nothing since, so its lock has ended by then
	old.SignalAgent(t, syscall.SIGCONT)
	if now := c.Healthy(t, harness.Patience); now != other {
		t.Errorf("frozen for more than ttl: have leader %s, want %s", now.Name, other.Name)
	}
	awaitGuard(t, old, "a guard on the old leader that has killed once and is disarmed", func(g client.Guard) bool { return g.Alive && !g.Armed && g.Kills == 1 })
	w.Audit(t, reached.Since()) // what was acknowledged in the last moments may not have been sent any more
}

// The agent of the leader is dead for longer than the ttl: the guard outlives it, and does the same. The next agent tells of it.
func TestAgentGoneForLong(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{})
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	other := c.Others(old)[0]
	guard := guardOf(t, old).Pid
	leads(t, old)
	reached := w.Reached(t, old, other)
	old.KillAgent(t)
	guarded(t, w, old, other, time.Now().Add(ttl))
	harness.Eventually(t, harness.Patience, "the guard ends after its deed", func() bool { return !harness.Alive(guard) })
	old.Start(t)
	if now := c.Healthy(t, harness.Patience); now != other {
		t.Errorf("have leader %s, want %s", now.Name, other.Name)
	}
	if !old.Logged("the guard has killed PostgreSQL") {
		t.Error("the restarted agent does not tell that the guard has killed PostgreSQL")
	}
	w.Audit(t, reached.Since())
}

// leads waits until a member tells of an end of its lock.
func leads(t *testing.T, m *harness.Member) {
	t.Helper()
	harness.Eventually(t, harness.Patience, m.Name+" tells the end of its lock", func() bool { return m.LeaseLeft() > 0 })
}

// guarded waits for the other member to lead and checks that the old leader has stopped before the end of its lock.
func guarded(t *testing.T, w *harness.Writer, old, other *harness.Member, ends time.Time) {
	t.Helper()
	w.AdvanceOn(t, other, harness.Patience)
	if pid := old.Postmaster(); pid != 0 {
		t.Errorf("postmaster %d of the old leader lives while another member leads", pid)
	}
	first, last := harness.FirstAcked(w.Acks(), other, time.Time{}), harness.LastSent(w.Acks(), old)
	if !last.Before(ends) || !last.Before(first) {
		t.Errorf("the old leader accepted a row %s before its lock ended and %s before the new one did, want both positive", ends.Sub(last), first.Sub(last))
	}
	t.Logf("the old leader accepted its last row %s before the new one its first", first.Sub(last).Round(time.Millisecond))
}

// A frozen postmaster takes no connections while its sessions go on. The agent stays responsive, and a replica's freeze
// concerns nobody else. The leader's is borne for primary_start_timeout; then the other member leads.
func TestPostmasterFrozen(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Dynamic: harness.Map{"primary_start_timeout": 60}})
	leader, w := c.Healthy(t, harness.Patience), c.Write(t)
	replica := c.Others(leader)[0]

	frozen, before := time.Now(), leader.Postmaster()
	replica.SignalPostmaster(t, syscall.SIGSTOP)
	responsive(t, replica, 4*time.Second)
	responsive(t, leader, time.Second)
	replica.SignalPostmaster(t, syscall.SIGCONT)
	if now := c.Healthy(t, harness.Patience); now != leader || leader.Postmaster() != before {
		t.Errorf("replica frozen: have leader %s, want %s as if nothing had happened", now.Name, leader.Name)
	}
	harness.Quick(t, "outage when a replica is frozen, none at all", harness.OutageSince(w.Acks(), frozen), 2*time.Second)

	leader.SignalPostmaster(t, syscall.SIGSTOP)
	responsive(t, leader, 3*time.Second)
	leader.SignalPostmaster(t, syscall.SIGCONT)
	if now := c.Healthy(t, harness.Patience); now != leader || leader.Postmaster() != before {
		t.Errorf("leader frozen shortly: have leader %s, want %s with the same postmaster", now.Name, leader.Name)
	}

	patch(t, leader, harness.Map{"primary_start_timeout": 6, "postgresql": harness.Map{"parameters": harness.Map{"work_mem": "7MB"}}})
	harness.Eventually(t, harness.Patience, "the leader knows the new timeout", func() bool { out, _ := leader.TrySQL("show work_mem"); return out == "7MB" })
	reached := w.Reached(t, leader, replica)
	frozen = time.Now()
	leader.SignalPostmaster(t, syscall.SIGSTOP)
	responsive(t, leader, 3*time.Second)
	w.AdvanceOn(t, replica, harness.Patience)
	harness.Quick(t, "the other member writes after primary_start_timeout", harness.Since(frozen), 16*time.Second)
	if now := c.Healthy(t, harness.Patience); now != replica {
		t.Errorf("leader frozen: have leader %s, want %s", now.Name, replica.Name)
	}
	w.Audit(t, reached.Since()) // its PostgreSQL is killed in the end: the last rows may not have been sent
}

// responsive asks a member for its status all the time and fails when an answer takes longer than a load balancer waits.
func responsive(t *testing.T, m *harness.Member, during time.Duration) {
	t.Helper()
	var slowest harness.Span
	for end := time.Now().Add(during); time.Now().Before(end); {
		begin := time.Now()
		m.Now(t)
		if s := harness.Since(begin); s.Took() > slowest.Took() {
			slowest = s
		}
	}
	harness.Quick(t, "slowest GET /patroni of "+m.Name+" while a postmaster is frozen", slowest, 2*time.Second)
}
