package agent

import (
	"context"
	"sync"
	"time"
)

// routers are proxies that send clients here. They are told before PostgreSQL stops on purpose, so that no client is sent into a server that
// goes down, and those that are connecting get through first.
type routers struct {
	mu       sync.Mutex
	count    int
	stopping bool
	told     chan struct{} // closed when a stop begins
	gone     chan struct{} // closed when the last one has left; nil: nobody waits for that
}

// routerPatience is how long a stop waits for them.
const routerPatience = time.Second

// enter counts one in. told is closed when it is to send nobody here any more; ok is false when that is so already.
func (r *routers) enter() (told <-chan struct{}, leave func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopping {
		return nil, nil, false
	}
	if r.told == nil {
		r.told = make(chan struct{})
	}
	r.count++
	return r.told, sync.OnceFunc(r.leave), true
}

func (r *routers) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count--; r.count == 0 && r.gone != nil {
		close(r.gone)
		r.gone = nil
	}
}

// tell tells all of them, and waits until they have left; it returns how many have not.
func (r *routers) tell(ctx context.Context) (left int) {
	r.mu.Lock()
	r.stopping = true
	if r.told != nil {
		close(r.told)
		r.told = nil
	}
	if r.count == 0 {
		r.mu.Unlock()
		return 0
	}
	if r.gone == nil {
		r.gone = make(chan struct{})
	}
	gone := r.gone
	r.mu.Unlock()
	limit := time.NewTimer(routerPatience)
	defer limit.Stop()
	select {
	case <-gone:
		return 0
	case <-limit.C:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// over says that the stop is over: what PostgreSQL is now says the rest.
func (r *routers) over() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = false
}

// Route counts in a proxy that sends clients here.
func (a *Agent) Route() (told <-chan struct{}, leave func(), ok bool) { return a.routers.enter() }

// tellRouters is done right before PostgreSQL is stopped on purpose.
func (a *Agent) tellRouters(ctx context.Context) {
	if left := a.routers.tell(ctx); left > 0 {
		a.log.Warn("proxies have not confirmed in time that they send nobody here any more: stop all the same", "proxies", left)
	}
}
