package kubernetes_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/dcs/kubernetes/kubetest"
)

// death lets the n-th write from now on end without an answer, carried out or not, and nothing get through after it before it is over.
type death struct {
	mu        sync.Mutex
	n, writes int
	done      bool
	dead      chan struct{}
	over      bool
}

func (d *death) fault(r kubetest.Request) kubetest.Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Method == "GET" || r.Resource == "pods" || d.over {
		return kubetest.Fault{}
	}
	d.writes++
	if d.writes == d.n {
		close(d.dead)
	}
	return kubetest.Fault{Drop: d.writes >= d.n, Done: d.writes == d.n && d.done}
}

func (d *death) end() (writes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	return d.writes
}

// The mover is gone after any of its writes, whether or not that one was carried out. Nobody leads beside it, the next leader
// completes the move, and no key is missing.
func TestMoverDiesAtEveryStep(t *testing.T) {
	for _, c := range []struct {
		from, to kubernetes.Layout
		writes   int
	}{
		{kubernetes.Endpoints, kubernetes.ConfigMaps, 10}, {kubernetes.ConfigMaps, kubernetes.Endpoints, 10},
		{kubernetes.ConfigMaps, kubernetes.Lease, 3}, {kubernetes.Lease, kubernetes.ConfigMaps, 3},
	} {
		for n := 1; n <= c.writes; n++ {
			for _, done := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s to %s, write %d, done %v", c.from, c.to, n, done), func(t *testing.T) {
					moverDies(newBench(t, c.from), c.to, n, done)
				})
			}
		}
	}
}

func moverDies(b *bench, to kubernetes.Layout, n int, done bool) {
	const ttl = 2 * time.Second
	x, y := b.moving("a", b.layout), b.moving("b", to)
	b.must(x.Announce(b.ctx(patience), regent("a"), ttl))
	b.must(y.Announce(b.ctx(patience), regent("b"), ttl))
	lock, err := x.Acquire(b.ctx(patience), "a", ttl)
	b.must(err)
	b.fill(x)
	lock, err = x.Renew(b.ctx(patience), lock)
	b.must(err)
	b.seesWhile(y, "the keys", func() {
		lock, err = x.Renew(b.ctx(patience), lock)
		b.must(err)
	}, func(s *cluster.Snapshot) bool { return complete(s, "a") })
	d := &death{n: n, done: done, dead: make(chan struct{})}
	b.must(x.AskToMove(b.ctx(patience), to))
	b.SetFault(d.fault)
	for alive := true; alive; {
		if next, err := x.Renew(b.ctx(time.Second), lock); err == nil {
			lock = next
		}
		g, err := y.Migration(b.ctx(time.Second), to)
		select {
		case <-d.dead:
			alive = false
		default:
			if err == nil && g.Layout == to {
				b.Fatalf("it moved with less than %d writes: correct the table", n)
			}
		}
	}
	x.Close()
	d.end()
	next := dcs.Lock{}
	for limit := b.ctx(patience); limit.Err() == nil && next.Holder == ""; {
		s, err := y.Snapshot(limit)
		if err == nil && s.Leader.Name == "" {
			next, _ = y.Acquire(limit, "b", ttl) // what is refused now is tried again
		}
		if next.Holder != "" {
			break
		}
		if s != nil {
			soon, cancel := context.WithTimeout(limit, time.Second)
			_ = y.Watch(soon, s.Revision)
			cancel()
		}
	}
	if next.Holder == "" || boottime.Now().Before(lock.Deadline) {
		b.Fatalf("have lock %+v %s before the end of the other's", next, lock.Deadline.Sub(boottime.Now()))
	}
	for limit := b.ctx(10 * time.Second); limit.Err() == nil; {
		next, err = y.Renew(limit, next)
		b.must(err)
		if g, err := y.Migration(limit, to); err == nil && g.Layout == to {
			break
		}
	}
	renew := func() {
		next, err = y.Renew(b.ctx(patience), next)
		b.must(err)
	}
	whole := func(s *cluster.Snapshot) bool { return complete(s, "b") }
	b.seesWhile(y, "all keys in the new layout", renew, whole)
	b.seesWhile(b.moving("b", b.layout), "the same by a new process", renew, whole)
}

// reign is a time during which a member believed that it leads.
type reign struct {
	name       string
	from, till time.Time
}

// stress is a cluster whose members come and go with any configuration, while it is moved about and requests get lost.
type stress struct {
	*bench
	mu     sync.Mutex
	reigns []reign
	wrote  uint64 // the highest number that a leader was told is written
	moves  *atomic.Int64
	moved  chan struct{} // has something after a move
}

// TestMovesUnderFaults: at most one leader at any moment, and what was written stays.
func TestMovesUnderFaults(t *testing.T) {
	moves := &atomic.Int64{}
	t.Cleanup(func() {
		if t.Logf("%d moves", moves.Load()); moves.Load() == 0 {
			t.Error("nothing moved, so this shows nothing")
		}
	})
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := &stress{bench: newBench(t, kubernetes.Endpoints), moves: moves, moved: make(chan struct{}, 1)}
			for _, name := range []string{"a", "b", "c"} {
				s.Change("pods", name, map[string]any{"metadata": map[string]any{"labels": s.labels(), "annotations": map[string]any{"status": string(regent(name).Encode())}}})
			}
			first := s.moving("a", kubernetes.Endpoints) // the cluster exists
			_, err := first.Acquire(s.ctx(patience), "a", time.Second)
			s.must(err)
			_, err = first.Put(s.ctx(patience), cluster.KeySync, syncOf(1), 0)
			s.must(err)
			first.Close()
			var mu sync.Mutex
			faults := rand.New(rand.NewPCG(seed, 1))
			s.SetFault(func(r kubetest.Request) kubetest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if r.Watch || faults.IntN(60) != 0 {
					return kubetest.Fault{}
				}
				return kubetest.Fault{Drop: true, Done: faults.IntN(2) == 0}
			})
			ctx, enough := context.WithCancel(s.ctx(time.Minute))
			var all sync.WaitGroup
			all.Go(func() { // for 12 s, and on a slow machine until something has moved
				defer enough()
				<-time.After(12 * time.Second)
				select {
				case <-s.moved:
				case <-ctx.Done():
				}
			})
			for i, name := range []string{"a", "b", "c"} {
				all.Go(func() { s.live(ctx, name, rand.New(rand.NewPCG(seed, uint64(i+2)))) })
			}
			all.Go(func() { s.wish(ctx, rand.New(rand.NewPCG(seed, 9))) })
			all.Wait()
			s.SetFault(nil)
			s.judge()
		})
	}
}

func syncOf(n uint64) []byte {
	return []byte(fmt.Sprintf(`{"leader":"a","quorum":%d,"sync_standby":null}`, n))
}

// wish asks for one layout after the other, and sometimes takes it back.
func (s *stress) wish(ctx context.Context, r *rand.Rand) {
	tool, err := kubernetes.OpenMoving(ctx, kubernetes.Config{
		Access: kubernetes.Access{Kubeconfig: kubetest.Kubeconfig(s.T, s.URL)}, Scope: "demo", Labels: map[string]string{"app": "x"}, Log: kubetest.Quiet,
	})
	if err != nil {
		s.Error(err)
		return
	}
	defer tool.Close()
	here := kubernetes.Endpoints
	for ctx.Err() == nil {
		to := append([]kubernetes.Layout{""}, kubernetes.Layouts...)[r.IntN(4)]
		limited, cancel := context.WithTimeout(ctx, time.Second)
		_ = tool.AskToMove(limited, to) // it is a wish
		if g, err := tool.Migration(limited, to); err == nil && g.Layout != here {
			here = g.Layout
			s.moves.Add(1)
			select {
			case s.moved <- struct{}{}:
			default:
			}
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(r.IntN(400)) * time.Millisecond):
		}
	}
}

// live is one member: it leads when it can, writes while it leads, and dies now and then without a word.
func (s *stress) live(ctx context.Context, name string, r *rand.Rand) {
	for ctx.Err() == nil {
		store, err := kubernetes.OpenMoving(ctx, kubernetes.Config{
			Access: kubernetes.Access{Kubeconfig: kubetest.Kubeconfig(s.T, s.URL)}, Layout: kubernetes.Layouts[r.IntN(3)], Scope: "demo", Name: name,
			Labels: map[string]string{"app": "x"}, Log: kubetest.Quiet,
		})
		if err != nil {
			s.Error(err)
			return
		}
		for range 10 + r.IntN(30) {
			limited, cancel := context.WithTimeout(ctx, time.Second)
			if lock, err := store.Acquire(limited, name, time.Second); err == nil {
				s.lead(ctx, store, name, lock, r)
			}
			cancel()
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(10+r.IntN(50)) * time.Millisecond):
			}
		}
		store.Close()
	}
}

// lead renews, writes, and releases or dies.
func (s *stress) lead(ctx context.Context, store *kubernetes.Moving, name string, lock dcs.Lock, r *rand.Rand) {
	this := reign{name: name, from: boottime.Now()}
	defer func() {
		if this.till.IsZero() {
			this.till = lock.Deadline
		}
		s.mu.Lock()
		s.reigns = append(s.reigns, this)
		s.mu.Unlock()
	}()
	for range 2 + r.IntN(10) {
		limited, cancel := context.WithDeadline(ctx, time.Now().Add(lock.Deadline.Sub(boottime.Now())))
		if next, err := store.Renew(limited, lock); err == nil {
			lock = next
		}
		if now, err := store.Snapshot(limited); err == nil {
			n := uint64(now.Sync.Quorum) + 1
			if _, err = store.Put(limited, cluster.KeySync, syncOf(n), now.Sync.Revision); err == nil {
				s.mu.Lock()
				s.wrote = max(s.wrote, n)
				s.mu.Unlock()
			}
		}
		cancel()
		if !boottime.Now().Before(lock.Deadline) {
			return
		}
	}
	if r.IntN(3) > 0 {
		this.till = boottime.Now()
		limited, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = store.Release(limited, lock)
	}
}

func (s *stress) judge() {
	last := s.sees(s.moving("", kubernetes.Lease), "the end", func(*cluster.Snapshot) bool { return true })
	if uint64(last.Sync.Quorum) < s.wrote {
		s.Errorf("have %d at the end, but %d was written", last.Sync.Quorum, s.wrote)
	}
	names := map[string]bool{}
	for i := range s.reigns { // who died, came back and leads again has forgotten the hold before
		for _, later := range s.reigns[i+1:] {
			if a := &s.reigns[i]; later.name == a.name && later.from.Before(a.till) {
				a.till = later.from
			}
		}
	}
	for i, a := range s.reigns {
		names[a.name] = true
		for _, b := range s.reigns[:i] {
			if a.name != b.name && a.from.Before(b.till) && b.from.Before(a.till) {
				s.Errorf("%s led from %s to %s, and %s from %s to %s", a.name, a.from, a.till, b.name, b.from, b.till)
			}
		}
	}
	s.Logf("%d leaders, %d reigns, %d writes", len(names), len(s.reigns), s.wrote)
}
