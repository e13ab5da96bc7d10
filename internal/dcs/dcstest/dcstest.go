// Package dcstest is the contract of dcs.Store as tests: every backend passes the same ones.
//
// A backend hands in a Harness that opens stores on one shared cluster and breaks things. What it cannot
// break is nil, and the cases that need it are skipped by name with the reason.
package dcstest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Harness is one cluster of its own, for one case.
type Harness struct {
	// Open returns a store for the member of that name, with a connection of its own. It is closed when the case ends.
	Open func(t testing.TB, name string) dcs.Store
	// Clock is the one that the stores count deadlines on.
	Clock dcs.Clock
	// TTL is short, for cases that wait for an expiry; other cases use Long, which must outlast any case.
	TTL, Long time.Duration
	// Budget bounds whatever is to succeed, also on a machine that is slow or stands still for a while; what is to fail gets a thirtieth.
	Budget time.Duration
	// Write and Erase change a relative key as a stranger would, at once and unconditionally.
	Write func(t testing.TB, key, value string)
	Erase func(t testing.TB, key string)

	// Expire ends the leases of that member now.
	Expire func(t testing.TB, name string)
	// Cut breaks the connection of that member's stores, and refuses new ones until heal.
	Cut func(t testing.TB, name string) (heal func())
	// LoseAnswers lets that member's requests through, but no answers until heal. Answers lost never come.
	LoseAnswers func(t testing.TB, name string) (heal func())
	// DelayAnswers holds each answer back for d.
	DelayAnswers func(t testing.TB, name string, d time.Duration) (heal func())
	// Cannot is why one of the above is nil.
	Cannot string
	// Lasting is why a member's key does not end with its lease; empty: it does.
	Lasting string
}

type testcase struct {
	name string
	run  func(*testing.T, *env)
}

// Run runs every case beside the others, each with a harness of its own.
func Run(t *testing.T, open func(testing.TB) Harness) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, &env{t, open(t)})
		})
	}
}

// RunInBubble is Run in virtual time (testing/synctest): for a backend that does no real I/O.
func RunInBubble(t *testing.T, open func(testing.TB) Harness) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t, &env{t, open(t)}) })
		})
	}
}

// env is the harness in the hands of one case.
type env struct {
	t *testing.T
	Harness
}

// member is a store under test; its methods end the case on an error that the case does not ask for.
type member struct {
	c    *env
	name string
	dcs.Store
}

func (c *env) open(name string) member {
	c.t.Helper()
	return member{c, name, c.Open(c.t, name)}
}

// need skips the case when the backend cannot do what it takes.
func (c *env) need(able bool, what string) {
	c.t.Helper()
	if !able {
		c.t.Skipf("this backend cannot %s: %s", what, c.Cannot)
	}
}

func (c *env) ctx() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), c.Budget)
	c.t.Cleanup(cancel)
	return ctx
}

// short is for calls that cannot succeed.
func (c *env) short() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), c.Budget/30)
	c.t.Cleanup(cancel)
	return ctx
}

func (m member) snapshot() *cluster.Snapshot {
	m.c.t.Helper()
	snapshot, err := m.Snapshot(m.c.ctx())
	if err != nil {
		m.c.t.Fatalf("%s: snapshot: %v", m.name, err)
	}
	return snapshot
}

// until looks at every new snapshot until one satisfies ok.
func (m member) until(what string, ok func(*cluster.Snapshot) bool) *cluster.Snapshot {
	m.c.t.Helper()
	ctx, cancel := context.WithTimeout(m.c.t.Context(), m.c.Budget)
	defer cancel()
	for {
		snapshot, err := m.Snapshot(ctx)
		if err == nil && ok(snapshot) {
			return snapshot
		}
		if ctx.Err() != nil {
			m.c.t.Fatalf("%s waits for %s: last snapshot %+v, %v", m.name, what, snapshot, err)
		}
		// Not every key wakes a watch: look again soon in any case.
		soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		if snapshot == nil {
			<-soon.Done()
		} else {
			_ = m.Watch(soon, snapshot.Revision)
		}
		cancel()
	}
}

func (m member) acquire(ttl time.Duration) dcs.Lock {
	m.c.t.Helper()
	var lock dcs.Lock
	m.must(ttl, func(ctx context.Context) (err error) {
		lock, err = m.Acquire(ctx, m.name, ttl)
		return err
	})
	return lock
}

func (m member) renew(lock dcs.Lock) dcs.Lock {
	m.c.t.Helper()
	m.must(lock.Deadline.Sub(m.c.Clock()), func(ctx context.Context) error {
		next, err := m.Renew(ctx, lock)
		if err == nil {
			lock = next
		}
		return err
	})
	return lock
}

func (m member) announce(state cluster.State, ttl time.Duration) {
	m.c.t.Helper()
	m.must(ttl, func(ctx context.Context) error { return m.Announce(ctx, m.self(state), ttl) })
}

// must ends the case on an error. A lease that is short may end while a call is on its way on a machine that stands still for as long, and
// its connection with it: then the call is made again, as an agent does.
func (m member) must(lease time.Duration, call func(context.Context) error) {
	m.c.t.Helper()
	ctx := m.c.ctx()
	err := call(ctx)
	for lease <= m.c.TTL && is(err, dcs.ErrUnavailable) && ctx.Err() == nil {
		err = call(ctx)
	}
	if err != nil {
		m.c.t.Fatalf("%s: %v", m.name, err)
	}
}

func (m member) self(state cluster.State) cluster.Member {
	return cluster.Member{
		Name: m.name, ConnURL: "postgres://127.0.0.1:5432/postgres", APIURL: "http://127.0.0.1:8008/patroni",
		State: state, Role: cluster.Replica, Version: "4.1.4",
	}
}

func (m member) put(key, value string, prev cluster.Revision) cluster.Revision {
	m.c.t.Helper()
	revision, err := m.Put(m.c.ctx(), key, []byte(value), prev)
	if err != nil {
		m.c.t.Fatalf("%s: put %s at %d: %v", m.name, key, prev, err)
	}
	return revision
}

// mustHold fails unless the store itself, not a view of it, knows m as the holder.
func (c *env) mustHold(m, other member) {
	c.t.Helper()
	if _, err := other.Acquire(c.ctx(), other.name, c.Long); !is(err, dcs.ErrHeld) {
		c.t.Fatalf("%s acquires what %s holds: have %v, want ErrHeld", other.name, m.name, err)
	}
	if have := other.until("the leader", func(s *cluster.Snapshot) bool { return s.Leader.Name == m.name }); have.Leader.Session == "" {
		c.t.Fatalf("the lock of %s is bound to no session: it would never end", m.name)
	}
}
