package kubernetes

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// view is our copy of the cluster's objects and of the keys in them. Each kind is followed by a watch of its own, so a
// snapshot is not of one revision over all kinds. No object ever goes back to an older version.
type view struct {
	config *Config
	lockID id

	dcs.Following
	streams  [kinds]stream
	used     []kind
	known    [kinds]map[string]*object
	gone     [kinds]map[string]cluster.Revision // versions of deletions
	keys     map[string]cluster.KeyValue        // but for the lock, whose end is a matter of time
	lock     lockView
	revision cluster.Revision // ours: grows with every change, and is never below a version that has been seen
	built    *cluster.Snapshot
	expiry   *time.Timer
}

// stream is the watch of one kind.
type stream struct {
	ready   bool // a watch follows it
	restart context.CancelFunc
	at      cluster.Revision // every event up to here is in
	owed    cluster.Revision // our own write, which the watch must show as well
	since   time.Time        // when that was written; zero: nothing is owed
}

func newView(c *Config) *view {
	v := &view{config: c, lockID: c.lockID(), used: c.followed(), expiry: time.NewTimer(time.Hour), keys: map[string]cluster.KeyValue{}}
	for k := range kinds {
		v.known[k], v.gone[k] = map[string]*object{}, map[string]cluster.Revision{}
	}
	return v
}

// load replaces a kind by a list. floor is from before the list was asked for; asked is when that was. It returns false
// when the list is older than what was known then: the server behind it lags.
func (v *view) load(k kind, list []*object, at, floor cluster.Revision, asked time.Time) bool {
	v.Lock()
	defer v.Unlock()
	if at < floor {
		return false
	}
	listed := map[string]bool{}
	for _, o := range list {
		listed[o.Metadata.Name] = true
		v.take(k, o)
	}
	for name, o := range v.known[k] {
		if !listed[name] && o.version() <= at {
			v.drop(k, name, at)
		}
	}
	v.gone[k] = map[string]cluster.Revision{}
	v.progress(k, at)
	if k == v.lockID.kind {
		v.confirm(asked)
	}
	v.Tell()
	return true
}

// reset forgets a kind: its API server was restored from a backup. Nothing of before may be the base of a write.
func (v *view) reset(k kind) {
	v.Lock()
	defer v.Unlock()
	for name := range v.known[k] {
		v.drop(k, name, 0)
	}
	v.gone[k], v.streams[k].at, v.streams[k].owed, v.streams[k].since = map[string]cluster.Revision{}, 0, 0, time.Time{}
}

// apply takes one object in, from a watch or from the answer to a request of ours.
func (v *view) apply(k kind, o *object, own bool) {
	v.Lock()
	defer v.Unlock()
	v.take(k, o)
	if s := &v.streams[k]; own && s.ready && o.version() > s.at && s.since.IsZero() {
		s.owed, s.since = o.version(), v.config.Clock()
	}
	v.Tell()
}

// remove takes a deletion in.
func (v *view) remove(k kind, name string, at cluster.Revision) {
	v.Lock()
	defer v.Unlock()
	if have := v.known[k][name]; have.version() <= at {
		v.gone[k][name] = at
		v.drop(k, name, at)
	}
	v.Tell()
}

// reached says that the watch of a kind has come to that version.
func (v *view) reached(k kind, at cluster.Revision) {
	v.Lock()
	defer v.Unlock()
	v.progress(k, at)
}

func (v *view) progress(k kind, at cluster.Revision) {
	s := &v.streams[k]
	if s.at = max(s.at, at); s.at >= s.owed {
		s.since = time.Time{}
	}
}

func (v *view) take(k kind, o *object) {
	name := o.Metadata.Name
	if have := v.known[k][name]; have != nil && o.version() <= have.version() || o.version() <= v.gone[k][name] {
		return
	}
	before := v.known[k][name]
	v.known[k][name] = o
	v.note(k, name, before, o, o.version())
}

func (v *view) drop(k kind, name string, at cluster.Revision) {
	before := v.known[k][name]
	if before == nil {
		return
	}
	delete(v.known[k], name)
	v.note(k, name, before, nil, at)
}

// note works out what a changed object means for the keys in it.
func (v *view) note(k kind, name string, before, now *object, at cluster.Revision) {
	v.revision = max(v.revision+1, at)
	v.built = nil
	if k == pods {
		v.noteMember(name, before, now, at)
		return
	}
	var annotations map[string]string
	if now != nil {
		annotations = now.Metadata.Annotations
	}
	for _, key := range plainKeys {
		if where, _ := v.config.place(key); where == (id{k, name}) {
			v.put(key, value(key, annotations), at, true)
		}
	}
	if v.lockID == (id{k, name}) {
		v.observe(v.config.recordOf(now), at)
	}
}

// noteMember: every pod that the selector finds is a member, and one that has said nothing yet has no data.
func (v *view) noteMember(name string, before, now *object, at cluster.Revision) {
	said := func(o *object) string {
		if o == nil {
			return ""
		}
		return o.Metadata.Annotations["status"]
	}
	var text []byte
	if now != nil {
		if text = []byte(said(now)); len(text) == 0 {
			text = []byte("{}")
		}
	}
	comesOrGoes := (before == nil) != (now == nil) || (said(before) == "") != (said(now) == "")
	v.put(cluster.KeyMembers+name, text, at, comesOrGoes)
}

// put changes one key, if it is a change.
func (v *view) put(key string, text []byte, at cluster.Revision, existence bool) {
	have, exists := v.keys[key]
	if exists == (text != nil) && bytes.Equal(have.Value, text) {
		return
	}
	if text == nil {
		delete(v.keys, key)
	} else {
		v.keys[key] = cluster.KeyValue{Key: key, Value: text, Revision: at}
	}
	if dcs.Wakes(key, existence) {
		v.News = v.revision
	}
}

// start says that a watch follows a kind now; restart ends it. It returns false when the watch goes on from where another
// one ended, and the view came into doubt meanwhile.
func (v *view) start(k kind, restart context.CancelFunc, resumed bool) bool {
	v.Lock()
	defer v.Unlock()
	if resumed && !v.streams[k].ready {
		return false
	}
	v.streams[k].ready, v.streams[k].restart, v.streams[k].since = true, restart, time.Time{}
	v.Tell()
	return true
}

// stop says that nothing follows a kind any more.
func (v *view) stop(k kind, cause error) {
	v.Lock()
	defer v.Unlock()
	v.Cause = cause
	if v.streams[k].ready {
		v.Breaks++
	}
	v.streams[k].ready = false
	v.Tell()
}

// close ends all waiting.
func (v *view) close() {
	v.Lock()
	defer v.Unlock()
	v.Closed, v.Cause = true, errClosed
	v.expiry.Stop()
	for k := range v.streams {
		v.streams[k].ready = false
	}
	v.Tell()
}

// doubt begins all watches anew: what they told is to be read again first.
func (v *view) doubt() {
	v.Lock()
	defer v.Unlock()
	v.distrust()
}

func (v *view) distrust() {
	for k := range v.streams {
		if s := &v.streams[k]; s.ready {
			s.ready = false
			s.restart()
			v.Breaks++
			v.Tell()
		}
	}
}

// get returns an object as it is known.
func (v *view) get(i id) *object {
	v.Lock()
	defer v.Unlock()
	return v.known[i.kind][i.name]
}

// followed is whether a watch follows every kind.
func (v *view) followed() bool {
	for _, k := range v.used {
		if !v.streams[k].ready {
			return false
		}
	}
	return true
}

// snapshot builds one when every kind is followed; nil else. A watch that does not show our own write long after its
// answer came is dead, whatever its connection says.
func (v *view) snapshot() *cluster.Snapshot {
	if v.moved() != "" {
		return nil
	}
	_, _, retryTimeout := v.config.Timing()
	for _, k := range v.used {
		if s := &v.streams[k]; s.ready && !s.since.IsZero() && v.config.Clock().Sub(s.since) > retryTimeout/2 {
			v.distrust()
		}
		if !v.streams[k].ready {
			return nil
		}
	}
	if v.built == nil {
		keys := make([]cluster.KeyValue, 0, len(v.keys)+1)
		for _, key := range slices.Sorted(maps.Keys(v.keys)) {
			keys = append(keys, v.keys[key])
		}
		if holder := v.holder(); holder != "" {
			keys = append(keys, cluster.KeyValue{Key: cluster.KeyLeader, Value: []byte(holder), Revision: v.lock.revision, Session: v.lock.session()})
		}
		v.built = cluster.NewSnapshot(v.revision, keys)
	}
	return v.built
}

// moved is the layout that the cluster has moved to; empty: it lives here.
func (v *view) moved() Layout { return markOf(v.known[v.lockID.kind][v.lockID.name]).to() }

// session names the hold on the lock, in all layouts alike: it goes along when the cluster moves.
func (r record) session() string {
	if t := instant(r.acquired); !t.IsZero() {
		return t.Format(time.RFC3339Nano)
	}
	return strings.TrimSpace(r.acquired)
}
