package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
)

// target is a leader and one hold of it on the lock. A leader that has lost the lock and got it back is another target.
type target struct {
	member  string
	address string // host:port of its PostgreSQL
	api     string
	hold    string // the session or revision of the leader key
	writes  bool   // its member key says that its PostgreSQL runs as a primary
}

// same says whether sessions with t are good for u as well: an agent that was restarted takes its lock again under another lease, and
// its PostgreSQL has not noticed. Had somebody else led in between, PostgreSQL would have ended them itself.
func (t target) same(u target) bool { return t.member == u.member && t.address == u.address }

// is compares what a change of which ends a route.
func (t target) is(u target) bool { return t.same(u) && t.api == u.api && t.hold == u.hold }

// route says where clients of the primary go now, and knows who went there.
type route struct {
	clock dcs.Clock

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when something below changes
	to        target        // member empty: nobody
	life      context.Context
	open      bool      // it has said that it can be written to
	away      time.Time // since when the store is away; zero: it is there
	confirmed time.Time // when it was certain last that the lock is held
	doubts    chan struct{}
	sessions  map[*session]struct{}
	starting  int           // of them: whose clients have not got through yet
	cuts      atomic.Int64  // sessions that were closed because the leader changed
	calmed    chan struct{} // closed when starting is 0 again; nil: nobody waits for it
}

func newRoute(clock dcs.Clock) *route {
	return &route{clock: clock, changed: make(chan struct{}), doubts: make(chan struct{}, 1), sessions: map[*session]struct{}{}}
}

// tell wakes all who wait. The caller holds the lock.
func (r *route) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// lead makes t the leader, until life ends; the zero target: nobody. Sessions with another one are cut.
func (r *route) lead(t target, life context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !t.same(r.to) {
		for s := range r.sessions {
			s.cut()
			r.cuts.Add(1)
		}
	}
	r.to, r.life, r.open = t, life, false
	r.tell()
}

// update notes what the member key says now.
func (r *route) update(t target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to.writes = t.writes
}

// verdict is what a leader said when it was asked whether it can be written to.
type verdict int

const (
	silent verdict = iota // nothing: its agent is away
	no
	claims // yes, as a Patroni does that holds the lock and may still be on its way
	ready  // yes
)

// answer notes a verdict of t; asked is from before the request left. Where the agent does not say it, the member key does.
func (r *route) answer(t target, v verdict, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.to.is(t) {
		return
	}
	switch v {
	case silent:
		r.open = r.open || r.to.writes
	case no:
		r.open = false
	case claims:
		r.open = r.to.writes
	case ready:
		r.open = true
	}
	if v >= claims && asked.After(r.confirmed) {
		r.confirmed = asked
	}
	r.tell()
}

// shut holds new clients back.
func (r *route) shut(t target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to.is(t) {
		r.open = false
		r.tell()
	}
}

// confirm notes that the store was read: the request left at that moment.
func (r *route) confirm(asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.confirmed, r.away = asked, time.Time{}
	r.tell()
}

// lose notes that the store is away. It returns how long the lock is certainly nobody else's yet.
func (r *route) lose(ttl time.Duration) (left time.Duration, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	if first = r.away.IsZero(); first {
		r.away = now
		r.tell()
	}
	return r.confirmed.Add(ttl).Sub(now), first
}

// usable says whether new clients may go to the leader. The caller holds the lock.
func (r *route) usable() bool {
	return r.to.member != "" && r.open && (r.away.IsZero() || r.confirmed.After(r.away))
}

// await waits for a leader that clients may go to. life ends with its leadership.
func (r *route) await(ctx context.Context) (t target, life context.Context, ok bool) {
	for {
		r.mu.Lock()
		t, life, ok = r.to, r.life, r.usable()
		changed := r.changed
		r.mu.Unlock()
		if ok {
			return t, life, true
		}
		select {
		case <-ctx.Done():
			return target{}, nil, false
		case <-changed:
		}
	}
}

// join counts s among the sessions, unless t is not where clients go any more.
func (r *route) join(t target, s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.usable() || !r.to.is(t) {
		return false
	}
	s.started = r.settled
	s.starting = true
	r.starting++
	r.sessions[s] = struct{}{}
	return true
}

func (r *route) part(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
	r.settle(s)
}

// settled notes that the client of a session has got through, or never will.
func (r *route) settled(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle(s)
}

func (r *route) settle(s *session) {
	if !s.starting {
		return
	}
	s.starting = false
	if r.starting--; r.starting == 0 && r.calmed != nil {
		close(r.calmed)
		r.calmed = nil
	}
}

// calm waits until no client is in the middle of connecting, and returns how many are.
func (r *route) calm(ctx context.Context) (left int) {
	r.mu.Lock()
	if r.starting == 0 {
		r.mu.Unlock()
		return 0
	}
	if r.calmed == nil {
		r.calmed = make(chan struct{})
	}
	calmed := r.calmed
	r.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-calmed:
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.starting
}

// doubt asks for another look at t: it did not take a connection.
func (r *route) doubt(t target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.to.is(t) {
		return
	}
	select {
	case r.doubts <- struct{}{}:
	default:
	}
}

// state is a copy for those who look.
type state struct {
	to       target
	usable   bool
	away     bool
	sessions int

	confirmed time.Time
}

func (r *route) state() state {
	s, _ := r.watch()
	return s
}

// watch is state, and what is closed when that changes.
func (r *route) watch() (state, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return state{to: r.to, usable: r.usable(), away: !r.away.IsZero(), sessions: len(r.sessions), confirmed: r.confirmed}, r.changed
}
