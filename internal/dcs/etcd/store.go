package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sync/errgroup"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Store is one member's part of an etcd. It implements dcs.Store.
type Store struct {
	config Config
	pool   *pool
	view   *view
	stop   context.CancelFunc
	ended  chan struct{}
	once   sync.Once

	granting chan struct{} // held while a lease is asked for: two at once would split our keys between them

	mu    sync.Mutex
	lease lease
}

var _ dcs.Store = (*Store)(nil)

// Open returns at once also when no endpoint answers: calls then end with ErrUnavailable, and connecting goes on in the
// background. With a user name it waits for the answer, a second or a tenth of retry_timeout if that is more, and
// returns ErrDenied when that is a no.
func Open(ctx context.Context, config Config) (*Store, error) {
	config.complete()
	if len(config.Endpoints) == 0 && config.SRV == "" {
		return nil, errors.New("open etcd: have no endpoint, want at least one host:port")
	}
	if config.Scope == "" {
		return nil, errors.New("open etcd: have no scope, want the cluster's name")
	}
	s := &Store{config: config, ended: make(chan struct{}), granting: make(chan struct{}, 1)}
	s.view = newView(config.root())
	s.pool = &pool{
		config: &s.config, requests: map[string]uint64{}, left: s.view.doubt, lost: make(chan struct{}, 1),
		alive: func(e *endpoint) { s.view.alive(e, config.Clock()) },
	}
	for _, address := range config.Endpoints {
		e, err := dial(&s.config, address)
		if err != nil {
			s.pool.close()
			return nil, fmt.Errorf("open etcd: %w", err)
		}
		s.pool.endpoints = append(s.pool.endpoints, e)
	}
	if config.SRV != "" {
		s.pool.use(s.configured(ctx))
	}
	if as := config.account(); as.username != "" {
		_, _, retryTimeout := config.Timing()
		ctx, cancel := context.WithTimeout(ctx, max(time.Second, retryTimeout/10))
		defer cancel()
		err := s.pool.read(ctx, "auth", func(context.Context, *endpoint) (*pb.ResponseHeader, error) { return nil, nil })
		if errors.Is(err, dcs.ErrDenied) {
			s.pool.close()
			return nil, fmt.Errorf("open etcd as user %s: %w; check username and password in the store's section", as.username, err)
		}
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	var g errgroup.Group
	g.Go(func() error { s.follow(following); return nil })
	if config.Learn || config.SRV != "" {
		g.Go(func() error { s.discover(following); return nil })
	}
	go func() {
		defer close(s.ended)
		_ = g.Wait()
	}()
	return s, nil
}

// Close waits for the store's own goroutines to end.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.stop()
		<-s.ended
		s.pool.close()
	})
	return nil
}

// Requests counts what was sent, by kind: range, watch, grant, keepalive, txn, put, delete, auth.
func (s *Store) Requests() map[string]uint64 {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return maps.Clone(s.pool.requests)
}

// Servers is how many addresses of the cluster are known.
func (s *Store) Servers() int {
	_, n := s.pool.now()
	return n
}

func (s *Store) Snapshot(ctx context.Context) (*cluster.Snapshot, error) {
	ttl, _, retryTimeout := s.config.Timing()
	if _, bounded := ctx.Deadline(); !bounded {
		limited, cancel := context.WithTimeout(ctx, retryTimeout)
		defer cancel()
		ctx = limited
	}
	for {
		var snapshot *cluster.Snapshot
		var silent time.Duration
		if !s.view.Wait(ctx, func() bool {
			snapshot = s.view.snapshot()
			silent = s.config.Clock().Sub(s.view.proven)
			return snapshot != nil
		}) {
			s.view.Lock()
			cause := s.view.Cause
			s.view.Unlock()
			return nil, unavailable("snapshot", errors.Join(errNotInTime, cause, ctx.Err()))
		}
		// A connection on which nothing comes back looks like a cluster in which nothing happens. Announce renews the
		// lease every ttl/2, which is sign enough; without it we ask.
		if silent < ttl*3/4 {
			return snapshot, nil
		}
		if err := s.prove(ctx); err != nil {
			return nil, err
		}
	}
}

// prove asks the current endpoint for a sign of life. If another one has to step in, the watch moves there.
func (s *Store) prove(ctx context.Context) error {
	return s.pool.read(ctx, "range", func(ctx context.Context, e *endpoint) (*pb.ResponseHeader, error) {
		r, err := pb.NewKVClient(e.conn).Range(ctx, &pb.RangeRequest{Key: []byte(s.view.prefix), CountOnly: true})
		if err != nil {
			return nil, err
		}
		return r.Header, nil
	})
}

func (s *Store) Watch(ctx context.Context, after cluster.Revision) error {
	return s.view.Watch(ctx, after, s.config.root(), s.view.followed)
}

func (s *Store) key(relative string) []byte { return []byte(s.view.prefix + relative) }

func (s *Store) Put(ctx context.Context, key string, value []byte, prev cluster.Revision) (cluster.Revision, error) {
	return s.swap(ctx, "put", key, prev, put(s.key(key), value, 0))
}

func (s *Store) Delete(ctx context.Context, key string, prev cluster.Revision) error {
	_, err := s.swap(ctx, "delete", key, prev, remove(s.key(key)))
	return err
}

// swap carries out op on key if it is still at prev.
func (s *Store) swap(ctx context.Context, what, key string, prev cluster.Revision, op *pb.RequestOp) (cluster.Revision, error) {
	answer, err := s.txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{modifiedAt(s.key(key), int64(prev))},
		Success: []*pb.RequestOp{op}, Failure: []*pb.RequestOp{get(s.key(key))},
	})
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", what, s.key(key), err)
	}
	if !answer.Succeeded {
		have := int64(0)
		if kv := found(answer.Responses[0]); kv != nil {
			have = kv.ModRevision
		}
		s.view.agree(ctx, key, have)
		return 0, fmt.Errorf("%s %s: have revision %d, want %d: %w", what, s.key(key), have, prev, dcs.ErrConflict)
	}
	if prev != 0 || op.GetRequestPut() != nil { // deleting what was absent is no event
		s.view.want(answer.Header.Revision)
	}
	return cluster.Revision(answer.Header.Revision), nil
}

// RemoveAll deletes every key of the cluster.
func (s *Store) RemoveAll(ctx context.Context) error {
	err := s.pool.write(ctx, "delete", func(ctx context.Context, e *endpoint) (*pb.ResponseHeader, error) {
		r, err := pb.NewKVClient(e.conn).DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(s.view.prefix), RangeEnd: s.end()})
		if err != nil {
			return nil, err
		}
		if r.Deleted > 0 {
			s.view.want(r.Header.Revision)
		}
		return r.Header, nil
	})
	if err != nil {
		return fmt.Errorf("remove %s: %w", s.view.prefix, err)
	}
	return nil
}
