package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Acquire writes our record over none, over one that has ended, or over our own.
func (s *Store) Acquire(ctx context.Context, holder string, ttl time.Duration) (dcs.Lock, error) {
	if holder != s.config.Name || holder == "" {
		return dcs.Lock{}, fmt.Errorf("acquire leader lock for %s: this store was opened for %s: a bug, nothing was done", holder, s.config.Name)
	}
	s.mu.Lock()
	s.ttl = ttl
	s.mu.Unlock()
	ctx, cancel := s.client.limited(ctx)
	defer cancel()
	s.mu.Lock()
	checked, found := s.checked, s.found
	s.mu.Unlock()
	// Who has looked before need not do so again where somebody has led. A layout without a leader so far is begun only while no other
	// has ever had one.
	if used := s.config.recordOf(s.view.get(s.config.lockID())).acquired != ""; !checked && !(found && used) {
		if err := s.alone(ctx); err != nil {
			return dcs.Lock{}, fmt.Errorf("acquire leader lock: %w", err)
		}
	}
	before := record{}
	lock, err := s.hold(ctx, "acquire", func(r record, ended bool) (record, error) {
		before = r
		if now := s.config.stamp(time.Now()); r.holder == "" || r.holder == s.config.Name || ended {
			return r.taken(s.config.Name, ttl, now), nil
		}
		return record{}, dcs.ErrHeld
	})
	if err != nil || checked {
		return lock, err
	}
	if err := s.alone(ctx); err != nil {
		return dcs.Lock{}, fmt.Errorf("acquire leader lock: %w", errors.Join(err, s.retreat(ctx, lock, before == record{})))
	}
	s.mu.Lock()
	s.checked = true
	s.mu.Unlock()
	return lock, nil
}

// retreat gives back what should not have been acquired. Where nobody led before, nothing may look as if somebody had.
func (s *Store) retreat(ctx context.Context, lock dcs.Lock, wasNew bool) error {
	if !wasNew {
		return s.Release(ctx, lock)
	}
	where := s.config.lockID()
	now := s.view.get(where)
	if now == nil || s.config.recordOf(now).session() != lock.Session {
		return nil
	}
	ch := s.config.releaseChange("")
	if s.config.Layout == Lease {
		ch.spec = map[string]any{"holderIdentity": nil, "acquireTime": nil, "renewTime": nil}
	} else {
		for _, name := range []string{"ttl", "renewTime", "acquireTime", "transitions"} {
			ch.annotations[name] = nil
		}
	}
	_, err := s.change(ctx, where, now, ch)
	return err
}

// Renew writes the record with a new time. It is ours while it bears our name and our time of acquisition: a process of the
// same name that came after us has written another one. A lock that is free is put again.
func (s *Store) Renew(ctx context.Context, held dcs.Lock) (dcs.Lock, error) {
	if held.Holder != s.config.Name || held.Holder == "" {
		return dcs.Lock{}, fmt.Errorf("renew leader lock of %s as %s: %w", held.Holder, s.config.Name, dcs.ErrNotHeld)
	}
	s.mu.Lock()
	ttl := s.ttl
	s.mu.Unlock()
	if ttl == 0 {
		ttl, _, _ = s.config.Timing()
	}
	return s.hold(ctx, "renew", func(r record, _ bool) (record, error) {
		now := s.config.stamp(time.Now())
		switch {
		case r.holder == s.config.Name && r.session() == held.Session:
			return r.prolonged(ttl, now), nil
		case r.holder == "":
			return r.taken(s.config.Name, ttl, now), nil
		default:
			return record{}, dcs.ErrNotHeld
		}
	}, http.StatusForbidden) // while the API server loads its rules it refuses what it allows (dcs.md section 6, pitfall 4)
}

// hold writes what next makes of the lock's record. A refusal by next counts only for a record that was read after the
// call began.
func (s *Store) hold(ctx context.Context, what string, next func(r record, ended bool) (record, error), also ...int) (dcs.Lock, error) {
	ctx, cancel := s.client.limited(ctx)
	defer cancel()
	where := s.config.lockID()
	for try, fetched := 0, false; ; try++ {
		s.view.Lock()
		now, pod, ended := s.view.known[where.kind][where.name], s.view.known[pods][s.config.Name], s.view.lock.ended
		s.view.Unlock()
		if to := markOf(now).to(); to != "" {
			return dcs.Lock{}, fmt.Errorf("%s leader lock %s: %w to %s", what, where.name, errMoved, to)
		}
		have := s.config.recordOf(now)
		want, refused := next(have, ended)
		if refused != nil && fetched {
			return dcs.Lock{}, fmt.Errorf("%s leader lock %s: held by %s since %s, expected %s: %w", what, where.name, have.holder, have.acquired, s.config.Name, refused)
		}
		err := errStale
		if refused == nil {
			sent := s.config.Clock()
			var subsets []subset
			if now != nil {
				subsets = now.Subsets
			}
			ch := s.config.lockChange(want, "", s.config.subsetsFor(subsets, pod))
			if markOf(now).from() != "" { // we lead here: nothing is in preparation any more
				ch.annotations = merged(ch.annotations, fields{markLayout: nil})
			}
			if _, err = s.change(ctx, where, now, ch, also...); err == nil {
				s.lead(want.session())
				return dcs.Lock{Holder: want.holder, Session: want.session(), Deadline: sent.Add(want.lasts(0))}, nil
			}
		}
		if try == tries || !errors.Is(err, errStale) && !settles(err) {
			return dcs.Lock{}, fmt.Errorf("%s leader lock %s: %w", what, where.name, lockClass(what, err))
		}
		if err := s.fetch(ctx, where); err != nil {
			return dcs.Lock{}, fmt.Errorf("%s leader lock %s: %w", what, where.name, lockClass(what, err))
		}
		fetched = true
	}
}

// lead notes the hold that this process has, for whoever labels our pod.
func (s *Store) lead(session string) {
	s.mu.Lock()
	s.session = session
	s.mu.Unlock()
	s.view.Lock()
	s.view.Tell()
	s.view.Unlock()
}

// leading is whether this process holds the lock in our view. The caller holds the view's mu.
func (s *Store) leading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.holder() == s.config.Name && s.view.lock.session() == s.session
}

// errStale: the view may be behind, and is looked at again after a read.
var errStale = errors.New("the record may be old")

// lockClass: who may not renew now is not who has lost the lock.
func lockClass(what string, err error) error {
	if what == "renew" {
		return fmt.Errorf("%w: %w", dcs.ErrUnavailable, err)
	}
	return class(err)
}

// handsOver is whether a failover request names another member: that one takes the lock, and replaces the address, in a
// moment. kube-proxy applies one change a second (minSyncPeriod): if ours went before, the new address would wait for that.
func (s *Store) handsOver() bool {
	where, _ := s.config.place(cluster.KeyFailover)
	request := s.view.get(where)
	if request == nil {
		return false
	}
	to := request.Metadata.Annotations["member"]
	return to != "" && to != s.config.Name
}

// Release removes our name, and our address from the Endpoints unless it hands over.
func (s *Store) Release(ctx context.Context, held dcs.Lock) error {
	ctx, cancel := s.client.limited(ctx)
	defer cancel()
	where := s.config.lockID()
	for try, fetched := 0, false; ; try++ {
		now := s.view.get(where)
		if to := markOf(now).to(); to != "" {
			return fmt.Errorf("release leader lock %s: %w to %s", where.name, errMoved, to)
		}
		have := s.config.recordOf(now)
		ours := have.holder == s.config.Name && have.holder == held.Holder && have.session() == held.Session
		if !ours && fetched {
			return fmt.Errorf("release leader lock %s: have holder %q since %s, want %q since %s: %w", where.name, have.holder, have.acquired, s.config.Name, held.Session, dcs.ErrNotHeld)
		}
		err := errStale
		if ours {
			ch := s.config.releaseChange("")
			if s.handsOver() {
				ch.subsets = nil
			}
			if _, err = s.change(ctx, where, now, ch); err == nil {
				return nil
			}
		}
		if try == tries || !errors.Is(err, errStale) && !settles(err) {
			return fmt.Errorf("release leader lock %s: %w", where.name, class(err))
		}
		if err := s.fetch(ctx, where); err != nil {
			return fmt.Errorf("release leader lock %s: %w", where.name, class(err))
		}
		fetched = true
	}
}
