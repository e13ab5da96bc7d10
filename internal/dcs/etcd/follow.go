package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// follow keeps the view up to date until ctx ends.
func (s *Store) follow(ctx context.Context) {
	dcs.Repeat(ctx, s.config.Clock, func() error { return s.followOnce(ctx) }, func(err error) bool {
		s.view.stop(err, false)
		s.config.Log.Debug("the watch on etcd ended and begins again", "error", err)
		return false
	})
	s.view.stop(errClosed, true)
}

// followOnce reads everything, then applies events until the watch breaks.
func (s *Store) followOnce(ctx context.Context) error {
	s.view.Lock()
	wanted := s.view.wanted
	s.view.Unlock()
	var all *pb.RangeResponse
	var source *endpoint
	err := s.pool.read(ctx, "range", func(ctx context.Context, e *endpoint) (*pb.ResponseHeader, error) {
		// Linearizable: a server that lags behind would take us back in time.
		r, err := pb.NewKVClient(e.conn).Range(ctx, &pb.RangeRequest{Key: []byte(s.view.prefix), RangeEnd: s.end()})
		if err != nil {
			return nil, err
		}
		all, source = r, e
		return r.Header, nil
	})
	if err != nil {
		return err
	}
	if s.view.load(all, wanted) {
		s.config.Log.Warn("etcd went back in time: it was restored from a backup", "revision", all.Header.Revision)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return source.authorized(ctx, s.config.account(), func(ctx context.Context) error {
		s.pool.count("watch")
		return s.events(ctx, cancel, source, all.Header.Revision+1)
	})
}

// events applies what a watch tells. It uses the stream itself, not etcd's watch client, because that one
// hides a broken connection, and a view whose source is broken must not be shown.
func (s *Store) events(ctx context.Context, cancel context.CancelFunc, source *endpoint, from int64) error {
	// A server that takes the stream and says nothing must not stop us here for ever.
	_, _, retryTimeout := s.config.Timing()
	overdue := time.AfterFunc(retryTimeout, cancel)
	defer overdue.Stop()
	stream, err := pb.NewWatchClient(source.conn).Watch(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(s.view.prefix), RangeEnd: s.end(), StartRevision: from, ProgressNotify: true,
	}}}); err != nil {
		_, err = stream.Recv() // the reason
		return err
	}
	for {
		answer, err := stream.Recv()
		switch {
		case err != nil:
			return err
		case answer.Canceled:
			return fmt.Errorf("etcd canceled the watch from revision %d: %s (compacted up to %d)", from, answer.CancelReason, answer.CompactRevision)
		}
		if err := s.pool.observe(answer.Header); err != nil {
			s.pool.leave(source, err)
			return err
		}
		if answer.Created {
			if !overdue.Stop() {
				return errors.New("etcd took the watch too late")
			}
			if e, _ := s.pool.now(); e != source {
				return errors.New("the endpoint was left meanwhile")
			}
			s.view.start(source, cancel, s.config.Clock())
		}
		s.view.apply(answer.Events)
		s.view.alive(source, s.config.Clock())
	}
}

func (s *Store) end() []byte { return []byte(cluster.PrefixEnd(s.view.prefix)) }
