package integration

import (
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/test/integration/harness"
)

// The store is a ZooKeeper.
func TestOnZooKeeper(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{ZooKeeper: true})
	w := c.Write(t)
	w.Audit(t, handsOver(t, c, w))
}

// handsOver: the leader's machine dies, then the next leader is cut off, then one leaves in order: each time the other
// one takes over, not before the lock has ended, and the former leader comes back. It returns how
// many rows may be lost, since the one that died had not sent them.
func handsOver(t *testing.T, c *harness.Cluster, w *harness.Writer) (lost int) {
	t.Helper()
	old := c.Healthy(t, harness.Patience)
	next := func(what string) *harness.Member {
		t.Helper()
		now := c.Healthy(t, harness.Patience)
		if now == old {
			t.Fatalf("%s: %s leads still", what, old.Name)
		}
		return now
	}

	leads(t, old)
	reached, asked := w.Reached(t, old, c.Others(old)[0]), time.Now()
	left := old.LeaseLeft()
	end, died := asked.Add(left), time.Now()
	old.KillAll(t)
	w.AdvanceOn(t, c.Others(old)[0], harness.Patience)
	first := harness.FirstAcked(w.Acks(), c.Others(old)[0], died)
	if !first.After(end) {
		t.Errorf("the new leader accepted a row %s before the dead one's lock ended", end.Sub(first))
	}
	t.Logf("after its death: the lock ended after %s, the other one wrote from %s", left.Round(time.Millisecond), first.Sub(died).Round(time.Millisecond))
	old.Start(t)
	old = next("after its death")

	lost = reached.Since()
	reached = w.Reached(t, old, c.Others(old)[0])
	heal := old.Store.Cut()
	cut := time.Now()
	ends := old.LeaseEnd(t, 12*time.Second)
	w.AdvanceOn(t, c.Others(old)[0], harness.Patience)
	heal()
	if last := harness.LastSent(w.Acks(), old); !last.Before(ends.To) {
		t.Errorf("cut off, the old leader accepted a row %s after its lock had ended", last.Sub(ends.To))
	}
	if first := harness.FirstAcked(w.Acks(), c.Others(old)[0], cut); !first.After(ends.From) {
		t.Errorf("the new leader accepted a row %s before the one that was cut off had lost its lock", ends.From.Sub(first))
	}
	lost += reached.Unsent(c.Others(old)[0])
	old = next("cut off")

	begin := time.Now()
	old.SignalAgent(t, syscall.SIGTERM)
	w.AdvanceOn(t, c.Others(old)[0], harness.Patience)
	t.Logf("in order: the other one writes %s after the signal", time.Since(begin).Round(time.Millisecond))
	old.AwaitExit(t, harness.Patience)
	old.Start(t)
	next("in order")
	return lost
}
