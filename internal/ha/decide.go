package ha

import (
	"fmt"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Decide says what this member does next. The first rule that fits wins, in order of danger: a primary
// that must not write, leaving, a store that does not answer, a job under way, the data directory, a PostgreSQL that is
// starting or down, and only then the election, the leader and the replica (ha.md 2.1).
func Decide(v View) Decision {
	v.remember()
	before := v
	d := before.unbound(v.next())
	v.warnOfSlots(&d)
	before.askWaivers(&d)
	before.heed(&d)
	d.Circle = v.circle(&d)
	return d
}

// next is the first rule that fits.
func (v *View) next() Decision {
	if d, ok := v.fence(); ok {
		return d
	}
	switch {
	case v.Asked.Leave:
		return v.leaving()
	case v.Store == nil:
		return v.withoutStore()
	case v.Job != nil:
		return v.whileBusy()
	}
	if d, ok := v.request(); ok {
		return d
	}
	if d, ok := v.directory(); ok {
		return d
	}
	if d, ok := v.systemID(); ok {
		return d
	}
	switch {
	case !v.Postgres.Running():
		return v.whileDown()
	case v.Postgres.Ready != cluster.Accepting || !v.Postgres.Queried:
		return v.whileSilent()
	case v.leader() == "":
		return v.withoutLeader()
	case v.leader() == v.Self:
		return v.asLeader()
	default:
		return v.asReplica()
	}
}

// remember brings the memory up to date with what this View shows.
func (v *View) remember() {
	m, p := &v.Memory, &v.Postgres
	stamp := func(t *time.Time, on bool) {
		switch {
		case !on:
			*t = time.Time{}
		case t.IsZero():
			*t = v.Now
		}
	}
	v.rememberCrash()
	stamp(&m.Down, !p.Running())
	stamp(&m.Silent, p.Running() && (!p.Queried || p.Ready != cluster.Accepting))
	stamp(&m.Dry, p.Queried && p.InRecovery && p.ReplicationState() != cluster.StateStreaming)
	v.rememberAhead()
	v.rememberWaiting()
	v.rememberSlots()
	v.rememberCopies()
	v.rememberFailsafe()
	v.rememberWaived()
	if v.Store == nil {
		m.Leaderless = time.Time{} // nobody knows; it counts from when we see it again
	} else {
		m.Joined = m.Joined || v.leader() != "" || validID(v.Store.Initialize.SystemID)
		stamp(&m.Leaderless, v.leader() == "")
		v.rememberRequest()
		if v.leader() != "" {
			v.rememberPublished()
			v.rememberLeader()
		}
		if v.leader() != "" && v.leader() != v.Self {
			m.GiveUp, m.Promoted, m.Crashes = false, 0, nil
			if p.Queried { // until then a paused member must still know that it is to come back
				m.HandedOver = time.Time{}
			}
		}
	}
	switch {
	case !p.Running(), p.Queried && !p.InRecovery:
		m.Promoting = false
	case v.Job != nil && v.Job.Name == JobPromote, v.failed(JobPromote):
		m.Promoting = v.Ended == nil || !v.Ended.Untold
	}
	stamp(&m.Holding, v.Lock.Held)
	stamp(&m.Unlocked, !v.Limits.Paused && v.writes() && !v.live())
	if p.Queried {
		m.Started = true
		m.Answered = v.Now
		m.CrashTried = false
		m.Role = cluster.Primary
		switch {
		case p.InRecovery && v.standby() && v.Lock.Held && (v.Store == nil || v.leader() == v.Self):
			m.Role = cluster.StandbyLeader
		case p.InRecovery:
			m.Role = cluster.Replica
		}
	}
	v.rememberRebuilding()
	v.rememberLoss()
}

// A primary that crashes that often in that time is handed over when somebody can take it (ha.md G12).
const (
	crashLimit  = 3
	crashWindow = 5 * time.Minute
)

// rememberCrash notes that the primary which leads has ceased to answer, by no doing of ours. A postmaster that restarts after the crash of a
// backend lives and refuses connections; one that is frozen does not refuse them, and has a limit of its own.
func (v *View) rememberCrash() {
	m, p := &v.Memory, &v.Postgres
	refuses := p.Running() && p.Ready == cluster.Rejecting
	died := !p.Running() && p.Control != nil && p.Control.State == cluster.ControlInProduction
	// Whoever looks in the middle of a death meets a postmaster that is there and does not answer, before it is gone.
	counted := len(m.Crashes) > 0 && !m.Crashes[len(m.Crashes)-1].Before(m.Answered)
	ours := v.Ended != nil && v.Ended.At.After(m.Answered)
	answered := m.Started && m.Down.IsZero() && m.Role == cluster.Primary && (m.Silent.IsZero() || died && !counted && !ours)
	if answered && (refuses || died) && v.mine() && v.Job == nil {
		m.Crashes = append(slices.Clone(m.Crashes[max(0, len(m.Crashes)-crashLimit+1):]), v.Now)
	}
}

// crashesOften says whether starting the primary once more is no longer the best that can be done.
func (v *View) crashesOften() bool {
	c := v.Memory.Crashes
	return len(c) == crashLimit && v.since(c[0]) < crashWindow
}

// rememberLeader keeps who led, among whom. Its timeline counts once its own key has shown that it is a primary there: the name in the lock alone
// may be that of a leader of before, by a request that came late.
func (v *View) rememberLeader() {
	m := &v.Memory
	if m.FormerName != v.leader() {
		m.FormerAt = 0
	}
	m.Former, m.FormerName = v.Store.Members, v.leader()
	if key, _ := v.Store.Member(m.FormerName); key.Role == cluster.Primary && key.Timeline != 0 {
		m.FormerAt = key.Timeline
	}
}

// rememberRebuilding notes how rewinds and clones ended, because Ended only tells of the last job.
func (v *View) rememberRebuilding() {
	m := &v.Memory
	fits := func(since time.Time) {
		m.Rebuilt, m.RewindFailed, m.RewindTried, m.RewindError = since, false, time.Time{}, ""
	}
	switch {
	case (m.RewindFailed || !m.RewindTried.IsZero()) && v.Postgres.ReplicationState() == cluster.StateStreaming && !v.stuck():
		fits(v.Now)
	case v.succeeded(JobRewind), v.succeeded(JobClone), v.succeeded(JobBootstrap):
		if v.Ended.At.After(m.Rebuilt) {
			fits(v.Ended.At)
		}
	case v.failed(JobRewind) && v.Ended.At.After(m.RewindTried) && v.Ended.At.After(m.Rebuilt):
		m.RewindFailed = v.Ended.Impossible
		m.RewindTried, m.RewindError = v.Ended.At, v.Ended.Error
	}
	if v.Job == nil && (v.Postgres.Queried || v.failed(JobRewind)) {
		m.Source = "" // it has come to what it needed from there, or has taken nothing
	}
}

// fence stops a PostgreSQL that writes, or is about to, without a live lock. It comes before
// everything else, also while a job runs (ha.md 2.2, 2.10 H5, 2.11 F2, 2.18 O2).
func (v *View) fence() (Decision, bool) {
	if v.Limits.Paused || !v.writes() {
		return Decision{}, false
	}
	stopping := StopMode("")
	if v.Job != nil && v.Job.Name == JobDemote {
		stopping = v.Job.Mode
	}
	leader := v.leader()
	switch {
	case stopping == NoLock, stopping == Immediate:
		return Decision{}, false // as hard as it gets, and under way
	case v.Lock.Refused && !v.Lock.Held: // a snapshot that still names us is older than the refusal
		return v.fenced(LockLost, "the lock was refused"+holder(leader), Demote{Mode: NoLock}), true
	case leader != "" && leader != v.Self:
		return v.fenced(LockLost, "the lock is not ours"+holder(leader), Demote{Mode: NoLock}), true
	case v.Lock.Held && !v.live():
		return v.fenced(LockLost, "the lock ran out unrenewed", Demote{Mode: NoLock}), true
	case stopping == Offline:
		return Decision{}, false
	case v.Lock.Held && v.left() <= v.Limits.Reserve:
		detail := fmt.Sprintf("the lock could not be renewed and ends in %s", v.left().Round(time.Millisecond))
		return v.fenced(LockExpiring, detail, Demote{Mode: Offline, Until: v.Lock.Deadline}), true
	case !v.Lock.Held && v.Store == nil:
		return v.fenced(LockExpiring, "a running primary, no lock, and the store does not answer", Demote{Mode: Offline, Until: v.Now.Add(v.Limits.Reserve)}), true
	case !v.Lock.Held && v.since(v.Memory.Unlocked) >= v.Limits.TTL-v.Limits.Reserve:
		// An adopted primary may take the lock that its old agent had or that nobody has, but it cannot wait for it for ever.
		return v.fenced(LockLost, "a running primary that could not take the lock for ttl", Demote{Mode: Offline, Until: v.Now.Add(v.Limits.Reserve)}), true
	}
	return Decision{}, false
}

func (v *View) fenced(r Reason, detail string, a Action) Decision {
	d := v.soon(time.Second, r, detail, a)
	d.Permit = false
	return d
}

// writes says whether PostgreSQL accepts writes or a job is about to make it. A bootstrap writes before there is
// a lock: the initialize key is what protects it.
func (v *View) writes() bool {
	if v.Job != nil {
		switch v.Job.Name {
		case JobBootstrap:
			return false
		case JobPromote, JobStartPrimary:
			return true
		case JobSwitchover:
			if v.Job.Checkpoint != 0 {
				return false // the shutdown checkpoint is the last record; what still runs sends and archives WAL
			}
		}
	}
	if v.bootstrapped() {
		return false
	}
	return v.primary() || v.Memory.Promoting
}

// bootstrapped says whether PostgreSQL is the new cluster of this moment that waits for its first lock. Our claim
// lives no longer than our member key, so neither does the exception.
func (v *View) bootstrapped() bool {
	return v.succeeded(JobBootstrap) && v.since(v.Ended.At) < v.Limits.TTL && !v.Lock.Held && !v.Lock.Refused && (v.leader() == "" || v.leader() == v.Self)
}

// left is how long the lock is nobody else's.
func (v *View) left() time.Duration { return v.Lock.Deadline.Sub(v.Now) }

func holder(name string) string {
	if name == "" {
		return ""
	}
	return ": " + name + " holds it"
}

// withoutStore: what runs goes on, and fence() watches the lock's end (ha.md 2.18). A primary that was stopped for
// this comes back as a standby without upstream, so that it can still be read.
func (v *View) withoutStore() Decision {
	stopped := v.succeeded(JobDemote) && v.Postgres.Dir == cluster.DirPresent && !v.Postgres.Running()
	if stopped && v.Job == nil && v.Memory.Started && !v.Limits.Paused {
		return v.soon(time.Second, StartReplica, "the store does not answer: be a standby, which can be read", StartStandby{})
	}
	d := v.soon(time.Second, StoreAway, "the store does not answer")
	switch {
	case v.live() && v.writes() && v.Lock.Agreed:
		d.Reason = FailsafeActive
		d.Detail = "the store does not answer; all members have promised not to lead yet"
		d.Within = min(d.Within, max(v.left()-v.Limits.Reserve, 100*time.Millisecond))
	case v.live() && v.writes():
		d.Detail = fmt.Sprintf("the store does not answer; the lock is safe for another %s", v.left().Round(time.Second))
		d.Within = min(d.Within, max(v.left()-v.Limits.Reserve, 100*time.Millisecond))
	}
	return d
}

// whileBusy waits for the job, but not for ever and not against the cluster's interest (ha.md 2.2).
func (v *View) whileBusy() Decision {
	switch v.Job.Name {
	case JobSwitchover:
		return v.handingOver(v.Job.Checkpoint, v.Job.Previous)
	case JobStart, JobStartPrimary, JobRestart, JobRecover:
		if v.leader() == v.Self && !v.live() && !v.Limits.Paused && !v.writes() {
			// The store was away for longer than our hold. While the key bears our name nobody else can lead, so the limits below must hold.
			if v.Job.Name == JobStart && v.pointedAway() {
				return v.disown()
			}
			return v.again(ResumeLeader, "the lock bears our name; "+string(v.Job.Name)+" goes on", AcquireLeader{})
		}
		if v.standby() && v.Job.Name == JobStart { // the standby leader, too, may wait for what the remote does not have any more
			if d, ok := v.helpStart(); ok {
				return d
			}
		}
		if v.mine() && !v.Limits.Paused && v.since(v.Job.Since) >= v.startTimeout() {
			return v.giveUpStarting(JobTooLong, tooLong)
		}
		// A restart has stopped PostgreSQL by then.
		if v.Job.Name == JobStart || v.Job.Name == JobRestart && v.since(v.Job.Since) >= time.Minute {
			if v.rebuildAsked() && v.rebuildable() {
				return v.soon(100*time.Millisecond, Reinitializing, "the start under way is not waited for", CancelJob{})
			}
			if d, ok := v.helpStart(); ok {
				return d
			}
		}
	case JobClone, JobFollow, JobDivergence:
		if v.rebuildAsked() {
			return v.soon(100*time.Millisecond, Reinitializing, "the job under way is cancelled", CancelJob{})
		}
		// A comparison waits for an answer of the former leader, which must not hold up who might follow it.
		if v.Job.Name == JobDivergence && v.leader() == "" && !(v.standby() && !v.Postgres.Running()) { // a stopped one there asks the remote, not a leader
			return v.soon(100*time.Millisecond, Busy, "the lock is free: the comparison with its last holder is cancelled", CancelJob{})
		}
	}
	d := v.decide(Busy, string(v.Job.Name))
	switch {
	case v.live():
		d.Within = min(d.Within, max(v.left()-v.Limits.Reserve, 100*time.Millisecond))
	case v.Lock.Held:
		d.Within = min(d.Within, time.Second)
	}
	return d
}

// startTimeout is how long a leader may take to start.
func (v *View) startTimeout() time.Duration {
	if r := v.Asked.Restart; r != nil && r.Timeout > 0 {
		return r.Timeout
	}
	return v.Limits.PrimaryStart
}

const tooLong = "the start takes too long"

var often = fmt.Sprintf("it crashed %d times within %s", crashLimit, crashWindow)

// giveUpStarting hands the lock to somebody else, if there is somebody (ha.md 2.3).
func (v *View) giveUpStarting(r Reason, why string) Decision {
	fit, detail, ask := v.failoverPossible("", 0)
	switch {
	case ask != nil:
		return v.again(r, why+"; ask who could take over", *ask)
	case fit != "":
		v.Memory.GiveUp = true // the lock is released when PostgreSQL is down, not before
		return v.again(r, why+" and "+detail, Demote{Mode: Immediate})
	default:
		return v.soon(time.Second, r, why+", but "+detail)
	}
}

// request takes up what people asked for, when nothing else is under way (ha.md 2.13e, 2.13f).
func (v *View) request() (Decision, bool) {
	if v.rebuildAsked() {
		r := v.Asked.Reinitialize
		v.Memory.DoneReinit = r.ID
		leader, _ := v.leaderUpstream()
		if !v.rebuildable() {
			return v.again(RequestTaken, "reinitialize is refused: this member leads, or there is no leader to clone from"), true
		}
		v.Memory.RewindFailed = false
		if v.verdict() == Diverged { // else it was gone before
			v.fate(cluster.Removed)
		}
		return v.again(Reinitializing, "asked for by an operator", Clone{From: leader, Remove: true, Request: r.ID, FromLeader: r.FromLeader}), true
	}
	if r := v.Asked.Restart; r != nil && r.ID != v.Memory.DoneRestart {
		v.Memory.DoneRestart = r.ID
		if v.Postgres.Dir != cluster.DirPresent {
			return v.again(RequestTaken, "restart is refused: there is no data directory"), true
		}
		up := cluster.Upstream{}
		if !v.primary() && (v.leader() != v.Self || v.standby()) {
			up, _ = v.wantedUpstream()
		}
		return v.again(RequestTaken, "restart asked for by an operator", RestartPostgres{Request: r.ID, Upstream: up, As: v.standbyRole()}), true
	}
	return Decision{}, false
}

// rebuildAsked says whether people want this member built anew, and nothing was done about it yet.
func (v *View) rebuildAsked() bool {
	r := v.Asked.Reinitialize
	return r != nil && r.ID != v.Memory.DoneReinit
}

// rebuildable says whether there is another one to clone from.
func (v *View) rebuildable() bool {
	_, known := v.leaderUpstream()
	return known && !v.Lock.Held
}

// systemID compares whose data we have with whose cluster this is (ha.md 2.7).
func (v *View) systemID() (Decision, bool) {
	local, key := v.Postgres.SystemID, v.Store.Initialize
	switch {
	case !validID(local) && v.Postgres.Running():
		return Decision{}, false // it runs, so pg_control was all right and will be again
	case !validID(local) && v.Lock.Held:
		return v.again(SystemIDUnknown, "pg_control tells no system identifier: let somebody else lead", ReleaseLeader{}), true
	case !validID(local):
		return v.soon(v.Limits.LoopWait, SystemIDUnknown, "pg_control tells no system identifier: restore the directory or reinitialize this member"), true
	case validID(key.SystemID) && key.SystemID != local:
		detail := fmt.Sprintf("the data directory has system identifier %s, the cluster %s: this member belongs to another cluster; check scope and data_dir", local, key.SystemID)
		switch {
		case v.Limits.Paused && v.Lock.Held:
			return v.decide(SystemIDForeign, detail, ReleaseLeader{}), true
		case v.Limits.Paused:
			return v.decide(SystemIDForeign, detail), true
		case v.Postgres.Running():
			return v.again(SystemIDForeign, detail, Demote{Mode: Shutdown}), true
		case v.Lock.Held:
			return v.again(SystemIDForeign, detail, ReleaseLeader{}), true
		}
		return v.decide(SystemIDForeign, detail, Exit{Failure: detail}), true
	case validID(key.SystemID), v.leader() != "", v.Limits.Paused:
		return Decision{}, false
	case v.Store.Bootstrapper == v.Self && (v.succeeded(JobBootstrap) || key.Present && key.SystemID == "" && !key.Invalid):
		// The second: the store was away when the cluster was made, or the agent was restarted. Our claim stands, so the data are its.
		actions := []Action{WriteInitialize{local}, WriteConfig{}, AcquireLeader{}}
		if s := v.Store.Sync; s.Leader != "" { // left by a cluster that is no more
			actions = append(actions, WriteSync{cluster.Sync{Revision: s.Revision}})
		}
		return v.again(BootstrapDone, "the new cluster is "+local, actions...), true
	case v.Memory.Joined:
		return Decision{}, false // the store was emptied under us: elect a leader, it restores the keys (ha.md L67)
	case key.Present && key.SystemID == "" && !key.Invalid && v.Store.Bootstrapper != v.Self && v.bootstrapperLives():
		return v.decide(BootstrapOther, "another member makes this cluster at the moment, but this one has data already"), true
	case v.Postgres.Running() && !v.primary():
		detail := "a running replica, but the store knows neither cluster nor leader: start the agent of its primary first"
		return v.decide(JoinFirst, detail, Exit{Failure: detail}), true
	default:
		return v.again(BootstrapDone, "the store does not know this cluster yet; it becomes "+local, WriteInitialize{local}), true
	}
}

// validID says whether that is a system identifier: all digits, ten at least (dcs.md 1.3).
func validID(s string) bool {
	return len(s) >= 10 && !slices.ContainsFunc([]byte(s), func(c byte) bool { return c < '0' || c > '9' })
}

// repoint gives a standby that does not answer yet its new leader. It may need WAL to become consistent that the old
// one cannot send any more, and would start for ever.
func (v *View) repoint() (Decision, bool) {
	m := &v.Memory
	up, known := v.wantedUpstream()
	switch {
	case !v.Postgres.Running() || v.Postgres.Queried || !v.Postgres.StandbySignal || v.leader() == "" && !v.followsRemote() || !known:
		return Decision{}, false
	case m.Pointed == up && !(v.failed(JobFollow) && v.since(m.PointedAt) >= v.pause()):
		return Decision{}, false
	}
	return v.again(FollowNew, "starts; follow "+describe(up)+" instead of "+describe(m.Pointed), v.follow(up)), true
}

// pointedAway: PostgreSQL starts as a standby of another member.
func (v *View) pointedAway() bool {
	to := v.Memory.Pointed.Name
	return v.Postgres.StandbySignal && to != "" && to != v.Self
}

// disown releases a lock that bears our name although we follow another member since: a request of ours came late. Such a standby may need
// WAL of that member before it answers anybody, and must not keep the others from leading until then.
func (v *View) disown() Decision {
	return v.again(NoLongerLeader, "the lock bears our name, from before we followed "+v.Memory.Pointed.Name+": take it to release it", AcquireLeader{}, ReleaseLeader{})
}

// whileSilent: a postmaster lives but does not answer our query yet, or not any more (ha.md 2.3).
func (v *View) whileSilent() Decision {
	detail := fmt.Sprintf("the postmaster does not accept connections for %s", v.since(v.Memory.Silent).Round(time.Second))
	switch {
	case v.Postgres.Ready == cluster.Failing:
		detail = fmt.Sprintf("every session dies of an error of the server for %s: %s", v.since(v.Memory.Silent).Round(time.Second), v.Postgres.QueryError)
	case v.Postgres.Ready == cluster.Accepting && v.Postgres.QueryError != "":
		detail = fmt.Sprintf("the postmaster serves others and not us for %s: %s", v.since(v.Memory.Silent).Round(time.Second), v.Postgres.QueryError)
	}
	if v.standby() && (v.leader() != v.Self || v.live()) {
		if d, ok := v.helpStart(); ok {
			return d
		}
	}
	switch {
	case v.leader() == v.Self && !v.live() && v.pointedAway():
		return v.disown()
	case v.leader() == v.Self && !v.live():
		v.Memory.Unproven = true
		return v.again(ResumeLeader, "the lock bears our name", AcquireLeader{})
	case v.mine() && !v.Limits.Paused && v.crashesOften() && v.Postgres.Ready == cluster.Rejecting:
		return v.giveUpStarting(CrashFailover, often)
	case v.mine() && !v.Limits.Paused && v.since(v.Memory.Silent) >= v.Limits.RetryTimeout && v.Postgres.Ready == cluster.Failing:
		return v.giveUpStarting(SessionsFail, detail)
	case v.mine() && !v.Limits.Paused && v.since(v.Memory.Silent) >= v.startTimeout() && v.Postgres.Ready != cluster.Accepting:
		return v.giveUpStarting(StartTooLong, tooLong) // but never a server that serves others: a wrong password of ours is no reason to stop it
	default:
		if d, ok := v.helpStart(); ok {
			return d
		}
		return v.soon(time.Second, StillStarting, detail)
	}
}

// helpStart does what may bring a standby up that starts: it gets its upstream of now, or learns that it waits in vain.
func (v *View) helpStart() (Decision, bool) {
	if d, ok := v.repoint(); ok {
		return d, true
	}
	return v.startsInVain()
}

// startsInVain: a standby that has been starting for long may need WAL, to become consistent, that the leader's history does not
// have. It would wait for ever; the control file tells how far it must come, so it can be compared as it is.
func (v *View) startsInVain() (Decision, bool) {
	const patience = 30 * time.Second
	leader, known := v.origin()
	starting := v.Postgres.Running() && v.Postgres.StandbySignal && v.Postgres.Ready != cluster.Accepting
	if !starting || !known || v.Limits.Paused || v.since(v.Memory.Silent) < patience {
		return Decision{}, false
	}
	if m, _ := v.Store.Member(leader.Name); m.Role != cluster.Primary && !v.standby() {
		return Decision{}, false
	}
	// A remote tells its timeline in comparisons alone, so it is asked again now and then: it may have moved on.
	late := v.standby() && v.since(v.compareTried()) > compareAgain
	switch verdict := v.verdict(); {
	case v.rewoundTo(leader) && !late:
		return Decision{}, false
	case verdict == "", v.rewoundTo(leader):
		return v.again(CompareHistory, "starts for long: is our WAL part of "+leader.String()+"'s history?", CheckDivergence{leader}), true
	case verdict == Diverged:
		return v.diverged(leader), true
	}
	return Decision{}, false
}

// rewoundTo says whether the directory was rewound to this leader, and has not answered since. It waits for what was written there and may be
// flushed late: it only looks ahead of it. On a later timeline the leader has crashed meanwhile, and may have lost that. It tells
// none while it does not answer.
func (v *View) rewoundTo(leader cluster.Upstream) bool {
	return v.Memory.Source == leader.String() && v.Memory.SourceTimeline >= v.leaderTimeline()
}
