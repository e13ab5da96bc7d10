package dcs

import (
	"context"
	"fmt"
	"sync"

	"github.com/regent-ha/regent/internal/cluster"
)

// Following is the part of a backend's view that is the same in all of them: who waits for it, and how often what feeds it broke. Its lock is the
// whole view's; the fields are read and written under it.
type Following struct {
	sync.Mutex
	News   cluster.Revision // the last change that Watch returns for
	Breaks int              // how often what feeds the view broke
	Cause  error            // why it broke last
	Closed bool             // there is nothing to wait for any more

	changed chan struct{}
}

// Changed is closed at the next Tell. The caller holds the lock.
func (f *Following) Changed() <-chan struct{} {
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

// Tell wakes all who wait. The caller holds the lock.
func (f *Following) Tell() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// Wait returns true once ok holds, which is asked with the lock held; false when ctx ended or the store was closed.
func (f *Following) Wait(ctx context.Context, ok func() bool) bool {
	for {
		f.Lock()
		good, closed, changed := ok(), f.Closed, f.Changed()
		f.Unlock()
		if closed {
			return false
		}
		if good {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// Watch is Store's. followed says, with the lock held, whether something feeds the view; place names what is watched.
func (f *Following) Watch(ctx context.Context, after cluster.Revision, place string, followed func() bool) error {
	f.Lock()
	breaks, away := f.Breaks, f.Breaks > 0 && !followed()
	f.Unlock()
	broken := false
	if f.Wait(ctx, func() bool {
		broken = away || f.Breaks != breaks
		return f.News > after || broken
	}) && !broken {
		return nil
	}
	if err := ctx.Err(); err != nil && !broken {
		return err
	}
	return fmt.Errorf("watch %s: %w: the connection broke", place, ErrUnavailable)
}
