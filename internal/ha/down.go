package ha

import (
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// whileDown rules when PostgreSQL does not run (ha.md 2.8).
func (v *View) whileDown() Decision {
	switch {
	case v.mine() && v.Ended != nil && v.Ended.Name == JobSwitchover && v.Store.Failover.Requested():
		return v.leaderDown() // asked for, so it is brought to its end in pause too
	case v.mine() && v.contested():
		return v.soon(v.Limits.TTL-v.since(v.Memory.Holding), LeaderCannotRun, "another container's PostgreSQL uses the data directory and may still write: the lock is kept until that one's has ended")
	case v.Limits.Paused && v.Lock.Held:
		return v.again(StayDown, "paused: PostgreSQL is stopped, so the lock is released", ReleaseLeader{Optime: v.finalPosition()})
	case v.Limits.Paused && v.Memory.HandedOver.IsZero():
		return v.decide(StayDown, "paused: PostgreSQL is stopped and stays so")
	case v.leader() == v.Self && !v.live():
		return v.again(ResumeLeader, "the lock bears our name", AcquireLeader{})
	case v.mine():
		return v.leaderDown()
	case v.Lock.Held && v.leader() != "" && v.leader() != v.Self:
		return v.again(NoLongerLeader, "the lock is "+v.leader()+"'s", ReleaseLeader{})
	default:
		return v.replicaDown()
	}
}

// leaderDown brings the lock holder's PostgreSQL back, or lets somebody else lead.
func (v *View) leaderDown() Decision {
	switch {
	case !v.standby() && v.outdated():
		return v.again(OldTimeline, fmt.Sprintf("timeline %d, the cluster is on %d: whoever has more may lead", v.controlTimeline(), v.Store.History.ClusterTimeline()), ReleaseLeader{})
	case v.Ended != nil && v.Ended.Name == JobSwitchover && v.since(v.Ended.At) < v.Limits.RetryTimeout && v.Store.Failover.Requested():
		return v.handingOver(v.Ended.Checkpoint, v.Ended.Previous)
	case v.standby():
		return v.standbyLeaderDown()
	case v.Store.Failover.Requested() && v.Ended != nil && v.Ended.Name == JobSwitchover:
		return v.again(SwitchoverAbandon, "nobody received our last WAL in time", v.clearFailover(), StartPrimary{})
	case v.Unfenced != "":
		return v.letOthersLead(v.Unfenced)
	case v.Memory.GiveUp:
		return v.letOthersLead("it was given up")
	case v.ousted():
		return v.letOthersLead("only " + v.electors() + " may lead, by /sync")
	case v.unlisted():
		return v.letOthersLead(v.listed())
	case v.failed(JobPromote) && v.Ended.At.Add(v.Limits.TTL).After(v.Now):
		v.Memory.NoRaceUntil = v.Now.Add(v.Limits.TTL)
		return v.letOthersLead("PostgreSQL died of its promotion: " + v.Ended.Error)
	case v.startFailed():
		return v.letOthersLead("PostgreSQL does not start: " + v.Ended.Error)
	case v.left() <= v.Limits.Reserve:
		return v.soon(100*time.Millisecond, LockExpiring, "the lock is about to run out unrenewed: what would be started now would have to be stopped at once")
	case !v.crashed():
		return v.again(StartToPromote, "the lock is ours: start, then promote", StartStandby{})
	case v.Limits.PrimaryStart == 0:
		return v.afterCrash("primary_start_timeout is 0")
	case v.crashesOften():
		return v.afterCrash(often)
	default:
		return v.again(CrashRestart, "the primary stopped by itself and the lock is ours", StartPrimary{})
	}
}

// afterCrash lets somebody else lead at once, if there is somebody; else a crashed primary is started as it was.
func (v *View) afterCrash(why string) Decision {
	fit, detail, ask := v.failoverPossible("", 0)
	switch {
	case ask != nil:
		return v.again(CrashFailover, why+": ask who could take over", *ask)
	case fit != "":
		return v.again(CrashFailover, why+" and "+detail, ReleaseLeader{Optime: v.finalPosition()})
	default:
		return v.again(CrashRestart, why+", but "+detail, StartPrimary{})
	}
}

// letOthersLead releases the lock of a PostgreSQL that is down, and leaves the race to the others for a cycle.
func (v *View) letOthersLead(why string) Decision {
	if until := v.Now.Add(v.Limits.LoopWait); until.After(v.Memory.NoRaceUntil) {
		v.Memory.NoRaceUntil = until
	}
	v.Memory.GiveUp = false
	return v.soon(time.Second, LeaderCannotRun, why+": let somebody else lead", ReleaseLeader{Optime: v.finalPosition()})
}

// outdated says whether history has moved on without this former primary. A lock that bears its name, from before it was lost or by a
// request that arrived late, is no reason to go on where it stopped (ha.md E4).
func (v *View) outdated() bool {
	tl := v.controlTimeline()
	return tl != 0 && tl < v.Store.History.ClusterTimeline() && !v.Postgres.StandbySignal
}

// controlTimeline is the timeline of a stopped server, also when it crashed before the first checkpoint on it; 0: not known.
func (v *View) controlTimeline() cluster.Timeline {
	if c := v.Postgres.Control; c != nil {
		return max(c.CheckpointTLI, c.MinRecoveryTLI)
	}
	return 0
}

// crashed says whether this was a primary under our eyes that can simply be started again (ha.md R2).
func (v *View) crashed() bool {
	if v.Memory.Role != cluster.Primary || v.Postgres.StandbySignal || v.Postgres.Control == nil {
		return false
	}
	switch v.Postgres.Control.State {
	case cluster.ControlInProduction, cluster.ControlCrashRecovery, cluster.ControlShuttingDown, cluster.ControlShutDown:
		return true
	}
	return false
}

// replicaDown brings a member back that does not hold the lock. A directory that has WAL of its own is
// compared with the leader's history before it is started.
func (v *View) replicaDown() Decision {
	leader, known := v.origin()
	up, reachable := v.wantedUpstream()
	switch {
	case v.startFailed() && v.since(v.Ended.At) < v.pause():
		return v.soon(v.pause()-v.since(v.Ended.At), StartFailed, v.Ended.Error)
	case v.Postgres.DirProblem != "" && !known:
		return v.decide(WaitForLeader, v.Postgres.DirProblem+": PostgreSQL must not start on that; a leader with an address is needed to finish it")
	case v.unclean() && !v.Memory.CrashTried && (v.leader() == "" || v.Limits.UseRewind):
		v.Memory.CrashTried = true
		return v.again(CleanUpCrash, "a primary that crashed: recover it before comparing it", Recover{})
	case v.leader() == "" && v.since(v.Memory.HandedOver) < v.Limits.RetryTimeout:
		return v.soon(time.Second, AwaitSuccessor, "the lock was handed over; wait for who takes it")
	case v.leader() == "" && !v.standby():
		return v.again(StartReplica, "nobody leads: start as a standby", StartStandby{})
	case !reachable, !known && !v.standby():
		return v.again(StartReplica, v.leader()+" leads but has not told its address yet: start as a standby", StartStandby{Upstream: v.withSection(cluster.Upstream{})})
	case v.succeeded(JobRewind), v.succeeded(JobClone):
		return v.again(StartReplica, "the data directory is "+describe(leader)+"'s now", v.startStandby(up))
	case v.Postgres.DirProblem != "":
		v.Divergence = &Divergence{Leader: leader.Name, Verdict: Diverged, Detail: v.Postgres.DirProblem, CanRewind: v.Limits.UseRewind, WhyNot: "use_pg_rewind is off"}
		return v.diverged(leader)
	case !known:
		return v.again(StartReplica, "there is only an archive to follow", v.startStandby(up))
	case v.Ended != nil && v.Ended.Name == JobCopySlots:
		return v.again(StartReplica, "it streamed, and was stopped for copies of logical slots", v.startStandby(up))
	case v.endless():
		return v.again(StartReplica, "PostgreSQL is "+string(v.Postgres.Control.State)+": where its WAL ends is known when it runs; compare then", v.startStandby(up))
	case v.verdict() == "":
		return v.again(CompareHistory, "is our WAL part of "+leader.String()+"'s history?", CheckDivergence{leader})
	case v.verdict() == Diverged && v.rewoundTo(leader):
		return v.again(StartReplica, "the data directory was rewound to "+leader.String()+", which has not flushed yet what it must come to", v.startStandby(up))
	case v.verdict() == Diverged:
		return v.diverged(leader)
	case v.verdict() == DivergenceUnknown && !v.Postgres.StandbySignal && v.since(v.Memory.Down) < v.Limits.TTL && v.leader() != v.Self:
		// It was a primary: what it has more than the others would be replayed into a standby that then fits nowhere.
		if asked := v.Divergence; asked != nil && v.since(asked.At) < v.pause() || v.failed(JobDivergence) && v.since(v.Ended.At) < v.pause() {
			return v.soon(v.pause(), CompareHistory, v.compared()+": ask again")
		}
		return v.again(CompareHistory, "ask "+leader.String()+" again", CheckDivergence{leader})
	default:
		return v.again(StartReplica, v.compared(), v.startStandby(up))
	}
}

// unclean says whether this was a primary that did not shut down cleanly.
func (v *View) unclean() bool {
	return v.endless() && !v.Postgres.BackupLabel && !v.Postgres.StandbySignal
}

// endless says whether the control file does not tell where the WAL ends, so that a comparison finds nothing out (ha.md 2.14 W2).
func (v *View) endless() bool {
	c := v.Postgres.Control
	return c != nil && (c.State == cluster.ControlInProduction || c.State == cluster.ControlShuttingDown || c.State == cluster.ControlCrashRecovery)
}

// verdict is the answer of the last comparison, if it was with this leader and its timeline, in this outage, and of
// the directory as it is now. Empty: compare first.
func (v *View) verdict() Verdict {
	d := v.Divergence
	switch {
	case v.failed(JobDivergence) && v.since(v.Ended.At) < compareAgain:
		return DivergenceUnknown
	case d == nil || d.Leader != v.comparedWith() || !d.At.After(v.Memory.Rebuilt):
		return ""
	case d.Verdict == DivergenceUnknown && v.since(d.At) >= v.pause():
		return "" // it could not be found out then
	case d.Verdict == Diverged && d.At.Before(v.Memory.RewindTried):
		return Diverged // the rewind that it led to has failed, which changes nothing
	case d.Timeline != 0 && v.leaderTimeline() > d.Timeline:
		return ""
	case !v.Memory.Down.IsZero() && d.At.Before(v.Memory.Down):
		return ""
	case v.Memory.Down.IsZero() && d.At.Before(v.Memory.Dry):
		return ""
	}
	return d.Verdict
}

// comparedWith is with whom a comparison counts.
func (v *View) comparedWith() string {
	if up, known := v.origin(); v.standby() && known {
		return up.String()
	}
	return v.leader()
}

// compareAgain is how long the answer of a comparison counts for a running standby.
const compareAgain = 30 * time.Second

// compareTried is when a comparison ended last, also one that failed or was cancelled; zero: never.
func (v *View) compareTried() (at time.Time) {
	if v.Divergence != nil {
		at = v.Divergence.At
	}
	if v.Ended != nil && v.Ended.Name == JobDivergence && v.Ended.At.After(at) {
		at = v.Ended.At
	}
	return at
}

// compared says how the last comparison came out.
func (v *View) compared() string {
	if v.Divergence == nil || v.failed(JobDivergence) {
		return "the leader's history could not be read"
	}
	return v.Divergence.Detail
}

// leaderTimeline is the timeline that the leader publishes; 0 when it does not. A remote publishes nothing: what it was on in the last comparison counts.
func (v *View) leaderTimeline() cluster.Timeline {
	if d := v.Divergence; v.standby() && d != nil && d.Leader == v.comparedWith() {
		return d.Timeline
	} else if v.standby() {
		return 0
	}
	m, _ := v.Store.Member(v.leader())
	return m.Timeline
}

// diverged brings a member back whose WAL has left the leader's history (ha.md 2.14, X1 to X4).
func (v *View) diverged(leader cluster.Upstream) Decision {
	d, m := v.Divergence, &v.Memory
	remove := v.Limits.RemoveOnDivergence && !v.standby() || m.RewindFailed && v.Limits.RemoveOnRewindFailure
	why := d.Detail + "; " + d.WhyNot
	if m.RewindFailed {
		why = d.Detail + "; pg_rewind failed: " + m.RewindError
	}
	switch {
	case d.CanRewind && !m.RewindFailed && v.since(m.RewindTried) < v.pause():
		return v.soon(v.pause()-v.since(m.RewindTried), RewindNeeded, "the last try ended with: "+m.RewindError)
	case d.CanRewind && !m.RewindFailed:
		v.fate(cluster.Rewound)
		return v.again(RewindNeeded, d.Detail+v.beyond(), Rewind{Leader: leader})
	case v.failed(JobClone) && v.since(v.Ended.At) < v.pause():
		return v.soon(v.pause()-v.since(v.Ended.At), CloneAfterFailure, v.Ended.Error)
	case remove:
		v.fate(cluster.Removed)
		from := leader
		if up, known := v.leaderUpstream(); v.standby() && known {
			from = up
		}
		return v.again(CloneDiverged, why+v.beyond(), Clone{From: from, Remove: true})
	case v.Postgres.Running(), v.Postgres.DirProblem != "":
		v.fate(cluster.Kept)
		var actions []Action
		if a, ok := v.lossDue(); ok {
			actions = append(actions, a)
		}
		return v.soon(10*time.Second, RewindGaveUp, why+v.beyond()+": reinitialize this member, or set use_pg_rewind or remove_data_directory_on_diverged_timelines", actions...)
	default:
		up, _ := v.wantedUpstream()
		return v.again(RewindGaveUp, why+": reinitialize this member; until then it is started as it is", v.startStandby(up))
	}
}

// pause is how long a failed start, clone or rewind waits for its next try: one per cycle (ha.md L35).
func (v *View) pause() time.Duration { return min(v.Limits.LoopWait, 5*time.Second) }

// finalPosition is where our WAL ends, as far as the control file tells.
func (v *View) finalPosition() cluster.LSN {
	if c := v.Postgres.Control; c != nil && c.State == cluster.ControlShutDown {
		return c.Checkpoint
	}
	return 0
}
