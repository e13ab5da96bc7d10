package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// asLeader rules for the lock holder whose PostgreSQL answers (ha.md 2.10, and 2.10a P1).
func (v *View) asLeader() Decision {
	if v.standby() {
		return v.asStandbyLeader()
	}
	unproven := v.Memory.Unproven || !v.live()
	v.Memory.Unproven = v.primary() && (!v.live() || unproven && v.Postgres.Timeline == 0)
	switch {
	case !v.Lock.Held && v.Lock.Refused && v.Limits.Paused:
		return v.decide(PausedLockRefused, "paused: the lock was refused, PostgreSQL goes on")
	case unproven && v.primary() && v.Postgres.Timeline != 0 && v.Postgres.Timeline < v.Store.History.ClusterTimeline():
		return v.leaderOfThePast()
	case !v.live():
		return v.again(ResumeLeader, "the lock bears our name, from before the agent restarted or the store went away", AcquireLeader{})
	case v.Unfenced != "" && !v.Limits.Paused && v.primary():
		v.Memory.GiveUp = true // the lock is released when PostgreSQL is down, not before
		return v.again(WatchdogFailed, v.Unfenced, Demote{Mode: Immediate})
	case v.Unfenced != "" && !v.Limits.Paused:
		v.Memory.NoRaceUntil = v.Now.Add(v.Limits.LoopWait)
		return v.again(WatchdogFailed, v.Unfenced, ReleaseLeader{})
	case !v.primary():
		return v.toBePromoted()
	case v.ousted() && !v.Limits.Paused:
		v.Memory.GiveUp = true // the lock is released when PostgreSQL is down, not before
		return v.again(NotSyncStandby, "the lock is ours, and only "+v.electors()+" may lead: others have acknowledged commits since", Demote{Mode: Immediate})
	}
	if d, ok := v.failoverRequest(); ok {
		return v.keep(d)
	}
	return v.keep(v.decide(HealthyPrimary, "primary with the lock"))
}

// leaderOfThePast: the lock bears our name, by a request that arrived late, but the cluster has moved on without this primary (ha.md E4).
func (v *View) leaderOfThePast() Decision {
	detail := fmt.Sprintf("the lock bears our name, but this primary is on timeline %d and the cluster on %d", v.Postgres.Timeline, v.Store.History.ClusterTimeline())
	switch {
	case !v.Limits.Paused:
		return v.fenced(OldTimeline, detail, Demote{Mode: NoLock})
	case v.Lock.Held:
		return v.decide(OldTimeline, detail, ReleaseLeader{})
	}
	return v.decide(OldTimeline, detail)
}

// toBePromoted: the lock is ours and PostgreSQL is in recovery (ha.md 2.10a P5, H1, H2).
func (v *View) toBePromoted() Decision {
	named := v.Store.Failover.Candidate == v.Self
	forced := named && !v.Store.Failover.Switchover()
	switch {
	case v.failed(JobPromote) && v.Ended.At.Add(v.Limits.TTL).After(v.Now) && v.Ended.Untold:
		v.Memory.NoRaceUntil = v.Now.Add(v.Limits.TTL)
		return v.again(PromotionFailed, v.Ended.Error, ReleaseLeader{})
	case v.failed(JobPromote) && v.Limits.Paused && v.Memory.Promoting:
		return v.soon(time.Second, PromotionFailed, "paused: "+v.Ended.Error+"; it may still be promoting, and is left to it")
	case v.failed(JobPromote) && v.Ended.At.Add(v.Limits.TTL).After(v.Now):
		// PostgreSQL cannot take a promotion back, so it may end at any time: the lock is released when it is down, not before.
		v.Memory.GiveUp, v.Memory.NoRaceUntil = true, v.Now.Add(v.Limits.TTL)
		return v.again(PromotionFailed, v.Ended.Error+": stop it, as it may still be promoting", Demote{Mode: Immediate})
	case v.Limits.Paused && !named:
		return v.again(PausedNotPrimary, "paused: PostgreSQL was made a standby by hand, so the lock is released", ReleaseLeader{})
	case v.unlisted():
		return v.again(NotInFailsafe, "the lock is ours, and "+v.listed(), ReleaseLeader{})
	case !v.elector(v.Self) && !forced:
		return v.again(NotSyncStandby, "the lock is ours, and only "+v.electors()+" may lead", ReleaseLeader{})
	case v.left() <= v.Limits.Reserve:
		return v.soon(100*time.Millisecond, LockExpiring, "the lock is about to run out unrenewed: what would be promoted now would have to be stopped at once")
	case v.needsVotes() && !forced:
		return v.voteAgain()
	default:
		return v.again(PromoteNow, "the lock is ours", append(v.claimSync(), v.promote())...)
	}
}

// keepKeys adds the keys that every holder of the lock looks after.
func (v *View) keepKeys(d *Decision) {
	p, s := &v.Postgres, v.Store
	if a, ok := v.status(); ok {
		d.Actions = append(d.Actions, a)
	}
	if !validID(s.Initialize.SystemID) && validID(p.SystemID) {
		d.Actions = append(d.Actions, WriteInitialize{p.SystemID})
	}
	if (!s.Config.Usable || len(s.Config.Document.Fields) == 0) && v.Limits.HasConfig {
		d.Actions = append(d.Actions, WriteConfig{})
	}
}

// keep adds what a healthy leader looks after in every cycle.
func (v *View) keep(d Decision) Decision {
	if d.Reason != HealthyPrimary {
		return d
	}
	p, s := &v.Postgres, v.Store
	add := func(a Action) { d.Actions = append(d.Actions, a) }
	// An action that fails ends the list. What others' safety rests on comes first, and last what can fail for
	// long: a missing history file, or no room for another slot.
	v.keepKeys(&d)
	if s.Failover.Requested() && v.Limits.Paused && s.Failover.From == "" && s.Failover.Candidate == v.Self {
		add(v.clearFailover())
	}
	if m := &d.Memory; m.Promoted != 0 {
		// Not m.Promoted + 1: a promotion that was repeated may have noted the timeline that it had already begun.
		if p.Timeline != 0 && v.Checkpointed >= p.Timeline {
			m.Promoted = 0
		} else {
			add(Checkpoint{})
		}
	}
	pending := v.synchronize(add)
	if v.Limits.Sync.Mode == cluster.SyncQuorum {
		d.Memory.forgetWaiting(d.Actions)
	}
	if a, ok := v.failsafeKey(&d); ok {
		add(a)
	}
	if v.historyDue() {
		add(WriteHistory{p.Timeline})
	}
	if a, ok := v.slots(); ok {
		add(a)
	}
	for _, a := range v.logical() {
		add(a)
	}
	trouble := append(v.lostSlots(), v.conflicts()...)
	if durability, ok := v.Durability(); ok && !durability.Met {
		trouble = append(trouble, durability.String())
	}
	if len(trouble) > 0 {
		d.Detail += "; " + strings.Join(trouble, "; ")
	}
	if pending {
		d.Within = min(d.Within, syncPause)
	}
	return d
}

// historyDue: the key must end with the timeline before ours, with all details (ha.md P3).
func (v *View) historyDue() bool {
	h, tl := v.Store.History, v.Postgres.Timeline
	if tl <= 1 {
		return tl == 1 && h.Present && len(h.Entries) > 0
	}
	if !h.Present || len(h.Entries) == 0 {
		return true
	}
	last := h.Entries[len(h.Entries)-1]
	return last.Timeline != tl-1 || last.NewLeader == ""
}

// failoverRequest handles a switchover or failover that the leader finds (ha.md 2.13b, 2.13d).
func (v *View) failoverRequest() (Decision, bool) {
	f := v.Store.Failover
	clear := v.clearFailover()
	if !f.Requested() && !f.BadSchedule {
		return Decision{}, false
	}
	var until time.Duration
	if f.ScheduledAt != nil {
		until = f.ScheduledAt.Sub(v.Wall)
	}
	switch {
	case f.BadSchedule:
		return v.again(RequestInvalid, "its schedule cannot be read", clear), true
	case f.ScheduledAt != nil && v.Limits.Paused:
		return Decision{}, false
	case f.ScheduledAt != nil && until < -v.Limits.LoopWait*3/2:
		return v.again(RequestInvalid, "its time has passed", clear), true
	case until > v.Limits.LoopWait:
		return Decision{}, false
	case until > 0:
		return v.soon(until, RequestScheduled, "due in "+until.Round(time.Second).String()), true
	case f.From != "" && f.From != v.Self:
		return v.again(RequestInvalid, f.From+" is not the leader", clear), true
	case f.Candidate == v.Self && v.Limits.Paused:
		return Decision{}, false // promoted in pause; keep() clears it
	case f.Candidate == v.Self:
		return v.again(RequestInvalid, "this member leads already", clear), true
	case f.Candidate == "" && v.Limits.Paused:
		return v.again(RequestInvalid, "paused: a candidate must be named", clear), true
	}
	if left := v.promisedFor(); left > 0 {
		detail := fmt.Sprintf("the members were asked not to lead for another %s, since the store was slow to answer: hand over then", left.Round(time.Second))
		return v.soon(min(left, time.Second), RequestScheduled, detail), true
	}
	fit, detail, ask := v.failoverPossible(f.Candidate, 0)
	switch {
	case v.failed(JobSwitchover) && v.since(v.Ended.At) < v.Limits.LoopWait:
		return v.again(RequestImpossible, "PostgreSQL did not stop: "+v.Ended.Error, clear), true
	case ask != nil:
		return v.again(SwitchoverAsk, "is the candidate fit to take over?", *ask), true
	case fit == "":
		return v.again(RequestImpossible, detail, clear), true
	case v.standby(): // nobody writes here, so nothing is stopped: the lock changes hands, and both follow
		return v.again(HandOver, detail, v.handOver(fit, v.Postgres.Position())...), true
	default:
		return v.again(SwitchoverStart, detail, Demote{Mode: Graceful}), true
	}
}

// failoverPossible says whether somebody else could lead: the named candidate, or anybody. at, when set, is
// the position that they must have; otherwise the lag limit counts (ha.md 2.13, "Failover possible"). ask is what must be
// asked first.
func (v *View) failoverPossible(candidate string, at cluster.LSN) (fit, detail string, ask *AskPeers) {
	var members []cluster.Member
	for _, m := range v.Store.Members {
		asynchronous := !v.elector(m.Name) && (candidate == "" || v.Store.Failover.Switchover())
		if m.Name != v.Self && m.APIURL != "" && !m.Tags.NoFailover() && (candidate == "" || m.Name == candidate) && !asynchronous && v.inFailsafe(m.Name) {
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return "", "there is no other member" + named(candidate) + " that may lead", nil
	}
	if v.Poll == nil || v.since(v.Poll.At) >= pollAge || !v.asked(members) || v.Ended != nil && at != 0 && v.Poll.At.Before(v.Ended.At) {
		return "", "", &AskPeers{members}
	}
	detail = "nobody is fit to take over"
	need := 1
	if at == 0 && v.syncActive() && !(v.primary() && v.Postgres.Queried) {
		need += v.Store.Sync.Quorum // nothing is handed over: they must elect one of them (ha.md L22)
	}
	for _, m := range members {
		why := v.unfit(v.Poll.Answers[m.Name], at)
		if why == "" {
			if need--; need == 0 {
				return m.Name, m.Name + " is fit to take over", nil
			}
			why = "is fit, but needs votes"
		}
		detail += "; " + m.Name + " " + why
	}
	return "", detail, nil
}

func named(candidate string) string {
	if candidate == "" {
		return ""
	}
	return " named " + candidate
}

// asked says whether those were asked, and where they are now: who has come back with another address meanwhile was not.
func (v *View) asked(members []cluster.Member) bool {
	for _, m := range members {
		there := func(o cluster.Member) bool { return o.Name == m.Name && o.APIURL == m.APIURL }
		if !slices.ContainsFunc(v.Poll.Asked, there) {
			return false
		}
	}
	return true
}

// checkpointRecord is more than a shutdown checkpoint takes in the WAL, headers of pages included, and less than anything else
// of another history would be likely to end in.
const checkpointRecord = 256

// unfit says why a member cannot take over; empty: it can.
func (v *View) unfit(a Answer, at cluster.LSN) string {
	switch {
	case !a.Reachable:
		return "does not answer"
	case a.NoFailover:
		return "is tagged nofailover"
	case a.WatchdogFailed:
		return "has no working watchdog"
	case at != 0 && a.Position < at:
		return fmt.Sprintf("is at %s, the last WAL ends at %s", a.Position, at)
	case at != 0 && a.Position > at+checkpointRecord, at == 0 && v.primary() && v.Postgres.Queried && a.Position > v.Postgres.Position():
		return fmt.Sprintf("is at %s, where our WAL has never been: it has left our history", a.Position)
	case at == 0 && v.lastPosition() > a.Position+v.Limits.MaxLag:
		return fmt.Sprintf("lags by %d bytes, the limit is %d", v.lastPosition()-a.Position, v.Limits.MaxLag)
	case at == 0 && v.primary() && a.Timeline != 0 && a.Timeline < v.Postgres.Timeline:
		return fmt.Sprintf("is on timeline %d and has not followed to %d yet, so it could not get our last WAL", a.Timeline, v.Postgres.Timeline)
	case v.comparesTimelines() && a.Timeline < v.Store.History.ClusterTimeline():
		return fmt.Sprintf("is on timeline %d, the cluster on %d", a.Timeline, v.Store.History.ClusterTimeline())
	}
	return ""
}

// lastPosition is how far our WAL goes: by our own answer, or by what was published last.
func (v *View) lastPosition() cluster.LSN {
	if v.Postgres.Queried {
		return v.Postgres.Position()
	}
	return v.Store.Status.Optime
}

// handingOver waits until a candidate has the WAL up to our shutdown checkpoint, and then releases the
// lock. Nobody has it: the lock stays ours and PostgreSQL is started again (ha.md 2.19, V19).
func (v *View) handingOver(checkpoint, previous cluster.LSN) Decision {
	hangs := v.Job != nil && v.since(v.Job.Since) >= max(v.Limits.PrimaryStart, v.Limits.TTL)
	if v.Store == nil || !v.mine() {
		if hangs {
			return v.again(SwitchoverWait, "the stop hangs, and the lock is not ours any more", Demote{Mode: NoLock})
		}
		return v.soon(100*time.Millisecond, SwitchoverWait, "the lock is not ours any more; PostgreSQL is being stopped")
	}
	if checkpoint == 0 {
		if v.Job == nil {
			if v.standby() { // it became one meanwhile: what is down comes back as a standby
				return v.again(SwitchoverAbandon, "PostgreSQL did not shut down cleanly", v.clearFailover())
			}
			return v.again(SwitchoverAbandon, "PostgreSQL did not shut down cleanly", v.clearFailover(), StartPrimary{})
		}
		if hangs {
			return v.abandonStop("PostgreSQL does not shut down")
		}
		return v.soon(100*time.Millisecond, SwitchoverWait, "PostgreSQL is shutting down")
	}
	fit, detail, ask := v.failoverPossible(v.Store.Failover.Candidate, checkpoint)
	switch {
	case ask != nil:
		return v.again(SwitchoverWait, "who has the WAL up to "+checkpoint.String()+"?", *ask)
	case fit != "":
		return v.again(HandOver, detail, v.handOver(fit, previous)...)
	case hangs:
		return v.abandonStop(detail)
	default:
		return v.soon(20*time.Millisecond, SwitchoverWait, detail, AskPeers{v.peers()})
	}
}

// abandonStop ends a graceful stop that hangs on the archiver or on a receiver: an outage without an end is
// worse than crash recovery. That comes first: the store may not take the other in.
func (v *View) abandonStop(why string) Decision {
	actions := []Action{Demote{Mode: Immediate}}
	if v.Store.Failover.Requested() {
		actions = append(actions, v.clearFailover())
	}
	return v.again(SwitchoverAbandon, "the stop hangs; "+why, actions...)
}

// handOver releases the lock to somebody: named in the request, a candidate takes it without asking around first. A request that could not
// be written is not worth holding the lock for.
func (v *View) handOver(to string, final cluster.LSN) []Action {
	tried := v.since(v.Memory.HandedOver) < v.Limits.RetryTimeout
	v.Memory.HandedOver = v.Now
	var actions []Action
	f, s := v.Store.Failover, v.Store.Sync
	if f.Candidate != to && !tried {
		actions = append(actions, WriteFailover{cluster.Failover{From: v.Self, Candidate: to, Revision: f.Revision}})
	}
	if v.syncLeader(v.Self) && s.Quorum > 0 && !tried { // it has all of our WAL, so it needs no votes
		actions = append(actions, WriteSync{cluster.Sync{Leader: v.Self, Standbys: []string{to}, Revision: s.Revision}})
	}
	return append(actions, ReleaseLeader{Optime: final})
}
