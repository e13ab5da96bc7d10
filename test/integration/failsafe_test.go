package integration

import (
	"testing"
	"time"

	"github.com/regent-ha/regent/test/integration/harness"
)

// failsafe starts a cluster of three in failsafe mode whose leader knows that /failsafe is its own.
func failsafe(t *testing.T) (c *harness.Cluster, leader *harness.Member, w *harness.Writer) {
	t.Helper()
	c = harness.Start(t, harness.Options{Members: 3, Dynamic: harness.Map{"failsafe_mode": true}})
	leader = c.Healthy(t, harness.Patience)
	harness.Eventually(t, harness.Patience, "/failsafe lists all", func() bool {
		s, err := c.Keys.Snapshot(limited(t))
		return err == nil && len(s.Failsafe) == 3
	})
	w = c.Write(t)
	seen := time.Now().Unix()
	harness.Eventually(t, harness.Patience, "everybody has read the store since", func() bool {
		for _, m := range c.Members {
			if s := m.Status(); s == nil || s.DCSLastSeen <= seen {
				return false
			}
		}
		return true
	})
	return c, leader, w
}

// cutAll takes the store from everybody.
func cutAll(c *harness.Cluster) (heal func()) {
	var heals []func()
	for _, m := range c.Members {
		heals = append(heals, m.Store.Cut())
	}
	return func() {
		for _, heal := range heals {
			heal()
		}
	}
}

// Nobody reaches the store for more than three times the ttl. All members promise not to lead, so the primary goes on.
func TestFailsafeStoreAway(t *testing.T) {
	t.Parallel()
	c, m, w := failsafe(t)
	before, cut := m.Postmaster(), time.Now()
	heal := cutAll(c)
	harness.Eventually(t, harness.Patience, "the leader lives by promises", func() bool { s := m.Status(); return s != nil && s.FailsafeActive })
	for _, o := range c.Others(m) {
		harness.Eventually(t, harness.Patience, o.Name+" has promised", func() bool { s := o.Status(); return s != nil && s.FailsafeActive })
	}
	harness.Eventually(t, harness.Patience, "the store is away for 65 s", func() bool {
		for _, o := range c.Others(m) {
			if o.Ready("primary") {
				t.Fatalf("%s is a primary while %s goes on", o.Name, m.Name)
			}
		}
		return time.Since(cut) >= 65*time.Second
	})
	if code := m.Answers(t, "/primary"); code != 200 {
		t.Errorf("GET /primary: have %d, want 200", code)
	}
	w.AdvanceOn(t, m, harness.Patience)
	heal()
	harness.Eventually(t, harness.Patience, "the store has the leader's name again", func() bool { return c.Leader() == m })
	if now := c.Healthy(t, harness.Patience); now != m || m.Postmaster() != before {
		t.Errorf("have leader %s with postmaster %d, want %s with %d", now.Name, m.Postmaster(), m.Name, before)
	}
	harness.Eventually(t, harness.Patience, "failsafe mode is over", func() bool { s := m.Status(); return s != nil && !s.FailsafeActive })
	harness.Quick(t, "outage, none at all", harness.OutageSince(w.Acks(), cut), 2*time.Second)
	w.Audit(t, 0)
}

// The leader alone is cut off. The others reach the store and see a free lock; they have promised not to take it.
func TestFailsafeLeaderCutOff(t *testing.T) {
	t.Parallel()
	c, m, w := failsafe(t)
	cut := time.Now()
	heal := m.Store.Cut()
	harness.Eventually(t, harness.Patience, "the lock is free", func() bool { return c.Leader() == nil })
	o := c.Others(m)[0]
	harness.Eventually(t, harness.Patience, "a member says why it does not take it", func() bool { return o.Reason() == "promised" })
	harness.Eventually(t, harness.Patience, "the leader is cut off for 45 s", func() bool { return time.Since(cut) >= 45*time.Second })
	w.AdvanceOn(t, m, harness.Patience)
	heal()
	harness.Eventually(t, harness.Patience, "the store has the leader's name again", func() bool { return c.Leader() == m })
	if now := c.Healthy(t, harness.Patience); now != m {
		t.Errorf("have leader %s, want %s", now.Name, m.Name)
	}
	harness.Quick(t, "outage, none at all", harness.OutageSince(w.Acks(), cut), 2*time.Second)
	w.Audit(t, 0)
}

// Nobody reaches the store, and one member is gone as well: it may lead somewhere, so the primary stops before its lock ends.
func TestFailsafeMemberAway(t *testing.T) {
	t.Parallel()
	c, m, w := failsafe(t)
	gone := c.Others(m)[1]
	gone.KillAgent(t)
	before, reached := m.Postmaster(), w.Reached(t, m, c.Others(m)[0])
	heal := cutAll(c)
	end := m.LeaseEnd(t, 12*time.Second)
	harness.Eventually(t, harness.Patience, "the leader stops PostgreSQL", func() bool { return m.Postmaster() != before }) // it may be a standby soon
	if last := harness.LastSent(w.Acks(), m); !last.Before(end.To) {
		t.Errorf("the leader accepted a row %s after its lock had ended", last.Sub(end.To))
	}
	heal()
	gone.Start(t)
	leader := c.Healthy(t, harness.Patience)
	w.AdvanceOn(t, leader, harness.Patience)
	w.Audit(t, reached.Unsent(leader))
}

// A member is away for longer than the ttl, so it is listed no more, and then nobody reaches the store: the others agree.
func TestFailsafeMemberGoneBefore(t *testing.T) {
	t.Parallel()
	c, m, w := failsafe(t)
	gone := c.Others(m)[1]
	gone.KillAll(t)
	harness.Eventually(t, harness.Patience, "/failsafe lists it no more", func() bool {
		s, err := c.Keys.Snapshot(limited(t))
		return err == nil && len(s.Failsafe) == 2
	})
	seen := time.Now().Unix()
	harness.Eventually(t, harness.Patience, "the leader has read that", func() bool { s := m.Status(); return s != nil && s.DCSLastSeen > seen })
	o := c.Others(m)[0]
	before, cut := m.Postmaster(), time.Now()
	heal := cutAll(c)
	harness.Eventually(t, harness.Patience, "the store is away for 45 s", func() bool {
		if o.Ready("primary") {
			t.Fatalf("%s is a primary while %s goes on", o.Name, m.Name)
		}
		return time.Since(cut) >= 45*time.Second
	})
	w.AdvanceOn(t, m, harness.Patience)
	heal()
	gone.Start(t)
	if now := c.Healthy(t, harness.Patience); now != m || m.Postmaster() != before {
		t.Errorf("have leader %s with postmaster %d, want %s with %d", now.Name, m.Postmaster(), m.Name, before)
	}
	w.Audit(t, 0)
}
