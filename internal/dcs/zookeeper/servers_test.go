package zookeeper_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/zookeeper"
	"github.com/regent-ha/regent/internal/dcs/zookeeper/zookeepertest"
)

const ttl = 8 * time.Second

// patience bounds what is to succeed, also on a machine that is slow or stands still for a while. The servers are Java.
const patience = 2 * time.Minute

// Tests with three servers run one after the other: nine Java processes at once are too much for a small machine.

func limited(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// split returns the leader of three servers, and the others, once all of them know.
func split(t *testing.T, all []*zookeepertest.Server) (leader *zookeepertest.Server, followers []*zookeepertest.Server) {
	for ctx := limited(t, patience); ctx.Err() == nil; time.Sleep(20 * time.Millisecond) { // they tell nobody
		leader, followers = nil, nil
		for _, s := range all {
			switch s.Mode() {
			case "leader":
				leader = s
			case "follower":
				followers = append(followers, s)
			}
		}
		if leader != nil && len(followers) == 2 {
			return leader, followers
		}
	}
	t.Fatalf("have leader %v and %d followers, want one and two", leader, len(followers))
	return nil, nil
}

// seen renews a lock until a store sees it, as a server that is behind shows the time before it.
func seen(t *testing.T, s, holder *zookeeper.Store, lock dcs.Lock) dcs.Lock {
	t.Helper()
	ctx := limited(t, patience)
	for {
		snapshot, err := s.Snapshot(ctx)
		if err == nil && snapshot.Leader.Name == lock.Holder && snapshot.Leader.Session == lock.Session {
			return lock
		}
		if err == nil {
			soon, cancel := context.WithTimeout(ctx, ttl/8)
			_ = s.Watch(soon, snapshot.Revision)
			cancel()
		}
		switch next, err := holder.Renew(ctx, lock); {
		case err == nil:
			lock = next
		case !errors.Is(err, dcs.ErrUnavailable) || ctx.Err() != nil:
			t.Fatalf("renew until the lock of %s is seen: %v", lock.Holder, err)
		}
	}
}

// ends waits for the end of the lock, as the store sees it, and returns when that was.
func ends(t *testing.T, s *zookeeper.Store) time.Time {
	t.Helper()
	ctx := limited(t, patience)
	for {
		snapshot, err := s.Snapshot(ctx)
		if err == nil && snapshot.Leader.Name == "" {
			return boottime.Now()
		}
		if ctx.Err() != nil {
			t.Fatalf("the lock does not end: %v, %v", snapshot, err)
		}
		if err == nil {
			err = s.Watch(ctx, snapshot.Revision)
		}
		if err != nil {
			time.Sleep(20 * time.Millisecond) // away: look again
		}
	}
}

// The server that took a renewal dies right after its answer, before it has told the leader anything of its own accord. The lock must still
// live as long as the renewal promised, although the holder does not come back to any server.
func TestServerDiesAfterARenewal(t *testing.T) {
	servers := zookeepertest.StartThree(t)
	leader, followers := split(t, servers)
	b := open(t, zookeeper.Config{Servers: []string{leader.Address}, Namespace: "service", Scope: "renewed", Name: "b"})
	for round := range 2 {
		follower := followers[round]
		a := open(t, zookeeper.Config{Servers: []string{follower.Address}, Namespace: "service", Scope: "renewed", Name: "a"})
		lock, err := a.Acquire(limited(t, patience), "a", ttl)
		if err != nil {
			t.Fatal(err)
		}
		for renewed := false; !renewed; { // one that came too late shows nothing
			lock = seen(t, b, a, lock)
			time.Sleep(ttl / 2) // time that a leader which did not hear of the renewal would count
			next, err := a.Renew(limited(t, patience), lock)
			if err != nil && !errors.Is(err, dcs.ErrUnavailable) {
				t.Fatal(err)
			}
			if renewed = err == nil && next.Session == lock.Session; err == nil {
				lock = next
			}
		}
		follower.Kill()
		_ = a.Close()
		if end := ends(t, b); end.Before(lock.Deadline) {
			t.Errorf("round %d: the lock ended %s before its deadline", round, lock.Deadline.Sub(end))
		}
		follower.Start(t)
	}
}

// The leader of the servers stops. Whatever the holder believes, nobody else may hold the lock before its deadline; and a server
// without a quorum renews nothing.
func TestLeaderOfTheServersStops(t *testing.T) {
	servers := zookeepertest.StartThree(t)
	leader, followers := split(t, servers)
	a := open(t, zookeeper.Config{Servers: []string{leader.Address}, Namespace: "service", Scope: "stopped", Name: "a"})
	b := open(t, zookeeper.Config{Servers: []string{followers[0].Address, followers[1].Address}, Namespace: "service", Scope: "stopped", Name: "b"})
	lock, err := a.Acquire(limited(t, patience), "a", ttl)
	if err != nil {
		t.Fatal(err)
	}
	lock = seen(t, b, a, lock)
	// Alone, the leader can be reached but commits nothing: it answers for a while from what it knows.
	for _, s := range followers {
		s.Signal(t, syscall.SIGSTOP)
	}
	if renewed, err := a.Renew(limited(t, time.Second), lock); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("renewal by a leader that is alone: have %+v, %v; want ErrUnavailable", renewed, err)
	}
	leader.Signal(t, syscall.SIGSTOP)
	for _, s := range followers {
		s.Signal(t, syscall.SIGCONT)
	}
	if end := ends(t, b); end.Before(lock.Deadline) {
		t.Errorf("the lock ended %s before its deadline", lock.Deadline.Sub(end))
	}
	if _, err := b.Acquire(limited(t, patience), "b", ttl); err != nil {
		t.Fatal(err)
	}
	leader.Signal(t, syscall.SIGCONT) // it believes that it leads, and hears otherwise
	if renewed, err := a.Renew(limited(t, 5*time.Second), lock); err == nil {
		t.Errorf("the former holder renews: %+v", renewed)
	}
}

// Any server will do, and losing one costs the lock nothing.
func TestServersComeAndGo(t *testing.T) {
	servers := zookeepertest.StartThree(t)
	var addresses []string
	for _, s := range servers {
		addresses = append(addresses, s.Address)
	}
	a := open(t, zookeeper.Config{Servers: addresses, Namespace: "service", Scope: "gone", Name: "a"})
	const long = 10 * time.Minute
	lock, err := a.Acquire(limited(t, patience), "a", long)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		s.Kill()
		renewed, err := a.Renew(limited(t, patience), lock)
		if err != nil || renewed.Session != lock.Session {
			t.Fatalf("have %+v, %v; want session %s still", renewed, err, lock.Session)
		}
		lock = renewed
		if s, err := a.Snapshot(limited(t, patience)); err != nil || s.Leader.Name != "a" {
			t.Fatalf("have %+v, %v; want leader a", s, err)
		}
		s.Start(t)
	}
	if err := a.Release(limited(t, patience), lock); err != nil {
		t.Error(err)
	}
}

// Two processes of one name: the one that came later has the lock, because its session owns the node.
func TestLaterProcessOwnsTheLock(t *testing.T) {
	t.Parallel()
	server := zookeepertest.Start(t)
	config := zookeeper.Config{Servers: []string{server.Address}, Namespace: "service", Scope: "twice", Name: "a"}
	first, second := open(t, config), open(t, config)
	ctx := limited(t, patience)
	before, err := first.Acquire(ctx, "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	after, err := second.Acquire(ctx, "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if renewed, err := first.Renew(ctx, before); !errors.Is(err, dcs.ErrNotHeld) {
		t.Errorf("renewal by the process before: have %+v, %v; want ErrNotHeld", renewed, err)
	}
	if err := first.Release(ctx, before); !errors.Is(err, dcs.ErrNotHeld) {
		t.Errorf("release by the process before: have %v, want ErrNotHeld", err)
	}
	if renewed, err := second.Renew(ctx, after); err != nil || renewed.Session != after.Session {
		t.Errorf("renewal by the later process: have %+v, %v", renewed, err)
	}
}

// The servers grant what they like: what they grant counts, if it is less.
func TestGrantedTimeoutCounts(t *testing.T) {
	t.Parallel()
	server := zookeepertest.Start(t, "maxSessionTimeout=3000")
	a := open(t, zookeeper.Config{Servers: []string{server.Address}, Namespace: "service", Scope: "short", Name: "a"})
	lock, err := a.Acquire(limited(t, patience), "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if left := lock.Deadline.Sub(boottime.Now()); left > 3*time.Second {
		t.Errorf("have a lock for %s, want 3 s at most", left)
	}
}

// Nodes with an access list are ours alone, and whoever cannot show the credentials is told so.
func TestCredentials(t *testing.T) {
	t.Parallel()
	server := zookeepertest.Start(t)
	config := zookeeper.Config{
		Servers: []string{server.Address}, Namespace: "service", Scope: "secret", Name: "a",
		Auth: []zookeeper.Credential{{Scheme: "digest", Secret: "regent:pass"}},
		ACL:  []zookeeper.ACL{{Permissions: zookeeper.All, Scheme: "auth"}}, // whoever creates the node
	}
	a := open(t, config)
	ctx := limited(t, patience)
	lock, err := a.Acquire(ctx, "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Renew(ctx, lock); err != nil {
		t.Error(err)
	}
	revision, err := a.Put(ctx, cluster.KeyConfig, []byte("{}"), 0)
	if err != nil {
		t.Fatal(err)
	}
	config.Auth = []zookeeper.Credential{{Scheme: "digest", Secret: "regent:wrong"}}
	stranger := open(t, config)
	if s, err := stranger.Snapshot(limited(t, 2*time.Second)); !errors.Is(err, dcs.ErrUnavailable) && !errors.Is(err, dcs.ErrDenied) {
		t.Errorf("snapshot with a wrong password: have %+v, %v", s, err)
	}
	if _, err := stranger.Put(limited(t, 2*time.Second), cluster.KeyConfig, []byte("{1}"), revision); err == nil {
		t.Error("put with a wrong password: have no error")
	}
}

// RemoveAll leaves nothing, whatever lies how deep.
func TestRemoveAll(t *testing.T) {
	t.Parallel()
	server := zookeepertest.Start(t)
	a := open(t, zookeeper.Config{Servers: []string{server.Address}, Namespace: "service", Scope: "old", Name: "a"})
	ctx := limited(t, patience)
	for _, key := range []string{cluster.KeyConfig, cluster.KeyOptime, cluster.KeyBootstrap, "0/members/x"} {
		if _, err := a.Put(ctx, key, []byte("{}"), 0); err != nil {
			t.Fatal(err)
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
}

// The servers lost everything and begin again: they refuse whoever has seen more than they have. The store says so, and goes on with what they have.
func TestServersLostTheirData(t *testing.T) {
	t.Parallel()
	server := zookeepertest.Start(t)
	a := open(t, zookeeper.Config{Servers: []string{server.Address}, Namespace: "service", Scope: "lost", Name: "a"})
	a.Impatient()
	ctx := limited(t, 2*patience)
	var revision cluster.Revision
	for range 20 {
		var err error
		if revision, err = a.Put(ctx, cluster.KeyHistory, []byte("[]"), revision); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := a.Acquire(ctx, "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.Wipe(t)
	server.Start(t)
	for {
		s, err := a.Snapshot(limited(t, 5*time.Second))
		if err == nil && !s.History.Present {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("have %+v, %v; want what the servers have: nothing", s, err)
		}
		time.Sleep(20 * time.Millisecond) // no event tells that a server came up
	}
	if _, err := a.Put(ctx, cluster.KeyHistory, []byte("[]"), 0); err != nil {
		t.Error(err)
	}
	// The lock went with the rest; nobody holds it, so it is put again.
	if renewed, err := a.Renew(ctx, lock); err != nil || renewed.Session == lock.Session {
		t.Errorf("have %+v, %v; want a lock under a new session", renewed, err)
	}
	if s, err := a.Snapshot(ctx); err != nil || s.Leader.Name != "a" || !s.History.Present {
		t.Errorf("have %+v, %v; want leader a, and the history", s, err)
	}
}
