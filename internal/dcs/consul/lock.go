package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// hold is our hold on the lock, from Acquire to Release.
type hold struct {
	session string   // as it was confirmed last; empty: none
	index   uint64   // of the key then
	before  string   // the session before it: who has not seen the renewal yet looks for that one (see endedEarly)
	tried   []string // sessions that a renewal without an answer may have moved it to
}

func (s *Store) Acquire(ctx context.Context, holder string, ttl time.Duration) (dcs.Lock, error) {
	if holder != s.config.Name {
		return dcs.Lock{}, fmt.Errorf("acquire leader lock for %s: this store was opened for %s: a bug, nothing was done", holder, s.config.Name)
	}
	return s.locked(ctx, "acquire", func(ctx context.Context) (dcs.Lock, error) {
		s.mu.Lock()
		s.ttl = ttl
		s.mu.Unlock()
		if err := s.endedEarly(ctx); err != nil {
			return dcs.Lock{}, err
		}
		return s.claim(ctx, ttl, nil, dcs.ErrHeld, func(string) bool { return true })
	})
}

// locked runs one call about the lock after the other. One without an answer makes the view doubtful: it comes from the same agent.
func (s *Store) locked(ctx context.Context, what string, call func(context.Context) (dcs.Lock, error)) (dcs.Lock, error) {
	ctx, cancel := s.config.bounded(ctx)
	defer cancel()
	err := s.locking.Take(ctx)
	if err == nil {
		defer s.locking.Give()
		if err = s.view.dead(); err == nil {
			var lock dcs.Lock
			if lock, err = call(ctx); err == nil {
				return lock, nil
			}
			if errors.Is(err, dcs.ErrUnavailable) {
				s.view.doubt()
			}
		}
	}
	return dcs.Lock{}, fmt.Errorf("%s leader lock %s: %w", what, s.key(cluster.KeyLeader), err)
}

// moves are the steps that put the lock under a session: from nothing, when there is no key, or from what was seen. The key's flags tell for how many
// milliseconds its holder believes in it (see endedEarly).
func (s *Store) moves(now *pair, to session) []op {
	key, me := s.key(cluster.KeyLeader), []byte(s.config.Name)
	lock := op{Verb: "lock", Key: key, Value: me, Session: to.id, Flags: uint64(to.ttl.Milliseconds())}
	switch {
	case now == nil:
		return []op{{Verb: "cas", Key: key, Value: me}, lock}
	case now.Session == "":
		return []op{{Verb: "check-index", Key: key, Index: now.ModifyIndex}, lock}
	default:
		return []op{{Verb: "check-index", Key: key, Index: now.ModifyIndex}, {Verb: "unlock", Key: key, Value: me, Session: now.Session}, lock}
	}
}

// claim puts the lock under a new session if it is free or bears our name, and returns taken else. now is what we believe to be there; nil:
// nothing. mayTake says whether a key that bears our name may be taken from that session. What was answered with no is tried again in the light
// of what is there; what was not answered is not.
func (s *Store) claim(ctx context.Context, ttl time.Duration, now *pair, taken error, mayTake func(session string) bool) (dcs.Lock, error) {
	l, err := s.client.create(ctx, ttl, nil)
	if err != nil {
		return dcs.Lock{}, err
	}
	for try := 0; ; try++ {
		left, err := s.write(ctx, "lock", s.moves(now, l)...)
		if err == nil {
			if len(left) == 0 || left[len(left)-1].Session != l.id {
				return dcs.Lock{}, unavailable("lock", fmt.Errorf("have %+v, want the key under session %s", left, l.id))
			}
			return s.holding(l, left[len(left)-1].ModifyIndex), nil
		}
		if !errors.Is(err, errRefused) || try == 10 {
			if errors.Is(err, dcs.ErrUnavailable) {
				s.mu.Lock()
				s.hold.tried = append(s.hold.tried, l.id)
				s.mu.Unlock()
				return dcs.Lock{}, err
			}
			s.discard(l.id)
			return dcs.Lock{}, classify(err)
		}
		if now, err = s.client.get(ctx, s.key(cluster.KeyLeader)); err != nil {
			s.discard(l.id)
			return dcs.Lock{}, err
		}
		s.view.agree(cluster.KeyLeader, now)
		if err := s.mayTake(now, taken, mayTake); err != nil {
			s.discard(l.id)
			return dcs.Lock{}, err
		}
		if try == 0 {
			continue
		}
		// A key whose session has just ended cannot be had for a millisecond, which nothing tells the end of.
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// classify turns a refusal that goes on into "nobody knows": that the key changes faster than we can follow.
func classify(err error) error {
	if errors.Is(err, errRefused) || errors.Is(err, errNoSession) {
		return unavailable("lock", err)
	}
	return err
}

func (s *Store) mayTake(now *pair, taken error, mayTake func(session string) bool) error {
	switch {
	case now == nil || len(now.Value) == 0: // an empty name is nobody's (dcs.md 1.5)
		return nil
	case string(now.Value) != s.config.Name:
		return fmt.Errorf("held by %s since index %d, expected %s: %w", now.Value, now.CreateIndex, s.config.Name, taken)
	case !mayTake(now.Session):
		return fmt.Errorf("held by another process of the name %s, under session %s: %w", s.config.Name, now.Session, taken)
	}
	return nil
}

// holding notes the session that the lock is under now, and ends what was before. The deadline counts from before the request for the session left.
func (s *Store) holding(l session, index uint64) dcs.Lock {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, before := range append(s.hold.tried, s.hold.before) {
		s.discard(before)
	}
	s.hold = hold{session: l.id, index: index, before: s.hold.session}
	if l.lasts > l.ttl+time.Second && s.warned != l.lasts {
		s.warned = l.lasts
		s.config.Log.Warn("Consul keeps sessions for longer than ttl: the lock of a dead leader ends later than configured; lower session_ttl_min of the servers, which is 10 s by default, or raise ttl",
			"ttl", l.ttl, "kept", l.lasts)
	}
	return dcs.Lock{Holder: s.config.Name, Session: l.id, Revision: cluster.Revision(index), Deadline: l.touched.Add(l.ttl)}
}

// Renew moves the lock to a new session.
func (s *Store) Renew(ctx context.Context, held dcs.Lock) (dcs.Lock, error) {
	if held.Holder != s.config.Name {
		return dcs.Lock{}, fmt.Errorf("renew leader lock of %s as %s: %w", held.Holder, s.config.Name, dcs.ErrNotHeld)
	}
	return s.locked(ctx, "renew", func(ctx context.Context) (dcs.Lock, error) {
		s.mu.Lock()
		h, ttl := s.hold, s.ttl
		s.mu.Unlock()
		if ttl == 0 {
			ttl, _, _ = s.config.Timing()
		}
		// The key may be under a session of this hold, or bear our name under none. Under another one it is another process's.
		ours := func(session string) bool { return session == "" || session == held.Session || h.has(session) }
		now := &pair{Session: held.Session, ModifyIndex: uint64(held.Revision)} // opened after the lock was acquired
		if h.session != "" {
			now = &pair{Session: h.session, ModifyIndex: h.index}
		}
		return s.claim(ctx, ttl, now, dcs.ErrNotHeld, ours)
	})
}

func (h *hold) has(session string) bool {
	return session == h.session || slices.Contains(h.tried, session)
}

// Release deletes the key if it is under a session of this hold. Should the request arrive late, it finds no later hold under that session. The
// session is left to end by itself: while it is there, others see that the lock was given up and has not ended (see endedEarly).
func (s *Store) Release(ctx context.Context, held dcs.Lock) error {
	s.mu.Lock()
	h := s.hold
	s.mu.Unlock()
	if held.Holder != s.config.Name || h.session == "" || held.Session != h.session {
		return fmt.Errorf("release leader lock of %s as %s: %w", held.Holder, s.config.Name, dcs.ErrNotHeld)
	}
	_, err := s.locked(ctx, "release", func(ctx context.Context) (dcs.Lock, error) { return dcs.Lock{}, s.release(ctx, h) })
	return err
}

func (s *Store) release(ctx context.Context, h hold) error {
	key := s.key(cluster.KeyLeader)
	for session := h.session; ; {
		now, err := s.client.get(ctx, key)
		if err != nil {
			return err
		}
		s.view.agree(cluster.KeyLeader, now)
		if now == nil || string(now.Value) != s.config.Name || now.Session == "" || !h.has(now.Session) {
			return fmt.Errorf("it is not under our session %s: %w", session, dcs.ErrNotHeld)
		}
		session = now.Session
		_, err = s.write(ctx, "release", op{Verb: "check-index", Key: key, Index: now.ModifyIndex}, op{Verb: "check-session", Key: key, Session: session}, op{Verb: "delete", Key: key})
		if errors.Is(err, errRefused) {
			continue // it has changed since we looked
		}
		if err == nil {
			s.view.remove(cluster.KeyLeader, now.ModifyIndex)
			s.mu.Lock()
			s.hold = hold{}
			s.mu.Unlock()
		}
		return classify(err)
	}
}
