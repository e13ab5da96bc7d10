package memory

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Store is one member's connection to a Server.
type Store struct {
	server     *Server
	root, name string
	closed     chan struct{}
	close      sync.Once

	mu       sync.Mutex
	ttl      time.Duration
	renewed  time.Time // before the request left
	requests map[string]uint64
}

var _ dcs.Store = (*Store)(nil)

// Requests counts, by method, the calls that cost a request. Snapshots come from a watch and cost none.
func (s *Store) Requests() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.requests)
}

func (s *Store) Snapshot(ctx context.Context) (*cluster.Snapshot, error) {
	var snapshot *cluster.Snapshot
	err := s.call(ctx, Call{s.name, "snapshot", ""}, func() error {
		snapshot = s.server.snapshot(s.root)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return snapshot, nil
}

func (s *Store) Watch(ctx context.Context, after cluster.Revision) error {
	for {
		if fault := s.server.fate(Call{s.name, "watch", ""}); fault.Lose == Refuse {
			return s.unavailable(ctx, "watch", "")
		}
		s.server.mu.Lock()
		s.server.settle()
		changed, news := s.server.changed, s.server.news[s.root]
		next, ok := s.server.next()
		in := next.Sub(s.server.clock())
		s.server.mu.Unlock()
		if news > after {
			return nil
		}
		var due <-chan time.Time
		if ok {
			due = time.After(max(in, time.Millisecond)) // a clock that stands still must not make us spin
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closed:
			return s.unavailable(ctx, "watch", "")
		case <-changed:
		case <-due:
		}
	}
}

func (s *Store) Acquire(ctx context.Context, holder string, ttl time.Duration) (dcs.Lock, error) {
	if holder != s.name {
		return dcs.Lock{}, fmt.Errorf("acquire leader lock for %s: this store was opened for %s: a bug, nothing was done", holder, s.name)
	}
	return s.hold(ctx, "acquire", ttl, dcs.ErrHeld)
}

func (s *Store) Renew(ctx context.Context, held dcs.Lock) (dcs.Lock, error) {
	if held.Holder != s.name {
		return dcs.Lock{}, fmt.Errorf("renew leader lock of %s as %s: %w", held.Holder, s.name, dcs.ErrNotHeld)
	}
	s.mu.Lock()
	ttl := s.ttl
	s.mu.Unlock()
	if ttl == 0 {
		return dcs.Lock{}, fmt.Errorf("renew leader lock: not acquired here before: %w", dcs.ErrNotHeld)
	}
	return s.hold(ctx, "renew", ttl, dcs.ErrNotHeld)
}

// hold makes sure that the lock is ours under a live session, unless it bears another name.
func (s *Store) hold(ctx context.Context, op string, ttl time.Duration, taken error) (dcs.Lock, error) {
	start := s.server.clock()
	var session string
	var revision cluster.Revision
	err := s.call(ctx, Call{s.name, op, cluster.KeyLeader}, func() error {
		key := s.root + "/" + cluster.KeyLeader
		e, exists := s.server.keys[key]
		if exists && string(e.value) != s.name && len(e.value) > 0 { // an empty name is nobody's (dcs.md 1.5)
			return fmt.Errorf("%s leader lock %s: held by %s since revision %d, expected %s: %w", op, key, e.value, e.revision, s.name, taken)
		}
		session = s.server.touch(s, ttl)
		if e := s.server.keys[key]; e.session != session || op == "acquire" {
			s.server.put(key, []byte(s.name), session)
		}
		revision = s.server.keys[key].revision
		return nil
	})
	if err != nil {
		return dcs.Lock{}, err
	}
	s.learn(ttl, start)
	return dcs.Lock{Holder: s.name, Session: session, Revision: revision, Deadline: start.Add(ttl)}, nil
}

func (s *Store) Release(ctx context.Context, held dcs.Lock) error {
	return s.call(ctx, Call{s.name, "release", cluster.KeyLeader}, func() error {
		key := s.root + "/" + cluster.KeyLeader
		e, exists := s.server.keys[key]
		if !exists || string(e.value) != s.name || held.Holder != s.name || e.session != s.server.sessionOf(s) || held.Revision != 0 && e.revision != held.Revision {
			return fmt.Errorf("release leader lock %s: have holder %q, want %q under our session, not acquired since: %w", key, e.value, s.name, dcs.ErrNotHeld)
		}
		s.server.remove(key)
		return nil
	})
}

func (s *Store) Announce(ctx context.Context, m cluster.Member, ttl time.Duration) error {
	if m.Name != s.name {
		return fmt.Errorf("announce member %s: this store was opened for %s: a bug, nothing was done", m.Name, s.name)
	}
	key, value := cluster.KeyMembers+s.name, m.Encode()
	start := s.server.clock()
	if s.fresh(key, value, ttl, start) {
		return nil
	}
	err := s.call(ctx, Call{s.name, "announce", key}, func() error {
		session := s.server.touch(s, ttl)
		if e := s.server.keys[s.root+"/"+key]; e.session != session || !bytes.Equal(e.value, value) {
			s.server.put(s.root+"/"+key, value, session)
			s.server.remember(s.root+"/"+key, m)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.learn(ttl, start)
	return nil
}

// fresh says that the key needs no request now.
func (s *Store) fresh(key string, value []byte, ttl time.Duration, now time.Time) bool {
	s.mu.Lock()
	young := s.ttl == ttl && now.Sub(s.renewed) < ttl/2
	s.mu.Unlock()
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.settle()
	e := s.server.keys[s.root+"/"+key]
	return young && e.session != "" && e.session == s.server.sessionOf(s) && bytes.Equal(e.value, value)
}

func (s *Store) Put(ctx context.Context, key string, value []byte, prev cluster.Revision) (cluster.Revision, error) {
	return s.write(ctx, "put", key, value, prev)
}

func (s *Store) write(ctx context.Context, op, key string, value []byte, prev cluster.Revision) (revision cluster.Revision, err error) {
	var written cluster.Revision
	err = s.call(ctx, Call{s.name, op, key}, func() error {
		if have := s.server.keys[s.root+"/"+key].revision; have != prev {
			return fmt.Errorf("put %s: have revision %d, want %d: %w", key, have, prev, dcs.ErrConflict)
		}
		written = s.server.put(s.root+"/"+key, value, "")
		return nil
	})
	if err != nil {
		return 0, err
	}
	return written, nil
}

func (s *Store) Delete(ctx context.Context, key string, prev cluster.Revision) error {
	return s.call(ctx, Call{s.name, "delete", key}, func() error {
		if have := s.server.keys[s.root+"/"+key].revision; have != prev {
			return fmt.Errorf("delete %s: have revision %d, want %d: %w", key, have, prev, dcs.ErrConflict)
		}
		s.server.remove(s.root + "/" + key)
		return nil
	})
}

func (s *Store) Close() error {
	s.close.Do(func() { close(s.closed) })
	return nil
}

// call carries out apply on the server, or whatever the fault hook makes of it.
func (s *Store) call(ctx context.Context, c Call, apply func() error) error {
	select {
	case <-s.closed:
		return s.unavailable(ctx, c.Op, c.Key)
	default:
	}
	fault := s.server.fate(c)
	if c.Op != "snapshot" {
		s.mu.Lock()
		s.requests[c.Op]++
		s.mu.Unlock()
	}
	if fault.Lose == Refuse || ctx.Err() != nil {
		return s.unavailable(ctx, c.Op, c.Key)
	}
	arrival := s.server.clock().Add(fault.Before)
	if !wait(ctx, fault.Before) {
		if fault.Lose != Request {
			s.server.arrive(arrival, func() { _ = apply() }) // nobody is there for the answer
		}
		return s.unavailable(ctx, c.Op, c.Key)
	}
	if fault.Lose == Request {
		return s.unavailable(ctx, c.Op, c.Key)
	}
	s.server.mu.Lock()
	s.server.settle()
	err := apply()
	s.server.mu.Unlock()
	if fault.Lose == Answer || !wait(ctx, fault.After) {
		return s.unavailable(ctx, c.Op, c.Key)
	}
	return err
}

func (s *Store) unavailable(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w: %w", op, key, dcs.ErrUnavailable, err)
	}
	return fmt.Errorf("%s %s: %w", op, key, dcs.ErrUnavailable)
}

// learn notes what an answer told about the session.
func (s *Store) learn(ttl time.Duration, renewed time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ttl = ttl
	if renewed.After(s.renewed) {
		s.renewed = renewed
	}
}
