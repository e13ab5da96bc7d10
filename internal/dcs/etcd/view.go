package etcd

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// view is our copy of the cluster's keys, as of one revision.
type view struct {
	prefix string // the root, which ends with a slash

	dcs.Following
	ready    bool  // a watch follows it
	revision int64 // every event of our prefix up to here is in
	wanted   int64 // our own writes: a snapshot must not be older
	keys     map[string]*mvccpb.KeyValue
	built    *cluster.Snapshot
	source   *endpoint
	restart  context.CancelFunc
	proven   time.Time // the source's last sign of life
}

func newView(root string) *view {
	return &view{prefix: root, keys: map[string]*mvccpb.KeyValue{}}
}

// load replaces everything by a range. wanted is from before the range was asked for: when even that is newer, the
// store has been restored from a backup, and there is nothing to wait for.
func (v *view) load(r *pb.RangeResponse, wanted int64) (restored bool) {
	v.Lock()
	defer v.Unlock()
	old, first := v.keys, v.revision == 0
	v.keys = make(map[string]*mvccpb.KeyValue, len(r.Kvs))
	for _, kv := range r.Kvs {
		v.keys[strings.TrimPrefix(string(kv.Key), v.prefix)] = kv
	}
	restored = r.Header.Revision < max(wanted, v.revision)
	if restored {
		v.wanted = 0
	}
	if first || restored {
		v.News = cluster.Revision(r.Header.Revision)
	}
	for key := range v.keys {
		v.compare(key, old[key], v.keys[key], r.Header.Revision)
	}
	for key := range old {
		v.compare(key, old[key], v.keys[key], r.Header.Revision)
	}
	v.revision, v.built = r.Header.Revision, nil
	return restored
}

// compare notes news.
func (v *view) compare(key string, old, now *mvccpb.KeyValue, revision int64) {
	// Deleted and created again in between is news too.
	existence := old == nil || now == nil || old.CreateRevision != now.CreateRevision
	if old == now || !existence && bytes.Equal(old.Value, now.Value) {
		return
	}
	if dcs.Wakes(key, existence) {
		v.News = cluster.Revision(revision)
	}
}

// apply takes the events of one answer of the watch; it contains revisions as a whole.
func (v *view) apply(events []*mvccpb.Event) {
	v.Lock()
	defer v.Unlock()
	before := v.revision
	for _, e := range events {
		if e.Kv.ModRevision <= before {
			continue
		}
		key := strings.TrimPrefix(string(e.Kv.Key), v.prefix)
		old, now := v.keys[key], e.Kv
		if e.Type == mvccpb.Event_DELETE {
			now = nil
			delete(v.keys, key)
		} else {
			v.keys[key] = now
		}
		v.compare(key, old, now, e.Kv.ModRevision)
		v.revision, v.built = e.Kv.ModRevision, nil
	}
	v.Tell()
}

// start says that a watch follows now; restart ends it.
func (v *view) start(source *endpoint, restart context.CancelFunc, now time.Time) {
	v.Lock()
	defer v.Unlock()
	v.ready, v.source, v.restart, v.proven = true, source, restart, now
	v.Tell()
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

// doubt restarts the watch if it comes from that endpoint; nil: whatever it comes from.
func (v *view) doubt(e *endpoint) {
	v.Lock()
	defer v.Unlock()
	if v.ready && (e == nil || e == v.source) {
		v.ready = false
		v.Breaks++
		v.restart()
		v.Tell()
	}
}

func (v *view) alive(e *endpoint, now time.Time) {
	v.Lock()
	defer v.Unlock()
	if e == v.source {
		v.proven = now
	}
}

// want makes later snapshots wait for our own write.
func (v *view) want(revision int64) {
	v.Lock()
	defer v.Unlock()
	v.wanted = max(v.wanted, revision)
}

// lag is how long an event may be on its way behind the answer that told of it, before we ask the server instead.
const lag = 25 * time.Millisecond

// lookup returns a key as of that revision or later; ok is false when the view does not get there soon.
func (v *view) lookup(ctx context.Context, key string, revision int64) (kv *mvccpb.KeyValue, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, lag)
	defer cancel()
	ok = v.Wait(ctx, func() bool {
		kv = v.keys[key]
		return v.ready && v.revision >= revision
	})
	return kv, ok
}

// agree makes sure that later snapshots do not contradict an answer that said: this key is at that revision (0: absent).
func (v *view) agree(ctx context.Context, key string, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, lag)
	defer cancel()
	if !v.Wait(ctx, func() bool {
		kv := v.keys[key]
		return v.ready && (kv == nil && revision == 0 || v.revision >= revision && revision > 0)
	}) {
		v.doubt(nil)
	}
}

// followed is whether a watch follows the keys.
func (v *view) followed() bool { return v.ready }

// snapshot builds one when the view is followed and shows our own writes.
func (v *view) snapshot() *cluster.Snapshot {
	if !v.ready || v.revision < v.wanted {
		return nil
	}
	if v.built == nil {
		keys := make([]cluster.KeyValue, 0, len(v.keys))
		for _, key := range slices.Sorted(maps.Keys(v.keys)) {
			kv := v.keys[key]
			keys = append(keys, cluster.KeyValue{Key: key, Value: kv.Value, Revision: cluster.Revision(kv.ModRevision), Session: session(kv.Lease)})
		}
		v.built = cluster.NewSnapshot(cluster.Revision(v.revision), keys)
	}
	return v.built
}

// session is a lease as text, as etcdctl writes it.
func session(lease int64) string {
	if lease == 0 {
		return ""
	}
	return fmt.Sprintf("%x", lease)
}
