package loop

import (
	"errors"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/ha"
)

// Lease is the lease keeper's mind: when to renew, acquire or release the leader lock. The zero value holds nothing.
//
// All requests for the lock go through it, one at a time. A renewal that is under way while the lock is
// being released could put the key back; here that cannot happen.
type Lease struct {
	Interval  time.Duration // between two renewals
	Retry     time.Duration // budget of one request
	Permitted time.Time     // the loop answers for this member until then: no renewal later

	Began  time.Time // when this agent did, which knows of nothing before; zero: not yet
	TTL    time.Duration
	Circle *ha.Circle // who has to agree that the deadline moves without the store; nil: it does not. Set by Permit

	held     bool
	refused  bool
	lock     dcs.Lock
	next     time.Time // when to renew
	orders   []Order
	failures int
	asking   Request       // what the store is asked at the moment
	shortest time.Duration // of the ttls in force since the lock was confirmed last

	holds     int        // how often the lock became ours
	confirmed time.Time  // when the request left that the store confirmed last
	agreed    time.Time  // the deadline by what all members have promised ...
	promised  *ha.Circle // ... and who they were
	asked     time.Time  // when they were asked last; zero: they were not
	again     time.Time  // when to ask them again
	bound     time.Time  // until when we have promised not to take the lock ...
	told      ha.Told    // ... and what we were told with that
}

// Request is what to ask the store.
type Request int

const (
	NoRequest Request = iota
	Acquire
	Renew
	Release
)

// Order is what the loop wants; Done gets the outcome.
type Order struct {
	Request Request   // Acquire or Release
	Until   time.Time // the outcome must be known by then; zero: within Retry
	Done    func(error)
}

// Lock is our hold on the lock, as the store's methods take it.
func (l *Lease) Lock() dcs.Lock { return l.lock }

// State is what the loop may know of the lock.
func (l *Lease) State() ha.Lock {
	return ha.Lock{Held: l.held, Refused: l.refused, Deadline: l.deadline(), Agreed: l.agreed.After(l.lock.Deadline), Asked: l.asked, Bound: l.bound, Told: l.told}
}

// deadline is until when nobody else leads: by the store, or by what all members have promised.
func (l *Lease) deadline() time.Time {
	if l.agreed.After(l.lock.Deadline) {
		return l.agreed
	}
	return l.lock.Deadline
}

// Order queues an acquisition or a release.
func (l *Lease) Order(o Order) { l.orders = append(l.orders, o) }

// Step says what to ask the store now, under which time limit, and when to look again if there is nothing to
// do. A renewal gets what is left of the lock, at most Retry.
func (l *Lease) Step(now time.Time) (ask Request, limit, wait time.Duration) {
	if l.shortest == 0 || l.TTL < l.shortest {
		l.shortest = l.TTL
	}
	for len(l.orders) > 0 && l.orders[0].Request == Acquire && now.Before(l.bound) {
		done := l.orders[0].Done
		l.orders = l.orders[1:]
		done(ErrPromised)
	}
	if len(l.orders) > 0 {
		o := l.orders[0]
		l.asking = o.Request
		if limit = l.Retry; !o.Until.IsZero() {
			limit = min(limit, max(o.Until.Sub(now), 10*time.Millisecond))
		}
		return o.Request, limit, 0
	}
	if !l.held || !now.Before(l.Permitted) || !now.Before(l.deadline()) {
		return NoRequest, 0, l.Interval
	}
	if wait = l.next.Sub(now); wait > 0 {
		return NoRequest, 0, min(wait, l.Permitted.Sub(now))
	}
	l.asking = Renew
	l.shorten(now)
	return Renew, min(l.Retry, l.deadline().Sub(now)), 0
}

// shorten counts with a lock that ends as early as this request may make it end: with a shorter ttl than before it does that also when its answer is lost.
func (l *Lease) shorten(now time.Time) {
	if end := now.Add(l.shortest); l.shortest > 0 && end.Before(l.lock.Deadline) {
		l.lock.Deadline = end
	}
}

// Answered takes the store's answer to a request that left at sent. deliver tells the outcome to who ordered it, and is to be
// called once State is visible to others; changed tells that the loop must look.
func (l *Lease) Answered(asked Request, sent, now time.Time, lock dcs.Lock, err error) (deliver func(), changed bool) {
	l.asking = NoRequest
	switch asked {
	case Acquire:
		if err == nil {
			l.confirm(sent)
			l.held, l.refused, l.lock, l.failures = true, false, lock, 0
			l.next, l.shortest = sent.Add(l.Interval), l.TTL
		}
		changed = err == nil // a refusal is the asker's news only: to wake the loop for it is to try again at once, for ever
	case Release:
		// Also when nobody knows whether it happened: the request may arrive late, and take the lock from under a primary that counts on it.
		// Whoever wants to lead on acquires it anew.
		l.held, l.refused = false, false
		l.forget()
		if errors.Is(err, dcs.ErrNotHeld) {
			err = nil
		}
		changed = true
	case Renew:
		return func() {}, l.renewed(sent, now, lock, err)
	}
	done := l.orders[0].Done
	l.orders = l.orders[1:]
	return func() { done(err) }, changed
}

func (l *Lease) renewed(sent, now time.Time, lock dcs.Lock, err error) (changed bool) {
	switch {
	case err == nil:
		l.lock, l.failures = lock, 0
		l.next = sent.Add(l.Interval)
		l.confirmed, l.shortest = sent, l.TTL
		return false
	case errors.Is(err, dcs.ErrNotHeld), errors.Is(err, dcs.ErrHeld):
		l.held, l.refused = false, true
		l.forget()
		return true
	default: // nobody knows: ask again soon, for as long as the lock lives
		l.failures++
		l.next = now.Add(min(time.Second, 50*time.Millisecond<<min(l.failures, 5)))
		return l.failures == 1
	}
}
