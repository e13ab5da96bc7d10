package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Moving is a store that is wherever the cluster is: it finds out which layout is in force, whatever this member is configured for, and
// goes along when the cluster moves. Its leader moves the cluster when it is asked to. It implements dcs.Store.
type Moving struct {
	config Config
	client *client
	stop   context.CancelFunc
	tasks  sync.WaitGroup
	look   chan struct{} // somebody has reason to think that the cluster lives elsewhere

	mu      sync.Mutex
	now     *Store
	cause   error         // why there is none yet
	changed chan struct{} // closed when now is another one
	told    string        // what kept us from moving, as logged last
}

var _ dcs.Store = (*Moving)(nil)

// OpenMoving is Open for members and tools: the layout in config counts only for a cluster that does not exist yet.
func OpenMoving(ctx context.Context, config Config) (*Moving, error) {
	if err := config.complete(); err != nil {
		return nil, fmt.Errorf("open Kubernetes: %w", err)
	}
	t, err := newTransport(&config)
	if err != nil {
		return nil, fmt.Errorf("open Kubernetes: %w", err)
	}
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	m := &Moving{config: config, stop: stop, look: make(chan struct{}, 1), changed: make(chan struct{})}
	m.client = &client{transport: t, config: &m.config, lost: func() {}, closed: living, requests: map[string]uint64{}}
	m.tasks.Go(func() { m.follow(living) })
	return m, nil
}

// Close ends the store of the layout as well.
func (m *Moving) Close() error {
	m.stop()
	m.tasks.Wait()
	m.client.pooled.CloseIdleConnections()
	return nil
}

// follow opens the store of the layout in force, and another one when that changes.
func (m *Moving) follow(ctx context.Context) {
	var s *Store
	for ctx.Err() == nil {
		layout, err := m.find(ctx)
		if err == nil && (s == nil || s.config.Layout != layout) {
			var next *Store
			if next, err = m.open(ctx, layout, s); err == nil {
				s = next
			}
		}
		if err != nil {
			m.mu.Lock()
			m.cause = err
			m.mu.Unlock()
		}
		if err != nil || s.movedTo() != "" { // the seal is read before the other layout is complete only where people delete objects
			m.client.pause(ctx, 100*time.Millisecond)
			continue
		}
		m.stay(ctx, s)
	}
	if s != nil {
		s.Close()
	}
}

// find reads which layout is in force.
func (m *Moving) find(ctx context.Context) (Layout, error) {
	ctx, cancel := m.client.limited(ctx)
	defer cancel()
	all, err := m.client.sites(ctx)
	if err != nil {
		return "", err
	}
	if layout := inForce(all, m.config.Layout); layout != "" {
		return layout, nil
	}
	return "", errMoving
}

// open opens the store of a layout. The lock, and what the pod's labels say, go along from the store before it: nobody may see this
// member without its role only because its view is not complete yet.
func (m *Moving) open(ctx context.Context, layout Layout, before *Store) (*Store, error) {
	if layout != m.config.Layout {
		m.config.Log.Warn("the cluster lives in another layout than this member is configured for, and this member goes along; change its configuration, or move the cluster with `regent kubernetes migrate`",
			"configured", m.config.Layout, "in force", layout)
	}
	config := m.config
	config.Layout = layout
	next, err := open(ctx, config, before)
	if err != nil {
		return nil, err
	}
	next.mu.Lock()
	next.found = true
	next.mu.Unlock()
	if before != nil {
		if !next.view.Wait(ctx, next.view.followed) {
			next.Close()
			return nil, errClosed
		}
		before.mu.Lock()
		announced, leads := before.announced, before.leads
		before.mu.Unlock()
		next.mu.Lock()
		next.announced, next.leads = announced, leads
		next.mu.Unlock()
	}
	m.mu.Lock()
	m.now = next
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	if before != nil {
		before.Close()
	}
	return next, nil
}

// stay returns when the cluster has moved, or may have: where nobody has led yet, it may come to life elsewhere.
func (m *Moving) stay(ctx context.Context, s *Store) {
	_, loopWait, _ := m.config.Timing()
	again := time.NewTimer(max(loopWait/10, 100*time.Millisecond))
	defer again.Stop()
	for {
		s.view.Lock()
		moved, used, changed := s.view.moved() != "", s.view.lock.acquired != "", s.view.Changed()
		s.view.Unlock()
		if used {
			again.Stop()
		}
		if moved {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-m.look:
			return
		case <-again.C:
			return
		case <-changed:
		}
	}
}

func (s *Store) movedTo() Layout {
	s.view.Lock()
	defer s.view.Unlock()
	return s.view.moved()
}

// current is the store of the layout in force, as soon as there is one.
func (m *Moving) current(ctx context.Context) (*Store, error) {
	for {
		m.mu.Lock()
		s, changed, cause := m.now, m.changed, m.cause
		m.mu.Unlock()
		if s != nil && s.movedTo() == "" {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("find the layout in force: %w: %w", dcs.ErrUnavailable, errors.Join(cause, ctx.Err()))
		case <-m.client.closed.Done():
			return nil, fmt.Errorf("%w: %w", dcs.ErrUnavailable, errClosed)
		}
	}
}

// replaced is whether s is not the store in force any more.
func (m *Moving) replaced(s *Store) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now != s || s.movedTo() != ""
}

// with calls what is certain to have done nothing once more, on the layout that the cluster has moved to.
func (m *Moving) with(ctx context.Context, call func(ctx context.Context, s *Store) error) error {
	ctx, cancel := m.client.limited(ctx)
	defer cancel()
	for {
		s, err := m.current(ctx)
		if err != nil {
			return err
		}
		if err = call(ctx, s); errors.Is(err, errElsewhere) {
			select {
			case m.look <- struct{}{}:
			default:
			}
		}
		if !errors.Is(err, errMoved) || ctx.Err() != nil {
			return err
		}
	}
}

func (m *Moving) Snapshot(ctx context.Context) (snapshot *cluster.Snapshot, err error) {
	ctx, cancel := m.client.limited(ctx)
	defer cancel()
	for {
		s, err := m.current(ctx)
		if err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		snapshot, err := s.Snapshot(ctx)
		if err == nil || ctx.Err() != nil || !m.replaced(s) {
			return snapshot, err
		}
	}
}

func (m *Moving) Watch(ctx context.Context, after cluster.Revision) error {
	s, err := m.current(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	if err = s.Watch(ctx, after); err != nil && ctx.Err() == nil && m.replaced(s) {
		return nil // everything may have changed
	}
	return err
}

func (m *Moving) Acquire(ctx context.Context, holder string, ttl time.Duration) (lock dcs.Lock, err error) {
	err = m.with(ctx, func(ctx context.Context, s *Store) error {
		lock, err = s.Acquire(ctx, holder, ttl)
		return err
	})
	return lock, err
}

// Renew also moves the cluster, when it is asked for: here no release can cross it, and the lock was renewed right before.
// Its deadline stays true: who finds the new lock counts from after the seal.
func (m *Moving) Renew(ctx context.Context, held dcs.Lock) (lock dcs.Lock, err error) {
	err = m.with(ctx, func(ctx context.Context, s *Store) error {
		if lock, err = s.Renew(ctx, held); err == nil {
			m.moveIfAsked(ctx, s, lock)
		}
		return err
	})
	return lock, err
}

func (m *Moving) moveIfAsked(ctx context.Context, s *Store, lock dcs.Lock) {
	to := markOf(s.view.get(s.config.lockID())).wants()
	if to == "" {
		return
	}
	ttl, _, retryTimeout := m.config.Timing()
	ctx, cancel := context.WithTimeout(ctx, min(ttl/4, retryTimeout))
	defer cancel()
	told := ""
	if err := s.move(ctx, to, lock.Session); err != nil {
		told = err.Error()
		if told != m.told {
			m.config.Log.Warn("move the cluster to another layout; the next renewal tries again", "from", s.config.Layout, "to", to, "error", err)
		}
	}
	m.told = told
}

func (m *Moving) Release(ctx context.Context, held dcs.Lock) error {
	return m.with(ctx, func(ctx context.Context, s *Store) error { return s.Release(ctx, held) })
}

func (m *Moving) Announce(ctx context.Context, member cluster.Member, ttl time.Duration) error {
	return m.with(ctx, func(ctx context.Context, s *Store) error { return s.Announce(ctx, member, ttl) })
}

func (m *Moving) Put(ctx context.Context, key string, value []byte, prev cluster.Revision) (at cluster.Revision, err error) {
	err = m.with(ctx, func(ctx context.Context, s *Store) error {
		at, err = s.Put(ctx, key, value, prev)
		return err
	})
	return at, err
}

func (m *Moving) Delete(ctx context.Context, key string, prev cluster.Revision) error {
	return m.with(ctx, func(ctx context.Context, s *Store) error { return s.Delete(ctx, key, prev) })
}

// RemoveAll deletes the objects of the layout in force.
func (m *Moving) RemoveAll(ctx context.Context) error {
	return m.with(ctx, func(ctx context.Context, s *Store) error { return s.RemoveAll(ctx) })
}

// Requests counts what was sent in the present layout, by method and resource.
func (m *Moving) Requests() map[string]uint64 {
	m.mu.Lock()
	s := m.now
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.Requests()
}
