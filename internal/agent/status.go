// Package agent runs one member: the loop that owns the state, the lease keeper, the jobs that take
// long, and the journal of decisions.
//
// The loop observes, asks ha.Decide, acts, and publishes an immutable Status. Readers (REST,
// metrics) only ever see what was published last; what they want changed they send as a request.
package agent

import (
	"context"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Status is what this member knows and does, as published after a cycle. It never changes later.
type Status struct {
	At      time.Time // boot-time clock
	Wall    time.Time
	Scope   string
	Name    string
	Version string // as peers parse it, at least 4.1.0
	Regent  string // Regent's own version

	State    cluster.State
	Role     cluster.Role
	Postgres cluster.Postgres // the last observation
	SystemID string

	// Leader: we hold the lock, and LockDeadline (boot-time clock) has not passed. Ask IsLeader.
	Leader       bool
	LockDeadline time.Time

	Snapshot     *cluster.Snapshot     // the last one read; nil before the first
	SnapshotWall time.Time             // when it was read
	StoreError   string                // why the store could not be read in this cycle; empty: it could
	Config       cluster.DynamicConfig // last known good
	Timing       cluster.Timing
	Tags         cluster.Tags // effective

	NextCycle        time.Time // boot-time clock: when the loop runs next at the latest
	Pause            bool
	FailsafeActive   bool
	WatchdogFailed   bool // this member must not lead for want of a guard or watchdog
	Guard            GuardStatus
	ScheduledRestart *cluster.ScheduledRestart
	Job              *JobStatus

	Durability   *Durability // of the leader, where durability.survive asks for a site
	UnreadySlots []string    // logical slots of a standby that might miss something after a failover

	Reason  string   // of the last decision, a stable word such as "healthiest"
	Actions []string // what the last decision asked for
}

// IsLeader says whether the lock is ours at that moment of the boot-time clock.
func (s *Status) IsLeader(now time.Time) bool { return s.Leader && now.Before(s.LockDeadline) }

// HasView says whether the view of the store is usable: the last read worked and is younger than ttl.
func (s *Status) HasView(wall time.Time) bool {
	return s.Snapshot != nil && s.StoreError == "" && wall.Sub(s.SnapshotWall) < s.Timing.TTL
}

// Writable says whether PostgreSQL takes writes: it answered, out of recovery, not read-only.
func (s *Status) Writable() bool {
	p := &s.Postgres
	return s.State == cluster.Running && p.Queried && !p.InRecovery && !p.ReadOnly
}

// JobStatus is the progress of the long action under way.
type JobStatus struct {
	Name        string // clone, rewind, start, stop, ...
	Phase       string
	Done, Total int64 // bytes; Total 0: unknown
	Since       time.Time
	Detail      string
}

// RestartRequest is POST /restart (ha.md 2.13e). Zero values do not filter.
type RestartRequest struct {
	Schedule        time.Time
	Role            cluster.Role
	PostgresVersion string
	RestartPending  bool
	Timeout         time.Duration
}

// Control is what REST may ask of the agent. Every method is safe from any goroutine.
type Control interface {
	// Status returns the status published last, never nil.
	Status() *Status
	// Observed returns a status whose observation of PostgreSQL is at most maxAge old, observing at most once for
	// all callers that wait. When ctx ends first, or PostgreSQL does not answer, Postgres.Queried is false.
	Observed(ctx context.Context, maxAge time.Duration) *Status
	// Snapshot reads the store now.
	Snapshot(ctx context.Context) (*cluster.Snapshot, error)
	// PutConfig writes the dynamic configuration if it is still at prev and wakes the loop.
	PutConfig(ctx context.Context, doc []byte, prev cluster.Revision) error
	// RequestFailover writes the failover key (unconditionally: the last request wins) and wakes the loop.
	RequestFailover(ctx context.Context, f cluster.Failover) error
	// CancelFailover clears a scheduled switchover if the key is still at prev.
	CancelFailover(ctx context.Context, prev cluster.Revision) error
	// Restart restarts PostgreSQL and returns when it is done; with a Schedule it plans that and returns: ErrScheduled when another
	// one is planned.
	Restart(ctx context.Context, r RestartRequest) error
	// CancelRestart drops the scheduled restart; false: there was none.
	CancelRestart(ctx context.Context) (bool, error)
	// Reinitialize rebuilds this replica; it returns when the rebuild has been accepted.
	Reinitialize(ctx context.Context, force, fromLeader bool) error
	// Reload re-reads the local configuration.
	Reload()
	// Peers asks the given members for their status (GET api_url), two seconds at most each.
	Peers(ctx context.Context, members []cluster.Member) map[string]PeerStatus
	// AcceptFailsafe promises a leader that has lost the store not to take the lock for that long, or says why not (rest-api.md section 10).
	AcceptFailsafe(h Heartbeat) (Promise, error)
	// Route counts in a proxy that sends clients who write here. told is closed when PostgreSQL is about to stop on purpose: the stop waits until
	// all have called leave, a second at most. ok is false while one is under way.
	Route() (told <-chan struct{}, leave func(), ok bool)
	// Waives says whether this member counts on no such promise that was given before now.
	Waives() bool
	// Why explains the election and the last decisions, now or at a past moment (zero: now).
	Why(ctx context.Context, at time.Time, limit int) (WhyReport, error)
}

// PeerStatus is what a member answered to GET /patroni (ha.md 1.1, I10).
type PeerStatus struct {
	Reachable      bool // it answered, and its PostgreSQL told a position
	Alive          bool // an agent answered at all
	Error          string
	Primary        bool // a running primary
	Position       cluster.LSN
	Timeline       cluster.Timeline
	NoFailover     bool
	Priority       int
	WatchdogFailed bool
	DCSLastSeen    time.Time
	Waives         bool // it counts on no promise from before (failsafe mode)
}

// WhyReport answers `regent why`.
type WhyReport struct {
	Member     string      `json:"member"`
	At         time.Time   `json:"at"`
	Leader     string      `json:"leader,omitempty"`
	Gates      []Gate      `json:"gates"` // every gate of the election with its value, limit and verdict
	Verdict    string      `json:"verdict"`
	Risk       *Risk       `json:"risk,omitempty"`       // of the leader
	Durability *Durability `json:"durability,omitempty"` // likewise, where a site is to be survived
	Loss       *Loss       `json:"loss,omitempty"`       // of the last failover, if it is known
	Decisions  []WhyEntry  `json:"decisions"`            // newest first
}

// Risk is what losing the leader would cost, as it knows itself (ha.Risk).
type Risk struct {
	Heir   string      `json:"heir,omitempty"` // who would lead; empty: nobody
	Bytes  cluster.LSN `json:"bytes"`          // WAL that the leader has written and the heir is not known to have
	Synced bool        `json:"synced"`         // none of it was acknowledged
	Detail string      `json:"detail"`
}

// Durability is whether acknowledged commits survive what they are to survive (ha.Durability).
type Durability struct {
	Survive cluster.Survival `json:"survive"`
	Met     bool             `json:"met"`
	Detail  string           `json:"detail"`
}

// Loss is what the last failover has cost, as the member that it left behind found out (cluster.Loss).
type Loss struct {
	Timeline cluster.Timeline `json:"timeline"` // that it ended
	Member   string           `json:"member"`
	Bytes    cluster.LSN      `json:"bytes"`
	Fate     cluster.Fate     `json:"fate"`
	Detail   string           `json:"detail"`
}

// Gate is one condition of the election (ha.md 2.11a, 2.11b).
type Gate struct {
	Name    string `json:"name"`  // lag, timeline, nofailover, peers, ...
	Value   string `json:"value"` // what it is
	Limit   string `json:"limit"` // what it has to be
	Passed  bool   `json:"passed"`
	Unknown bool   `json:"unknown,omitempty"` // not asked, or not answered
}

// WhyEntry is one decision in the journal.
type WhyEntry struct {
	At       time.Time `json:"at"`
	Reason   string    `json:"reason"`
	Detail   string    `json:"detail,omitempty"`
	Actions  []string  `json:"actions,omitempty"`
	RuledOut []string  `json:"ruled_out,omitempty"`
	Errors   []string  `json:"errors,omitempty"` // what went wrong when it was carried out
}
