package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// keeper drives the lease in a goroutine of its own, so that no slow query, script or disk ever eats
// the lock's time. It renews only while the loop's permission lasts: a loop that hangs loses the lock.
type keeper struct {
	store   dcs.Store
	name    string
	clock   dcs.Clock
	log     *slog.Logger
	changed func() // the loop must look; never blocks

	confirmed func(deadline time.Time) // the lock is ours until then; called before anybody acts on it

	timing    atomic.Pointer[cluster.Timing]
	permitted atomic.Pointer[time.Time]
	orders    chan loop.Order
	state     atomic.Pointer[ha.Lock]
	renewals  atomic.Int64 // confirmed ones
	slowest   atomic.Int64 // of the confirmed renewals, nanoseconds
}

func newKeeper(store dcs.Store, name string, clock dcs.Clock, log *slog.Logger, changed func()) *keeper {
	k := &keeper{store: store, name: name, clock: clock, log: log, changed: changed, confirmed: func(time.Time) {}, orders: make(chan loop.Order, 4)}
	k.state.Store(&ha.Lock{})
	k.permitted.Store(&time.Time{})
	k.timing.Store(&cluster.DefaultTiming)
	return k
}

// permit says that the loop answers for this member until t.
func (k *keeper) permit(t time.Time) { k.permitted.Store(&t) }

// lock is the state of the lock after the last answer.
func (k *keeper) lock() ha.Lock { return *k.state.Load() }

// do orders an acquisition or a release and waits for its outcome; the request ends with ctx.
func (k *keeper) do(ctx context.Context, r loop.Request) error {
	done := make(chan error, 1)
	o := loop.Order{Request: r, Done: func(err error) { done <- err }}
	if end, ok := ctx.Deadline(); ok {
		o.Until = k.clock().Add(time.Until(end))
	}
	select {
	case k.orders <- o:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run renews until ctx ends. The lock is not released then: that is the loop's decision.
func (k *keeper) run(ctx context.Context) error {
	l := &loop.Lease{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		t := *k.timing.Load()
		l.Retry, l.Permitted = t.RetryTimeout, *k.permitted.Load()
		l.Interval = min(t.LoopWait, t.TTL/3)
		request, limit, wait := l.Step(k.clock())
		if request != loop.NoRequest {
			k.ask(ctx, l, request, limit, t.TTL)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case o := <-k.orders:
			l.Order(o)
		case <-timer.C:
		}
	}
}

// ask puts one request to the store and takes in its answer.
func (k *keeper) ask(ctx context.Context, l *loop.Lease, request loop.Request, limit, ttl time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var lock dcs.Lock
	var err error
	sent := k.clock()
	switch request {
	case loop.Acquire:
		lock, err = k.store.Acquire(ctx, k.name, ttl)
	case loop.Renew:
		lock, err = k.store.Renew(ctx, l.Lock())
	case loop.Release:
		err = k.store.Release(ctx, l.Lock())
	}
	now := k.clock()
	if request == loop.Renew && err != nil {
		k.log.Warn("renew leader lock", "error", err, "left", l.Lock().Deadline.Sub(now).Round(time.Millisecond))
	}
	if request == loop.Renew && err == nil {
		k.renewals.Add(1)
		k.slowest.Store(max(k.slowest.Load(), int64(now.Sub(sent))))
	}
	deliver, changed := l.Answered(request, sent, now, lock, err)
	if err == nil && request != loop.Release {
		k.confirmed(lock.Deadline)
	}
	s := l.State()
	k.state.Store(&s)
	deliver()
	if changed {
		k.changed()
	}
}
