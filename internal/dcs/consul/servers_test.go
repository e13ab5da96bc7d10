package consul_test

import (
	"errors"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/consul"
	"github.com/regent-ha/regent/internal/dcs/consul/consultest"
)

// ttl is long enough for a lock to be seen on a machine that stands still for seconds.
const ttl = 10 * time.Second

// awaits looks at the store until the lock is that member's (empty: nobody's), and returns when that was seen.
func awaits(t *testing.T, s *consul.Store, holder string) time.Time {
	t.Helper()
	ctx := limited(t, time.Minute)
	for {
		snapshot, err := s.Snapshot(ctx)
		if err == nil && snapshot.Leader.Name == holder {
			return boottime.Now()
		}
		if ctx.Err() != nil {
			t.Fatalf("wait for the lock to be of %q: have %+v, %v", holder, snapshot, err)
		}
		if err == nil {
			err = s.Watch(ctx, snapshot.Revision)
		}
		if err != nil {
			time.Sleep(20 * time.Millisecond) // away: look again
		}
	}
}

func acquire(t *testing.T, s *consul.Store, name string, ttl time.Duration) dcs.Lock {
	t.Helper()
	lock, err := s.Acquire(limited(t, 30*time.Second), name, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

// split returns the leader of three servers, and the others.
func split(t *testing.T, all []*consultest.Server) (leader *consultest.Server, followers []*consultest.Server) {
	t.Helper()
	for _, s := range all {
		if s.Leads(t) {
			leader = s
		} else {
			followers = append(followers, s)
		}
	}
	if leader == nil || len(followers) != 2 {
		t.Fatalf("have leader %v and %d followers, want one and two", leader, len(followers))
	}
	return leader, followers
}

// The leader of the servers is frozen right after a renewal. Another one is elected; the lock lives until the deadline at least. The former leader wakes
// up believing that it leads: it renews nothing.
func TestLeaderOfTheServersFreezes(t *testing.T) {
	t.Parallel()
	leader, followers := split(t, consultest.StartThree(t))
	a := open(t, consul.Config{Address: leader.Address, Scope: "frozen", Name: "a"})
	b := open(t, consul.Config{Address: followers[0].Address, Scope: "frozen", Name: "b"})
	lock := acquire(t, a, "a", ttl)
	lock, err := a.Renew(limited(t, 30*time.Second), lock)
	if err != nil {
		t.Fatal(err)
	}
	awaits(t, b, "a")
	leader.Signal(t, syscall.SIGSTOP)
	if end := awaits(t, b, ""); end.Before(lock.Deadline) {
		t.Errorf("the lock ended %s before its deadline", lock.Deadline.Sub(end))
	}
	acquire(t, b, "b", 5*time.Minute)
	leader.Signal(t, syscall.SIGCONT)
	if renewed, err := a.Renew(limited(t, 10*time.Second), lock); err == nil {
		t.Errorf("the former holder renews: %+v", renewed)
	}
}

// A server that is alone commits nothing: who asks it renews nothing. Losing the leader of the servers costs a lock nothing.
func TestServersGo(t *testing.T) {
	t.Parallel()
	leader, followers := split(t, consultest.StartThree(t))
	a := open(t, consul.Config{Address: followers[0].Address, Scope: "gone", Name: "a"})
	lock := acquire(t, a, "a", 5*time.Minute)
	leader.Kill()
	ctx := limited(t, time.Minute)
	for {
		renewed, err := a.Renew(ctx, lock)
		if err == nil {
			if !renewed.Deadline.After(lock.Deadline) {
				t.Errorf("have deadline %s, want later than %s", renewed.Deadline, lock.Deadline)
			}
			lock = renewed
			break
		}
		if !errors.Is(err, dcs.ErrUnavailable) || ctx.Err() != nil {
			t.Fatal(err) // nobody else holds it
		}
		time.Sleep(50 * time.Millisecond) // nothing tells that a leader was elected
	}
	followers[1].Kill()
	if renewed, err := a.Renew(limited(t, 2*time.Second), lock); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("renewal by a server that is alone: have %+v, %v; want ErrUnavailable", renewed, err)
	}
}

// The agent on the leader's host is stopped in order: Consul forgets its node, and at once the sessions that were made there. The holder, cut off from
// the store, still believes in the lock; nobody may have it before.
func TestAgentLeaves(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, nil)
	agent := consultest.StartAgent(t, server)
	a := open(t, consul.Config{Address: agent.Address, Scope: "left", Name: "a"})
	b := open(t, consul.Config{Address: server.Address, Scope: "left", Name: "b"})
	const ttl = 30 * time.Second
	lock := acquire(t, a, "a", ttl)
	awaits(t, b, "a")
	agent.Stop(t)
	if gone := awaits(t, b, ""); !gone.Before(lock.Deadline) {
		t.Skip("this Consul keeps the sessions of an agent that leaves: nothing to see")
	}
	if early, err := b.Acquire(limited(t, time.Second), "b", ttl); err == nil && boottime.Now().Before(lock.Deadline) {
		t.Errorf("acquire before the deadline: have %+v, want ErrHeld", early)
	}
	if _, err := b.Acquire(limited(t, 2*ttl), "b", ttl); err != nil {
		t.Fatal(err)
	}
	if now := boottime.Now(); now.Before(lock.Deadline) {
		t.Errorf("acquired %s before the deadline of the other one", lock.Deadline.Sub(now))
	}
}

// A lock that is given up can be had at once, also right after a renewal that others have not seen.
func TestReleaseIsSeenAsSuch(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, nil)
	a := open(t, consul.Config{Address: server.Address, Scope: "given", Name: "a"})
	b := open(t, consul.Config{Address: server.Address, Scope: "given", Name: "b"})
	for range 5 {
		lock := acquire(t, a, "a", 5*time.Minute)
		awaits(t, b, "a")
		for range 3 {
			var err error
			if lock, err = a.Renew(limited(t, 30*time.Second), lock); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Release(limited(t, 30*time.Second), lock); err != nil {
			t.Fatal(err)
		}
		lock = acquire(t, b, "b", 5*time.Minute)
		if err := b.Release(limited(t, 30*time.Second), lock); err != nil {
			t.Fatal(err)
		}
	}
}

// Consul's least TTL is more than half of ours: the lock lives longer than its holder believes.
func TestShortTTL(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, consultest.Settings{"session_ttl_min": "5s"})
	a := open(t, consul.Config{Address: server.Address, Scope: "short", Name: "a"})
	b := open(t, consul.Config{Address: server.Address, Scope: "short", Name: "b"})
	before := boottime.Now()
	lock := acquire(t, a, "a", 2*time.Second)
	if latest := boottime.Now().Add(2 * time.Second); lock.Deadline.After(latest) {
		t.Errorf("the deadline is %s after ttl", lock.Deadline.Sub(latest))
	}
	awaits(t, b, "a")
	if end := awaits(t, b, ""); end.Sub(before) < 10*time.Second {
		t.Errorf("the lock lived %s, want 10 s at least, twice the least TTL", end.Sub(before))
	}
}

// Two processes of one name: the one that came later has the lock.
func TestLaterProcessOwnsTheLock(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, nil)
	config := consul.Config{Address: server.Address, Scope: "twice", Name: "a"}
	first, second := open(t, config), open(t, config)
	ctx := limited(t, time.Minute)
	before, after := acquire(t, first, "a", 5*time.Minute), acquire(t, second, "a", 5*time.Minute)
	if renewed, err := first.Renew(ctx, before); !errors.Is(err, dcs.ErrNotHeld) {
		t.Errorf("renewal by the process before: have %+v, %v; want ErrNotHeld", renewed, err)
	}
	if err := first.Release(ctx, before); !errors.Is(err, dcs.ErrNotHeld) {
		t.Errorf("release by the process before: have %v, want ErrNotHeld", err)
	}
	if _, err := second.Renew(ctx, after); err != nil {
		t.Errorf("renewal by the later process: %v", err)
	}
}

// RemoveAll leaves nothing, whatever lies how deep, and nothing else goes.
func TestRemoveAll(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, nil)
	a, other := open(t, consul.Config{Address: server.Address, Scope: "old", Name: "a"}), open(t, consul.Config{Address: server.Address, Scope: "older", Name: "a"})
	ctx := limited(t, time.Minute)
	for _, key := range []string{cluster.KeyConfig, cluster.KeyOptime, cluster.KeyBootstrap, "0/members/x"} {
		for _, s := range []*consul.Store{a, other} {
			if _, err := s.Put(ctx, key, []byte("{}"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.RemoveAll(ctx); err != nil {
		t.Fatal(err)
	}
	if s, err := a.Snapshot(ctx); err != nil || s.Config.Revision != 0 || s.Bootstrapper != "" {
		t.Errorf("have %+v, %v; want nothing", s, err)
	}
	if _, err := a.Put(ctx, cluster.KeyConfig, []byte("{}"), 0); err != nil {
		t.Errorf("a new cluster of that name: %v", err)
	}
	if s, err := other.Snapshot(ctx); err != nil || s.Config.Revision == 0 {
		t.Errorf("another cluster: have %+v, %v", s, err)
	}
}

// Consul was put back to a copy of its data: the store shows what there is now, and a writer who knows more is refused.
func TestRestoredFromACopy(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, nil)
	a := open(t, consul.Config{Address: server.Address, Scope: "restored", Name: "a"})
	ctx := limited(t, time.Minute)
	revision, err := a.Put(ctx, cluster.KeyHistory, []byte("[]"), 0)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := server.Ask(ctx, http.MethodGet, "/v1/snapshot", "")
	if err != nil {
		t.Fatal(err)
	}
	var newer cluster.Revision
	for range 5 {
		if newer, err = a.Put(ctx, cluster.KeyHistory, []byte("[1]"), revision); err != nil {
			t.Fatal(err)
		}
		revision = newer
	}
	if _, err := server.Ask(ctx, http.MethodPut, "/v1/snapshot", saved); err != nil {
		t.Fatal(err)
	}
	for {
		s, err := a.Snapshot(limited(t, 20*time.Second))
		if err == nil && s.History.Revision < newer {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("have %+v, %v; want what there was", s, err)
		}
		time.Sleep(20 * time.Millisecond) // no event tells of it
	}
	if _, err := a.Put(ctx, cluster.KeyHistory, []byte("[2]"), newer); !errors.Is(err, dcs.ErrConflict) {
		t.Errorf("put at a revision that is gone: have %v, want ErrConflict", err)
	}
}
