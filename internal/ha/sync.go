package ha

import (
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/quorum"
)

// syncPause is how soon a leader looks again at a standby that is to become synchronous: no event tells that it has caught up.
const syncPause = 500 * time.Millisecond

// Waiting is for whom commits of this primary wait, and since which position.
type Waiting struct {
	Names string      // synchronous_standby_names
	Taken time.Time   // since when all processes that matter seem to have read it; zero: not all
	Safe  cluster.LSN // what was acknowledged without waiting lies before; 0: not known yet
	Ready []string    // standbys that were synchronous and past that
}

// syncActive says whether only members of /sync may lead: the mode is set, and /sync names a leader.
func (v *View) syncActive() bool {
	return v.Limits.Sync.Mode.Active() && v.Store.Sync.Leader != ""
}

// elector says whether what that member has counts: all do, but in synchronous mode only the members of /sync. Others may have
// received more than was ever acknowledged; they cannot lead, so they must not keep others from it.
func (v *View) elector(name string) bool { return !v.syncActive() || v.Store.Sync.Has(name) }

// ousted says whether this member led once, or was about to, and somebody else has since: whoever leads has written itself into /sync before. In
// quorum mode the others of /sync may lack something, so a primary must be the one that it names first.
func (v *View) ousted() bool { return v.syncActive() && !v.elector(v.Self) || v.needsVotes() }

// needsVotes says whether being in /sync is not enough to lead: others in it must be seen not to be ahead.
func (v *View) needsVotes() bool {
	return v.syncActive() && v.Store.Sync.Quorum > 0 && !v.syncLeader(v.Self)
}

// voteAgain: the lock is ours, but /sync is not yet: somebody has written it since we read it, and has led, or we did not get to write it. Whatever
// the others answered before, they are asked again now that nobody else can lead.
func (v *View) voteAgain() Decision {
	if v.Poll == nil || v.Poll.At.Before(v.Memory.Holding) || v.since(v.Poll.At) >= pollAge || !v.asked(v.peers()) {
		return v.again(PromoteNow, "the lock is ours, and /sync is "+v.Store.Sync.Leader+"'s: ask who has more", AskPeers{v.peers()})
	}
	if g, _ := v.quorumGate(); !g.Passed {
		v.Memory.NoRaceUntil = v.Now.Add(v.Limits.LoopWait)
		return v.again(NoQuorum, "the lock is ours, and "+g.Value+", need "+g.Limit, ReleaseLeader{})
	}
	return v.again(PromoteNow, "the lock is ours", append(v.claimSync(), v.promote())...)
}

// electors are the members that may lead, for people.
func (v *View) electors() string {
	return strings.Join(append([]string{v.Store.Sync.Leader}, v.Store.Sync.Standbys...), ", ")
}

// syncLeader says whether /sync names that member as the leader. Being ahead of a synchronous standby it has nothing that was
// acknowledged (ha.md C5).
func (v *View) syncLeader(name string) bool {
	return v.syncActive() && strings.EqualFold(v.Store.Sync.Leader, name)
}

// claimSync makes the member that takes the lock the only one that may lead, before it acknowledges anything that the others of /sync lack
// (ha.md 2.17d, D-5). That the key is still as we read it proves that we were named in it: what we know may be older than the lock.
func (v *View) claimSync() []Action {
	s := v.Store.Sync
	if !v.Limits.Sync.Mode.Active() {
		return nil
	}
	if v.primary() { // a primary goes on where it was, and so does for whom its commits wait
		if s.Leader == "" {
			return nil
		}
		return []Action{WriteSync{s}}
	}
	actions := []Action{WriteSync{cluster.Sync{Leader: v.Self, Revision: s.Revision}}}
	if names := v.firstNames().String(); names != v.Postgres.SyncNames {
		actions = append(actions, RequireSync{names})
	}
	return actions
}

// firstNames are for whom commits wait from the promotion on, until the first standby streams: in quorum mode for as many of the others in /sync as
// before (ha.md 2.17g), so that nothing is acknowledged that only the new leader has. For how long, synchronize says.
func (v *View) firstNames() quorum.Names {
	s := v.Store.Sync
	names := quorum.Everybody(nil, v.Limits.Sync.Strict)
	if v.Limits.Survive == cluster.SurviveSite && (v.Limits.Sync.Strict || len(v.onTheWay()) > 0) {
		return quorum.Everybody(nil, true)
	}
	if v.Limits.Sync.Mode != cluster.SyncQuorum || !v.syncActive() {
		return names
	}
	if v.syncLeader(v.Self) && len(s.Standbys) == 0 { // claimed before
		names, _ = quorum.ParseNames(v.Postgres.SyncNames)
		return quorum.AnyOf(names.Count, names.List, v.Limits.Sync.Strict)
	}
	others := slices.DeleteFunc(append([]string{s.Leader}, s.Standbys...), func(name string) bool { return strings.EqualFold(name, v.Self) })
	return quorum.AnyOf(len(others)-s.Quorum, others, v.Limits.Sync.Strict)
}

// synchronize adds the next step of the leader's synchronous standbys (ha.md 2.17d), and says whether more is to follow soon.
func (v *View) synchronize(add func(Action)) (pending bool) {
	s := v.Store.Sync
	switch mode := v.Limits.Sync.Mode; {
	case !mode.Active() && s.Leader != "":
		add(WriteSync{cluster.Sync{Revision: s.Revision}})
		return false
	case !mode.Active():
		return false
	}
	required, _ := quorum.ParseNames(v.Postgres.SyncNames)
	w := v.Memory.Waiting
	state := quorum.State{
		Settings: v.Limits.Sync, Self: v.Self, Published: s, Required: required, Picked: v.Limits.Sync.Pick(v.syncCandidates(), v.Postgres.Flush),
		Confirmed: w.Ready, Settled: w.Safe != 0 && w.Names == v.Postgres.SyncNames,
	}
	if v.Limits.Survive == cluster.SurviveSite {
		picked, wait := v.pickElsewhere(v.syncCandidates(), required)
		if wait && v.namesElsewhere(required) && v.syncLeader(v.Self) {
			return true // it stays as it is: nothing is acknowledged that those in /sync lack
		}
		state.Picked, state.Strict = picked, state.Strict || wait
	}
	promoted := v.Limits.Sync.Mode == cluster.SyncQuorum && v.syncLeader(v.Self) && v.since(v.Memory.Holding) < v.Limits.LoopWait
	if promoted && len(state.Picked) == 0 && len(required.List) > 0 {
		return true // the others need a moment to find their new leader
	}
	step := state.Next()
	if step.Publish != nil {
		add(WriteSync{*step.Publish})
	}
	if step.Require != nil {
		add(RequireSync{step.Require.String()})
	}
	return step.Pending
}

// forgetWaiting: commits are to wait for others. Whether that has been written is not certain when the answer gets lost, so what was seen before is void.
func (m *Memory) forgetWaiting(actions []Action) {
	for _, a := range actions {
		if _, ok := a.(RequireSync); ok {
			m.Waiting = Waiting{}
		}
	}
}

// rememberWaiting notes since when commits wait for whom (ha.md 2.17c). A backend waits when the checkpointer says so, and a WAL sender ends its
// wait by the names that it has read itself; both read them some time after the file was written. A commit that did not wait was flushed
// before it was acknowledged, so all of them lie before what is flushed once everybody has read the names.
func (v *View) rememberWaiting() {
	w, p := &v.Memory.Waiting, &v.Postgres
	if !p.Queried || p.InRecovery || !v.Limits.Sync.Mode.Active() {
		if p.Queried || !p.Running() {
			*w = Waiting{}
		}
		return
	}
	if w.Names != p.SyncNames {
		*w = Waiting{Names: p.SyncNames}
	}
	required, ok := quorum.ParseNames(p.SyncNames)
	late := func(s cluster.Walsender) bool { return s.SyncPriority != 0 && !required.Waits(s.Application) }
	switch {
	case !ok || len(required.List) == 0:
		return
	case w.Safe != 0:
	case !p.Heeded || slices.ContainsFunc(p.Walsenders, late):
		w.Taken = time.Time{}
		return
	case w.Taken.IsZero():
		w.Taken = v.Now
		return
	case v.since(w.Taken) < syncPause: // a checkpointer that was just told to read sleeps until it is scheduled
		return
	default:
		w.Safe = p.Flush
	}
	ready := slices.Clone(w.Ready)
	for _, s := range p.Walsenders {
		counts := s.SyncState == "sync" && !required.Any || s.SyncState == "quorum" && required.Any
		if s.State == cluster.StateStreaming && counts && v.syncPosition(s) >= w.Safe && required.Waits(s.Application) && !slices.Contains(ready, s.Application) {
			ready = append(ready, s.Application)
		}
	}
	slices.Sort(ready)
	w.Ready = ready
}

// syncPosition is what a commit waits for a standby to have done.
func (v *View) syncPosition(s cluster.Walsender) cluster.LSN {
	switch v.Postgres.SyncCommit {
	case "remote_apply":
		return s.Replay
	case "remote_write":
		return s.Write
	}
	return s.Flush
}

// syncCandidates are the standbys that could be synchronous (ha.md 2.17b, S1 to S3).
func (v *View) syncCandidates() (list []quorum.Standby) {
	for _, m := range v.Store.Members {
		i := v.walsender(m.Name)
		if i < 0 || strings.EqualFold(m.Name, v.Self) || m.State != cluster.Running || m.Tags.NoSync() || v.cascades(m) {
			continue
		}
		s := v.Postgres.Walsenders[i]
		list = append(list, quorum.Standby{Name: m.Name, Priority: m.Tags.SyncPriority(), State: s.SyncState, At: v.syncPosition(s), NoFailover: m.Tags.NoFailover()})
	}
	return list
}

func (v *View) walsender(name string) int {
	return slices.IndexFunc(v.Postgres.Walsenders, func(s cluster.Walsender) bool {
		return strings.EqualFold(s.Application, name) && s.State == cluster.StateStreaming && v.syncPosition(s) != 0
	})
}

// cascades says whether that member is to stream from another one that streams from us, and will not stay with us.
func (v *View) cascades(m cluster.Member) bool {
	for range v.Store.Members { // a ring of tags has an end
		from := m.Tags.ReplicateFrom()
		up, known := v.Store.Member(from)
		switch {
		case from == "" || from == v.Self || !known || up.State != cluster.Running:
			return false
		case v.walsender(from) >= 0:
			return true
		}
		m = up
	}
	return false
}
