package integration

import (
	"testing"
	"time"

	"github.com/regent-ha/regent/test/integration/harness"
)

// The leader alone is cut off from the store: it stops writing before anybody else can hold its lock.
func TestLeaderCutOffFromStore(t *testing.T) {
	t.Parallel()
	const ttl = 20 * time.Second
	c := harness.Start(t, harness.Options{TTL: ttl})
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	other := c.Others(old)[0]
	cut := time.Now()
	heal := old.Store.Cut()
	left := old.LeaseLeft() // since the last renewal, which was before the cut
	end := time.Now().Add(left)
	if left <= 0 {
		t.Fatal("the leader tells no end of its lock")
	}
	w.AdvanceOn(t, other, harness.Patience)
	heal()
	first := harness.FirstAcked(w.Acks(), other, cut)
	last := harness.LastSent(w.Acks(), old)
	if !last.Before(end) || end.Sub(cut) > ttl {
		t.Errorf("the old leader accepted a row %s after its lock had ended, want it to stop before", last.Sub(end))
	}
	if !first.After(end) {
		t.Errorf("the new leader accepted a row %s before the old one's lock ended", end.Sub(first))
	}
	t.Logf("the lock ended %s after the cut, the old leader wrote until %s, the new one from %s", end.Sub(cut).Round(time.Millisecond), last.Sub(cut).Round(time.Millisecond), first.Sub(cut).Round(time.Millisecond))
	harness.Quick(t, "the new leader writes after the old one's lock has ended", first.Sub(end), 8*time.Second)
	if now := c.Healthy(t, harness.Patience); now != other {
		t.Errorf("have leader %s, want %s", now.Name, other.Name)
	}
	w.Audit(t, 0) // it was stopped in order, and its replica streamed until the end
}

// Nobody reaches the store. For a while that costs nothing; when it lasts, the leader stops in time, and leads again as soon
// as the store is back.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{})
	m, w := c.Healthy(t, harness.Patience), c.Write(t)
	cutAll := func() (heal func()) {
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

	before := m.Postmaster()
	cut := time.Now()
	heal := cutAll()
	harness.Eventually(t, harness.Patience, "the lock ends in 9 s, which leaves more than the time that a stop needs", func() bool { return m.LeaseLeft() < 9*time.Second })
	heal()
	took := harness.Eventually(t, harness.Patience, "the lock is renewed", func() bool { return m.LeaseLeft() > 15*time.Second })
	harness.Quick(t, "renewal when the store is back", took, 3*time.Second)
	if now := c.Healthy(t, harness.Patience); now != m || m.Postmaster() != before {
		t.Errorf("away for a while: have leader %s with postmaster %d, want %s with %d", now.Name, m.Postmaster(), m.Name, before)
	}
	harness.Quick(t, "outage when the store is away for a while, none at all", harness.OutageSince(w.Acks(), cut), 2*time.Second)

	harness.Eventually(t, harness.Patience, "the lock is fresh", func() bool { return m.LeaseLeft() > 16*time.Second })
	heal = cutAll()
	end := time.Now().Add(m.LeaseLeft())
	harness.Eventually(t, harness.Patience, "the leader stops PostgreSQL", func() bool { return m.Postmaster() == 0 })
	last := harness.LastSent(w.Acks(), m)
	if !last.Before(end) {
		t.Errorf("the leader accepted a row %s after its lock had ended", last.Sub(end))
	}
	if early := end.Sub(last); early > 8*time.Second {
		t.Errorf("the leader stopped %s before its lock ended, want it to use the time", early)
	}
	harness.Eventually(t, harness.Patience, "the lock ends", func() bool { return c.Leader() == nil })
	heal()
	leader := c.Healthy(t, harness.Patience)
	w.AdvanceOn(t, leader, harness.Patience)
	w.Audit(t, 0)
}
