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
	handsOver(t, c, w)
	w.Audit(t, 0)
}

// handsOver: the leader's machine dies, then the next leader is cut off, then one leaves in order: each time the other
// one takes over, not before the lock has ended, and the former leader comes back.
func handsOver(t *testing.T, c *harness.Cluster, w *harness.Writer) {
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

	left, died := old.LeaseLeft(), time.Now()
	end := died.Add(left)
	if left <= 0 {
		t.Fatal("the leader tells no end of its lock")
	}
	old.KillAll(t)
	w.AdvanceOn(t, c.Others(old)[0], harness.Patience)
	first := harness.FirstAcked(w.Acks(), c.Others(old)[0], died)
	if !first.After(end) {
		t.Errorf("the new leader accepted a row %s before the dead one's lock ended", end.Sub(first))
	}
	t.Logf("after its death: the lock ended after %s, the other one wrote from %s", left.Round(time.Millisecond), first.Sub(died).Round(time.Millisecond))
	old.Start(t)
	old = next("after its death")

	cut := time.Now()
	heal := old.Store.Cut()
	end = time.Now().Add(old.LeaseLeft())
	w.AdvanceOn(t, c.Others(old)[0], harness.Patience)
	heal()
	if last := harness.LastSent(w.Acks(), old); !last.Before(end) {
		t.Errorf("cut off, the old leader accepted a row %s after its lock had ended", last.Sub(end))
	}
	if first := harness.FirstAcked(w.Acks(), c.Others(old)[0], cut); !first.After(end) {
		t.Errorf("the new leader accepted a row %s before the one that was cut off had lost its lock", end.Sub(first))
	}
	old = next("cut off")

	begin := time.Now()
	old.SignalAgent(t, syscall.SIGTERM)
	w.AdvanceOn(t, c.Others(old)[0], harness.Patience)
	t.Logf("in order: the other one writes %s after the signal", time.Since(begin).Round(time.Millisecond))
	old.AwaitExit(t, harness.Patience)
	old.Start(t)
	next("in order")
}
