package loop

import (
	"errors"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
)

var epoch = time.Unix(1000, 0)

func at(d time.Duration) time.Time { return epoch.Add(d) }

// answer delivers the store's answer and says whether the loop must look.
func answer(l *Lease, asked Request, sent, now time.Time, lock dcs.Lock, err error) bool {
	deliver, changed := l.Answered(asked, sent, now, lock, err)
	deliver()
	return changed
}

// held is a lease that was acquired at the epoch.
func held() *Lease {
	l := &Lease{Interval: 10 * time.Second, Retry: 10 * time.Second, Permitted: at(time.Hour)}
	l.Order(Order{Request: Acquire, Done: func(error) {}})
	answer(l, Acquire, at(0), at(time.Second), dcs.Lock{Deadline: at(30 * time.Second)}, nil)
	return l
}

func TestLeaseRenewsFromTheMomentTheRequestLeft(t *testing.T) {
	l := held()
	if op, _, wait := l.Step(at(2 * time.Second)); op != NoRequest || wait != 8*time.Second {
		t.Errorf("have op %d in %s, want the renewal 10 s after the request left, in 8 s", op, wait)
	}
	if op, limit, _ := l.Step(at(10 * time.Second)); op != Renew || limit != 10*time.Second {
		t.Errorf("have op %d with %s, want a renewal with retry_timeout", op, limit)
	}
	if op, limit, _ := l.Step(at(25 * time.Second)); op != Renew || limit != 5*time.Second {
		t.Errorf("have op %d with %s, want a renewal that ends with the lock", op, limit)
	}
}

func TestLeaseStopsRenewing(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Lease)
		now    time.Time
	}{
		{"the loop's permission has ended", func(l *Lease) { l.Permitted = at(9 * time.Second) }, at(11 * time.Second)},
		{"the lock has run out", func(*Lease) {}, at(30 * time.Second)},
		{"the store refused", func(l *Lease) {
			answer(l, Renew, at(10*time.Second), at(11*time.Second), dcs.Lock{}, dcs.ErrNotHeld)
		}, at(12 * time.Second)},
	}
	for _, c := range cases {
		l := held()
		c.change(l)
		if op, _, _ := l.Step(c.now); op != NoRequest {
			t.Errorf("%s: have op %d, want none", c.name, op)
		}
	}
}

func TestLeaseAfterAnUnknownOutcomeKeepsTheOldDeadline(t *testing.T) {
	l := held()
	if changed := answer(l, Renew, at(10*time.Second), at(20*time.Second), dcs.Lock{}, dcs.ErrUnavailable); !changed {
		t.Error("the loop was not told that the store does not answer")
	}
	s := l.State()
	if !s.Held || s.Refused || !s.Deadline.Equal(at(30*time.Second)) {
		t.Errorf("have %+v, want the lock held to its old deadline", s)
	}
	if op, _, wait := l.Step(at(20 * time.Second)); op != NoRequest || wait > time.Second {
		t.Errorf("have op %d in %s, want another try within a second", op, wait)
	}
}

func TestLeaseOrdersComeBeforeRenewals(t *testing.T) {
	l := held()
	var got error = errors.New("not called")
	l.Order(Order{Request: Release, Done: func(err error) { got = err }})
	if op, _, _ := l.Step(at(15 * time.Second)); op != Release {
		t.Fatalf("have op %d, want the release although a renewal is due", op)
	}
	answer(l, Release, at(15*time.Second), at(16*time.Second), dcs.Lock{}, dcs.ErrNotHeld)
	if got != nil || l.State().Held {
		t.Errorf("have %v and %+v, want a lock that is gone: it is not ours either way", got, l.State())
	}
}

func TestLeaseAfterAReleaseOfUnknownOutcomeIsNotCountedOn(t *testing.T) {
	l := held()
	var got error
	l.Order(Order{Request: Release, Done: func(err error) { got = err }})
	answer(l, Release, at(1*time.Second), at(2*time.Second), dcs.Lock{}, dcs.ErrUnavailable)
	if !errors.Is(got, dcs.ErrUnavailable) || l.State().Held {
		t.Errorf("have %v and %+v, want the error, and a lock that has to be acquired anew", got, l.State())
	}
}

func TestLeaseOrdersEndInTime(t *testing.T) {
	l := &Lease{Interval: 10 * time.Second, Retry: 10 * time.Second}
	l.Order(Order{Request: Acquire, Until: at(3 * time.Second), Done: func(error) {}})
	if op, limit, _ := l.Step(at(0)); op != Acquire || limit != 3*time.Second {
		t.Errorf("have op %d with %s, want an acquisition that ends when it must", op, limit)
	}
}

// A request with a shorter ttl may arrive although its answer is lost: from when it leaves the lock is counted on for no longer than that.
func TestAShorterTTLCountsFromTheRequest(t *testing.T) {
	l := held()
	l.TTL = 30 * time.Second
	answer(l, Renew, at(10*time.Second), at(10*time.Second), dcs.Lock{Deadline: at(40 * time.Second)}, nil)
	l.TTL = 5 * time.Second
	l.Step(at(12 * time.Second))
	if have := l.State().Deadline; !have.Equal(at(40 * time.Second)) {
		t.Errorf("before the request: have the deadline %s, want 40s", have.Sub(at(0)))
	}
	l.TTL = 20 * time.Second // what it was in between may be what the store is told
	if ask, _, _ := l.Step(at(20 * time.Second)); ask != Renew {
		t.Fatalf("have request %d, want a renewal", ask)
	}
	answer(l, Renew, at(20*time.Second), at(21*time.Second), dcs.Lock{}, dcs.ErrUnavailable)
	if have := l.State().Deadline; !have.Equal(at(25 * time.Second)) {
		t.Errorf("its answer is lost: have the deadline %s, want 25s", have.Sub(at(0)))
	}
	answer(l, Renew, at(22*time.Second), at(22*time.Second), dcs.Lock{Deadline: at(42 * time.Second)}, nil)
	if have := l.State().Deadline; !have.Equal(at(42 * time.Second)) {
		t.Errorf("confirmed: have the deadline %s, want 42s", have.Sub(at(0)))
	}
}
