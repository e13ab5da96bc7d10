package kubernetes_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/dcs/kubernetes/kubetest"
)

// moving opens a member's store; layout is what it is configured for.
func (b *bench) moving(name string, layout kubernetes.Layout) *kubernetes.Moving {
	b.T.Helper()
	m, err := kubernetes.OpenMoving(b.Context(), kubernetes.Config{
		Access: kubernetes.Access{Kubeconfig: kubetest.Kubeconfig(b.T, b.URL)}, Layout: layout, Scope: "demo", Name: name,
		Labels: map[string]string{"app": "x"}, Log: kubetest.Quiet,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m
}

// regent is a member as Regent announces it.
func regent(name string) cluster.Member {
	m := member(name, cluster.Replica, cluster.Running)
	m.Regent = "0.1.0"
	return m
}

func (b *bench) must(err error) {
	b.T.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// sees waits until a member's snapshot satisfies ok.
func (b *bench) sees(s dcs.Store, what string, ok func(*cluster.Snapshot) bool) *cluster.Snapshot {
	b.T.Helper()
	return b.seesWhile(s, what, func() {}, ok)
}

// seesWhile is sees while somebody keeps a short lock alive.
func (b *bench) seesWhile(s dcs.Store, what string, renew func(), ok func(*cluster.Snapshot) bool) *cluster.Snapshot {
	b.T.Helper()
	ctx := b.ctx(patience)
	for {
		have, err := s.Snapshot(ctx)
		if err == nil && ok(have) {
			return have
		}
		if ctx.Err() != nil {
			b.Fatalf("%s: have %+v, %v", what, have, err)
		}
		renew()
		after := cluster.Revision(0)
		if have != nil {
			after = have.Revision
		}
		soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		_ = s.Watch(soon, after)
		cancel()
	}
}

// fill puts something under every key.
func (b *bench) fill(s dcs.Store) {
	b.T.Helper()
	for key, text := range map[string]string{
		cluster.KeyConfig: `{"ttl":30}`, cluster.KeyInitialize: "6979461716096839850", cluster.KeyHistory: `[[1,2,"x"]]`,
		cluster.KeyStatus: `{"optime":17,"slots":{"b":17}}`, cluster.KeyFailsafe: `{"a":"http://a"}`, cluster.KeySync: `{"leader":"a","quorum":0,"sync_standby":"b"}`,
	} {
		if _, err := s.Put(b.ctx(patience), key, []byte(text), 0); err != nil {
			b.Fatalf("put %s: %v", key, err)
		}
	}
}

func complete(s *cluster.Snapshot, leader string) bool {
	return s.Leader.Name == leader && s.Initialize.SystemID == "6979461716096839850" && s.Config.Usable && s.History.Present &&
		s.Status.Optime == 17 && s.Failsafe["a"] == "http://a" && s.Sync.Leader == "a" && len(s.Members) == 2
}

func steps() (all [][2]kubernetes.Layout) {
	for _, from := range kubernetes.Layouts {
		for _, to := range kubernetes.Layouts {
			if from != to {
				all = append(all, [2]kubernetes.Layout{from, to})
			}
		}
	}
	return all
}

// The leader keeps the lock and its pod's label, everybody keeps every key, and neither restarts.
func TestMoveOfALiveCluster(t *testing.T) {
	for _, step := range steps() {
		from, to := step[0], step[1]
		t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
			b := newBench(t, from)
			x, y := b.moving("a", from), b.moving("b", from)
			b.must(x.Announce(b.ctx(patience), regent("a"), time.Minute))
			b.must(y.Announce(b.ctx(patience), regent("b"), time.Minute))
			lock, err := x.Acquire(b.ctx(patience), "a", time.Minute)
			b.must(err)
			b.fill(x)
			b.podLabel("a", "role", "primary")
			before := b.sees(y, "the keys", func(s *cluster.Snapshot) bool { return complete(s, "a") })
			lost := b.unlabelled()
			b.must(y.AskToMove(b.ctx(patience), to))
			b.sees(x, "the wish", func(*cluster.Snapshot) bool {
				g, err := x.Migration(b.ctx(patience), to)
				return err == nil && g.Wanted == to
			})
			moved := lock
			b.seesWhile(x, "the new layout", func() { // the first renewal moves if the watch has told of the wish, and the second one finds itself moved
				if moved, err = x.Renew(b.ctx(patience), moved); err != nil || moved.Session != lock.Session {
					b.Fatalf("renewal: have %+v, %v, want the same hold", moved, err)
				}
			}, func(*cluster.Snapshot) bool {
				g, err := x.Migration(b.ctx(patience), to)
				return err == nil && g.Layout == to
			})
			for range 2 {
				if moved, err = x.Renew(b.ctx(patience), moved); err != nil || moved.Session != lock.Session {
					b.Fatalf("renewal after the move: have %+v, %v, want the same hold", moved, err)
				}
			}
			for _, s := range []*kubernetes.Moving{x, y, b.moving("b", from), b.moving("b", to)} {
				have := b.sees(s, "all keys in the new layout", func(s *cluster.Snapshot) bool { return complete(s, "a") })
				if have.Revision < before.Revision {
					b.Errorf("have revision %d after %d", have.Revision, before.Revision)
				}
				if _, err := s.Acquire(b.ctx(patience), "b", time.Minute); s != x && !errors.Is(err, dcs.ErrHeld) {
					b.Errorf("acquisition by another: have %v, want ErrHeld", err)
				}
				if g, err := s.Migration(b.ctx(patience), to); err != nil || g.Layout != to || g.Wanted != "" {
					b.Errorf("have %+v, %v, want that it lives in %s", g, err, to)
				}
			}
			if *lost != "" {
				b.Errorf("the leader's pod lost its label meanwhile: %s", *lost)
			}
			// Patroni, or who opens the old layout by force, sees a leader that stays.
			resource, name := b.object()
			if text := b.Get(resource, name); !strings.Contains(text, "moved-to-"+string(to)) || !strings.Contains(text, "315360000") {
				b.Errorf("the old lock: have %s, want it sealed", text)
			}
			if _, err := b.open("b").Acquire(b.ctx(patience), "b", time.Minute); err == nil {
				b.Error("the old lock could be acquired")
			}
			b.must(x.Release(b.ctx(patience), moved))
			if _, err := y.Acquire(b.ctx(patience), "b", time.Minute); err != nil {
				b.Errorf("acquisition of the released lock: %v", err)
			}
		})
	}
}

// unlabelled notes when the leader's pod is patched to another role.
func (b *bench) unlabelled() *string {
	lost := new(string)
	b.SetFault(func(r kubetest.Request) kubetest.Fault {
		if r.Method == "PATCH" && r.Resource == "pods" && r.Name == "a" && !strings.Contains(r.Body, `"role":"primary"`) {
			*lost = r.Body
		}
		return kubetest.Fault{}
	})
	return lost
}
