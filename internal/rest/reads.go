package rest

import (
	"context"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// reads makes one read of the store serve all requests that wait for one, so that a crowd of dashboards costs the store two at a time: one
// under way, and one for all who came meanwhile. A request gets a read that began after it came, so that what its sender did before shows in it.
type reads struct {
	read func(context.Context) (*cluster.Snapshot, error)

	mu    sync.Mutex
	next  *oneRead // has not begun
	under *oneRead // the last that has
}

type oneRead struct {
	done     chan struct{}
	snapshot *cluster.Snapshot
	err      error
}

// get waits until ctx ends. A read has limit, whoever is still there to see its end.
func (r *reads) get(ctx context.Context, limit time.Duration) (*cluster.Snapshot, error) {
	r.mu.Lock()
	one, mine := r.next, r.next == nil
	if mine {
		one = &oneRead{done: make(chan struct{})}
		r.next = one
	}
	before := r.under
	r.mu.Unlock()
	if !mine {
		select {
		case <-one.done:
			return one.snapshot, one.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer close(one.done)
	if before != nil {
		<-before.done // within its limit
	}
	r.mu.Lock()
	r.next, r.under = nil, one
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	one.snapshot, one.err = r.read(ctx)
	return one.snapshot, one.err
}
