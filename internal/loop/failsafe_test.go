package loop

import (
	"errors"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/ha"
)

const ttl = 30 * time.Second

func circle(names ...string) *ha.Circle {
	c := &ha.Circle{}
	for _, name := range names {
		c.Members = append(c.Members, cluster.Member{Name: name})
	}
	return c
}

// asked is pg1, which has lost the store, asking a standby at that moment.
func asked(after time.Duration) ha.Heartbeat {
	return ha.Heartbeat{From: "pg1", Self: "pg2", Now: at(after), Failsafe: true, Postgres: cluster.Postgres{Dir: cluster.DirPresent, StandbySignal: true}}
}

// circled is a lease that was acquired at the epoch, and may ask pg2 and pg3.
func circled() *Lease {
	l := held()
	l.TTL = ttl
	l.Permit(at(time.Hour), circle("pg2", "pg3"))
	return l
}

func poll(t *testing.T, l *Lease, now time.Time) *Round {
	t.Helper()
	r, _ := l.Poll(now)
	if r == nil {
		t.Fatalf("%s after the lock was taken: nobody is asked", now.Sub(at(0)))
	}
	return r
}

func TestMembersAreAskedWhenTheStoreShouldHaveConfirmed(t *testing.T) {
	l := circled()
	if r, wait := l.Poll(at(5 * time.Second)); r != nil || wait != 6*time.Second {
		t.Errorf("before a renewal is due: have %v in %s, want nobody asked for 6 s", r, wait)
	}
	answer(l, Renew, at(10*time.Second), at(10*time.Second), dcs.Lock{Deadline: at(40 * time.Second)}, nil)
	if r, _ := l.Poll(at(12 * time.Second)); r != nil {
		t.Error("the store has confirmed the lock, and the members are asked")
	}
	answer(l, Renew, at(20*time.Second), at(21*time.Second), dcs.Lock{}, dcs.ErrUnavailable)
	r := poll(t, l, at(21*time.Second))
	if len(r.Members) != 2 || r.Limit != 2*time.Second {
		t.Errorf("have %v within %s, want both within 2 s", r.Members, r.Limit)
	}
	if r, wait := l.Poll(at(21 * time.Second)); r != nil || wait != 5*time.Second {
		t.Errorf("right after that: have %v in %s, want the next round in 5 s", r, wait)
	}
}

func TestPromisesMoveTheDeadline(t *testing.T) {
	l := circled()
	r := poll(t, l, at(20*time.Second))
	if !l.Agreed(r, at(20*time.Second), at(21*time.Second), ttl) {
		t.Fatal("all have promised, and nothing moves")
	}
	if s := l.State(); !s.Deadline.Equal(at(50*time.Second)) || !s.Agreed || !s.Held {
		t.Errorf("have %+v, want the deadline a ttl after the questions left", s)
	}
	if ask, limit, _ := l.Step(at(45 * time.Second)); ask != Renew || limit != 5*time.Second {
		t.Errorf("after the lock has ended in the store: have %d within %s, want it asked for all the same", ask, limit)
	}
	r = poll(t, l, at(46*time.Second))
	l.Agreed(r, at(46*time.Second), at(46*time.Second), 20*time.Second)
	if have := l.State().Deadline; !have.Equal(at(66 * time.Second)) {
		t.Errorf("a shorter promise: have the deadline %s, want 66s", have.Sub(at(0)))
	}
	answer(l, Renew, at(60*time.Second), at(60*time.Second), dcs.Lock{Deadline: at(90 * time.Second)}, nil)
	if s := l.State(); s.Agreed || !s.Deadline.Equal(at(90*time.Second)) {
		t.Errorf("the store is back: have %+v, want its deadline", s)
	}
}

// A right that has ended is not revived, whoever agrees later: somebody may lead by then (ha.md D-4).
func TestNothingElseMovesTheDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Lease)
		now     time.Duration
		promise time.Duration
	}{
		"somebody gave no promise":      {func(*Lease) {}, 21 * time.Second, 0},
		"the answers came late":         {func(*Lease) {}, 30 * time.Second, ttl},
		"the store refused meanwhile":   {func(l *Lease) { answer(l, Renew, at(20*time.Second), at(20*time.Second), dcs.Lock{}, dcs.ErrNotHeld) }, 21 * time.Second, ttl},
		"it was taken anew meanwhile":   {func(l *Lease) { reacquire(l) }, 21 * time.Second, ttl},
		"the loop permits it no longer": {func(l *Lease) { l.Permit(time.Time{}, nil) }, 21 * time.Second, ttl},
		"somebody has joined meanwhile": {func(l *Lease) { l.Permit(at(time.Hour), circle("pg2", "pg3", "pg4")) }, 21 * time.Second, ttl},
	} {
		l := circled()
		r := poll(t, l, at(20*time.Second))
		c.change(l)
		if l.Agreed(r, at(20*time.Second), at(c.now), c.promise) || l.State().Agreed {
			t.Errorf("%s: the deadline moved to %s", name, l.State().Deadline.Sub(at(0)))
		}
	}
}

func reacquire(l *Lease) {
	l.Order(Order{Request: Acquire, Done: func(error) {}})
	answer(l, Acquire, at(15*time.Second), at(20*time.Second), dcs.Lock{Deadline: at(45 * time.Second)}, nil)
}

func TestWhoJoinsHasPromisedNothing(t *testing.T) {
	l := circled()
	l.Agreed(poll(t, l, at(20*time.Second)), at(20*time.Second), at(21*time.Second), ttl)
	l.Permit(at(time.Hour), nil) // PostgreSQL did not answer for a moment
	l.Permit(at(time.Hour), circle("pg3"))
	if have := l.State().Deadline; !have.Equal(at(50 * time.Second)) {
		t.Errorf("a smaller circle: have the deadline %s, want 50s", have.Sub(at(0)))
	}
	l.Permit(at(time.Hour), circle("pg3", "pg4"))
	if have := l.State().Deadline; !have.Equal(at(30 * time.Second)) {
		t.Errorf("another member: have the deadline %s, want the store's, 30s", have.Sub(at(0)))
	}
}

func TestAPromiseKeepsUsFromTheLock(t *testing.T) {
	l := &Lease{Interval: time.Second, Retry: time.Second, TTL: ttl}
	if r, why := l.Accept(asked(0), ttl); r != "" {
		t.Fatalf("have %s (%s), want a promise", r, why)
	}
	var have error
	l.Order(Order{Request: Acquire, Done: func(err error) { have = err }})
	if ask, _, _ := l.Step(at(29999 * time.Millisecond)); ask != NoRequest || !errors.Is(have, ErrPromised) {
		t.Errorf("have request %d and %v, want none and ErrPromised", ask, have)
	}
	l.Order(Order{Request: Acquire, Done: func(error) {}})
	if ask, _, _ := l.Step(at(30 * time.Second)); ask != Acquire {
		t.Errorf("when it is over: have request %d, want the lock asked for", ask)
	}
}

// ha.md G19: from the moment in which the lock is asked for.
func TestNoPromiseWhileTheLockIsAskedFor(t *testing.T) {
	l := &Lease{Interval: time.Second, Retry: time.Second, TTL: ttl}
	l.Order(Order{Request: Acquire, Done: func(error) {}})
	l.Step(at(0))
	if r, why := l.Accept(asked(0), ttl); r != ha.MayLead || !l.State().Bound.IsZero() {
		t.Errorf("while the lock is asked for: have %q (%s) and %+v, want %s and no bond", r, why, l.State(), ha.MayLead)
	}
	answer(l, Acquire, at(0), at(time.Second), dcs.Lock{Deadline: at(ttl)}, nil)
	if r, why := l.Accept(asked(2*time.Second), ttl); r != ha.MayLead {
		t.Errorf("while the lock is ours: have %q (%s), want %s", r, why, ha.MayLead)
	}
	if r, why := l.Accept(asked(ttl), ttl); r != "" {
		t.Errorf("after our lock has run out: have %s (%s), want a promise", r, why)
	}
}

// Who could lead by promises that were given before says so, for as long as one of them may be good.
func TestWhoCountsOnPromises(t *testing.T) {
	for name, c := range map[string]struct {
		change func(l *Lease)
		now    time.Duration
		want   bool
	}{
		"nobody was asked":                      {func(*Lease) {}, 5 * time.Second, true},
		"all were asked":                        {func(l *Lease) { poll(t, l, at(15*time.Second)) }, 15 * time.Second, false},
		"... almost a ttl ago":                  {func(l *Lease) { poll(t, l, at(15*time.Second)) }, 15*time.Second + ttl - 1, false},
		"... a ttl ago":                         {func(l *Lease) { poll(t, l, at(15*time.Second)) }, 15*time.Second + ttl, true},
		"... and the lock is not ours any more": {func(l *Lease) { poll(t, l, at(15*time.Second)); l.held = false; l.forget() }, 20 * time.Second, false},
		"what was promised is good for longer": {func(l *Lease) {
			l.TTL = 2 * ttl
			l.Agreed(poll(t, l, at(15*time.Second)), at(15*time.Second), at(15*time.Second), 2*ttl)
			l.TTL = ttl
		}, 16*time.Second + ttl, false},
		"an agent that has just begun":     {func(l *Lease) { l.Began = at(0) }, ttl - 1, false},
		"an agent that begins":             {func(l *Lease) { l.Began = time.Time{} }, 5 * time.Second, false},
		"an agent that began a ttl before": {func(l *Lease) { l.Began = at(0) }, ttl, true},
	} {
		l := circled()
		l.Began = at(-ttl)
		c.change(l)
		if have := l.Waives(at(c.now)); have != c.want {
			t.Errorf("%s: counts on nobody: have %t, want %t", name, have, c.want)
		}
	}
}
