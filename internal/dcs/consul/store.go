package consul

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Store is one member's part of a Consul. It implements dcs.Store.
type Store struct {
	config  Config
	client  *client
	view    *view
	stop    context.CancelFunc
	ended   chan struct{}
	once    sync.Once
	useless chan string // sessions that nothing lives by

	locking, announcing dcs.Turn // one at a time: of what concerns the lock, and the member

	mu      sync.Mutex
	ttl     time.Duration // as asked for last
	hold    hold
	member  session
	warned  time.Duration // a session's length that was told of
	service service
}

var _ dcs.Store = (*Store)(nil)

// Open returns at once also when the agent does not answer: calls then end with ErrUnavailable, and asking goes on in the background.
func Open(ctx context.Context, config Config) (*Store, error) {
	config.complete()
	if config.Address == "" {
		return nil, errors.New("open Consul: have no address, want the host:port of its agent")
	}
	if config.Scope == "" {
		return nil, errors.New("open Consul: have no scope, want the cluster's name")
	}
	s := &Store{
		config: config, view: newView(config.root()), ended: make(chan struct{}), useless: make(chan string, 64),
		locking: make(dcs.Turn, 1), announcing: make(dcs.Turn, 1),
	}
	s.client = newClient(&s.config)
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	var g errgroup.Group
	g.Go(func() error { s.follow(following); return nil })
	g.Go(func() error { s.tidy(following); return nil })
	go func() {
		defer close(s.ended)
		_ = g.Wait()
		s.client.close()
	}()
	return s, nil
}

// Close waits for the store's own goroutines to end.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.stop()
		<-s.ended
	})
	return nil
}

// discard ends a session soon that nothing lives by. When there is no time for it, it ends by itself.
func (s *Store) discard(id string) {
	if id == "" {
		return
	}
	select {
	case s.useless <- id:
	default:
	}
}

func (s *Store) tidy(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-s.useless:
			limited, cancel := s.config.bounded(ctx)
			if err := s.client.destroy(limited, id); err != nil {
				s.config.Log.Debug("a session that is not used any more is left to end by itself", "session", id, "error", err)
			}
			cancel()
		}
	}
}

// Requests counts what was sent, by kind, without the queries that follow the keys.
func (s *Store) Requests() map[string]uint64 {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return maps.Clone(s.client.requests)
}

func (s *Store) Snapshot(ctx context.Context) (*cluster.Snapshot, error) {
	ctx, cancel := s.config.bounded(ctx)
	defer cancel()
	var snapshot *cluster.Snapshot
	if !s.view.Wait(ctx, func() bool {
		snapshot = s.view.snapshot()
		return snapshot != nil
	}) {
		s.view.Lock()
		defer s.view.Unlock()
		return nil, unavailable("snapshot", errors.Join(errNotInTime, s.view.Cause, ctx.Err()))
	}
	return snapshot, nil
}

func (s *Store) Watch(ctx context.Context, after cluster.Revision) error {
	return s.view.Watch(ctx, after, s.view.root, s.view.followed)
}

func (s *Store) key(relative string) string { return s.view.root + relative }

// write sends a transaction, once. One without an answer makes the view doubtful: it comes from the same agent.
func (s *Store) write(ctx context.Context, kind string, ops ...op) ([]pair, error) {
	err := s.view.dead()
	var left []pair
	if err == nil {
		left, err = s.client.transact(ctx, kind, ops...)
	}
	if errors.Is(err, dcs.ErrUnavailable) {
		s.view.doubt()
	}
	for _, p := range left {
		s.view.want(p.ModifyIndex)
	}
	return left, err
}

func (s *Store) Put(ctx context.Context, key string, value []byte, prev cluster.Revision) (cluster.Revision, error) {
	ctx, cancel := s.config.bounded(ctx)
	defer cancel()
	// An index of 0 means: if there is none.
	left, err := s.write(ctx, "put", op{Verb: "cas", Key: s.key(key), Value: value, Index: uint64(prev)})
	if errors.Is(err, errRefused) {
		return 0, s.conflict(ctx, "put", key, prev, err)
	}
	if err == nil && len(left) != 1 {
		err = unavailable("put", fmt.Errorf("have %d results, want 1", len(left)))
	}
	if err != nil {
		return 0, fmt.Errorf("put %s: %w", s.key(key), err)
	}
	return cluster.Revision(left[0].ModifyIndex), nil
}

// conflict looks at what is there instead, so that later snapshots show it.
func (s *Store) conflict(ctx context.Context, what, key string, prev cluster.Revision, cause error) error {
	if now, err := s.client.get(ctx, s.key(key)); err == nil {
		s.view.agree(key, now)
	} else {
		s.view.doubt()
	}
	return fmt.Errorf("%s %s: is not at revision %d: %w: %w", what, s.key(key), prev, dcs.ErrConflict, cause)
}

func (s *Store) Delete(ctx context.Context, key string, prev cluster.Revision) error {
	ctx, cancel := s.config.bounded(ctx)
	defer cancel()
	if prev == 0 {
		now, err := s.client.get(ctx, s.key(key))
		if err == nil && now != nil {
			s.view.agree(key, now)
			err = fmt.Errorf("have it, want none: %w", dcs.ErrConflict)
		}
		if err != nil {
			return fmt.Errorf("delete %s: %w", s.key(key), err)
		}
		return nil
	}
	_, err := s.write(ctx, "delete", op{Verb: "check-index", Key: s.key(key), Index: uint64(prev)}, op{Verb: "delete", Key: s.key(key)})
	if errors.Is(err, errRefused) {
		return s.conflict(ctx, "delete", key, prev, err)
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", s.key(key), err)
	}
	s.view.remove(key, uint64(prev))
	return nil
}

// RemoveAll deletes every key of the cluster.
func (s *Store) RemoveAll(ctx context.Context) error {
	ctx, cancel := s.config.bounded(ctx)
	defer cancel()
	if _, err := s.write(ctx, "delete", op{Verb: "delete-tree", Key: s.view.root}); err != nil {
		return fmt.Errorf("remove %s: %w", s.view.root, err)
	}
	s.view.doubt() // what it shows is read again
	return nil
}

// Announce writes the member's key, which lives by the member's session.
func (s *Store) Announce(ctx context.Context, m cluster.Member, ttl time.Duration) error {
	if m.Name != s.config.Name {
		return fmt.Errorf("announce member %s: this store was opened for %s: a bug, nothing was done", m.Name, s.config.Name)
	}
	ctx, cancel := s.config.bounded(ctx)
	defer cancel()
	err := s.view.dead()
	if err == nil {
		err = s.announcing.Take(ctx)
	}
	if err == nil {
		defer s.announcing.Give()
		if err = s.announce(ctx, cluster.KeyMembers+m.Name, m.Encode(), ttl); errors.Is(err, dcs.ErrUnavailable) {
			s.view.doubt()
		}
	}
	if err != nil {
		return fmt.Errorf("announce member %s: %w", m.Name, err)
	}
	s.tellService(ctx, m, ttl)
	return nil
}

func (s *Store) announce(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.mu.Lock()
	s.ttl = ttl
	l := s.member
	s.mu.Unlock()
	fresh := l.id != "" && l.ttl == ttl && s.config.Clock().Sub(l.touched) < ttl/2
	if fresh && s.view.shows(key, value, l.id) {
		return nil
	}
	before := l.id
	for try := 0; ; try++ {
		var err error
		switch {
		case l.id == "" || l.ttl != ttl:
			l, err = s.client.create(ctx, ttl, s.config.Checks)
		case !fresh:
			if l, err = s.client.renew(ctx, l); errors.Is(err, errNoSession) {
				l, err = s.client.create(ctx, ttl, s.config.Checks)
			}
		}
		if err != nil {
			return err
		}
		fresh = true
		s.mu.Lock()
		s.member = l
		s.mu.Unlock()
		if s.view.shows(key, value, l.id) {
			return nil
		}
		if err = s.own(ctx, key, value, l); errors.Is(err, errNoSession) && try == 0 {
			l = session{}
			continue
		}
		if err == nil && before != l.id {
			s.discard(before)
		}
		return err
	}
}

// own makes the member's key bear that value and live by that session. Nobody else writes it.
func (s *Store) own(ctx context.Context, key string, value []byte, l session) error {
	lock := op{Verb: "lock", Key: s.key(key), Value: value, Session: l.id}
	_, err := s.write(ctx, "announce", lock)
	for range 4 {
		if !errors.Is(err, errRefused) {
			return err
		}
		now, looked := s.client.get(ctx, s.key(key))
		if looked != nil {
			return looked
		}
		ops := []op{lock}
		if now != nil && now.Session != "" && now.Session != l.id { // our process before this one, or a session with another ttl
			ops = []op{{Verb: "unlock", Key: lock.Key, Value: value, Session: now.Session}, lock}
		}
		_, err = s.write(ctx, "announce", ops...)
	}
	if errors.Is(err, errRefused) {
		err = unavailable("announce", err)
	}
	return err
}
