package dcstest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

func announceExpires(t *testing.T, c *env) {
	if c.Lasting != "" {
		t.Skip("a member's key does not expire here: " + c.Lasting)
	}
	a, b := c.open("a"), c.open("b")
	before := c.Clock()
	a.announce(cluster.Running, c.TTL)
	there := func(s *cluster.Snapshot) bool { _, ok := s.Member("a"); return ok }
	have, _ := b.until("the member", func(s *cluster.Snapshot) bool {
		if there(s) {
			return true
		}
		a.announce(cluster.Running, c.TTL) // it must not end unseen
		return false
	}).Member("a")
	if want := a.self(cluster.Running); have.State != want.State || have.ConnURL != want.ConnURL {
		t.Errorf("have %+v, want %+v", have, want)
	}
	again := c.Clock()
	a.announce(cluster.Stopped, c.TTL)
	have, ok := a.snapshot().Member("a")
	ended := !ok && c.Clock().Sub(again) >= c.TTL/2 // a lease is renewed when it has half of its time left
	if have.State != cluster.Stopped && !ended {
		t.Errorf("have state %s, want %s", have.State, cluster.Stopped)
	}
	b.until("the end of the member", func(s *cluster.Snapshot) bool { return !there(s) })
	if lived := c.Clock().Sub(before); lived < c.TTL {
		t.Errorf("the key lived %s, want at least %s", lived, c.TTL)
	}
	a.announce(cluster.Running, c.Long) // the lost lease is no error
	b.until("the member again", there)
}

func announceCheap(t *testing.T, c *env) {
	a := c.open("a")
	counter, ok := a.Store.(interface{ Requests() map[string]uint64 })
	c.need(ok, "count requests")
	a.announce(cluster.Running, c.Long)
	a.snapshot()
	before := fmt.Sprint(counter.Requests())
	for range 5 {
		a.announce(cluster.Running, c.Long)
	}
	if after := fmt.Sprint(counter.Requests()); after != before {
		t.Errorf("requests: have %s, want %s as before", after, before)
	}
}

func announceAgain(t *testing.T, c *env) {
	a := c.open("a")
	a.announce(cluster.Running, c.Long)
	c.Erase(t, cluster.KeyMembers+"a")
	a.until("the removal", func(s *cluster.Snapshot) bool { return len(s.Members) == 0 })
	a.announce(cluster.Running, c.Long)
	if have := a.snapshot().Members; len(have) != 1 {
		t.Errorf("have members %v, want a", have)
	}
}

func compareAndSwap(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	const key = cluster.KeyConfig
	conflict := func(what string, err error) {
		t.Helper()
		if !is(err, dcs.ErrConflict) {
			t.Errorf("%s: have %v, want ErrConflict", what, err)
		}
	}
	_, err := a.Put(c.ctx(), key, []byte(`{"ttl":30}`), 1)
	conflict("put of an absent key at a revision", err)
	created := a.put(key, `{"ttl":30}`, 0)
	_, err = b.Put(c.ctx(), key, []byte(`{"ttl":31}`), 0)
	conflict("second create", err)
	changed := b.put(key, `{"ttl":32}`, created)
	if changed <= created {
		t.Errorf("revision: have %d, want more than %d", changed, created)
	}
	_, err = a.Put(c.ctx(), key, []byte(`{"ttl":33}`), created)
	conflict("put at an old revision", err)
	conflict("delete at an old revision", a.Delete(c.ctx(), key, created))
	if err := a.Delete(c.ctx(), key, changed); err != nil {
		t.Error(err)
	}
	conflict("second delete", b.Delete(c.ctx(), key, changed))
	a.put(key, `{"ttl":34}`, 0)
}

func conflictingWriters(t *testing.T, c *env) {
	const writers, each = 4, 10
	var writing sync.WaitGroup
	for w := range writers {
		m := c.open("m" + strconv.Itoa(w))
		writing.Go(func() {
			for done := 0; done < each; {
				snapshot, err := m.Snapshot(c.ctx())
				if err != nil {
					t.Error(err)
					return
				}
				n, revision := int(snapshot.Status.Optime), snapshot.Status.Revision
				_, err = m.Put(c.ctx(), cluster.KeyStatus, fmt.Appendf(nil, `{"optime":%d}`, n+1), revision)
				switch {
				case err == nil:
					done++
				case !is(err, dcs.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	reader := c.open("reader").snapshot()
	if have := int(reader.Status.Optime); have != writers*each {
		t.Errorf("have %d updates, want %d", have, writers*each)
	}
}

func ownWrites(t *testing.T, c *env) {
	a := c.open("a")
	var revision cluster.Revision
	for i := range 50 {
		revision = a.put(cluster.KeyStatus, fmt.Sprintf(`{"optime":%d}`, i+1), revision)
		have := a.snapshot()
		if have.Status.Revision != revision || int(have.Status.Optime) != i+1 || have.Revision < revision {
			t.Fatalf("have status %+v at revision %d, want optime %d at %d", have.Status, have.Revision, i+1, revision)
		}
	}
	if err := a.Delete(c.ctx(), cluster.KeyStatus, revision); err != nil {
		t.Fatal(err)
	}
	if have := a.snapshot(); have.Status.Revision != 0 {
		t.Errorf("after the deletion: have %+v, want no status", have.Status)
	}
	lock := a.acquire(c.Long)
	if have := a.snapshot().Leader; have.Name != "a" {
		t.Errorf("after acquire: have leader %+v", have)
	}
	if err := a.Release(c.ctx(), lock); err != nil {
		t.Fatal(err)
	}
	if have := a.snapshot().Leader; have.Name != "" {
		t.Errorf("after release: have leader %+v", have)
	}
}

func neverBack(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	for _, m := range []member{a, b} {
		reading.Go(func() {
			var last cluster.Snapshot
			for ctx.Err() == nil {
				s, err := m.Snapshot(c.ctx())
				if err != nil {
					t.Error(m.name, err)
					return
				}
				if s.Revision < last.Revision || s.Status.Revision < last.Status.Revision {
					t.Errorf("%s: have revision %d after %d", m.name, s.Revision, last.Revision)
					return
				}
				if s.Status.Revision > s.Revision {
					t.Errorf("%s: a key at %d in a snapshot at %d", m.name, s.Status.Revision, s.Revision)
					return
				}
				last = *s
				soon, cancel := context.WithTimeout(ctx, 1e6)
				_ = m.Watch(soon, s.Revision)
				cancel()
			}
		})
	}
	var revision cluster.Revision
	for i := range 50 {
		revision = a.put(cluster.KeyStatus, fmt.Sprintf(`{"optime":%d}`, i+1), revision)
	}
	stop()
	reading.Wait()
}

func malformed(t *testing.T, c *env) {
	a := c.open("a")
	a.acquire(c.Long)
	a.announce(cluster.Running, c.Long)
	for _, key := range []string{cluster.KeyConfig, cluster.KeyHistory, cluster.KeySync, cluster.KeyFailsafe, cluster.KeyStatus, cluster.KeyMembers + "x"} {
		c.Write(t, key, "{\xff")
	}
	c.Write(t, cluster.KeyMembers+"deeper/down", "{}")
	c.Write(t, "unknown", "{")
	c.Write(t, cluster.KeyInitialize, "7711122388908682825")
	have := a.until("the last key", func(s *cluster.Snapshot) bool { return s.Initialize.Present })
	if have.Leader.Name != "a" || have.Initialize.SystemID != "7711122388908682825" {
		t.Errorf("have %+v and %+v, want the good keys beside the bad ones", have.Leader, have.Initialize)
	}
	if m, ok := have.Member("a"); !ok || m.State != cluster.Running {
		t.Errorf("have %+v, want the good member", m)
	}
	if len(have.Problems) == 0 {
		t.Error("have no problems, want one for each bad key")
	}
}
