package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Store is one member's part of a namespace. It implements dcs.Store.
type Store struct {
	config *Config
	client *client
	view   *view
	stop   context.CancelFunc
	tasks  sync.WaitGroup
	once   sync.Once
	behind [kinds]time.Time // since when lists have been too old; one goroutine each

	patching chan struct{} // held while our pod is patched: an older patch must not arrive last

	mu        sync.Mutex
	session   string        // of the lock that this process holds, or held last
	ttl       time.Duration // of the last Acquire or Announce
	announced *cluster.Member
	leads     bool // what the pod's labels said last
	guarded   bool // the Service that keeps the Endpoints is there
	found     bool // somebody has looked which layout is in force before this store was opened
	checked   bool // no other layout's lock was held when we had ours
}

var _ dcs.Store = (*Store)(nil)

// Open returns at once also when no API server answers: calls then end with ErrUnavailable, and connecting goes on in the
// background. What is wrong with the credentials on this machine is said at once.
func Open(ctx context.Context, config Config) (*Store, error) { return open(ctx, config, nil) }

// open goes on where the store of another layout was, if there is one before.
func open(ctx context.Context, config Config, before *Store) (*Store, error) {
	if err := config.complete(); err != nil {
		return nil, fmt.Errorf("open Kubernetes: %w", err)
	}
	t, err := newTransport(&config)
	if err != nil {
		return nil, fmt.Errorf("open Kubernetes: %w", err)
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Store{config: &config, view: newView(&config), stop: stop, patching: make(chan struct{}, 1)}
	if before != nil {
		before.view.Lock()
		s.view.revision = before.view.revision
		before.view.Unlock()
		s.view.News = s.view.revision + 1
		before.mu.Lock()
		s.session, s.ttl, s.guarded = before.session, before.ttl, before.guarded
		before.mu.Unlock()
	}
	s.client = &client{transport: t, config: &config, lost: s.view.doubt, closed: following, requests: map[string]uint64{}}
	for _, k := range config.followed() {
		s.tasks.Go(func() { s.follow(following, k) })
	}
	s.tasks.Go(func() { s.expire(following) })
	if config.Name != "" {
		s.tasks.Go(func() { s.tend(following) })
	}
	if config.Access.Bypass {
		s.tasks.Go(func() { s.learnServers(following) })
	}
	return s, nil
}

// Close waits for the store's own goroutines to end. After the release of a lock the labels of our pod, which may be there for
// long, have a second to become true: it costs nothing when they are.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		announced := s.announced != nil
		s.mu.Unlock()
		if announced {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := s.patchPod(ctx); err != nil && !errors.Is(err, errMoved) {
				s.config.Log.Warn("label our pod with its role before the end", "pod", s.config.Name, "error", err)
			}
		}
		s.stop()
		s.view.close()
		s.tasks.Wait()
		s.client.pooled.CloseIdleConnections()
	})
	return nil
}

// Requests counts what was sent, by method and resource.
func (s *Store) Requests() map[string]uint64 {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return maps.Clone(s.client.requests)
}

func (s *Store) Snapshot(ctx context.Context) (*cluster.Snapshot, error) {
	ctx, cancel := s.client.limited(ctx)
	defer cancel()
	var snapshot *cluster.Snapshot
	if !s.view.Wait(ctx, func() bool {
		snapshot = s.view.snapshot()
		return snapshot != nil
	}) {
		s.view.Lock()
		cause := s.view.Cause
		s.view.Unlock()
		return nil, fmt.Errorf("snapshot: %w: no current view of the objects in time: %w", dcs.ErrUnavailable, errors.Join(cause, ctx.Err()))
	}
	return snapshot, nil
}

func (s *Store) Watch(ctx context.Context, after cluster.Revision) error {
	return s.view.Watch(ctx, after, s.config.base(), s.view.followed)
}

func (s *Store) Put(ctx context.Context, key string, value []byte, prev cluster.Revision) (cluster.Revision, error) {
	if value == nil {
		value = []byte{} // nothing in it, which is not nothing: somebody bootstraps
	}
	return s.swap(ctx, "put", key, value, prev)
}

func (s *Store) Delete(ctx context.Context, key string, prev cluster.Revision) error {
	_, err := s.swap(ctx, "delete", key, nil, prev)
	return err
}

// tries bounds how often a refused write is decided anew. Each refusal means that somebody else's write went through.
const tries = 20

// swap writes a key, nil to remove it, if it is still at prev. Another key of the same object may have changed; then the
// write was refused, and goes out again on the object's new version.
func (s *Store) swap(ctx context.Context, what, key string, to []byte, prev cluster.Revision) (cluster.Revision, error) {
	where, ok := s.config.place(key)
	if !ok {
		return 0, fmt.Errorf("%s %s: there is no place for this key in Kubernetes; nothing was done", what, key)
	}
	written, err := annotations(key, to)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w; nothing was done", what, key, err)
	}
	ctx, cancel := s.client.limited(ctx)
	defer cancel()
	for try, fetched := 0, false; ; try++ {
		s.view.Lock()
		have, now := s.view.keys[key], s.view.known[where.kind][where.name]
		s.view.Unlock()
		if absent := to == nil && have.Value == nil; have.Revision != prev || absent && !fetched {
			if fetched {
				return 0, fmt.Errorf("%s %s in %s: have revision %d, want %d: %w", what, key, where.name, have.Revision, prev, dcs.ErrConflict)
			}
			// The view may be behind the one that told of prev.
			if err := s.fetch(ctx, where); err != nil {
				return 0, fmt.Errorf("%s %s: %w", what, key, class(err))
			}
			fetched = true
			continue
		}
		if have.Value == nil && len(present(written)) == 0 {
			return 0, nil // nothing into nothing
		}
		ch := change{labels: plain(s.config.labels()), annotations: written}
		if copied := copiedTo(now); copied != "" && where != s.config.lockID() {
			if err := s.uncopied(ctx, copied); err != nil {
				return 0, fmt.Errorf("%s %s in %s: %w", what, key, where.name, err)
			}
			ch.annotations = merged(written, fields{markCopied: nil})
		}
		if where == s.config.lockID() && markOf(now).to() != "" {
			return 0, fmt.Errorf("%s %s in %s: %w", what, key, where.name, errMoved)
		}
		after, err := s.change(ctx, where, now, ch)
		if err == nil {
			return s.written(key, have, after), nil
		}
		if try == tries || !settles(err) {
			return 0, fmt.Errorf("%s %s in %s: %w", what, key, where.name, class(err))
		}
		if err := s.fetch(ctx, where); err != nil {
			return 0, fmt.Errorf("%s %s: %w", what, key, class(err))
		}
		fetched = true
	}
}

// written is the revision of a key after our own write of its object.
func (s *Store) written(key string, before cluster.KeyValue, after *object) cluster.Revision {
	text := value(key, after.Metadata.Annotations)
	switch {
	case text == nil:
		return 0
	case before.Value != nil && string(before.Value) == string(text):
		return before.Revision
	default:
		return after.version()
	}
}

// settles is whether a refused write is worth another look at the object: somebody changed it (409), it is gone (404), or
// it is there already and we may only patch it (403 for a POST).
func settles(err error) bool {
	return says(err, http.StatusConflict) || says(err, http.StatusNotFound) || errors.Is(err, errCreate)
}

// errCreate: we may not create objects, so somebody else has to, and perhaps has already.
var errCreate = errors.New("the object could not be created")

// change sends one conditional write of an object, based on the version that is known, or creates it.
func (s *Store) change(ctx context.Context, where id, now *object, ch change, also ...int) (*object, error) {
	after := &object{}
	var err error
	path := s.config.path(where.kind)
	if now == nil {
		err = s.client.write(ctx, http.MethodPost, path, ch.body(s.config.Namespace, where.name, true), after, also...)
		if says(err, http.StatusForbidden) {
			return nil, s.forbidden(ctx, where, err)
		}
	} else {
		ch.version = now.Metadata.ResourceVersion
		err = s.client.write(ctx, http.MethodPatch, path+"/"+where.name, ch.body(s.config.Namespace, where.name, false), after, also...)
	}
	if err != nil {
		return nil, err
	}
	s.view.apply(where.kind, after, true)
	return after, nil
}

// forbidden looks whether the object that we may not create is there.
func (s *Store) forbidden(ctx context.Context, where id, cause error) error {
	if err := s.fetch(ctx, where); err != nil {
		return err
	}
	if s.view.get(where) != nil {
		return errCreate
	}
	return cause
}

// RemoveAll deletes the cluster's objects; pods and Services stay. Each is selected by its name as well as by the labels:
// Services of the cluster have Endpoints with the same ones.
func (s *Store) RemoveAll(ctx context.Context) error {
	ctx, cancel := s.client.limited(ctx)
	defer cancel()
	places := []id{s.config.lockID(), s.config.statusID()}
	for _, key := range plainKeys {
		where, _ := s.config.place(key)
		places = append(places, where)
	}
	done := map[id]bool{}
	for _, where := range places {
		if done[where] {
			continue
		}
		done[where] = true
		if err := s.client.remove(ctx, where, s.config.selector()); err != nil {
			return fmt.Errorf("remove %s: %w", where.name, class(err))
		}
	}
	s.view.doubt()
	return nil
}
