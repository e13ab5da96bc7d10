package dcstest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

func is(err, class error) bool { return errors.Is(err, class) }

var cases = []testcase{
	{"acquire creates only", acquireCreatesOnly},
	{"acquire is for our own name", acquireOwnName},
	{"acquire takes over our own lock after a restart", acquireAfterRestart},
	{"deadline counts from before the request left", deadlineFromBefore},
	{"renew prolongs", renewProlongs},
	{"renew after the lease was lost: key free", renewLostFree},
	{"renew after the lease was lost: key is ours", renewLostOwn},
	{"renew after the lease was lost: key is another's", renewLostForeign},
	{"renew with a live lease: key deleted", renewDeleted},
	{"renew with a live lease: key replaced", renewReplaced},
	{"release only while it is ours", releaseOwn},
	{"a late release takes no later lock", releaseLate},
	{"an unrenewed lock ends", lockEnds},
	{"a new ttl moves the keys", newTTL},
	{"two members never both hold", neverBoth},
	{"announce and expiry", announceExpires},
	{"announce costs nothing while nothing changes", announceCheap},
	{"announce puts a removed key again", announceAgain},
	{"put and delete compare", compareAndSwap},
	{"conflicting writers lose no update", conflictingWriters},
	{"snapshot shows own writes at once", ownWrites},
	{"snapshot never goes back", neverBack},
	{"malformed keys cost that key only", malformed},
	{"watch wakes on what matters", watchWakes},
	{"watch sleeps through news", watchSleeps},
	{"watch ends with its context", watchEnds},
	{"cut connection is unavailable, then heals", cutConnection},
	{"lost answer of a write is not repeated", lostWrite},
	{"lost answer of an acquire is not repeated", lostAcquire},
	{"lost answer of a renewal prolongs nothing", lostRenewal},
	{"closed store is unavailable", closed},
}

func acquireCreatesOnly(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	lock := a.acquire(c.Long)
	if lock.Holder != "a" || lock.Session == "" {
		t.Errorf("have %+v, want holder a with a session", lock)
	}
	before := a.snapshot().Leader
	c.mustHold(a, b)
	if after := a.snapshot().Leader; after != before {
		t.Errorf("a refused acquire changed the lock: have %+v, want %+v", after, before)
	}
}

func acquireOwnName(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	if lock, err := a.Acquire(c.ctx(), "b", c.Long); err == nil {
		t.Errorf("have %+v for another member's name, want an error", lock)
	}
	b.acquire(c.Long) // the lock was still free
	c.mustHold(b, a)
}

func acquireAfterRestart(t *testing.T, c *env) {
	old, b := c.open("a"), c.open("b")
	before := old.acquire(c.Long)
	restarted := c.open("a")
	after := restarted.acquire(c.Long)
	if after.Session == before.Session {
		t.Errorf("have the session of before the restart, %s: nobody renews that one", after.Session)
	}
	if have := restarted.snapshot().Leader; have.Name != "a" || have.Session != after.Session {
		t.Errorf("have %+v, want holder a under session %s", have, after.Session)
	}
	if err := old.Release(c.ctx(), before); !is(err, dcs.ErrNotHeld) {
		t.Errorf("release by the process of before the restart: have %v, want ErrNotHeld", err)
	}
	c.mustHold(restarted, b)
}

func deadlineFromBefore(t *testing.T, c *env) {
	a := c.open("a")
	a.snapshot() // connected
	check := func(what string, slack time.Duration, call func() dcs.Lock) dcs.Lock {
		t.Helper()
		before := c.Clock()
		lock := call()
		after := c.Clock()
		if early := before.Add(c.Long); lock.Deadline.Before(early) {
			t.Errorf("%s: deadline is %s before the call plus ttl", what, early.Sub(lock.Deadline))
		}
		if late := after.Add(c.Long - slack); lock.Deadline.After(late) {
			t.Errorf("%s: deadline is %s later than the request plus ttl", what, lock.Deadline.Sub(late))
		}
		return lock
	}
	lock := check("acquire", 0, func() dcs.Lock { return a.acquire(c.Long) })
	lock = check("renew", 0, func() dcs.Lock { return a.renew(lock) })
	if c.DelayAnswers == nil {
		t.Logf("not with slow answers: this backend cannot delay them: %s", c.Cannot)
		return
	}
	delay := c.Budget / 180
	heal := c.DelayAnswers(t, "a", delay)
	defer heal()
	check("renew with a slow answer", delay, func() dcs.Lock { return a.renew(lock) })
}

func renewProlongs(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	lock := a.acquire(c.TTL)
	for until := c.Clock().Add(2 * c.TTL); c.Clock().Before(until); {
		<-after(c.TTL / 4)
		next := a.renew(lock)
		if !next.Deadline.After(lock.Deadline) {
			t.Fatalf("deadline after the renewal: have %s, want later than %s", next.Deadline, lock.Deadline)
		}
		lock = next
	}
	c.mustHold(a, b)
}

func renewLostFree(t *testing.T, c *env) {
	c.need(c.Expire != nil, "expire a lease")
	a, b := c.open("a"), c.open("b")
	lock := a.acquire(c.Long)
	c.Expire(t, "a")
	next := a.renew(lock)
	if next.Session == lock.Session {
		t.Errorf("have the lost session %s again", next.Session)
	}
	if have := a.snapshot().Leader; have.Name != "a" || have.Session != next.Session {
		t.Errorf("have %+v, want holder a under session %s", have, next.Session)
	}
	c.mustHold(a, b)
}

func renewLostOwn(t *testing.T, c *env) {
	c.need(c.Expire != nil, "expire a lease")
	a := c.open("a")
	lock := a.acquire(c.Long)
	c.Expire(t, "a")
	c.Write(t, cluster.KeyLeader, "a")
	next := a.renew(lock)
	if have := a.snapshot().Leader; have.Name != "a" || have.Session != next.Session {
		t.Errorf("have %+v, want holder a under session %s", have, next.Session)
	}
}

func renewLostForeign(t *testing.T, c *env) {
	c.need(c.Expire != nil, "expire a lease")
	a, b := c.open("a"), c.open("b")
	lock := a.acquire(c.Long)
	c.Expire(t, "a")
	b.acquire(c.Long)
	if _, err := a.Renew(c.ctx(), lock); !is(err, dcs.ErrNotHeld) {
		t.Errorf("have %v, want ErrNotHeld", err)
	}
	c.mustHold(b, a)
}

func renewDeleted(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	lock := a.acquire(c.Long)
	for range 20 { // the deletion is on its way to the view that a renewal may trust
		c.Erase(t, cluster.KeyLeader)
		lock = a.renew(lock)
		c.mustHold(a, b)
	}
}

func renewReplaced(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	for range 20 {
		lock := a.acquire(c.Long)
		c.Write(t, cluster.KeyLeader, "b")
		if _, err := a.Renew(c.ctx(), lock); !is(err, dcs.ErrNotHeld) {
			t.Fatalf("have %v, want ErrNotHeld", err)
		}
		b.until("its name", func(s *cluster.Snapshot) bool { return s.Leader.Name == "b" })
		c.Erase(t, cluster.KeyLeader)
	}
}

// The answer to a release got lost, the lock was acquired again, and then the request arrives after all.
func releaseLate(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	first := a.acquire(c.Long)
	if err := a.Release(c.ctx(), first); err != nil {
		t.Fatalf("release: %v", err)
	}
	a.acquire(c.Long)
	if err := a.Release(c.ctx(), first); !is(err, dcs.ErrNotHeld) {
		t.Errorf("release of the lock before: have %v, want ErrNotHeld", err)
	}
	c.mustHold(a, b)
	second := a.acquire(c.Long) // not free in between: the request that is late is of the hold before
	if err := a.Release(c.ctx(), first); !is(err, dcs.ErrNotHeld) {
		t.Errorf("release of a hold long ago: have %v, want ErrNotHeld", err)
	}
	c.mustHold(a, b)
	renewed, err := a.Renew(c.ctx(), second)
	if err != nil {
		t.Fatalf("renew: %v", err)
	}
	if err := a.Release(c.ctx(), renewed); err != nil {
		t.Errorf("release after a renewal: %v", err)
	}
}

func releaseOwn(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	lock := a.acquire(c.Long)
	if err := b.Release(c.ctx(), dcs.Lock{Holder: "b", Session: lock.Session}); !is(err, dcs.ErrNotHeld) {
		t.Errorf("release by b: have %v, want ErrNotHeld", err)
	}
	c.mustHold(a, b)
	if err := a.Release(c.ctx(), lock); err != nil {
		t.Errorf("release: %v", err)
	}
	if have := a.snapshot().Leader; have.Name != "" {
		t.Errorf("after the release: have %+v, want no leader", have)
	}
	if err := a.Release(c.ctx(), lock); !is(err, dcs.ErrNotHeld) {
		t.Errorf("second release: have %v, want ErrNotHeld", err)
	}
	b.acquire(c.Long)
	if err := a.Release(c.ctx(), lock); !is(err, dcs.ErrNotHeld) {
		t.Errorf("release of a lock that moved on: have %v, want ErrNotHeld", err)
	}
	c.mustHold(b, a)
}

func lockEnds(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	lock := a.acquire(c.TTL)
	b.until("the lock", func(s *cluster.Snapshot) bool {
		if s.Leader.Name == "a" {
			return true
		}
		lock = a.renew(lock) // it must not end unseen
		return false
	})
	b.until("the end of the lock", func(s *cluster.Snapshot) bool { return s.Leader.Name == "" })
	if now := c.Clock(); now.Before(lock.Deadline) {
		t.Errorf("the lock ended %s before its deadline", lock.Deadline.Sub(now))
	}
	b.acquire(c.Long)
}

func newTTL(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	lock := a.acquire(c.TTL)
	a.announce(cluster.Running, c.TTL)
	a.announce(cluster.Running, c.Long)
	before := c.Clock()
	lock = a.renew(lock)
	if want := before.Add(c.Long); lock.Deadline.Before(want) {
		t.Errorf("renewal under the new ttl: deadline is %s early", want.Sub(lock.Deadline))
	}
	if have := a.snapshot(); have.Leader.Session != lock.Session || len(have.Members) != 1 {
		t.Errorf("have %+v and members %v, want the leader under session %s and one member", have.Leader, have.Members, lock.Session)
	}
	<-after(c.TTL + c.TTL/2) // nothing is bound to the old lease any more
	c.mustHold(a, b)
	if _, ok := b.snapshot().Member("a"); !ok {
		t.Error("the member key ended with the old lease")
	}
}

// neverBoth lets two members race. Each believes in its lock until the deadline and stops renewing after
// a while, so the lock ends many times. Their beliefs must not overlap.
func neverBoth(t *testing.T, c *env) {
	type belief struct {
		who         string
		from, until time.Time
	}
	var mu sync.Mutex
	var beliefs []belief
	believe := func(who string, from, until time.Time) {
		mu.Lock()
		defer mu.Unlock()
		beliefs = append(beliefs, belief{who, from, until})
	}
	var holders atomic.Int64
	var racing sync.WaitGroup
	began := c.Clock()
	races := func() bool { // on a slow machine until it shows something
		elapsed := c.Clock().Sub(began)
		return elapsed < 6*c.TTL || holders.Load() < 3 && elapsed < c.Budget
	}
	for _, m := range []member{c.open("a"), c.open("b")} {
		racing.Go(func() {
			for races() {
				ctx, cancel := context.WithTimeout(t.Context(), c.Budget)
				lock, err := m.Acquire(ctx, m.name, c.TTL)
				if err == nil {
					until := lock.Deadline
					believe(m.name, c.Clock(), until)
					if renewed, err := m.Renew(ctx, lock); err == nil {
						until = renewed.Deadline // a renewal that came too late is a hold of its own
						believe(m.name, c.Clock(), until)
					} else if is(err, dcs.ErrNotHeld) && c.Clock().Before(lock.Deadline) {
						t.Errorf("%s: %v before the deadline", m.name, err)
					}
					holders.Add(1)
					<-after(until.Sub(c.Clock())) // and not renewed again
				} else if !is(err, dcs.ErrHeld) && !is(err, dcs.ErrUnavailable) {
					t.Errorf("%s: %v", m.name, err)
				}
				cancel()
				<-after(c.TTL / 50)
			}
		})
	}
	racing.Wait()
	if n := holders.Load(); n < 3 {
		t.Errorf("have %d holders in a row, want at least 3 for this to show anything", n)
	}
	for i, x := range beliefs {
		for _, y := range beliefs[:i] {
			if x.who != y.who && x.from.Before(y.until) && y.from.Before(x.until) {
				t.Errorf("both hold: %+v and %+v", x, y)
			}
		}
	}
}

func after(d time.Duration) <-chan time.Time {
	if d <= 0 {
		d = time.Millisecond
	}
	return time.After(d)
}
