package zookeeper

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// node is one node as we read it last.
type node struct {
	stat
	value []byte
}

// view is our copy of the cluster's nodes. An event says that a node has changed, not to what: it is read again. While none
// is to be read, the view is what the server had at the newest transaction that any answer on the connection told of, because events
// come before the answers that show what they are about.
type view struct {
	root string

	dcs.Following
	ready   bool // a watch follows it
	conn    *conn
	seen    int64           // the newest transaction that this connection, or one before, told of
	wanted  int64           // our own writes over other connections: a snapshot must not be older
	doubted bool            // a round trip has to show that the servers are still there
	nodes   map[string]node // by relative key
	events  int             // how many came
	dirty   map[string]int  // to be read again: the number of its last event
	prior   *cluster.Snapshot
	built   bool // prior is of this moment
}

func newView(root string) *view {
	return &view{root: root, nodes: map[string]node{}, dirty: map[string]int{}}
}

func (v *view) path(key string) string {
	if key == "" {
		return v.root
	}
	return v.root + "/" + key
}

// tell wakes all who wait. The caller holds the lock.
func (v *view) tell() {
	v.built = false
	v.Tell()
}

// begin takes the events of a new connection from now on.
func (v *view) begin(c *conn) {
	v.Lock()
	defer v.Unlock()
	v.conn, v.dirty = c, map[string]int{}
}

// event is told that something happened to the node at path.
func (v *view) event(c *conn, path string) {
	key, ours := strings.CutPrefix(path, v.root+"/")
	v.Lock()
	defer v.Unlock()
	if ours && c == v.conn {
		v.events++
		v.dirty[key] = v.events
		v.tell()
	}
}

// heard is told of the transaction in an answer, before the answer is handed out.
func (v *view) heard(c *conn, zxid int64) {
	v.Lock()
	defer v.Unlock()
	if c == v.conn && zxid > c.top {
		c.top = zxid
		v.seen = max(v.seen, zxid)
		v.tell()
	}
}

// load replaces everything, and says that a watch follows from now on. The servers that know less than they did have been given an older copy
// of their data, and there is nothing to wait for.
func (v *view) load(c *conn, all map[string]node) (restored bool) {
	v.Lock()
	defer v.Unlock()
	old, first := v.nodes, v.News == 0
	v.nodes = all
	if restored = c.top < max(v.seen, v.wanted); restored {
		v.seen, v.wanted = c.top, 0
	}
	if first || restored {
		v.News = cluster.Revision(v.seen)
	}
	for key := range all {
		v.compare(key, old)
	}
	for key := range old {
		v.compare(key, old)
	}
	v.ready, v.doubted = true, false
	v.tell()
	return restored
}

// apply takes what reading told; a node with a later event than marks says is read again.
func (v *view) apply(c *conn, now map[string]*node, marks map[string]int) {
	v.Lock()
	defer v.Unlock()
	if c != v.conn {
		return
	}
	for key, n := range now {
		old := map[string]node{}
		if before, ok := v.nodes[key]; ok {
			old[key] = before
		}
		if n == nil {
			delete(v.nodes, key)
		} else {
			v.nodes[key] = *n
			v.seen = max(v.seen, n.changed)
		}
		v.compare(key, old)
		if v.dirty[key] == marks[key] {
			delete(v.dirty, key)
		}
	}
	v.tell()
}

// compare notes news.
func (v *view) compare(key string, old map[string]node) {
	before, was := old[key]
	now, is := v.nodes[key]
	existence := was != is || before.created != now.created // deleted and created again in between is news too
	if !existence && bytes.Equal(before.value, now.value) {
		return
	}
	if dcs.Wakes(key, existence) {
		v.News = cluster.Revision(v.seen)
	}
}

// todo returns what to read again, and whether to ask how far the servers are.
func (v *view) todo() (marks map[string]int, ask bool) {
	v.Lock()
	defer v.Unlock()
	return maps.Clone(v.dirty), v.doubted || v.seen < v.wanted
}

// proven takes note of a round trip.
func (v *view) proven(c *conn) {
	v.Lock()
	defer v.Unlock()
	if c == v.conn {
		v.doubted = false
		v.tell()
	}
}

// stop says that nothing follows any more.
func (v *view) stop(cause error, closed bool) {
	v.Lock()
	defer v.Unlock()
	v.Cause = cause
	if v.ready {
		v.Breaks++
	}
	v.ready, v.conn, v.Closed = false, nil, v.Closed || closed
	v.tell()
}

// doubt asks for a sign of life before the next snapshot: a request elsewhere had no answer.
func (v *view) doubt() {
	v.Lock()
	defer v.Unlock()
	v.doubted = true
	v.tell()
}

// want makes later snapshots wait for what we know has happened.
func (v *view) want(zxid int64) {
	v.Lock()
	defer v.Unlock()
	if zxid > v.wanted {
		v.wanted = zxid
		v.tell()
	}
}

// folders are nodes that only hold others.
var folders = []string{strings.TrimSuffix(cluster.KeyMembers, "/"), path.Dir(cluster.KeyOptime), path.Dir(cluster.KeyBootstrap)}

// followed is whether a watch follows the nodes.
func (v *view) followed() bool { return v.ready }

// snapshot builds one when the view is followed, read, and shows our own writes. The caller holds the lock.
func (v *view) snapshot() *cluster.Snapshot {
	if !v.ready || v.doubted || len(v.dirty) > 0 || v.seen < v.wanted {
		return nil
	}
	if v.built {
		return v.prior
	}
	parents := map[string]bool{}
	for key := range v.nodes {
		for up := path.Dir(key); up != "."; up = path.Dir(up) {
			parents[up] = true
		}
	}
	keys := make([]cluster.KeyValue, 0, len(v.nodes))
	for _, key := range slices.Sorted(maps.Keys(v.nodes)) {
		n := v.nodes[key]
		if len(n.value) == 0 && (parents[key] || slices.Contains(folders, key)) {
			continue
		}
		keys = append(keys, cluster.KeyValue{Key: key, Value: n.value, Revision: cluster.Revision(n.changed), Session: sessionText(n.owner)})
	}
	v.prior, v.built = v.prior.Next(cluster.Revision(v.seen), keys), true
	return v.prior
}

// get returns a node as the view has it.
func (v *view) get(key string) (node, bool) {
	v.Lock()
	defer v.Unlock()
	n, ok := v.nodes[key]
	return n, ok && v.ready && v.dirty[key] == 0
}

// connection waits for the reader's connection.
func (v *view) connection(ctx context.Context) (*conn, error) {
	var c *conn
	if !v.Wait(ctx, func() bool { c = v.conn; return v.ready && c != nil }) {
		v.Lock()
		defer v.Unlock()
		return nil, unavailable("connect", errorOr(v.Cause, ctx.Err()))
	}
	return c, nil
}

func errorOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// follow keeps the view up to date until ctx ends.
func (s *Store) follow(ctx context.Context) {
	var reader session
	dcs.Repeat(ctx, s.config.Clock, func() error { return s.followOnce(ctx, &reader) }, func(err error) bool {
		s.view.stop(err, false)
		s.config.Log.Debug("the watch on ZooKeeper ended and begins again", "error", err)
		return false
	})
	s.view.stop(errClosed, true)
}

// followOnce reads everything, then what events tell of, until the connection breaks. The reader's session goes on over connections, so that
// what was sent on the one before cannot arrive any more.
func (s *Store) followOnce(ctx context.Context, reader *session) error {
	ttl, _, retryTimeout := s.config.Timing()
	if reader.ttl != ttl {
		*reader = session{ttl: ttl}
	}
	limited, cancel := context.WithTimeout(ctx, retryTimeout)
	defer cancel()
	c, err := s.servers.attach(limited, *reader, func(c *conn) {
		s.view.begin(c)
		c.event = func(path string) { s.view.event(c, path) }
		c.heard = func(zxid int64) { s.servers.heard(zxid); s.view.heard(c, zxid) }
	})
	if errors.Is(err, errExpired) {
		*reader = session{ttl: ttl}
	}
	if err != nil {
		return err
	}
	defer func() {
		if ctx.Err() != nil { // closed in order: the session has no use any more
			_, _ = c.send(closeSession)
		}
		c.close(errClosed)
	}()
	*reader = c.session
	stop := context.AfterFunc(ctx, func() { s.view.stop(errClosed, true) })
	defer stop()
	// A server that is behind catches up with the leader first.
	answers, err := c.call(limited, watch(s.view.root), flush(s.view.root))
	if err != nil {
		return err
	}
	for _, a := range answers {
		if a.err != nil {
			return classify("watch", a.err)
		}
	}
	all, err := s.readAll(limited, c)
	if err != nil {
		return err
	}
	if s.view.load(c, all) {
		s.config.Log.Warn("ZooKeeper went back in time: its data was restored from a copy")
	}
	return s.keepReading(ctx, c)
}

func (s *Store) keepReading(ctx context.Context, c *conn) error {
	ping := time.NewTicker(s.servers.silence(c.session) / 2)
	defer ping.Stop()
	_, _, retryTimeout := s.config.Timing()
	for {
		s.view.Lock()
		changed := s.view.Changed()
		s.view.Unlock()
		if marks, ask := s.view.todo(); len(marks) > 0 || ask {
			limited, cancel := context.WithTimeout(ctx, retryTimeout)
			err := s.readAgain(limited, c, marks, ask)
			cancel()
			if err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.broken:
			return unavailable("watch", c.cause)
		case <-ping.C:
			if _, err := c.send(request{"ping", opPing, nil}); err != nil {
				return err
			}
		case <-changed:
		}
	}
}

// readAgain reads marked nodes. ask: the server hears from the leader first, so that it has all that is committed by now.
func (s *Store) readAgain(ctx context.Context, c *conn, marks map[string]int, ask bool) error {
	var requests []request
	if ask {
		requests = append(requests, flush(s.view.root), exists(s.view.root))
	}
	keys := slices.Sorted(maps.Keys(marks))
	for _, key := range keys {
		requests = append(requests, get(s.view.path(key)))
	}
	answers, err := c.call(ctx, requests...)
	if err != nil {
		return err
	}
	now := map[string]*node{}
	for i, a := range answers[len(answers)-len(keys):] {
		n, err := a.node()
		if err != nil && err != errNoNode {
			return classify("get "+keys[i], err)
		}
		now[keys[i]] = n
	}
	s.view.apply(c, now, marks)
	if ask {
		s.view.proven(c)
	}
	return nil
}

// node is the answer to a get; nil with an error.
func (a answer) node() (*node, error) {
	if a.err != nil {
		return nil, a.err
	}
	n := &node{value: a.bytes()}
	n.stat = a.stat()
	if a.short {
		return nil, errShort
	}
	return n, nil
}

// readAll reads all nodes, one level after the other.
func (s *Store) readAll(ctx context.Context, c *conn) (map[string]node, error) {
	all := map[string]node{}
	for level := []string{""}; len(level) > 0; {
		var requests []request
		for _, key := range level {
			requests = append(requests, get(s.view.path(key)), children(s.view.path(key)))
		}
		answers, err := c.call(ctx, requests...)
		if err != nil {
			return nil, err
		}
		var next []string
		for i, key := range level {
			n, err := answers[2*i].node()
			if err == nil && answers[2*i+1].err == nil && key != "" {
				all[key] = *n
			}
			list := answers[2*i+1]
			if err == nil {
				err = list.err
			}
			if err == errNoNode { // gone meanwhile
				continue
			}
			if err != nil {
				return nil, classify("read "+s.view.path(key), err)
			}
			for range list.int() {
				if list.short {
					return nil, errShort
				}
				next = append(next, strings.TrimPrefix(key+"/"+list.text(), "/"))
			}
		}
		level = next
	}
	return all, nil
}
