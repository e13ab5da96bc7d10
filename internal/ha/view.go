// Package ha decides what one member does next. Decide is pure: the same View gives the same
// Decision, in the agent, in the simulator and when a recorded View is replayed.
//
// Whatever costs I/O is asked for by a decision (AskPeers, CheckDivergence) and comes back in a later
// View with its age. The order of checks follows the tables in ha.md section 2; each row there that is built
// has a transcript in testdata.
package ha

import (
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/quorum"
)

// View is everything one member knows at one instant. Nothing in it changes later.
type View struct {
	Now    time.Time // boot-time clock
	Wall   time.Time // only for what people schedule
	Self   string    // our member name
	Limits Limits    // settings of this cycle, already validated
	Tags   Tags      // our own

	Store        *cluster.Snapshot // the DCS at one revision; nil when it could not be read
	Lock         Lock              // our hold on the leader lock
	Postgres     cluster.Postgres  // the local instance, observed in this cycle
	Poll         *Poll             // what other members answered last, and when; nil until we ask
	Divergence   *Divergence       // the last comparison with a leader's history; nil until we ask
	Job          *Job              // the long action under way, if any
	Ended        *Ended            // how the last job ended; nil before the first
	Asked        Asked             // what people ask of this member
	Checkpointed cluster.Timeline  // the newest timeline on which a CHECKPOINT of ours has completed
	SlotNews     *SlotNews         // what the work on logical slots beside the loop has shown; nil until there was some
	Fresh        time.Time         // until when an agent before us may have promised not to take the lock (failsafe mode); zero: none has
	Unfenced     string            // why this member must not lead: a guard or watchdog is required and does not work; empty: nothing is against it
	Memory       Memory            // what the previous decision asked to keep
}

// Limits are the settings that decisions depend on. Durations are positive.
type Limits struct {
	TTL, LoopWait, RetryTimeout time.Duration
	Reserve                     time.Duration // how long before the lock's deadline a demotion must begin
	MaxLag                      cluster.LSN   // maximum_lag_on_failover, bytes
	PrimaryStart                time.Duration // primary_start_timeout; 0: fail over at once after a crash
	CheckTimeline               bool
	Paused                      bool
	Type                        cluster.Type
	Remote                      cluster.Upstream // whom a standby cluster follows; no host: it has only an archive
	Failsafe                    bool             // failsafe_mode: a primary goes on without the store while all members agree
	Sync                        quorum.Settings
	Survive                     cluster.Survival // what an acknowledged commit is to survive beyond Sync
	CanBootstrap                bool             // the local configuration has a bootstrap section
	CustomBootstrap             bool             // with a method of its own: the state has other names
	HasConfig                   bool             // we have a dynamic configuration that could be restored into the store
	UseSlots                    bool
	SlotsTTL                    time.Duration // member_slots_ttl
	Slots                       cluster.SlotRules
	UseRewind                   bool
	RemoveOnRewindFailure       bool
	RemoveOnDivergence          bool
	NoLeaderClone               bool // a create_replica_methods entry needs no leader
}

// Tags are our own tags as far as decisions use them (config.md 4).
type Tags struct {
	NoFailover    bool
	Priority      int // failover_priority; 1 by default
	NoStream      bool
	ReplicateFrom string
	Site          string
}

// Lock is our hold on the leader lock, as the lease keeper reports it.
type Lock struct {
	Held     bool      // the store's last definite answer was that it is ours
	Refused  bool      // the last renewal was refused: it is somebody else's or gone
	Deadline time.Time // nobody else leads before; counted from before the request left
	Agreed   bool      // the deadline rests on what all members have promised, and no longer on the store
	Asked    time.Time // when the members were asked for that last; zero: they were not
	Bound    time.Time // until when we have promised a leader without the store not to take the lock; zero: we have not
	Told     Told      // what that leader said of its slots
}

// Told is what a leader without the store said last when it was given a promise.
type Told struct {
	At    time.Time
	Slots map[string]cluster.LSN // where the consumers of its slots are, as /status has it
}

// Poll is what the other members answered, asked in parallel.
type Poll struct {
	At      time.Time         // when the questions left
	Asked   []cluster.Member  // as their keys were then
	Answers map[string]Answer // one for each member that was asked, also for those that did not answer
}

// Answer is one member's status (ha.md 1.1, I10). A member that did not answer is not reachable.
type Answer struct {
	Reachable      bool
	Primary        bool // a running primary
	Position       cluster.LSN
	Timeline       cluster.Timeline
	NoFailover     bool
	WatchdogFailed bool
	Priority       int
	Isolated       bool // it has not seen the DCS for longer than ttl
	Waives         bool // it counts on no promise that was given before it was asked (failsafe mode)
}

// Verdict says whether our WAL has left the leader's history.
type Verdict string

const (
	DivergenceUnknown Verdict = "unknown"    // it could not be found out
	NotDiverged       Verdict = "not-needed" // the leader's WAL continues ours
	Diverged          Verdict = "needed"     // we have WAL that the leader's history lacks
)

// Divergence is the outcome of CheckDivergence (ha.md 2.14, W1 to W7).
type Divergence struct {
	Leader    string
	Timeline  cluster.Timeline // the leader's, at that time
	Verdict   Verdict
	Detail    string
	CanRewind bool
	WhyNot    string // why pg_rewind cannot be used
	At        time.Time
	Ended     cluster.Timeline // of Diverged, where it is known: our timeline that the leader left ...
	Left, End cluster.LSN      // ... where it did, and where our WAL ends
}

// JobName names what can take long.
type JobName string

const (
	JobBootstrap    JobName = "bootstrap"
	JobClone        JobName = "clone"
	JobStart        JobName = "start" // as a standby
	JobStartPrimary JobName = "start-primary"
	JobPromote      JobName = "promote"
	JobSwitchover   JobName = "switchover" // the graceful stop of a leader that hands over
	JobDemote       JobName = "demote"     // any other stop
	JobRecover      JobName = "crash-recovery"
	JobRewind       JobName = "rewind"
	JobDivergence   JobName = "divergence-check"
	JobRestart      JobName = "restart"
	JobFollow       JobName = "follow"
	JobCopySlots    JobName = "copy-slots" // PostgreSQL is stopped by it; it is started as any other standby that is down
)

// Job is the long action under way.
type Job struct {
	Name       JobName
	Since      time.Time
	Mode       StopMode    // of JobDemote and JobSwitchover
	Checkpoint cluster.LSN // of JobSwitchover: where the shutdown checkpoint is, once the control file has it
	Previous   cluster.LSN // the record before it
}

// Ended is how the last job ended.
type Ended struct {
	Name       JobName
	At         time.Time
	Error      string // empty: it succeeded
	Checkpoint cluster.LSN
	Previous   cluster.LSN
	Impossible bool // JobRewind: the local files no longer allow another try
	Untold     bool // JobPromote: it failed before PostgreSQL was told to promote
	InUse      bool // a start or stop: another container's PostgreSQL uses the data directory, and may be a primary that writes
}

// Asked is what people ask of this member.
type Asked struct {
	Leave        bool // the agent is to stop
	Restart      *Restart
	Reinitialize *Reinitialize
}

// Restart asks to restart PostgreSQL; its filters have been checked where the request came in.
type Restart struct {
	ID      int
	Timeout time.Duration
}

// Reinitialize asks to build this replica anew.
type Reinitialize struct {
	ID         int
	FromLeader bool
}

// Memory is what a decision asks to keep for the next one. The zero value is right for a fresh agent.
type Memory struct {
	Role       cluster.Role     // what we last were; empty until PostgreSQL was seen running
	Started    bool             // PostgreSQL has been seen running by this agent
	Down       time.Time        // since when it is down; zero: it runs
	Crashes    []time.Time      // when it last stopped by itself to answer as the primary that leads; crashLimit of them at most
	Silent     time.Time        // since when a living postmaster does not accept; zero: it does, or is down
	Ahead      time.Time        // since when a standby has received more than it replays and its leader has, without a change; zero: it has not
	AheadAt    cluster.LSN      // ... and up to where
	Dry        time.Time        // since when a standby does not stream; zero: it does
	Holding    time.Time        // since when the lock is ours; zero: it is not
	Unlocked   time.Time        // since when PostgreSQL writes without a live lock, outside of pause; zero: it does not
	Leaderless time.Time        // since when there is no leader; zero: there is one
	Former     []cluster.Member // the members when there was a leader last
	FormerName string           // that leader
	FormerAt   cluster.Timeline // its timeline as a primary; 0: it was not seen as one
	Published  cluster.LSN      // the position in /status, as it was seen then
	Publisher  string           // the leader that published it; empty: not known

	Request   cluster.Revision // the switchover or failover that is asked for; 0: none ...
	RequestAt time.Time        // ... and since when it is known

	Answered       time.Time        // when PostgreSQL last answered a query: failures from before are history
	NoRaceUntil    time.Time        // after a promotion or start that failed
	Pointed        cluster.Upstream // where PostgreSQL was last told to stream from ...
	PointedAt      time.Time        // ... and when
	As             cluster.Role     // ... and as what: the standby leader, or, empty, a replica
	Rebuilt        time.Time        // since when the directory is known to fit, by a rewind, clone or stream: comparisons from before are void
	Source         string           // the leader that the directory was rewound to, until it answers ...
	SourceTimeline cluster.Timeline // ... and its timeline then
	RewindTried    time.Time        // when pg_rewind last failed; zero: not since the last success
	RewindError    string           // ... and why
	Joined         bool             // the store knew this cluster once: that it is empty now is no reason to found it anew
	GiveUp         bool             // the start of the leader was given up: the lock goes as soon as PostgreSQL is down
	Unproven       bool             // the lock was taken with a PostgreSQL that did not answer, or on a view that may be old: compare the timelines
	CrashTried     bool             // single-user recovery has run in this outage
	RewindFailed   bool             // pg_rewind cannot bring this directory back
	Leaving        time.Time        // since when the agent is to stop; zero: it is not
	HandedOver     time.Time        // when we gave the lock to somebody else; zero: we did not
	Promoting      bool             // PostgreSQL was told to promote and is still in recovery: it cannot take that back, whatever became of the job
	Promoted       cluster.Timeline // a checkpoint is due on the timeline after this one; 0: none
	Waiting        Waiting          // for whom commits of this primary wait
	Failsafe       Failsafe         // who has to agree when the store is away
	Waived         []string         // who counts on nothing that the agent before us may have promised
	Heard          time.Time        // what such a leader told then is done

	Loss cluster.Loss // what we have, or had, beyond the leader's history; zero: nothing that we know of

	Copies      Copies               // the logical slots of a standby
	SlotSeen    map[string]time.Time // when a member's slot was last backed by its key
	DoneRestart int                  // the last requests that were taken up
	DoneReinit  int
}

// primary says whether PostgreSQL is out of recovery. When it did not answer, the files say: a slow
// query must not be read as "not primary", or a demotion would be missed (ha.md L2).
func (v *View) primary() bool {
	p := &v.Postgres
	if !p.Running() {
		return false
	}
	if p.Queried {
		return !p.InRecovery
	}
	return !p.StandbySignal
}

// leader is the holder of the lock by the store; empty when there is none or the store is away.
func (v *View) leader() string {
	if v.Store == nil {
		return ""
	}
	return v.Store.Leader.Name
}

// mine says whether the store names us and our hold is live.
func (v *View) mine() bool { return v.live() && v.leader() == v.Self }

// live says whether nobody else can have the lock now.
func (v *View) live() bool { return v.Lock.Held && v.Now.Before(v.Lock.Deadline) }

// since says how long ago t was; a zero time is for ever ago.
func (v *View) since(t time.Time) time.Duration {
	if t.IsZero() {
		return 1<<63 - 1
	}
	return v.Now.Sub(t)
}

// failed says whether the last job was that one and failed.
func (v *View) failed(name JobName) bool {
	return v.Ended != nil && v.Ended.Name == name && v.Ended.Error != ""
}

// startFailed says whether the last job was a start that failed, and PostgreSQL has not answered since.
// Ended stays until another job ends: without the second half a failure of last week would count in the next outage.
func (v *View) startFailed() bool {
	failed := v.failed(JobStart) || v.failed(JobStartPrimary) || v.failed(JobRestart)
	return failed && v.Ended.At.After(v.Memory.Answered)
}

// contested says whether another container's PostgreSQL had our data directory when we last meant to work on it, and may be a primary
// that writes: its agent or its guard ends it with the lock that it had before we took it over, a ttl after that at the latest. Until
// then a released lock would let somebody lead beside it.
func (v *View) contested() bool {
	return v.Ended != nil && v.Ended.InUse && v.Ended.At.After(v.Memory.Answered) && v.since(v.Memory.Holding) < v.Limits.TTL
}

// succeeded says whether the last job was that one and succeeded.
func (v *View) succeeded(name JobName) bool {
	return v.Ended != nil && v.Ended.Name == name && v.Ended.Error == ""
}
