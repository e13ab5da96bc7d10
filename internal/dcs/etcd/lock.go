package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

func (s *Store) Acquire(ctx context.Context, holder string, ttl time.Duration) (dcs.Lock, error) {
	if holder != s.config.Name {
		return dcs.Lock{}, fmt.Errorf("acquire leader lock for %s: this store was opened for %s: a bug, nothing was done", holder, s.config.Name)
	}
	l, err := s.renewed(ctx, ttl, 0) // an old lease might end right after
	if err != nil {
		return dcs.Lock{}, fmt.Errorf("acquire leader lock: %w", err)
	}
	return s.hold(ctx, "acquire", l, dcs.ErrHeld)
}

// Renew costs one keep-alive while our view is as new as the server's answer to it and shows the key under our lease.
// If the view is not, which is usual on an etcd shared with other clusters, a transaction that writes nothing asks as well.
//
// The keep-alive alone would not do: the key may have been deleted or replaced under a live lease (ha.md section 4.1).
func (s *Store) Renew(ctx context.Context, held dcs.Lock) (dcs.Lock, error) {
	if held.Holder != s.config.Name {
		return dcs.Lock{}, fmt.Errorf("renew leader lock of %s as %s: %w", held.Holder, s.config.Name, dcs.ErrNotHeld)
	}
	l := s.known()
	if l.id == 0 { // opened after the lock was acquired
		ttl, _, _ := s.config.Timing()
		fresh, _, err := s.current(ctx, ttl, 0)
		if err != nil {
			return dcs.Lock{}, fmt.Errorf("renew leader lock: %w", err)
		}
		return s.hold(ctx, "renew", fresh, dcs.ErrNotHeld)
	}
	renewed, revision, err := s.keepAlive(ctx, l)
	switch {
	case errors.Is(err, errLeaseGone):
		fresh, _, err := s.current(ctx, l.ttl, l.id)
		if err != nil {
			return dcs.Lock{}, fmt.Errorf("renew leader lock: %w", err)
		}
		return s.hold(ctx, "renew", fresh, dcs.ErrNotHeld)
	case err != nil:
		return dcs.Lock{}, fmt.Errorf("renew leader lock: %w", err)
	}
	kv, current := s.view.lookup(ctx, cluster.KeyLeader, revision)
	ours := kv != nil && string(kv.Value) == s.config.Name && kv.Lease == renewed.id
	if ours && !current {
		if ours, err = s.holds(ctx, renewed); err != nil {
			return dcs.Lock{}, fmt.Errorf("renew leader lock: %w", err)
		}
	}
	if ours {
		return s.lock(renewed, held.Revision), nil
	}
	return s.hold(ctx, "renew", renewed, dcs.ErrNotHeld)
}

func (s *Store) lock(l lease, held cluster.Revision) dcs.Lock {
	return dcs.Lock{Holder: s.config.Name, Session: session(l.id), Revision: held, Deadline: l.renewed.Add(l.ttl)}
}

// holds asks the store itself. Nothing is written, so it may be repeated.
func (s *Store) holds(ctx context.Context, l lease) (ours bool, err error) {
	key := s.key(cluster.KeyLeader)
	err = s.pool.read(ctx, "txn", func(ctx context.Context, e *endpoint) (*pb.ResponseHeader, error) {
		r, err := pb.NewKVClient(e.conn).Txn(ctx, &pb.TxnRequest{
			Compare: []*pb.Compare{valueIs(key, []byte(s.config.Name)), leaseIs(key, l.id)},
		})
		if err != nil {
			return nil, err
		}
		ours = r.Succeeded
		return r.Header, nil
	})
	return ours, err
}

// hold puts the lock under l if it is free or bears our name, and returns taken else. It is sent once, except
// that a lease which turns out to be gone is replaced once: that refusal was definite.
func (s *Store) hold(ctx context.Context, what string, l lease, taken error) (dcs.Lock, error) {
	holder, revision, err := s.putLock(ctx, l)
	if errors.Is(err, errLeaseGone) {
		if l, _, err = s.current(ctx, l.ttl, l.id); err == nil {
			holder, revision, err = s.putLock(ctx, l)
		}
	}
	if err != nil {
		return dcs.Lock{}, fmt.Errorf("%s leader lock: %w", what, err)
	}
	if holder != nil {
		s.view.agree(ctx, cluster.KeyLeader, holder.ModRevision)
		return dcs.Lock{}, fmt.Errorf("%s leader lock %s: held by %s since revision %d, expected %s: %w",
			what, holder.Key, holder.Value, holder.ModRevision, s.config.Name, taken)
	}
	return s.lock(l, revision), nil
}

// putLock returns the key of the other member that holds the lock; nil: it is ours now, at that revision.
func (s *Store) putLock(ctx context.Context, l lease) (*mvccpb.KeyValue, cluster.Revision, error) {
	key, me := s.key(cluster.KeyLeader), []byte(s.config.Name)
	answer, err := s.txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{modifiedAt(key, 0)},
		Success: []*pb.RequestOp{put(key, me, l.id)},
		Failure: []*pb.RequestOp{nested(&pb.TxnRequest{
			Compare: []*pb.Compare{valueIs(key, me)},
			Success: []*pb.RequestOp{put(key, me, l.id)},
			Failure: []*pb.RequestOp{nested(&pb.TxnRequest{ // an empty name is nobody's (dcs.md 1.5)
				Compare: []*pb.Compare{valueIs(key, nil)},
				Success: []*pb.RequestOp{put(key, me, l.id)},
				Failure: []*pb.RequestOp{get(key)},
			})},
		})},
	})
	if err != nil {
		return nil, 0, err
	}
	if !answer.Succeeded {
		if named := answer.Responses[0].GetResponseTxn(); !named.Succeeded {
			if empty := named.Responses[0].GetResponseTxn(); !empty.Succeeded {
				return found(empty.Responses[0]), 0, nil
			}
		}
	}
	s.view.want(answer.Header.Revision)
	return nil, cluster.Revision(answer.Header.Revision), nil
}

func (s *Store) Release(ctx context.Context, held dcs.Lock) error {
	key, l := s.key(cluster.KeyLeader), s.known()
	if held.Holder != s.config.Name || l.id == 0 {
		return fmt.Errorf("release leader lock of %s as %s: %w", held.Holder, s.config.Name, dcs.ErrNotHeld)
	}
	// The lease is compared as well: this request must not take the lock from a later process of the same name. Nor, should it arrive
	// late, from ourselves, when we have acquired it again since: each acquisition puts the key.
	ours := func(session int64, otherwise *pb.RequestOp) *pb.TxnRequest {
		compare := []*pb.Compare{valueIs(key, []byte(s.config.Name)), leaseIs(key, session)}
		if held.Revision != 0 {
			compare = append(compare, modifiedAt(key, int64(held.Revision)))
		}
		return &pb.TxnRequest{
			Compare: compare,
			Success: []*pb.RequestOp{remove(key)}, Failure: []*pb.RequestOp{otherwise},
		}
	}
	request := ours(l.id, get(key))
	var before int64 // a new ttl came between: the key may still be under the old lease
	if _, err := fmt.Sscanf(held.Session, "%x", &before); err == nil && before != l.id {
		request = ours(l.id, nested(ours(before, get(key))))
	}
	answer, err := s.txn(ctx, request)
	if err != nil {
		return fmt.Errorf("release leader lock: %w", err)
	}
	succeeded, last := answer.Succeeded, answer.Responses[0]
	if inner := last.GetResponseTxn(); inner != nil {
		succeeded, last = inner.Succeeded, inner.Responses[0]
	}
	if !succeeded {
		revision, holder := int64(0), ""
		if kv := found(last); kv != nil {
			revision, holder = kv.ModRevision, string(kv.Value)
		}
		s.view.agree(ctx, cluster.KeyLeader, revision)
		return fmt.Errorf("release leader lock %s: have holder %q, want %q under our lease: %w", key, holder, s.config.Name, dcs.ErrNotHeld)
	}
	s.view.want(answer.Header.Revision)
	return nil
}
