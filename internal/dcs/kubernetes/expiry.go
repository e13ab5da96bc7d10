package kubernetes

import (
	"context"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// lockView is the lock as we see it.
type lockView struct {
	record
	seen     time.Time        // when we saw the record change last
	revision cluster.Revision // when we saw its holder change last
	ended    bool             // nobody renewed it for its ttl, and the API server has confirmed that
}

// observe takes a record of the lock in; any change of it begins its ttl anew.
func (v *view) observe(r record, at cluster.Revision) {
	l := &v.lock
	if r == l.record && !l.seen.IsZero() {
		return
	}
	held := v.holder()
	if r.holder != l.holder || r.acquired != l.acquired {
		l.revision = at
	}
	l.record, l.seen, l.ended = r, v.config.Clock(), false
	if v.holder() != held {
		v.News = v.revision
	}
	v.arm()
}

// holder is who holds the lock; empty: nobody.
func (v *view) holder() string {
	if v.lock.ended {
		return ""
	}
	return v.lock.holder
}

// left is how long the lock lives without a renewal; negative: it should have ended.
func (v *view) left() time.Duration {
	ttl, _, _ := v.config.Timing()
	return v.lock.seen.Add(v.lock.lasts(ttl)).Sub(v.config.Clock())
}

// arm sets the timer for the end of the lock.
func (v *view) arm() {
	if v.lock.holder != "" && !v.Closed {
		v.expiry.Reset(max(v.left(), 0) + time.Millisecond)
	}
}

// confirm ends the lock if it had run out already when the API server was asked, and what it answered is in.
func (v *view) confirm(asked time.Time) {
	ttl, _, _ := v.config.Timing()
	if l := &v.lock; l.holder != "" && !l.ended && asked.After(l.seen.Add(l.lasts(ttl))) {
		l.ended = true
		v.revision++
		v.News, v.built = v.revision, nil
	}
}

// expire asks the API server about a lock that seems to have ended. When it does not answer, our view is broken and not the lock.
func (s *Store) expire(ctx context.Context) {
	v := s.view
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.expiry.C:
		}
		v.Lock()
		left, over := v.left(), v.lock.holder == "" || v.lock.ended
		if !over && left > 0 { // the machine slept, or the lock was renewed
			v.arm()
		}
		v.Unlock()
		if over || left > 0 {
			continue
		}
		limited, cancel := s.client.limited(ctx)
		err := s.fetch(limited, s.config.lockID())
		cancel()
		v.Lock()
		if err != nil {
			v.distrust()
		}
		if !v.lock.ended && v.lock.holder != "" {
			v.expiry.Reset(max(v.left(), time.Second))
		}
		v.Unlock()
	}
}
