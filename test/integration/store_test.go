package integration

import (
	"testing"
	"time"

	"github.com/regent-ha/regent/test/integration/harness"
)

// The leader alone is cut off from the store: it stops writing before anybody else can hold its lock.
func TestLeaderCutOffFromStore(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{TTL: ttl})
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	other := c.Others(old)[0]
	reached := w.Reached(t, old, other)
	heal := old.Store.Cut()
	cut := time.Now()
	end := old.LeaseEnd(t, 12*time.Second)
	w.AdvanceOn(t, other, harness.Patience)
	heal()
	first := harness.FirstAcked(w.Acks(), other, cut)
	last := harness.LastSent(w.Acks(), old)
	if !last.Before(end.To) {
		t.Errorf("the old leader accepted a row %s after its lock had ended, want it to stop before", last.Sub(end.To))
	}
	if left := end.From.Sub(cut); left > ttl {
		t.Errorf("the old leader took its lock to live for %s after the cut, want ttl, %s, at most", left, ttl)
	}
	if !first.After(end.From) {
		t.Errorf("the new leader accepted a row %s before the old one's lock ended", end.From.Sub(first))
	}
	t.Logf("the lock ended %s after the cut, the old leader wrote until %s, the new one from %s", end.To.Sub(cut).Round(time.Millisecond), last.Sub(cut).Round(time.Millisecond), first.Sub(cut).Round(time.Millisecond))
	harness.Quick(t, "the new leader writes after the old one's lock has ended", harness.Span{From: end.From, To: first}, 8*time.Second)
	if now := c.Healthy(t, harness.Patience); now != other {
		t.Errorf("have leader %s, want %s", now.Name, other.Name)
	}
	w.Audit(t, reached.Unsent(other)) // none if it was stopped in order, as its replica streamed until the end
}

// Nobody reaches the store. For a while that costs nothing; when it lasts, the leader stops in time, and leads again as soon
// as the store is back.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{TTL: time.Minute}) // long enough to find the store again
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
	harness.Eventually(t, harness.Patience, "the lock has not been renewed for some time", func() bool { left := m.LeaseLeft(); return 0 < left && left < 45*time.Second })
	heal()
	took := harness.Eventually(t, harness.Patience, "the lock is renewed", func() bool { return m.LeaseLeft() > 50*time.Second })
	harness.Quick(t, "renewal when the store is back", took, 3*time.Second)
	if now := c.Healthy(t, harness.Patience); now != m || m.Postmaster() != before {
		t.Errorf("away for a while: have leader %s with postmaster %d, want %s with %d", now.Name, m.Postmaster(), m.Name, before)
	}
	harness.Quick(t, "outage when the store is away for a while, none at all", harness.OutageSince(w.Acks(), cut), 2*time.Second)

	shorten(t, m)
	reached := w.Reached(t, m, c.Others(m)[0])
	heal = cutAll()
	end := m.LeaseEnd(t, 12*time.Second)
	harness.Eventually(t, harness.Patience, "the leader stops PostgreSQL", func() bool { return m.Postmaster() != before }) // it may be a standby soon
	last := harness.LastSent(w.Acks(), m)
	if !last.Before(end.To) {
		t.Errorf("the leader accepted a row %s after its lock had ended", last.Sub(end.To))
	}
	harness.Eventually(t, harness.Patience, "the lock ends", func() bool { return c.Leader() == nil })
	harness.Quick(t, "the leader uses the time: it stops shortly before its lock ends", harness.Span{From: last, To: end.From}, 8*time.Second)
	heal()
	leader := c.Healthy(t, harness.Patience)
	w.AdvanceOn(t, leader, harness.Patience)
	w.Audit(t, reached.Unsent(leader))
}
