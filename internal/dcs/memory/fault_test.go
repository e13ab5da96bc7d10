package memory_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/memory"
)

// hand is a clock that moves only when it is told to, as the simulator's does.
type hand struct{ now time.Time }

func (h *hand) clock() time.Time { return h.now }

func TestExpiryFollowsTheClock(t *testing.T) {
	h := &hand{time.Unix(1000, 0)}
	server := memory.NewServer(h.clock)
	a, b := server.Store(root, "a"), server.Store(root, "b")
	lock, err := a.Acquire(t.Context(), "a", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := server.Next(); !ok || !at.Equal(lock.Deadline) {
		t.Errorf("next event: have %s %v, want the deadline %s", at, ok, lock.Deadline)
	}
	h.now = lock.Deadline.Add(-1)
	if _, err := b.Acquire(t.Context(), "b", time.Second); !errors.Is(err, dcs.ErrHeld) {
		t.Errorf("just before the deadline: have %v, want ErrHeld", err)
	}
	h.now = lock.Deadline
	if _, err := b.Acquire(t.Context(), "b", time.Second); err != nil {
		t.Errorf("at the deadline: %v", err)
	}
}

// Another ttl by the announcement of the key beside the lock: what was promised with the old one holds.
func TestAShorterTTLEndsNoLockEarlier(t *testing.T) {
	h := &hand{time.Unix(1000, 0)}
	server := memory.NewServer(h.clock)
	a, b := server.Store(root, "a"), server.Store(root, "b")
	lock, err := a.Acquire(t.Context(), "a", 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Announce(t.Context(), cluster.Member{Name: "a"}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	h.now = lock.Deadline.Add(-1)
	if _, err := b.Acquire(t.Context(), "b", time.Second); !errors.Is(err, dcs.ErrHeld) {
		t.Errorf("just before the deadline: have %v, want ErrHeld", err)
	}
}

func TestRequestsArriveLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memory.NewServer(time.Now)
		a, b := server.Store(root, "a"), server.Store(root, "b")
		server.Inject(func(c memory.Call) memory.Fault {
			if c.Member == "a" {
				return memory.Fault{Before: 5 * time.Second}
			}
			return memory.Fault{}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Put(ctx, cluster.KeyHistory, []byte("[]"), 0); !errors.Is(err, dcs.ErrUnavailable) {
			t.Fatalf("have %v, want ErrUnavailable", err)
		}
		before, err := b.Snapshot(t.Context())
		if err != nil || before.History.Present {
			t.Errorf("one second later: have %+v, %v, want no history yet", before.History, err)
		}
		time.Sleep(5 * time.Second) // virtual
		after, err := b.Snapshot(t.Context())
		if err != nil || !after.History.Present {
			t.Errorf("six seconds later: have %+v, %v, want the late write", after.History, err)
		}
	})
}

func TestLossDecidesWhatHappened(t *testing.T) {
	for _, c := range []struct {
		name    string
		loss    memory.Loss
		written bool
	}{{"refuse", memory.Refuse, false}, {"request", memory.Request, false}, {"answer", memory.Answer, true}} {
		t.Run(c.name, func(t *testing.T) {
			server := memory.NewServer(time.Now)
			a := server.Store(root, "a")
			server.Inject(func(memory.Call) memory.Fault { return memory.Fault{Lose: c.loss} })
			if _, err := a.Put(t.Context(), cluster.KeyHistory, []byte("[]"), 0); !errors.Is(err, dcs.ErrUnavailable) {
				t.Errorf("have %v, want ErrUnavailable", err)
			}
			server.Inject(nil)
			have, err := a.Snapshot(t.Context())
			if err != nil || have.History.Present != c.written {
				t.Errorf("written: have %v, %v, want %v", have.History.Present, err, c.written)
			}
		})
	}
}

func TestBackup(t *testing.T) {
	h := &hand{time.Unix(1000, 0)}
	server := memory.NewServer(h.clock)
	a, b := server.Store(root, "a"), server.Store(root, "b")
	lock, err := a.Acquire(t.Context(), "a", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	restore := server.Backup()
	if err := a.Release(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Acquire(t.Context(), "b", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), cluster.KeyHistory, []byte("[]"), 0); err != nil {
		t.Fatal(err)
	}
	before, err := b.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(8 * time.Second)
	restore()
	after, err := b.Snapshot(t.Context())
	if err != nil || after.Leader.Name != "a" || after.History.Present || after.Revision <= before.Revision {
		t.Errorf("have leader %q, history %v at revision %d, %v; want a's lock and no history after revision %d", after.Leader.Name, after.History.Present, after.Revision, err, before.Revision)
	}
	h.now = h.now.Add(9 * time.Second)
	if _, err := b.Acquire(t.Context(), "b", time.Second); !errors.Is(err, dcs.ErrHeld) {
		t.Errorf("within its lease's new time: have %v, want ErrHeld", err)
	}
	h.now = h.now.Add(time.Second)
	if _, err := b.Acquire(t.Context(), "b", time.Second); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// A member as it was announced is what its key says.
func TestAnnouncedMemberIsWhatTheKeySays(t *testing.T) {
	server := memory.NewServer(time.Now)
	a, b := server.Store(root, "a"), server.Store(root, "b")
	full := cluster.Member{Name: "a", ConnURL: "postgres://h:5432/postgres", APIURL: "http://h:8008/patroni", State: cluster.Running, Role: cluster.Replica, Version: "4.1.4",
		XlogLocation: 7, ReplayLSN: 6, ReceiveLSN: 7, ReplicationState: cluster.StateStreaming, Timeline: 2, Pause: true, Regent: "r",
		Tags: cluster.Tags{{Name: "nofailover", Value: cluster.Flag(true)}, {Name: "priority", Value: cluster.Int(3)}}}
	for i, m := range []cluster.Member{full, {Name: "a", State: cluster.Stopped, Role: cluster.Demoted}, {Name: "a", State: cluster.UnknownState, Role: cluster.Replica}, {Name: "a"},
		{Name: "a", State: cluster.Running, Role: cluster.Primary, PendingRestart: true, CheckpointAfterPromote: true}} {
		if _, err := b.Snapshot(t.Context()); err != nil { // so that the next one reads on from it
			t.Fatal(err)
		}
		if err := a.Announce(t.Context(), m, time.Hour); err != nil {
			t.Fatal(err)
		}
		s, err := b.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		have, _ := s.Member("a")
		want, err := cluster.DecodeMember("a", m.Encode(), have.Revision, have.Session)
		if err != nil || !reflect.DeepEqual(have, want) {
			t.Errorf("%d: have %+v\nwant %+v, %v", i, have, want, err)
		}
	}
}
