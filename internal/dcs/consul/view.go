package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// view is our copy of the cluster's keys, as one answer told them.
type view struct {
	root string // ends with a slash

	dcs.Following
	ready    bool              // a query follows it
	index    uint64            // of the answer, for the next query
	revision uint64            // ours: the highest index that was seen, and more with each change
	wanted   uint64            // our own writes: a snapshot must not be older
	gone     map[string]uint64 // what we deleted, or saw to be gone: the key is not at that index any more
	keys     map[string]pair   // by relative key
	prior    *cluster.Snapshot
	built    bool // prior is of this moment
	restart  context.CancelFunc
	lock     lastLock
}

func newView(root string) *view {
	return &view{root: root, keys: map[string]pair{}, gone: map[string]uint64{}}
}

// begin says how the query that runs now can be ended.
func (v *view) begin(restart context.CancelFunc) {
	v.Lock()
	defer v.Unlock()
	v.restart = restart
}

// older says that an answer shows a time before what we have: it comes from a server that is behind, or the data was restored from a copy.
func (v *view) older(index uint64, all map[string]pair) bool {
	v.Lock()
	defer v.Unlock()
	// The index of a prefix may fall when what remembers deletions is cleaned up; then the keys are as they were.
	return index < v.index && !maps.EqualFunc(v.keys, all, func(a, b pair) bool { return a.ModifyIndex == b.ModifyIndex && a.CreateIndex == b.CreateIndex })
}

// load replaces everything. certain: the answer was consistent, so what is older than we knew was restored.
func (v *view) load(index uint64, all map[string]pair, certain bool, now time.Time) (restored bool) {
	v.Lock()
	defer v.Unlock()
	old, first := v.keys, v.revision == 0
	restored = certain && !first && index < v.index && !maps.EqualFunc(old, all, func(a, b pair) bool { return a.ModifyIndex == b.ModifyIndex })
	if restored {
		v.wanted, v.gone = 0, map[string]uint64{}
	}
	changed := first || restored || !maps.EqualFunc(old, all, func(a, b pair) bool {
		return a.ModifyIndex == b.ModifyIndex && a.CreateIndex == b.CreateIndex && a.Session == b.Session && bytes.Equal(a.Value, b.Value)
	})
	if before := v.revision; changed {
		v.revision = max(before+1, index)
	} else {
		v.revision = max(before, index)
	}
	v.keys, v.index = all, index
	for key := range all {
		v.revision = max(v.revision, all[key].ModifyIndex)
	}
	if first || restored {
		v.News = cluster.Revision(v.revision)
	}
	for key := range all {
		v.compare(key, old)
	}
	for key := range old {
		v.compare(key, old)
	}
	v.lock.see(all, now)
	v.ready, v.built = true, false
	v.Tell()
	return restored
}

// compare notes news.
func (v *view) compare(key string, old map[string]pair) {
	before, was := old[key]
	now, is := v.keys[key]
	existence := was != is || before.CreateIndex != now.CreateIndex // deleted and created again in between is news too
	if (existence || !bytes.Equal(before.Value, now.Value)) && dcs.Wakes(key, existence) {
		v.News = cluster.Revision(v.revision)
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
	v.ready, v.Closed = false, v.Closed || closed
	v.Tell()
}

// doubt asks anew before the next snapshot: a request had no answer, and the view comes from the same agent.
func (v *view) doubt() {
	v.Lock()
	defer v.Unlock()
	if v.ready {
		v.ready = false
		v.Breaks++
		v.restart()
		v.Tell()
	}
}

// want makes later snapshots wait for what we know to be written.
func (v *view) want(index uint64) {
	v.Lock()
	defer v.Unlock()
	if index > v.wanted {
		v.wanted = index
	}
}

// agree makes sure that later snapshots do not contradict what was read: the key as it is, or, when it is absent, no longer at that index.
func (v *view) agree(key string, now *pair) {
	if now != nil {
		v.want(now.ModifyIndex)
		return
	}
	v.Lock()
	known := v.keys[key].ModifyIndex
	v.Unlock()
	v.remove(key, known)
}

// remove makes later snapshots wait until the key is not at that index any more.
func (v *view) remove(key string, index uint64) {
	v.Lock()
	defer v.Unlock()
	v.gone[key] = max(v.gone[key], index)
}

// current says whether the view shows what we know. The caller holds the lock.
func (v *view) current() bool {
	if !v.ready || v.Closed || v.revision < v.wanted {
		return false
	}
	for key, index := range v.gone {
		if now, there := v.keys[key]; there && now.ModifyIndex <= index {
			return false
		}
		delete(v.gone, key)
	}
	return true
}

// followed is whether a query follows the keys.
func (v *view) followed() bool { return v.ready }

// snapshot builds one when the view is followed and shows our own writes. The caller holds the lock.
func (v *view) snapshot() *cluster.Snapshot {
	if !v.current() {
		return nil
	}
	if v.built {
		return v.prior
	}
	keys := make([]cluster.KeyValue, 0, len(v.keys))
	for _, key := range slices.Sorted(maps.Keys(v.keys)) {
		p := v.keys[key]
		keys = append(keys, cluster.KeyValue{Key: key, Value: p.Value, Revision: cluster.Revision(p.ModifyIndex), Session: p.Session})
	}
	v.prior, v.built = v.prior.Next(cluster.Revision(v.revision), keys), true
	return v.prior
}

// shows says that the view has that key with that value under that session.
func (v *view) shows(key string, value []byte, session string) bool {
	v.Lock()
	defer v.Unlock()
	p, ok := v.keys[key]
	return ok && v.current() && p.Session == session && bytes.Equal(p.Value, value)
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

var (
	errClosed    = errors.New("the store has been closed")
	errNotInTime = errors.New("no current view of the keys in time")
	errOlder     = errors.New("the answer is from a server that is behind")
)

// follow keeps the view up to date until ctx ends.
func (s *Store) follow(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { s.view.stop(errClosed, true) })
	defer stop()
	dcs.Repeat(ctx, s.config.Clock, func() error { return s.followOnce(ctx) }, func(err error) bool {
		s.view.stop(err, false)
		s.config.Log.Debug("the query of Consul ended and begins again", "error", err)
		return false
	})
	s.view.stop(errClosed, true)
}

// followOnce reads all keys, and again whenever they change, until a query fails or the view comes into doubt.
func (s *Store) followOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.view.begin(cancel)
	index, err := s.read(ctx, 0)
	for err == nil {
		index, err = s.read(ctx, index)
	}
	return err
}

// read asks for all keys: at once, or, after an index, when they have changed or the wait is over.
func (s *Store) read(ctx context.Context, after uint64) (uint64, error) {
	_, loopWait, retryTimeout := s.config.Timing()
	patience := max(retryTimeout/3, time.Second)
	query := url.Values{"recurse": {""}}
	if after > 0 {
		wait := min(max(loopWait, time.Second), time.Minute)
		query.Set("index", strconv.FormatUint(after, 10))
		query.Set("wait", strconv.FormatInt(wait.Milliseconds(), 10)+"ms")
		patience += wait + wait/16 // by which Consul may exceed it
	}
	mode := s.config.Live().Consistency
	certain := mode == Consistent || s.config.Name == "" // whoever only looks on or repairs wants to know for sure
	for {
		if certain {
			query.Set("consistent", "")
		} else if mode == Stale {
			query.Set("stale", "")
		}
		index, all, err := s.ask(ctx, patience, query)
		if err != nil {
			return 0, err
		}
		if !s.view.older(index, all) || certain {
			if s.view.load(index, all, certain, s.config.Clock()) {
				s.config.Log.Warn("Consul went back in time: its data was restored from a copy")
			}
			return index, nil
		}
		certain = true // is it the server that is behind, or all of them?
		query.Del("stale")
		query.Del("index")
		query.Del("wait")
	}
}

// ask sends one query.
func (s *Store) ask(ctx context.Context, patience time.Duration, query url.Values) (index uint64, all map[string]pair, err error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a, err := s.client.do(limited, "query", http.MethodGet, "/v1/kv/"+s.view.root, query, nil)
	if err != nil {
		return 0, nil, err
	}
	if a.header.Get("X-Consul-Knownleader") == "false" {
		return 0, nil, unavailable("query", fmt.Errorf("the servers have no leader: %w", errOlder))
	}
	if _, _, retryTimeout := s.config.Timing(); query.Has("stale") {
		if ms, err := strconv.ParseInt(a.header.Get("X-Consul-Lastcontact"), 10, 64); err == nil && time.Duration(ms)*time.Millisecond > retryTimeout {
			return 0, nil, unavailable("query", fmt.Errorf("%w: %d ms", errOlder, ms))
		}
	}
	if a.header.Get("X-Consul-Results-Filtered-By-Acls") == "true" {
		return 0, nil, fmt.Errorf("consul query: %w: the token may not read all keys below %s", dcs.ErrDenied, s.view.root)
	}
	if index, err = strconv.ParseUint(a.header.Get("X-Consul-Index"), 10, 64); err != nil || index == 0 {
		return 0, nil, unavailable("query", fmt.Errorf("have index %q, want a number above 0", a.header.Get("X-Consul-Index")))
	}
	var pairs []pair
	if a.status == http.StatusOK {
		if err := json.Unmarshal(a.body, &pairs); err != nil {
			return 0, nil, unavailable("query", err)
		}
	}
	all = make(map[string]pair, len(pairs))
	for _, p := range pairs {
		if key, ours := strings.CutPrefix(p.Key, s.view.root); ours && key != "" && !strings.HasSuffix(key, "/") {
			all[key] = p
		}
	}
	return index, all, nil
}
