package rest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// A thousand requests cost two reads, and each sees what was written before it came.
func TestReadsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written, begun := cluster.Revision(1), 0
		r := &reads{read: func(ctx context.Context) (*cluster.Snapshot, error) {
			begun++
			s := &cluster.Snapshot{Revision: written}
			time.Sleep(time.Second)
			return s, ctx.Err()
		}}
		var crowd sync.WaitGroup
		want := func(n int, revision cluster.Revision) {
			for range n {
				crowd.Go(func() {
					if s, err := r.get(t.Context(), 10*time.Second); err != nil || s.Revision != revision {
						t.Errorf("have %v, %v, want revision %d", s, err, revision)
					}
				})
			}
			synctest.Wait()
		}
		want(1, 1)
		written = 2
		want(999, 2)
		crowd.Wait()
		if begun != 2 {
			t.Errorf("have %d reads, want 2", begun)
		}
		written = 3
		want(1, 3)
		crowd.Wait()
	})
}

// Whoever gives up takes nobody along, and a store that does not answer keeps nobody longer than two reads.
func TestSharedReadsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reads{read: func(ctx context.Context) (*cluster.Snapshot, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		impatient, leave := context.WithCancel(t.Context())
		begin := time.Now()
		var crowd sync.WaitGroup
		ask := func(ctx context.Context, want error, after time.Duration) {
			crowd.Go(func() {
				_, err := r.get(ctx, 10*time.Second)
				if took := time.Since(begin); !errors.Is(err, want) || took != after {
					t.Errorf("have %v after %s, want %v after %s", err, took, want, after)
				}
			})
			synctest.Wait()
		}
		ask(t.Context(), context.DeadlineExceeded, 10*time.Second)
		ask(t.Context(), context.DeadlineExceeded, 20*time.Second)
		ask(impatient, context.Canceled, time.Second)
		ask(t.Context(), context.DeadlineExceeded, 20*time.Second)
		time.Sleep(time.Second)
		leave()
		crowd.Wait()
	})
}
