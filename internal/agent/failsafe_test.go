package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs/memory"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// The store is silent for long. As long as all members promise, the lock is ours; when one of them does not any more, it runs out.
func TestKeeperLivesByPromises(t *testing.T) {
	keeping(t, func(t *testing.T, server *memory.Server, k *keeper) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		var promise atomic.Int64
		promise.Store(int64(20 * time.Second))
		var latest atomic.Pointer[time.Time]
		k.confirmed = func(deadline time.Time) { latest.Store(&deadline) }
		k.agree = func(_ context.Context, r *loop.Round) time.Duration {
			time.Sleep(100 * time.Millisecond)
			return time.Duration(promise.Load())
		}
		go func() { done <- k.heartbeat(ctx) }()
		if err := k.do(t.Context(), loop.Acquire); err != nil {
			t.Fatal(err)
		}
		k.permit(time.Now().Add(time.Hour), &ha.Circle{Members: []cluster.Member{{Name: "pg2"}}})
		server.Inject(func(memory.Call) memory.Fault { return memory.Fault{Before: time.Hour} })
		time.Sleep(5 * time.Minute)
		l := k.lock()
		if left := time.Until(l.Deadline); !l.Held || !l.Agreed || left < 15*time.Second || left > 20*time.Second {
			t.Errorf("after five minutes without the store: have %+v with %s left, want a lock that lives by promises", l, left)
		}
		if at := latest.Load(); at == nil || !at.Equal(l.Deadline) {
			t.Errorf("the guard was told of %v, want %s", at, l.Deadline)
		}
		promise.Store(0)
		time.Sleep(20 * time.Second)
		if l := k.lock(); time.Now().Before(l.Deadline) {
			t.Errorf("20 s after the last promise: have a lock until %s", l.Deadline)
		}
		server.Inject(nil)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAcceptFailsafe(t *testing.T) {
	on := cluster.DynamicConfig{Usable: true, Document: cluster.Value{Kind: cluster.Object}}
	on.Document = on.Document.Set(cluster.Flag(true), "failsafe_mode")
	standby := cluster.Postgres{Pid: 1, Dir: cluster.DirPresent, Queried: true, InRecovery: true, StandbySignal: true, Received: 7}
	store := func(leader string) *cluster.Snapshot {
		return &cluster.Snapshot{Leader: cluster.Leader{Name: leader}, Failsafe: map[string]string{"pg1": "a", "pg2": "b", "pg3": "c"}}
	}
	from := Heartbeat{Name: "pg1", ConnURL: "x", APIURL: "y", Scope: "demo", To: "pg2"}
	for name, c := range map[string]struct {
		change  func(a *Agent, s *Status, h *Heartbeat)
		refused bool
		is      error
	}{
		"a standby":                   {},
		"from Patroni":                {change: func(_ *Agent, _ *Status, h *Heartbeat) { h.Scope, h.To = "", "" }},
		"an empty directory":          {change: func(_ *Agent, s *Status, _ *Heartbeat) { s.Postgres = cluster.Postgres{Dir: cluster.DirEmpty} }},
		"the mode is off":             {change: func(_ *Agent, s *Status, _ *Heartbeat) { s.Config = cluster.DynamicConfig{} }, refused: true, is: ErrNoFailsafe},
		"another member is meant":     {change: func(_ *Agent, _ *Status, h *Heartbeat) { h.To = "pg3" }, refused: true},
		"another cluster is meant":    {change: func(_ *Agent, _ *Status, h *Heartbeat) { h.Scope = "other" }, refused: true},
		"PostgreSQL was not seen yet": {change: func(_ *Agent, s *Status, _ *Heartbeat) { s.Postgres = cluster.Postgres{} }, refused: true, is: ErrMayLead},
		"a primary": {change: func(_ *Agent, s *Status, _ *Heartbeat) {
			s.Postgres.InRecovery, s.Postgres.StandbySignal = false, false
		}, refused: true, is: ErrMayLead},
		"a primary that is down":            {change: func(_ *Agent, s *Status, _ *Heartbeat) { s.Postgres = cluster.Postgres{Dir: cluster.DirPresent} }, refused: true, is: ErrMayLead},
		"something is to be fenced":         {change: func(a *Agent, _ *Status, _ *Heartbeat) { a.fencing.wanted = true }, refused: true, is: ErrMayLead},
		"a promotion may still come true":   {change: func(a *Agent, _ *Status, _ *Heartbeat) { a.promotion.Store(true) }, refused: true, is: ErrMayLead},
		"another one leads":                 {change: func(_ *Agent, s *Status, _ *Heartbeat) { s.Snapshot = store("pg3") }, refused: true},
		"another one did, long ago":         {change: func(_ *Agent, s *Status, _ *Heartbeat) { s.Snapshot, s.SnapshotWall = store("pg3"), time.Time{} }},
		"one that cannot lead has the lock": {change: func(_ *Agent, s *Status, _ *Heartbeat) { s.Snapshot = store("pg9") }},
		"the lock is asked for": {change: func(a *Agent, _ *Status, _ *Heartbeat) {
			a.keeper.lease.Order(loop.Order{Request: loop.Acquire, Done: func(error) {}})
			a.keeper.lease.Step(a.clock())
		}, refused: true, is: ErrMayLead},
	} {
		a := &Agent{name: "pg2", log: slog.New(slog.DiscardHandler), clock: time.Now, facts: make(chan loop.Fact, 1), fencing: &fencing{}}
		a.keeper = newKeeper(nil, "pg2", time.Now, a.log, func() {})
		s := &Status{Scope: "demo", Name: "pg2", Config: on, Postgres: standby, Timing: cluster.DefaultTiming, Snapshot: store("pg1"), SnapshotWall: time.Now()}
		h := from
		if c.change != nil {
			c.change(a, s, &h)
		}
		a.status.Store(s)
		p, err := a.AcceptFailsafe(h)
		switch bound := a.keeper.lock().Bound; {
		case c.refused != (err != nil), c.is != nil && !errors.Is(err, c.is):
			t.Errorf("%s: have %+v, %v, want refused %t, %v", name, p, err, c.refused, c.is)
		case c.refused && !bound.IsZero():
			t.Errorf("%s: refused, and bound all the same", name)
		case !c.refused && (p.For != cluster.DefaultTiming.TTL || time.Until(bound) < p.For-time.Minute/2 || p.At != s.Postgres.Position()):
			t.Errorf("%s: have %+v, bound until %s, want a ttl", name, p, bound)
		}
	}
}
