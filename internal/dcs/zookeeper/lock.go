package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

func (s *Store) Acquire(ctx context.Context, holder string, ttl time.Duration) (dcs.Lock, error) {
	if holder != s.config.Name {
		return dcs.Lock{}, fmt.Errorf("acquire leader lock for %s: this store was opened for %s: a bug, nothing was done", holder, s.config.Name)
	}
	return s.locked(ctx, "acquire", func(ctx context.Context) (dcs.Lock, error) {
		s.mu.Lock()
		s.ttl = ttl
		s.mu.Unlock()
		return s.acquire(ctx, ttl, dcs.ErrHeld, func(int64) bool { return true })
	})
}

// locked runs one call about the lock after the other. One without an answer makes the view doubtful: it comes from the same servers.
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
	return dcs.Lock{}, fmt.Errorf("%s leader lock %s: %w", what, s.view.path(cluster.KeyLeader), err)
}

// dead is an error once the store has been closed.
func (v *view) dead() error {
	v.Lock()
	defer v.Unlock()
	if v.Closed {
		return unavailable("call", errClosed)
	}
	return nil
}

// acquire creates a session and puts the lock under it. mayTake says whether a node that bears our name may be taken from that session.
func (s *Store) acquire(ctx context.Context, ttl time.Duration, taken error, mayTake func(owner int64) bool) (dcs.Lock, error) {
	c, err := s.servers.attach(ctx, session{ttl: ttl}, nil)
	if err != nil {
		return dcs.Lock{}, err
	}
	defer c.close(errDone)
	n, err := s.claim(ctx, c, taken, mayTake)
	if err != nil {
		if !errors.Is(err, dcs.ErrUnavailable) {
			_, _ = c.send(closeSession) // nothing lives by it
		}
		return dcs.Lock{}, err
	}
	return s.holding(c, n), nil
}

// holding notes the session of a lock that was just seen to be ours. It counts from before the handshake of the connection.
func (s *Store) holding(c *conn, n *node) dcs.Lock {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = c.session
	if l := c.session; l.timeout < l.ttl && s.warned != l.timeout {
		s.warned = l.timeout
		s.config.Log.Warn("ZooKeeper grants shorter sessions than ttl: the lock ends earlier than configured; raise maxSessionTimeout of the servers, which is 20 times tickTime by default, or lower ttl",
			"ttl", l.ttl, "granted", l.timeout)
	}
	return dcs.Lock{
		Holder: s.config.Name, Session: c.session.String(), Revision: cluster.Revision(n.created),
		Deadline: c.session.touched.Add(c.session.lasts()),
	}
}

// claim puts the lock under the connection's session if it is free or bears our name, and returns taken else. What was answered
// with no is tried again in the light of what is there; what was not answered is not.
func (s *Store) claim(ctx context.Context, c *conn, taken error, mayTake func(owner int64) bool) (*node, error) {
	path, me := s.view.path(cluster.KeyLeader), []byte(s.config.Name)
	for range 4 {
		answers, err := c.call(ctx, create(path, me, s.config.ACL, true), get(path))
		if err != nil {
			return nil, err
		}
		s.view.want(answers[1].zxid)
		n, missing := answers[1].node()
		switch made := answers[0].err; made {
		case nil, errNodeExists:
		case errNoNode:
			if err := s.makeFolders(ctx, c, cluster.KeyLeader); err != nil {
				return nil, err
			}
			continue
		default:
			return nil, classify("create", made)
		}
		switch {
		case missing == errNoNode:
			continue
		case missing != nil:
			return nil, classify("get", missing)
		case n.owner == c.session.id && string(n.value) == s.config.Name:
			return n, nil
		case len(n.value) > 0 && string(n.value) != s.config.Name: // an empty name is nobody's (dcs.md 1.5)
			return nil, fmt.Errorf("held by %s since revision %d, expected %s: %w", n.value, n.created, s.config.Name, taken)
		case !mayTake(n.owner):
			return nil, fmt.Errorf("held by another process of the name %s, under session %s: %w", s.config.Name, sessionText(n.owner), taken)
		}
		if err := s.take(ctx, c, n); err != nil && err != errBadVersion && err != errNoNode && err != errNodeExists {
			return nil, classify("take over", err)
		}
	}
	return nil, unavailable("create", errRestless)
}

// take moves the lock, which bears our name, to the connection's session. Its node is written first: that gives it a version that no node
// has which somebody has just created, so that we cannot delete another member's lock, should ours end between our look and our write.
func (s *Store) take(ctx context.Context, c *conn, n *node) error {
	path, me := s.view.path(cluster.KeyLeader), []byte(s.config.Name)
	a, err := c.one(ctx, set(path, me, n.version))
	if err != nil {
		return err
	}
	marked := a.stat()
	if a.short || marked.owner != n.owner || marked.created != n.created {
		return unavailable("take over", fmt.Errorf("the lock of session %s ended, and we have written our name into the one of session %s", sessionText(n.owner), sessionText(marked.owner)))
	}
	_, err = c.one(ctx, replace(path, me, s.config.ACL, marked.version))
	return err
}

// Renew attaches to the lock's session, which tells the leader of the servers; commits a transaction that changes nothing, which shows that
// it is the leader still; and then looks whose node it is.
func (s *Store) Renew(ctx context.Context, held dcs.Lock) (dcs.Lock, error) {
	if held.Holder != s.config.Name {
		return dcs.Lock{}, fmt.Errorf("renew leader lock of %s as %s: %w", held.Holder, s.config.Name, dcs.ErrNotHeld)
	}
	return s.locked(ctx, "renew", func(ctx context.Context) (dcs.Lock, error) { return s.renew(ctx, held) })
}

func (s *Store) renew(ctx context.Context, held dcs.Lock) (dcs.Lock, error) {
	s.mu.Lock()
	hold, ttl := s.hold, s.ttl
	s.mu.Unlock()
	if ttl == 0 {
		ttl, _, _ = s.config.Timing()
	}
	// The key may be under the session that we know, or bear our name under none. Under another one it is another process's.
	ours := func(owner int64) bool { return owner == 0 || sessionText(owner) == held.Session || owner == hold.id }
	if hold.id == 0 || hold.ttl != ttl { // opened after the lock was acquired; or a new ttl came between
		return s.acquire(ctx, ttl, dcs.ErrNotHeld, ours)
	}
	c, err := s.servers.attach(ctx, hold, nil)
	if errors.Is(err, errExpired) {
		return s.acquire(ctx, ttl, dcs.ErrNotHeld, ours)
	}
	if err != nil {
		return dcs.Lock{}, err
	}
	defer c.close(errDone)
	answers, err := c.call(ctx, multi(check(s.view.root, anyone)), get(s.view.path(cluster.KeyLeader)))
	if err != nil {
		return dcs.Lock{}, err
	}
	if err := answers[0].err; err == errSessionExpired {
		return s.acquire(ctx, ttl, dcs.ErrNotHeld, ours)
	} else if err != nil && err != errNoNode {
		return dcs.Lock{}, classify("commit", err)
	}
	n, missing := answers[1].node()
	s.view.want(answers[1].zxid)
	switch {
	case missing == nil && n.owner == hold.id && string(n.value) == s.config.Name:
		return s.holding(c, n), nil
	case missing != nil && missing != errNoNode:
		return dcs.Lock{}, classify("get", missing)
	}
	if n, err = s.claim(ctx, c, dcs.ErrNotHeld, ours); err != nil {
		return dcs.Lock{}, err
	}
	return s.holding(c, n), nil
}

// Release ends the session of this hold, and with it the node. Should the request arrive late, it ends that session and no later hold.
func (s *Store) Release(ctx context.Context, held dcs.Lock) error {
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if held.Holder != s.config.Name || hold.id == 0 || held.Session != hold.String() {
		return fmt.Errorf("release leader lock of %s as %s: %w", held.Holder, s.config.Name, dcs.ErrNotHeld)
	}
	_, err := s.locked(ctx, "release", func(ctx context.Context) (dcs.Lock, error) { return dcs.Lock{}, s.release(ctx, hold) })
	return err
}

func (s *Store) release(ctx context.Context, hold session) error {
	c, err := s.servers.attach(ctx, hold, nil)
	if errors.Is(err, errExpired) {
		return fmt.Errorf("%w: %w", dcs.ErrNotHeld, err)
	}
	if err != nil {
		return err
	}
	defer c.close(errDone)
	a, err := c.one(ctx, get(s.view.path(cluster.KeyLeader)))
	if err != nil && err != errNoNode {
		return classify("get", err)
	}
	s.view.want(a.zxid)
	n, err := a.node()
	if err != nil || n.owner != hold.id || string(n.value) != s.config.Name {
		return fmt.Errorf("it is not under our session %s: %w", hold, dcs.ErrNotHeld)
	}
	if a, err = c.one(ctx, closeSession); err != nil {
		return classify("end the session", err)
	}
	s.view.want(a.zxid)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = session{}
	return nil
}
