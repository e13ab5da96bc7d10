package zookeeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Store is one member's part of a ZooKeeper. It implements dcs.Store.
type Store struct {
	config  Config
	servers *servers
	view    *view
	stop    context.CancelFunc
	ended   chan struct{}
	once    sync.Once

	locking, announcing dcs.Turn // one at a time: of what concerns the lock, and the member
	folders             sync.Map // paths that we know to be there

	mu     sync.Mutex
	ttl    time.Duration // as asked for last
	hold   session       // the lock's
	member session       // the member node's
	warned time.Duration // a granted timeout that was told of
}

var _ dcs.Store = (*Store)(nil)

// Open returns at once also when no server answers: calls then end with ErrUnavailable, and connecting goes on in the background.
func Open(ctx context.Context, config Config) (*Store, error) {
	config.complete()
	if len(config.Servers) == 0 {
		return nil, errors.New("open ZooKeeper: have no server, want at least one host:port")
	}
	if config.Scope == "" {
		return nil, errors.New("open ZooKeeper: have no scope, want the cluster's name")
	}
	s := &Store{config: config, ended: make(chan struct{}), locking: make(dcs.Turn, 1), announcing: make(dcs.Turn, 1)}
	s.servers, s.view = newServers(&s.config), newView(config.root())
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() {
		defer close(s.ended)
		s.follow(following)
	}()
	return s, nil
}

// Close waits for the store's own goroutine to end.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.stop()
		<-s.ended
	})
	return nil
}

// Requests counts what was sent, by kind, without pings. Attach and session are handshakes with an old and for a new session.
func (s *Store) Requests() map[string]uint64 {
	s.servers.mu.Lock()
	defer s.servers.mu.Unlock()
	return maps.Clone(s.servers.requests)
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

var errNotInTime = errors.New("no current view of the nodes in time")

func (s *Store) Watch(ctx context.Context, after cluster.Revision) error {
	return s.view.Watch(ctx, after, s.view.root, s.view.followed)
}

// write sends requests over the reader's connection, once.
func (s *Store) write(ctx context.Context, all ...request) ([]answer, error) {
	c, err := s.view.connection(ctx)
	if err != nil {
		return nil, err
	}
	answers, err := c.call(ctx, all...)
	if err == nil {
		for _, a := range answers {
			s.view.want(a.zxid)
		}
	}
	return answers, err
}

// Put compares with the version that ZooKeeper counts from a node's creation: a node that was deleted and created again between our look
// and the write, and has been written as often since, passes for the one that we saw.
func (s *Store) Put(ctx context.Context, key string, value []byte, prev cluster.Revision) (cluster.Revision, error) {
	ctx, cancel := s.config.bounded(ctx)
	defer cancel()
	revision, err := s.put(ctx, key, value, prev)
	if err != nil {
		return 0, fmt.Errorf("put %s: %w", s.view.path(key), err)
	}
	return revision, nil
}

func (s *Store) put(ctx context.Context, key string, value []byte, prev cluster.Revision) (cluster.Revision, error) {
	if prev == 0 {
		n, err := s.create(ctx, key, value)
		if err == errNodeExists {
			return 0, fmt.Errorf("have it, want none: %w", dcs.ErrConflict)
		}
		return cluster.Revision(n.changed), classify("create", err)
	}
	version, err := s.version(ctx, key, prev)
	if err != nil {
		return 0, err
	}
	answers, err := s.write(ctx, set(s.view.path(key), value, version))
	if err != nil {
		return 0, err
	}
	if err := changed(answers[0].err, prev); err != nil {
		return 0, err
	}
	now := answers[0].stat()
	if answers[0].short {
		return 0, unavailable("set", errShort)
	}
	return cluster.Revision(now.changed), nil
}

// changed turns the answer to a conditional write into an error.
func changed(err error, prev cluster.Revision) error {
	if err == errBadVersion || err == errNoNode {
		return fmt.Errorf("is not at revision %d: %w: %w", prev, dcs.ErrConflict, err)
	}
	return classify("write", err)
}

// version is the one of the node at that revision.
func (s *Store) version(ctx context.Context, key string, at cluster.Revision) (int32, error) {
	n, ok := s.view.get(key)
	if !ok || n.changed != int64(at) {
		answers, err := s.write(ctx, get(s.view.path(key)))
		if err != nil {
			return 0, err
		}
		found, err := answers[0].node()
		if err == errNoNode {
			return 0, fmt.Errorf("have none, want revision %d: %w", at, dcs.ErrConflict)
		}
		if err != nil {
			return 0, classify("get", err)
		}
		if n = *found; n.changed != int64(at) {
			return 0, fmt.Errorf("have revision %d, want %d: %w", n.changed, at, dcs.ErrConflict)
		}
	}
	return n.version, nil
}

// create creates a persistent node. Those above it go before it unless we know them to be there; a refusal is definite, so trying again
// repeats nothing.
func (s *Store) create(ctx context.Context, key string, value []byte) (stat, error) {
	folder := path.Dir(s.view.path(key))
	for try := 0; ; try++ {
		var above []request
		if _, known := s.folders.Load(folder); !known {
			above = s.above(key)
		}
		answers, err := s.write(ctx, append(above, create(s.view.path(key), value, s.config.ACL, false))...)
		if err != nil {
			return stat{}, err
		}
		a := answers[len(above)]
		switch {
		case a.err == errNoNode && try < 3:
			if err := madeFolders(answers[:len(above)]); err != nil {
				return stat{}, err
			}
			s.folders.Delete(folder)
			continue
		case a.err != nil:
			return stat{}, a.err
		}
		s.folders.Store(folder, true)
		a.text() // its path
		made := a.stat()
		if a.short {
			return stat{}, errShort
		}
		return made, nil
	}
}

// above creates the nodes above key, persistent and empty, as Patroni does.
func (s *Store) above(key string) (all []request) {
	for up := path.Dir(s.view.path(key)); up != "/"; up = path.Dir(up) {
		all = append([]request{create(up, nil, s.config.ACL, false)}, all...)
	}
	return all
}

// madeFolders is an error when one of them could not be created and was not there: the last answer counts, the upper ones may be others'.
func madeFolders(answers []answer) error {
	if len(answers) == 0 {
		return nil
	}
	if last := answers[len(answers)-1].err; last != nil && last != errNodeExists {
		return classify("create the nodes above", last)
	}
	return nil
}

func (s *Store) makeFolders(ctx context.Context, c *conn, key string) error {
	answers, err := c.call(ctx, s.above(key)...)
	if err != nil {
		return err
	}
	return madeFolders(answers)
}

func (s *Store) Delete(ctx context.Context, key string, prev cluster.Revision) error {
	ctx, cancel := s.config.bounded(ctx)
	defer cancel()
	if err := s.remove(ctx, key, prev); err != nil {
		return fmt.Errorf("delete %s: %w", s.view.path(key), err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, key string, prev cluster.Revision) error {
	if prev == 0 {
		answers, err := s.write(ctx, exists(s.view.path(key)))
		switch {
		case err != nil:
			return err
		case answers[0].err == errNoNode:
			return nil
		case answers[0].err == nil:
			return fmt.Errorf("have it, want none: %w", dcs.ErrConflict)
		}
		return classify("exists", answers[0].err)
	}
	version, err := s.version(ctx, key, prev)
	if err != nil {
		return err
	}
	answers, err := s.write(ctx, remove(s.view.path(key), version))
	if err != nil {
		return err
	}
	return changed(answers[0].err, prev)
}

// RemoveAll deletes every node of the cluster.
func (s *Store) RemoveAll(ctx context.Context) error {
	ctx, cancel := s.config.bounded(ctx)
	defer cancel()
	c, err := s.view.connection(ctx)
	for try := 0; err == nil && try < 5; try++ { // members may write meanwhile
		var left []string
		if left, err = s.below(ctx, c, s.view.root); err != nil || len(left) == 0 {
			break
		}
		for _, path := range left {
			var answers []answer
			if answers, err = s.write(ctx, remove(path, anyone)); err != nil {
				break
			}
			if no := answers[0].err; no != nil && no != errNoNode && no != errNotEmpty {
				err = classify("delete "+path, no)
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", s.view.root, err)
	}
	return nil
}

// below lists a node and all below it, the deepest first; nothing when there is none.
func (s *Store) below(ctx context.Context, c *conn, top string) ([]string, error) {
	a, err := c.one(ctx, children(top))
	if err == errNoNode {
		return nil, nil
	}
	if err != nil {
		return nil, classify("children of "+top, err)
	}
	var all []string
	for range a.int() {
		name := a.text()
		if a.short {
			return nil, errShort
		}
		deeper, err := s.below(ctx, c, top+"/"+name)
		if err != nil {
			return nil, err
		}
		all = append(all, deeper...)
	}
	return append(all, top), nil
}

// Announce writes the member's node, an ephemeral one of the member's session.
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
		if err = s.announce(ctx, cluster.KeyMembers+m.Name, m.Encode(), ttl); err != nil && !errors.Is(err, dcs.ErrDenied) {
			s.view.doubt()
		}
	}
	if err != nil {
		return fmt.Errorf("announce member %s: %w", m.Name, err)
	}
	return nil
}

func (s *Store) announce(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.mu.Lock()
	s.ttl = ttl
	l := s.member
	s.mu.Unlock()
	if l.id != 0 && l.ttl == ttl && s.config.Clock().Sub(l.touched) < min(ttl, l.timeout)/2 {
		shown, ok := s.view.get(key)
		if ok && shown.owner == l.id {
			if bytes.Equal(shown.value, value) {
				return nil
			}
			answers, err := s.write(ctx, set(s.view.path(key), value, anyone)) // nobody else writes our node
			if err != nil || answers[0].err == nil {
				return err
			}
			if answers[0].err != errNoNode {
				return classify("set", answers[0].err)
			}
		}
	}
	if l.ttl != ttl {
		l = session{ttl: ttl}
	}
	c, err := s.servers.attach(ctx, l, nil)
	if errors.Is(err, errExpired) {
		c, err = s.servers.attach(ctx, session{ttl: ttl}, nil)
	}
	if err != nil {
		return err
	}
	defer c.close(errDone)
	if err := s.own(ctx, c, key, value); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.member = c.session
	return nil
}

// own makes the member's node bear that value and belong to the connection's session.
func (s *Store) own(ctx context.Context, c *conn, key string, value []byte) error {
	path := s.view.path(key)
	for range 4 {
		a, err := c.one(ctx, get(path))
		next := create(path, value, s.config.ACL, true)
		if err == nil {
			n, err := a.node()
			if err != nil {
				return classify("get", err)
			}
			switch {
			case n.owner == c.session.id && bytes.Equal(n.value, value):
				s.view.want(a.zxid)
				return nil
			case n.owner == c.session.id:
				next = set(path, value, anyone)
			default: // of our process before this one, or of a session with another timeout
				next = replace(path, value, s.config.ACL, anyone)
			}
		} else if err != errNoNode {
			return classify("get", err)
		}
		a, err = c.one(ctx, next)
		switch err {
		case nil:
			s.view.want(a.zxid)
			return nil
		case errNoNode:
			if next.op == opCreate2 {
				if err := s.makeFolders(ctx, c, key); err != nil {
					return err
				}
			}
		case errNodeExists:
		default:
			return classify("announce", err)
		}
	}
	return unavailable("announce", errRestless)
}

var (
	errDone     = errors.New("the call is over")
	errRestless = errors.New("the node changes faster than we can follow")
)
