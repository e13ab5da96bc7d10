package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/regent-ha/regent/internal/cluster"
)

// lease is what all our keys live by.
type lease struct {
	id      int64 // 0: none
	ttl     time.Duration
	renewed time.Time // before the request that was confirmed last had left
}

func (s *Store) known() lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

// current returns a lease of that ttl which is not the lost one, and whether it was granted just now. Keys under a
// lease of another ttl stay there until their next renewal puts them under the new one.
func (s *Store) current(ctx context.Context, ttl time.Duration, lost int64) (l lease, granted bool, err error) {
	select {
	case s.granting <- struct{}{}:
		defer func() { <-s.granting }()
	case <-ctx.Done():
		return lease{}, false, unavailable("grant", ctx.Err())
	}
	if l = s.known(); l.id != 0 && l.id != lost && l.ttl == ttl {
		return l, false, nil
	}
	// Repeating this one is harmless: a lease without keys expires unnoticed.
	err = s.pool.read(ctx, "grant", func(ctx context.Context, e *endpoint) (*pb.ResponseHeader, error) {
		l = lease{ttl: ttl, renewed: s.config.Clock()}
		r, err := pb.NewLeaseClient(e.conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: seconds(ttl)})
		if err != nil {
			return nil, err
		}
		l.id = r.ID
		return r.Header, nil
	})
	if err != nil {
		return lease{}, false, fmt.Errorf("grant lease: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = l
	return l, true, nil
}

// seconds rounds up: the server must not expire a lease before we think it does.
func seconds(ttl time.Duration) int64 { return int64((ttl + time.Second - 1) / time.Second) }

// keepAlive renews a lease once and returns it with its new time. revision is the server's from before the renewal.
func (s *Store) keepAlive(ctx context.Context, l lease) (renewed lease, revision int64, err error) {
	var start time.Time
	err = s.pool.read(ctx, "keepalive", func(ctx context.Context, e *endpoint) (*pb.ResponseHeader, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the stream
		start = s.config.Clock()
		stream, err := pb.NewLeaseClient(e.conn).LeaseKeepAlive(ctx)
		if err != nil {
			return nil, err
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: l.id}); err != nil {
			_, err = stream.Recv() // the reason
			return nil, err
		}
		r, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if revision = r.Header.Revision; r.TTL <= 0 {
			return nil, errLeaseGone
		}
		return r.Header, nil
	})
	if err != nil {
		return l, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.renewed = start
	if s.lease.id == l.id && s.lease.renewed.Before(start) {
		s.lease.renewed = start
	}
	return l, revision, nil
}

// renewed returns a lease of that ttl which was renewed less than age ago.
func (s *Store) renewed(ctx context.Context, ttl, age time.Duration) (lease, error) {
	l, granted, err := s.current(ctx, ttl, 0)
	if err != nil || granted || s.config.Clock().Sub(l.renewed) < age {
		return l, err
	}
	renewed, _, err := s.keepAlive(ctx, l)
	if errors.Is(err, errLeaseGone) {
		renewed, _, err = s.current(ctx, ttl, l.id)
	}
	return renewed, err
}

func (s *Store) Announce(ctx context.Context, m cluster.Member, ttl time.Duration) error {
	if m.Name != s.config.Name {
		return fmt.Errorf("announce member %s: this store was opened for %s: a bug, nothing was done", m.Name, s.config.Name)
	}
	l, err := s.renewed(ctx, ttl, ttl/2)
	if err != nil {
		return fmt.Errorf("announce member %s: %w", m.Name, err)
	}
	key, value := cluster.KeyMembers+m.Name, m.Encode()
	if s.shows(key, value, l.id) {
		return nil
	}
	err = s.putMember(ctx, key, value, l)
	if errors.Is(err, errLeaseGone) { // it expired between the two requests
		if l, _, err = s.current(ctx, ttl, l.id); err == nil {
			err = s.putMember(ctx, key, value, l)
		}
	}
	if err != nil {
		return fmt.Errorf("announce member %s: %w", m.Name, err)
	}
	return nil
}

// shows says that the view has that key with that value under that lease.
func (s *Store) shows(key string, value []byte, lease int64) bool {
	s.view.Lock()
	defer s.view.Unlock()
	kv := s.view.keys[key]
	return s.view.ready && s.view.revision >= s.view.wanted && kv != nil && kv.Lease == lease && bytes.Equal(kv.Value, value)
}

// putMember is the one unconditional write: nobody else writes our member key.
func (s *Store) putMember(ctx context.Context, key string, value []byte, l lease) error {
	return s.pool.write(ctx, "put", func(ctx context.Context, e *endpoint) (*pb.ResponseHeader, error) {
		r, err := pb.NewKVClient(e.conn).Put(ctx, &pb.PutRequest{Key: s.key(key), Value: value, Lease: l.id})
		if err != nil {
			return nil, err
		}
		s.view.want(r.Header.Revision)
		return r.Header, nil
	})
}
