package memory

import (
	"context"
	"time"
)

// Call is one use of a store, as a fault hook sees it. Op is the name of the method in lower case; Key is
// relative and empty where the method has none.
type Call struct {
	Member, Op, Key string
}

// Loss says what gets lost of a call. The caller is told ErrUnavailable in each case.
type Loss int

const (
	Nothing Loss = iota
	Refuse       // the server cannot be reached; known at once
	Request      // the request never arrives
	Answer       // the server does it, and the answer never arrives
)

// Fault is what happens to one call. A request whose caller gave up during Before still arrives, unless it is lost.
type Fault struct {
	Before, After time.Duration // on the way there and back
	Lose          Loss
}

// Inject makes every later call ask hook for its fate; nil ends all faults. A Watch that waits asks again.
func (s *Server) Inject(hook func(Call) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inject = hook
	s.wake()
}

func (s *Server) fate(c Call) Fault {
	s.mu.Lock()
	hook := s.inject
	s.mu.Unlock()
	if hook == nil {
		return Fault{}
	}
	return hook(c)
}

// wait returns false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
