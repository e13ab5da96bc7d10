package agent

import (
	"context"
	"log/slog"
	"sync"
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
	// agree asks members to let us lead on without the store, and returns the shortest promise; 0: one of them gave none. nil: nobody is asked.
	agree func(ctx context.Context, r *loop.Round) (promise time.Duration)

	timing    atomic.Pointer[cluster.Timing]
	permitted atomic.Pointer[permission]
	orders    chan loop.Order
	circled   chan struct{} // holds one when there is somebody to be asked
	mu        sync.Mutex    // guards lease: a promise to another leader must not cross a request of ours
	lease     loop.Lease
	state     atomic.Pointer[ha.Lock]
	renewals  atomic.Int64 // confirmed ones
	slowest   atomic.Int64 // of the confirmed renewals, nanoseconds
}

func newKeeper(store dcs.Store, name string, clock dcs.Clock, log *slog.Logger, changed func()) *keeper {
	k := &keeper{store: store, name: name, clock: clock, log: log, changed: changed, confirmed: func(time.Time) {}, orders: make(chan loop.Order, 4), circled: make(chan struct{}, 1)}
	k.state.Store(&ha.Lock{})
	k.permitted.Store(&permission{})
	k.timing.Store(&cluster.DefaultTiming)
	return k
}

// permission is what the loop answers for.
type permission struct {
	until  time.Time
	circle *ha.Circle
}

// permit says that the loop answers for this member until t, and who may be asked to let it lead on without the store.
func (k *keeper) permit(t time.Time, c *ha.Circle) {
	k.permitted.Store(&permission{t, c})
	if c != nil { // before anything that follows from the decision is done: who is added to the circle has promised nothing yet
		k.mu.Lock()
		k.configure()
		k.mu.Unlock()
		select {
		case k.circled <- struct{}{}:
		default:
		}
	}
}

// configure takes in what holds now; mu is held.
func (k *keeper) configure() {
	t, p := *k.timing.Load(), k.permitted.Load()
	l := &k.lease
	l.Retry, l.TTL, l.Interval = t.RetryTimeout, t.TTL, min(t.LoopWait, t.TTL/3)
	l.Permit(p.until, p.circle)
	k.tell()
}

// tell makes the lease's state visible; mu is held.
func (k *keeper) tell() {
	s := k.lease.State()
	k.state.Store(&s)
}

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
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		k.mu.Lock()
		k.configure()
		before := k.lease.State().Deadline
		request, limit, wait := k.lease.Step(k.clock())
		held, ttl := k.lease.Lock(), k.lease.TTL
		if end := k.lease.State().Deadline; end.Before(before) { // ttl is shorter than it was
			k.confirmed(end)
			k.tell()
		}
		k.mu.Unlock()
		if request != loop.NoRequest {
			k.ask(ctx, request, held, limit, ttl)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case o := <-k.orders:
			k.mu.Lock()
			k.lease.Order(o)
			k.mu.Unlock()
		case <-timer.C:
		}
	}
}

// ask puts one request to the store and takes in its answer.
func (k *keeper) ask(ctx context.Context, request loop.Request, held dcs.Lock, limit, ttl time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var lock dcs.Lock
	var err error
	sent := k.clock()
	switch request {
	case loop.Acquire:
		lock, err = k.store.Acquire(ctx, k.name, ttl)
	case loop.Renew:
		lock, err = k.store.Renew(ctx, held)
	case loop.Release:
		err = k.store.Release(ctx, held)
	}
	now := k.clock()
	if request == loop.Renew && err != nil {
		k.log.Warn("renew leader lock", "error", err, "left", k.lock().Deadline.Sub(now).Round(time.Millisecond))
	}
	if request == loop.Renew && err == nil {
		k.renewals.Add(1)
		k.slowest.Store(max(k.slowest.Load(), int64(now.Sub(sent))))
	}
	k.mu.Lock()
	deliver, changed := k.lease.Answered(request, sent, now, lock, err)
	if err == nil && request != loop.Release {
		k.confirmed(k.lease.State().Deadline)
	}
	k.tell()
	k.mu.Unlock()
	deliver()
	if changed {
		k.changed()
	}
}

// begin says that this agent begins its work: what it does not remember was not its own.
func (k *keeper) begin(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lease.Began = now
}

// waives says whether this member counts on no promise that was given before now.
func (k *keeper) waives() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.configure()
	return k.lease.Waives(k.clock())
}

// heartbeat asks all members to let us lead on while the store does not confirm the lock (ha.md 2.18). It waits neither for the store nor for
// the loop, and ends with what the loop answers for.
func (k *keeper) heartbeat(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		k.mu.Lock()
		k.configure()
		sent := k.clock()
		r, wait := k.lease.Poll(sent)
		nobody := k.lease.Circle == nil
		k.mu.Unlock()
		if nobody {
			select {
			case <-ctx.Done():
				return nil
			case <-k.circled:
			}
			continue
		}
		if r == nil {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return nil
			case <-k.circled:
			case <-timer.C:
			}
			continue
		}
		limited, cancel := context.WithTimeout(ctx, r.Limit)
		promise := k.agree(limited, r)
		cancel()
		k.mu.Lock()
		before := k.lease.State().Agreed
		k.configure()
		moved := k.lease.Agreed(r, sent, k.clock(), promise)
		if moved {
			k.confirmed(k.lease.State().Deadline)
		}
		k.tell()
		k.mu.Unlock()
		if moved && !before {
			k.changed()
		}
	}
}

// accept promises a leader without the store not to take the lock for ttl, or says why not.
func (k *keeper) accept(h ha.Heartbeat, ttl time.Duration) (ha.Refusal, string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.Now = k.clock()
	refusal, detail := k.lease.Accept(h, ttl)
	k.tell()
	return refusal, detail
}
