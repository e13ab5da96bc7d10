package loop

import (
	"errors"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// ErrPromised: a leader that has lost the store counts on us not to take the lock.
var ErrPromised = errors.New("a leader without the store was promised that this member does not take the lock yet")

// Round is one time that all members are asked to let us lead on without the store (ha.md 2.18, ADR 18).
type Round struct {
	Members []cluster.Member
	Circle  *ha.Circle
	Limit   time.Duration // for all answers
	hold    int
}

// Permit takes in what the loop answers for. Who joins the circle has promised nothing, so what the others did counts no longer.
func (l *Lease) Permit(until time.Time, c *ha.Circle) {
	if !covers(l.promised, c) {
		l.agreed = time.Time{}
	}
	l.Permitted, l.Circle = until, c
}

// covers says whether everybody in c was in asked.
func covers(asked, c *ha.Circle) bool {
	if c == nil {
		return true
	}
	for _, m := range c.Members {
		if asked == nil || !asked.Lists(m.Name) {
			return false
		}
	}
	return true
}

// Poll says whom to ask now to let us lead on; nil: nobody yet, look again after wait. It begins when the store should have confirmed
// the lock a moment ago, whatever the reason, and goes on more often than a promise could be missed.
func (l *Lease) Poll(now time.Time) (r *Round, wait time.Duration) {
	often := l.TTL / 6
	if l.Circle == nil || !l.held || !now.Before(l.Permitted) || !now.Before(l.deadline()) {
		return nil, max(min(l.Interval, l.TTL/10)/2, 10*time.Millisecond)
	}
	due := l.confirmed.Add(l.Interval + min(time.Second, l.TTL/10))
	if l.again.After(due) {
		due = l.again
	}
	if wait = due.Sub(now); wait > 0 {
		return nil, min(wait, l.Interval)
	}
	l.asked, l.again = now, now.Add(often)
	return &Round{Members: l.Circle.Members, Circle: l.Circle, Limit: min(2*time.Second, often, l.deadline().Sub(now)), hold: l.holds}, 0
}

// Agreed takes in how a round that left at sent ended: promise is the shortest that was given; 0: somebody refused or did not answer. The deadline
// moves to a promise, a ttl at most, after the questions left: nobody can have begun to count earlier.
func (l *Lease) Agreed(r *Round, sent, now time.Time, promise time.Duration) (moved bool) {
	switch {
	case promise <= 0:
		if soon := now.Add(min(500*time.Millisecond, l.TTL/20)); soon.Before(l.again) {
			l.again = soon // while there is time
		}
		return false
	case !l.held || r.hold != l.holds || l.Circle == nil || !covers(r.Circle, l.Circle) || !now.Before(l.deadline()):
		return false
	}
	until := sent.Add(min(promise, l.TTL))
	if !until.After(l.deadline()) {
		return false
	}
	l.agreed, l.promised = until, r.Circle
	return true
}

// Accept promises a leader that has lost the store not to take the lock for ttl, unless something is against it.
func (l *Lease) Accept(h ha.Heartbeat, ttl time.Duration) (ha.Refusal, string) {
	h.Lock, h.Asking = l.State(), l.asking == Acquire || l.asking == Renew
	refusal, detail := h.Refuse()
	if refusal != "" {
		return refusal, detail
	}
	if until := h.Now.Add(ttl); until.After(l.bound) {
		l.bound = until
		l.told = ha.Told{At: h.Now, Slots: h.Slots}
	}
	return "", ""
}

// Waives says whether we count on no promise that was given before now: nobody was asked for a ttl, also not by an agent before this one.
func (l *Lease) Waives(now time.Time) bool {
	over := func(asked time.Time) bool { return !now.Before(asked.Add(l.TTL)) }
	return !l.Began.IsZero() && over(l.Began) && over(l.asked) && !now.Before(l.agreed)
}

// confirm notes that the lock has become ours.
func (l *Lease) confirm(sent time.Time) {
	l.holds++
	l.confirmed, l.agreed, l.again = sent, time.Time{}, time.Time{}
}

// forget ends what was agreed for a lock that is not ours any more.
func (l *Lease) forget() { l.agreed, l.again = time.Time{}, time.Time{} }
