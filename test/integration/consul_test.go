package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/test/integration/harness"
)

// The store is a Consul.
func TestOnConsul(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Consul: true, Retry: 8 * time.Second})
	w := c.Write(t)
	lost := handsOver(t, c, w)

	// A switchover that is asked for: the lock is given up, and the other one has it at once.
	old := c.Healthy(t, harness.Patience)
	other := c.Others(old)[0]
	switchover(t, old, old, other.Name)
	if now := successor(t, c, old); now != other {
		t.Fatalf("after the switchover: have leader %s, want %s", now.Name, other.Name)
	}
	w.AdvanceOn(t, other, harness.Patience)
	if now := c.Healthy(t, harness.Patience); now != other {
		t.Fatalf("after the switchover: have leader %s, want %s", now.Name, other.Name)
	}
	old = other
	if table := c.Command(t, "list"); !strings.Contains(table, old.Name) || !strings.Contains(table, "Leader") || !strings.Contains(table, "streaming") && !strings.Contains(table, "running") {
		t.Errorf("list: have\n%s", table)
	}

	// The only server of Consul dies and comes back, long after the leader had to stop.
	before, reached := old.Postmaster(), w.Reached(t, old, c.Others(old)[0])
	c.Consul.Kill()
	end := old.LeaseEnd(t, 12*time.Second)
	harness.Eventually(t, harness.Patience, "the leader stops PostgreSQL", func() bool { return old.Postmaster() != before }) // it may be a standby soon
	if last := harness.LastSent(w.Acks(), old); !last.Before(end.To) {
		t.Errorf("the leader accepted a row %s after its lock had ended", last.Sub(end.To))
	}
	c.Consul.Start(t)
	leader := c.Healthy(t, harness.Patience)
	w.AdvanceOn(t, leader, harness.Patience)
	w.Audit(t, lost+reached.Unsent(leader))
}
