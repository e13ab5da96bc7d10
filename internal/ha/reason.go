package ha

// Reason is a stable word for why a decision is what it is. docs/reference/reasons.md is made from this list.
type Reason string

const (
	// The agent as a whole.
	Leaving         Reason = "leaving"           // the agent is to stop
	Left            Reason = "left"              // nothing is left to do before it exits
	Busy            Reason = "busy"              // a job is under way
	JobTooLong      Reason = "job-too-long"      // a start or recovery takes longer than primary_start_timeout and somebody else can take over
	RequestTaken    Reason = "request-taken"     // a restart or reinitialize request is carried out
	SystemIDForeign Reason = "system-id-foreign" // the data directory belongs to another cluster
	SystemIDUnknown Reason = "system-id-unknown" // the data directory has no readable system identifier
	JoinFirst       Reason = "join-first"        // a running replica of a cluster that the store does not know: begin with its primary

	// Fencing.
	LockLost       Reason = "lock-lost"     // a running primary whose lock is somebody else's, or gone
	LockExpiring   Reason = "lock-expiring" // the store does not answer and the lock is running out
	StoreAway      Reason = "store-away"    // the store does not answer; nothing to do yet
	FailsafeActive Reason = "failsafe"      // the store does not answer, and all members have agreed that this one leads on (failsafe_mode)

	// The data directory.
	DirUnusable       Reason = "data-directory-unusable" // unreadable, or not a data directory at all
	BootstrapClaim    Reason = "bootstrap-claim"         // the cluster does not exist yet: claim to make it
	BootstrapRun      Reason = "bootstrap"               // the claim is ours: initdb
	BootstrapDone     Reason = "bootstrap-done"          // record the new cluster and take the lock
	BootstrapFailed   Reason = "bootstrap-failed"        // initdb or what follows it failed: let others try, and end
	BootstrapOther    Reason = "bootstrap-elsewhere"     // another member makes the cluster
	CannotBootstrap   Reason = "cannot-bootstrap"        // nofailover, or no bootstrap section
	CloneFromLeader   Reason = "clone"                   // build a replica
	WaitForLeader     Reason = "wait-for-leader"         // nothing to clone from yet
	Reinitializing    Reason = "reinitialize"            // an operator asked to build this replica anew
	CloneAfterFailure Reason = "clone-retry"             // the last clone failed; the next try waits
	// PostgreSQL is starting or down.
	StillStarting   Reason = "starting"          // a postmaster lives but does not accept connections yet
	StartTooLong    Reason = "start-too-long"    // the leader's PostgreSQL does not come up and somebody else can take over
	CrashRestart    Reason = "crash-restart"     // the primary crashed and the lock is ours: start it as it was
	CrashFailover   Reason = "crash-failover"    // primary_start_timeout is 0 or the primary crashes again and again, and somebody else can take over
	SessionsFail    Reason = "sessions-fail"     // the leader's PostgreSQL runs and lets nobody in, for a full disk for example, and somebody else can take over
	StartFailed     Reason = "start-failed"      // the next try waits for the next cycle
	LeaderCannotRun Reason = "leader-cannot-run" // we hold the lock and PostgreSQL does not start
	ResumeLeader    Reason = "resume-leader"     // the lock bears our name from before the agent restarted
	StartToPromote  Reason = "start-to-promote"  // lock holder: start as a standby, promotion follows
	CleanUpCrash    Reason = "crash-recovery"    // a crashed former primary must be shut down cleanly before it can be compared
	CompareHistory  Reason = "compare-history"   // learn whether we have diverged
	RewindNeeded    Reason = "rewind"            // diverged: pg_rewind brings it back
	RewindGaveUp    Reason = "rewind-impossible" // diverged, and the configuration allows no way back by itself
	CloneDiverged   Reason = "clone-diverged"    // diverged, and the configuration allows to rebuild
	StartReplica    Reason = "start-replica"     // start as a standby
	StayDown        Reason = "paused-stopped"    // paused: what is stopped stays stopped
	AwaitSuccessor  Reason = "await-successor"   // the lock was handed over; wait for who takes it
	// The election.
	LockFree         Reason = "lock-free"          // ask the others before racing
	Healthiest       Reason = "healthiest"         // nobody is better: take the lock
	RunningPrimary   Reason = "running-primary"    // a primary without lock takes a free one
	OldTimeline      Reason = "old-timeline"       // a primary of the past must not take the lock
	LagTooHigh       Reason = "lag-too-high"       // too much WAL behind what the leader published last (maximum_lag_on_failover)
	TimelineBehind   Reason = "timeline-behind"    // check_timeline: our timeline is not the cluster's
	NoFailoverTag    Reason = "nofailover"         // tagged nofailover, or failover_priority 0
	NoQuorum         Reason = "no-quorum"          // too few voters answered that they are not ahead
	PeerIsPrimary    Reason = "peer-is-primary"    // another member runs as a primary
	PeerAhead        Reason = "peer-ahead"         // another member has more WAL
	PeerPreferred    Reason = "peer-preferred"     // same position, higher failover_priority
	NotInFailsafe    Reason = "not-in-failsafe"    // failsafe mode: /failsafe does not list this member
	Promised         Reason = "promised"           // failsafe mode: a leader that has lost the store was promised that this member does not lead yet
	NotSyncStandby   Reason = "not-sync-standby"   // synchronous mode: not named in /sync
	RaceBackoff      Reason = "race-backoff"       // a promotion or start of ours failed a moment ago
	CandidateIsMe    Reason = "candidate-is-me"    // an operator or the old leader named us
	CandidateIsOther Reason = "candidate-is-other" // an operator or the old leader named somebody else, who answers
	PausedNoRace     Reason = "paused-no-race"     // paused: a replica takes the lock only as a named candidate
	AwaitMembers     Reason = "await-members"      // after an outage of everything: members that had a slot have a ttl to come back before somebody is elected
	NotReadyToRace   Reason = "not-ready-to-race"  // PostgreSQL does not answer
	WatchdogFailed   Reason = "watchdog-failed"    // watchdog.mode or regent.guard is required, and neither guard nor watchdog works: this member must not lead

	// Leader.
	HealthyPrimary    Reason = "healthy-primary"          // a primary with the lock
	PromoteNow        Reason = "promote"                  // the lock is ours and PostgreSQL is in recovery
	PromotionFailed   Reason = "promotion-failed"         // the promotion failed: give the lock up and back off for ttl
	PausedNotPrimary  Reason = "paused-not-primary"       // paused: the lock holder was made a standby by hand
	PausedLockRefused Reason = "paused-lock-refused"      // paused: the lock was refused, PostgreSQL goes on
	RequestInvalid    Reason = "failover-request-invalid" // a failover request that cannot be meant for us, or cannot be read
	RequestImpossible Reason = "failover-impossible"      // nobody fit could take over
	RequestScheduled  Reason = "switchover-scheduled"     // a switchover is due soon
	SwitchoverAsk     Reason = "switchover-check"         // ask whether the candidate is fit
	SwitchoverStart   Reason = "switchover"               // stop in order, then hand the lock over
	SwitchoverWait    Reason = "switchover-stopping"      // the stop is under way, or nobody has our last WAL yet
	HandOver          Reason = "hand-over"                // a candidate has our last WAL: give it the lock
	SwitchoverAbandon Reason = "switchover-abandoned"     // nobody has our last WAL: be the primary again

	// Standby clusters.
	StandbyLeading Reason = "standby-leader" // the lock of a standby cluster is ours: follow the other cluster
	DemoteCluster  Reason = "demote-cluster" // the cluster became a standby cluster: its primary stops in order, to come back as a standby of the other one

	// Replica.
	Following       Reason = "following"             // streams from its upstream, or is about to
	FollowNew       Reason = "follow-new-leader"     // stream from another upstream
	NoLongerLeader  Reason = "no-longer-leader"      // our hold on the lock is over, another member leads
	HalfRecord      Reason = "half-record"           // the end of its WAL is the begin of a record that nobody has the rest of: it is cut off
	ResumeReplayNow Reason = "resume-replay"         // replay was paused, by a setting raised on the primary for example
	PausedPrimary   Reason = "paused-second-primary" // paused: a second primary is left alone
)

// Trouble says whether an operator should look: the log tells it as a warning.
func (r Reason) Trouble() bool {
	switch r {
	case LockLost, LockExpiring, StoreAway, FailsafeActive, SystemIDForeign, SystemIDUnknown, JoinFirst, DirUnusable, BootstrapFailed,
		CloneAfterFailure, StartTooLong, SessionsFail, StartFailed, LeaderCannotRun, JobTooLong, RewindGaveUp, PromotionFailed, SwitchoverAbandon, RequestImpossible, PausedPrimary, WatchdogFailed:
		return true
	}
	return false
}
