package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	lookAtDisk  = time.Minute
	defragment  = 10 * time.Minute
	defragAbove = 16 << 20 // bytes; a smaller file is not worth the pause
	// turnKey says who defragments: the file is locked meanwhile, so two at once could cost the majority.
	turnKey = "regent/embedded/defragment"
	turnTTL = 60 // seconds
)

// tend starts what an operator would otherwise have to do: compaction is etcd's own, this is the rest.
func (s *Server) tend() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.tending.Go(func() {
		disk, size := time.NewTicker(lookAtDisk), time.NewTicker(defragment)
		defer disk.Stop()
		defer size.Stop()
		before := writes()
		for {
			select {
			case <-ctx.Done():
				return
			case <-disk.C:
				now := writes()
				for name := range now {
					if complaint := now[name].since(before[name]).complaint(); complaint != "" {
						s.log.Warn("the disk of embedded etcd is slow: leader locks may be lost; give it a faster or less busy one",
							"what", name, "how", complaint)
					}
				}
				before = now
			case <-size.C:
				if err := s.shrink(ctx, defragAbove); err != nil && ctx.Err() == nil {
					s.log.Warn("embedded etcd did not give back free space, and tries again later", "error", err)
				}
			}
		}
	})
}

// shrink defragments when more than half of the file is free and larger than above, one member at a time. A leader
// that has followers hands over first, and has its turn the next time.
func (s *Server) shrink(ctx context.Context, above int64) error {
	server := s.etcd.Server
	size, used := server.Backend().Size(), server.Backend().SizeInUse()
	if size < above || used*2 > size {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, turnTTL/2*time.Second)
	defer cancel()
	lease, err := server.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: turnTTL})
	if err != nil {
		return fmt.Errorf("take the turn to defragment: %w", err)
	}
	defer func() { _, _ = server.LeaseRevoke(context.WithoutCancel(ctx), &pb.LeaseRevokeRequest{ID: lease.ID}) }()
	turn, err := server.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte(turnKey), Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{}}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(turnKey), Lease: lease.ID}}}},
	})
	if err != nil {
		return fmt.Errorf("take the turn to defragment: %w", err)
	}
	if !turn.Succeeded {
		return nil // another member is at it
	}
	if me := server.MemberID(); server.Leader() == me && len(server.Cluster().Members()) > 1 {
		for _, other := range server.Cluster().Members() {
			if other.ID != me {
				if err = server.MoveLeader(ctx, uint64(me), uint64(other.ID)); err == nil {
					return nil
				}
			}
		}
		return errors.Join(errors.New("hand over before defragmenting"), err)
	}
	if err := server.Backend().Defrag(); err != nil {
		return fmt.Errorf("defragment: %w", err)
	}
	s.log.Info("embedded etcd gave back free space", "before_bytes", size, "after_bytes", server.Backend().Size())
	return nil
}

// speed counts writes to the disk: all, and those that took longer than slowAbove.
type speed struct{ all, slow uint64 }

// slowAbove is a bucket of etcd's histograms, in seconds. etcd asks for 0.01 and 0.025 at the 99th percentile; at ten
// times that, elections begin to fail.
const slowAbove = 0.128

// writes reads etcd's histograms of the write-ahead log and of the database.
func writes() map[string]speed {
	out := map[string]speed{}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil && len(families) == 0 {
		return out
	}
	for _, family := range families {
		switch family.GetName() {
		case "etcd_disk_wal_fsync_duration_seconds", "etcd_disk_backend_commit_duration_seconds":
			for _, metric := range family.GetMetric() {
				out[family.GetName()] = count(metric.GetHistogram())
			}
		}
	}
	return out
}

func count(h *dto.Histogram) speed {
	fast := uint64(0)
	for _, bucket := range h.GetBucket() {
		if bucket.GetUpperBound() <= slowAbove {
			fast = max(fast, bucket.GetCumulativeCount())
		}
	}
	return speed{all: h.GetSampleCount(), slow: h.GetSampleCount() - fast}
}

func (s speed) since(before speed) speed { return speed{s.all - before.all, s.slow - before.slow} }

// complaint is empty while at most one write in ten is slow.
func (s speed) complaint() string {
	if s.slow*10 <= s.all {
		return ""
	}
	return fmt.Sprintf("%d of %d writes took longer than %gs", s.slow, s.all, slowAbove)
}
