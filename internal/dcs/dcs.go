// Package dcs is the distributed configuration store: small, slow and consistent.
//
// While a lock lives, nobody else can acquire it. Writes are conditional, but for our own
// member key; where two members can race, the store arbitrates. A deadline is on our own
// boot-time clock and counts from before the request left, since nobody else can have
// started counting earlier. Methods may be called from any goroutine and end with their ctx.
//
// ErrHeld, ErrNotHeld and ErrConflict are definite: nothing was written, not even by an earlier
// try whose answer got lost. After ErrUnavailable nobody knows: the write may have happened.
// A store never repeats a conditional write whose answer it lost.
//
// Sources: Patroni, "DCS Failsafe Mode"; etcd, "API guarantees"; Kubernetes, "API concepts";
// dcs.md sections 1 and 2.
package dcs

import (
	"context"
	"errors"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

var (
	// ErrHeld: somebody else holds the lock; nothing was written.
	ErrHeld = errors.New("the leader lock is held by another member")
	// ErrNotHeld: the lock is not ours, or not any more; nothing was written.
	ErrNotHeld = errors.New("the leader lock is not held")
	// ErrConflict: the key is not at the revision that the write was based on; nothing was written.
	ErrConflict = errors.New("the key has changed meanwhile")
	// ErrUnavailable: no usable answer in time. A write may or may not have happened.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrDenied: the store refuses our credentials; retrying does not help.
	ErrDenied = errors.New("the store refuses these credentials")
)

// Lock is our hold on the leader lock.
type Lock struct {
	Holder   string           // the member name in the key
	Session  string           // the lease or session that the key lives by; opaque
	Revision cluster.Revision // of the key when it was put for us; 0: the store has no such thing. A release takes no later key
	Deadline time.Time        // on the store's clock (see Clock): the earliest moment at which it may be anybody else's
}

// Clock tells the time on the boot-time clock (CLOCK_BOOTTIME, which goes on while the machine
// sleeps). Only differences mean anything.
type Clock func() time.Time

// Store is one cluster's part of a DCS.
type Store interface {
	// Snapshot returns every key as of one revision. It never goes back, shows our own finished
	// writes, and answers ErrUnavailable rather than a view whose source is known to be broken.
	Snapshot(ctx context.Context) (*cluster.Snapshot, error)

	// Watch returns nil as soon as something that a member must look at has changed after that revision:
	// the leader, config, failover, sync, initialize, failsafe, or the set of member names. Renewals and members'
	// own news do not count. It returns ErrUnavailable when the connection breaks or is broken already, and ctx.Err()
	// at its end.
	Watch(ctx context.Context, after cluster.Revision) error

	// Acquire creates the lock for holder, who must be the member that this store was opened for. It never
	// overwrites. ErrHeld when it exists under another name. A lock that already bears our name (this
	// member held it before its agent restarted) is taken over under our own lease: that is no error.
	Acquire(ctx context.Context, holder string, ttl time.Duration) (Lock, error)

	// Renew prolongs the lock by ttl as given to Acquire. It succeeds only if the lock is certainly ours after the call,
	// also when the lease is alive but the key was deleted or replaced (ha.md section 4.1). When the lease is gone and the
	// key is free or still bears our name it is put again under a new lease. ErrNotHeld: demote. Whoever let the deadline
	// pass must look at the history first: a lock that was another's in between, and is free again, is put again too.
	Renew(ctx context.Context, held Lock) (Lock, error)

	// Release deletes the lock, only while it is ours; ErrNotHeld else. A request that arrives late, its asker long gone, must
	// not take the lock that the same member has acquired since, whether or not it was free in between.
	Release(ctx context.Context, held Lock) error

	// Announce writes our own member key, which disappears ttl after the lease was last renewed. An unchanged value
	// costs a keep-alive at most, and nothing while the lease was renewed less than ttl/2 ago.
	Announce(ctx context.Context, m cluster.Member, ttl time.Duration) error

	// Put writes a key if it is still at prev (0: if it does not exist) and returns its new revision. ErrConflict else.
	Put(ctx context.Context, key string, value []byte, prev cluster.Revision) (cluster.Revision, error)

	// Delete removes a key if it is still at prev. ErrConflict else.
	Delete(ctx context.Context, key string, prev cluster.Revision) error

	// Close ends watches and connections. It revokes nothing: keys with a lease live until it ends.
	Close() error
}
