package kubernetes_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/dcs/kubernetes/kubetest"
)

func (b *bench) setConfig(text string) {
	b.Change("configmaps", "demo-config", map[string]any{"metadata": map[string]any{"labels": b.labels(), "annotations": map[string]any{"config": text}}})
}

func ttlOf(s *cluster.Snapshot) time.Duration { return s.Config.WrittenTiming().TTL }

// API servers end watches now and then. The next one goes on where that one was.
func TestWatchThatEndsInOrderGoesOn(t *testing.T) {
	b := newBench(t, kubernetes.ConfigMaps)
	a := b.open("a")
	b.setConfig(`{"ttl":40}`)
	first := b.until(a, "the configuration", func(s *cluster.Snapshot) bool { return ttlOf(s) == 40*time.Second })
	<-time.After(1100 * time.Millisecond) // one that ends at once is a broken one
	lists := a.Requests()["list configmaps"]
	woken := make(chan error, 1)
	go func() { woken <- a.Watch(b.ctx(patience), first.Revision) }()
	b.CutWatches(false)
	if _, err := a.Snapshot(b.ctx(patience)); err != nil {
		b.Errorf("snapshot between two watches: %v", err)
	}
	b.setConfig(`{"ttl":41}`)
	if err := <-woken; err != nil {
		b.Errorf("have %v, want to be woken by the change", err)
	}
	b.until(a, "the change", func(s *cluster.Snapshot) bool { return ttlOf(s) == 41*time.Second })
	if have := a.Requests()["list configmaps"]; have != lists {
		b.Errorf("have %d lists, want %d as before", have, lists)
	}
}

func TestWatchThatBreaksReadsAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		break_ func(b *bench)
	}{
		{"connections cut", func(b *bench) { b.CutWatches(true) }},
		{"and the versions forgotten", func(b *bench) { b.Compact(); b.CutWatches(true) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, kubernetes.ConfigMaps)
			a := b.open("a")
			b.setConfig(`{"ttl":40}`)
			first := b.until(a, "the configuration", func(s *cluster.Snapshot) bool { return ttlOf(s) == 40*time.Second })
			woken := make(chan error, 1)
			go func() { woken <- a.Watch(b.ctx(patience), first.Revision) }()
			b.SetFault(func(r kubetest.Request) kubetest.Fault { return kubetest.Fault{Drop: r.Method == "GET"} })
			c.break_(b)
			if err := <-woken; !errors.Is(err, dcs.ErrUnavailable) {
				b.Errorf("watch: have %v, want ErrUnavailable", err)
			}
			if s, err := a.Snapshot(b.ctx(300 * time.Millisecond)); !errors.Is(err, dcs.ErrUnavailable) {
				b.Errorf("snapshot: have %+v, %v, want ErrUnavailable", s, err)
			}
			b.setConfig(`{"ttl":41}`)
			b.SetFault(nil)
			b.until(a, "the change", func(s *cluster.Snapshot) bool { return ttlOf(s) == 41*time.Second })
		})
	}
}

// After a compaction a watch that ended in order cannot go on. What was missed comes from a list.
func TestGoneVersionReadsAgain(t *testing.T) {
	b := newBench(t, kubernetes.ConfigMaps)
	a := b.open("a")
	b.setConfig(`{"ttl":40}`)
	b.until(a, "the configuration", func(s *cluster.Snapshot) bool { return ttlOf(s) == 40*time.Second })
	<-time.After(1100 * time.Millisecond)
	b.SetFault(func(r kubetest.Request) kubetest.Fault { return kubetest.Fault{Status: or(r.Watch, 410)} })
	b.CutWatches(false)
	b.setConfig(`{"ttl":41}`)
	b.SetFault(nil)
	b.until(a, "the change", func(s *cluster.Snapshot) bool { return ttlOf(s) == 41*time.Second })
}

// A list from a server that lags behind must not take us back in time.
func TestStaleListIsRefused(t *testing.T) {
	b := newBench(t, kubernetes.ConfigMaps)
	a := b.open("a")
	created, err := a.Put(b.ctx(patience), cluster.KeyConfig, []byte(`{"ttl":40}`), 0)
	if err != nil {
		b.Fatal(err)
	}
	heal := b.Freeze()
	if _, err := a.Put(b.ctx(patience), cluster.KeyConfig, []byte(`{"ttl":41}`), created); err != nil {
		b.Fatal(err)
	}
	b.CutWatches(true)
	for limit := b.ctx(500 * time.Millisecond); limit.Err() == nil; {
		if s, err := a.Snapshot(limit); err == nil && ttlOf(s) != 41*time.Second {
			b.Fatalf("have %s of before our own write", ttlOf(s))
		}
	}
	heal()
	b.until(a, "our own write", func(s *cluster.Snapshot) bool { return ttlOf(s) == 41*time.Second })
}

func TestBookmarksMoveTheStart(t *testing.T) {
	b := newBench(t, kubernetes.ConfigMaps)
	var mu sync.Mutex
	refused := 0
	a := b.open("a")
	b.setConfig(`{"ttl":40}`)
	b.until(a, "the configuration", func(s *cluster.Snapshot) bool { return ttlOf(s) == 40*time.Second })
	<-time.After(1100 * time.Millisecond)
	lists := a.Requests()["list configmaps"] + a.Requests()["list pods"]
	for _, resource := range []string{"pods", "configmaps"} {
		at := b.Bookmark(resource)
		for limit := b.ctx(patience); a.Followed(resource) < at; <-time.After(time.Millisecond) { // nothing tells that it arrived
			if limit.Err() != nil {
				b.Fatalf("%s are followed up to %d, want up to the bookmark at %d", resource, a.Followed(resource), at)
			}
		}
	}
	b.Compact() // refuses watches from before the bookmarks
	b.SetFault(func(r kubetest.Request) kubetest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == "GET" && !r.Watch && r.Name == "" {
			refused++
		}
		return kubetest.Fault{}
	})
	watches := a.Requests()["watch configmaps"]
	b.CutWatches(false)
	b.setConfig(`{"ttl":41}`)
	b.until(a, "the change", func(s *cluster.Snapshot) bool { return ttlOf(s) == 41*time.Second })
	if have := a.Requests()["list configmaps"]; a.Requests()["watch configmaps"] == watches || have > lists {
		b.Errorf("have %d lists after %d, %d watches after %d; want a watch from the bookmark", have, lists, a.Requests()["watch configmaps"], watches)
	}
}

// A member that hears nothing any more must not take that for the end of the lock.
func TestLockEndsOnlyWhenTheServerSaysSo(t *testing.T) {
	b := newBench(t, kubernetes.Endpoints)
	proxy := dcstest.NewProxy(t, strings.TrimPrefix(b.URL, "http://"))
	a := b.open("a")
	watcher := b.open("b", func(c *kubernetes.Config) { c.Access.Kubeconfig = kubetest.Kubeconfig(t, "http://"+proxy.Address()) })
	lock, err := a.Acquire(b.ctx(patience), "a", 2*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for ctx.Err() == nil {
			if lock, err = a.Renew(b.ctx(patience), lock); err != nil {
				b.Error(err)
			}
			<-time.After(300 * time.Millisecond)
		}
	})
	b.until(watcher, "the lock", func(s *cluster.Snapshot) bool { return s.Leader.Name == "a" })
	heal := proxy.LoseAnswers() // the connections stay, and nothing comes
	free := func() bool {
		s, err := watcher.Snapshot(b.ctx(100 * time.Millisecond))
		return err == nil && s.Leader.Name == ""
	}
	for until := boottime.Now().Add(4 * time.Second); boottime.Now().Before(until); <-time.After(20 * time.Millisecond) {
		if free() {
			b.Fatal("a lock that is being renewed looks free")
		}
	}
	heal()
	b.until(watcher, "the lock again", func(s *cluster.Snapshot) bool { return s.Leader.Name == "a" })
	stop()
	renewing.Wait()
	ended := b.until(watcher, "the end of the lock", func(s *cluster.Snapshot) bool { return s.Leader.Name == "" })
	if now := boottime.Now(); now.Before(lock.Deadline) {
		b.Errorf("the lock ended %s before its deadline", lock.Deadline.Sub(now))
	}
	if _, err := watcher.Acquire(b.ctx(patience), "b", time.Minute); err != nil {
		b.Errorf("acquire what has ended: %v; snapshot %+v", err, ended.Leader)
	}
}

// The end of a lock has no event of its own, and wakes all the same.
func TestWatchWakesAtTheEndOfALock(t *testing.T) {
	eachLayout(t, func(b *bench) {
		a, other := b.open("a"), b.open("b")
		if _, err := a.Acquire(b.ctx(patience), "a", 5*time.Second); err != nil {
			b.Fatal(err)
		}
		held := b.until(other, "the lock", func(s *cluster.Snapshot) bool { return s.Leader.Name == "a" })
		if err := other.Watch(b.ctx(patience), held.Revision); err != nil {
			b.Errorf("have %v, want to be woken", err)
		}
		if s, err := other.Snapshot(b.ctx(patience)); err != nil || s.Leader.Name != "" || s.Revision <= held.Revision {
			b.Errorf("have %+v, %v, want no leader at a later revision than %d", s, err, held.Revision)
		}
	})
}

// After a restore from a backup the versions are lower, for ever. A ttl later that is believed.
func TestRestoredServerIsBelievedInTheEnd(t *testing.T) {
	b := newBench(t, kubernetes.ConfigMaps)
	a := b.open("a", func(c *kubernetes.Config) {
		c.Timing = func() (ttl, loopWait, retryTimeout time.Duration) { return time.Second, time.Second, 5 * time.Second }
	})
	created, err := a.Put(b.ctx(patience), cluster.KeyConfig, []byte(`{"ttl":40}`), 0)
	if err != nil {
		b.Fatal(err)
	}
	b.until(a, "the configuration", func(s *cluster.Snapshot) bool { return ttlOf(s) == 40*time.Second }) // and a watch
	b.Freeze()
	if _, err := a.Put(b.ctx(patience), cluster.KeyConfig, []byte(`{"ttl":41}`), created); err != nil {
		b.Fatal(err)
	}
	began := boottime.Now()
	b.Restore()
	b.CutWatches(true)
	b.until(a, "the old configuration", func(s *cluster.Snapshot) bool { return ttlOf(s) == 40*time.Second })
	if after := boottime.Now().Sub(began); after < time.Second {
		b.Errorf("believed after %s, want at least a ttl", after)
	}
}
