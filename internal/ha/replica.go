package ha

import (
	"fmt"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// asReplica rules for a running member while another one leads (ha.md 2.11).
func (v *View) asReplica() Decision {
	switch {
	case v.primary(): // only in pause, fence() stops it otherwise
		return v.decide(PausedPrimary, "paused: a second primary beside "+v.leader()+" is left alone")
	case v.Lock.Held:
		return v.again(NoLongerLeader, "the lock is "+v.leader()+"'s", ReleaseLeader{})
	}
	return v.follows()
}

// follows rules for a standby that is to stream from its leader, or, in a standby cluster, as the leader.
func (v *View) follows() Decision {
	p := &v.Postgres
	origin, known := v.origin()
	up, reachable := v.wantedUpstream()
	switch {
	case !v.Limits.Paused && p.ReplayPaused && p.Version >= 140000:
		return v.soon(time.Second, ResumeReplayNow, "replay is paused", ResumeReplay{})
	case !reachable:
		return v.following(fmt.Sprintf("%s leads but has not told its address yet", v.leader()))
	case v.elsewhere(up) && v.Memory.Pointed == up && v.since(v.Memory.PointedAt) < v.pause():
		return v.soon(v.pause()-v.since(v.Memory.PointedAt), FollowNew, fmt.Sprintf("was told to follow %s, but follows %s still", describe(up), describe(p.Upstream)))
	case v.elsewhere(up):
		return v.again(FollowNew, v.turn(up), v.follow(up))
	case up.Host == "" && v.standby():
		return v.following("replays the archive")
	case v.Memory.Dry.IsZero() && !v.stuck() || !known || v.Limits.Paused:
		return v.following("streams from " + describe(up))
	case v.Tags.NoStream && v.leaderTimeline() <= p.Timeline:
		return v.following("replays the archive: this member is tagged nostream")
	}
	return v.dry(origin, up)
}

// turn says what changes when it follows up.
func (v *View) turn(up cluster.Upstream) string {
	from, to := describe(v.Postgres.Upstream), describe(up)
	switch {
	case v.Memory.As != v.standbyRole() && v.standbyRole() != "":
		return fmt.Sprintf("follow %s as the standby leader, from %s", to, from)
	case v.standby() && v.Postgres.Upstream.Host == up.Host && v.Postgres.Upstream.Port == up.Port:
		return fmt.Sprintf("follow %s as standby_cluster says now", to)
	}
	return fmt.Sprintf("follow %s instead of %s", to, from)
}

// elsewhere says whether the standby is set to stream from somewhere else, or to be something else. Where it fetches archived WAL it does not show: what it
// was told last counts, and an agent that has just started tells it.
func (v *View) elsewhere(up cluster.Upstream) bool {
	is := v.Postgres.Upstream
	told := v.Memory.As == v.standbyRole() && (!v.standby() || v.Memory.Pointed.Archive == up.Archive)
	return is.Host != up.Host || is.Port != up.Port || is.Slot != up.Slot || !told
}

// rememberAhead notes since when the end of what a standby has received stands beyond its leader's. A busy one moves on, and what a leader
// publishes catches up.
func (v *View) rememberAhead() {
	m, p := &v.Memory, &v.Postgres
	if v.Store == nil || v.standby() || !p.Queried || !p.InRecovery || p.Received <= p.Replayed || v.Store.Status.Optime == 0 || p.Received <= v.Store.Status.Optime {
		m.Ahead, m.AheadAt = time.Time{}, 0
		return
	}
	if p.Received != m.AheadAt || m.Ahead.IsZero() {
		m.Ahead, m.AheadAt = v.Now, p.Received
	}
}

// stuck says whether this standby waits for WAL that never comes: it has received the begin of a record from a leader that is gone, up to the
// end of a segment, and asks for the next segment, where the new leader has not been. It replays nothing more. Some versions of
// PostgreSQL fail to connect meanwhile, newer ones (17.12, for example) wait and may show a WAL receiver that streams.
func (v *View) stuck() bool {
	const after = 20 * time.Second // what the leader publishes is as old as its last cycle
	return !v.Memory.Ahead.IsZero() && v.since(v.Memory.Ahead) >= after
}

// dry: a standby does not stream. Perhaps its WAL is not part of the leader's history (ha.md F10, W1 to W7).
func (v *View) dry(leader, up cluster.Upstream) Decision {
	const patience = 2 * time.Second // a WAL receiver needs a moment to connect
	m, _ := v.Store.Member(leader.Name)
	switch {
	case v.since(v.Memory.Dry) < patience:
		d := v.following("the WAL receiver connects to " + describe(up))
		d.Within = min(d.Within, patience-v.since(v.Memory.Dry))
		return d
	case m.Role != cluster.Primary && !v.standby():
		return v.soonFollowing("waits until " + leader.Name + " is promoted")
	case v.standby() && v.verdict() != Diverged && v.verdict() != NotDiverged && v.since(v.compareTried()) < v.Limits.LoopWait:
		return v.soonFollowing("does not stream from " + describe(up) + " yet; " + v.compared()) // the other cluster may be away for long
	case v.verdict() == "", v.since(v.compareTried()) > compareAgain:
		return v.again(CompareHistory, "not streaming: is our WAL part of "+leader.String()+"'s history?", CheckDivergence{leader})
	case v.verdict() == Diverged:
		return v.diverged(leader)
	case v.verdict() == NotDiverged && v.stuck():
		return v.halfRecord(leader)
	}
	return v.soonFollowing("does not stream from " + describe(up) + " yet")
}

// halfRecord takes the half record away. What cannot be helped in this way goes that of a diverged member, without pg_rewind, which sees no difference.
func (v *View) halfRecord(leader cluster.Upstream) Decision {
	m, d := &v.Memory, *v.Divergence
	d.CanRewind, d.WhyNot = false, "pg_rewind sees no difference"
	d.Detail = fmt.Sprintf("half a record, received up to %s, goes on nowhere: %s is at %s", v.Postgres.Received, leader.Name, v.Store.Status.Optime)
	switch {
	case m.RewindFailed:
		v.Divergence = &d
		return v.diverged(leader)
	case v.since(m.RewindTried) < v.pause():
		return v.soon(v.pause()-v.since(m.RewindTried), HalfRecord, "the last try ended with: "+m.RewindError)
	}
	return v.again(HalfRecord, d.Detail, Rewind{Leader: leader, HalfRecord: true})
}

func (v *View) soonFollowing(detail string) Decision {
	d := v.following(detail)
	d.Within = min(d.Within, time.Second)
	return d
}

// following is the calm state of a replica.
func (v *View) following(detail string) Decision {
	d := v.decide(Following, detail)
	if v.standbyRole() == cluster.StandbyLeader {
		d.Reason = StandbyLeading
		v.keepStandby(&d)
	}
	if a, ok := v.slots(); ok {
		d.Actions = append(d.Actions, a)
	}
	for _, a := range v.logical() {
		if _, stops := a.(CopySlots); stops && (!v.Memory.Dry.IsZero() || v.stuck()) {
			continue // it has other troubles
		}
		d.Actions = append(d.Actions, a)
	}
	if a, ok := v.lossDue(); ok {
		d.Actions = append(d.Actions, a)
	}
	return d
}

func describe(u cluster.Upstream) string {
	switch {
	case u.Host == "" && u.Archive.Restore != "":
		return "the archive"
	case u.Host == "":
		return "nobody"
	}
	return u.String()
}

// leaderUpstream is the leader as a source of WAL; known is false while it has told no address.
func (v *View) leaderUpstream() (up cluster.Upstream, known bool) {
	if v.Store == nil || v.leader() == "" || v.leader() == v.Self {
		return cluster.Upstream{}, false
	}
	m, _ := v.Store.Member(v.leader())
	return v.upstreamOf(m)
}

func (v *View) upstreamOf(m cluster.Member) (cluster.Upstream, bool) {
	host, port, ok := m.HostPort()
	if !ok {
		return cluster.Upstream{Name: m.Name}, false
	}
	up := cluster.Upstream{Name: m.Name, Host: host, Port: port}
	if v.Limits.UseSlots {
		up.Slot = cluster.SlotName(v.Self)
	}
	return up, true
}

// wantedUpstream is where this member should stream from (ha.md 2.11, "Upstream selection"). known is false when that
// cannot be told yet; a zero upstream with known true means from nowhere.
func (v *View) wantedUpstream() (up cluster.Upstream, known bool) {
	if v.Tags.NoStream {
		return v.withSection(cluster.Upstream{}), true
	}
	if v.followsRemote() {
		up, _ = v.remote()
		if v.leader() != v.Self {
			up.Archive.Delay = ""
		}
		return up, true
	}
	if up, known := v.remote(); v.standby() && known && v.Memory.Source == up.String() {
		// It was rewound to the remote, and has not come to what it needs from there. The leader may not have followed to that timeline yet: on the older
		// one it would send WAL that the remote does not have, and PostgreSQL would replay it. The slot is the leader's.
		up.Slot, up.Archive.Delay = "", ""
		return up, true
	}
	if from := v.Tags.ReplicateFrom; from != "" && from != v.Self {
		if i := slices.IndexFunc(v.Store.Members, func(m cluster.Member) bool { return m.Name == from }); i >= 0 {
			if up, ok := v.upstreamOf(v.Store.Members[i]); ok {
				return v.withSection(up), true
			}
		}
	}
	up, known = v.leaderUpstream()
	return v.withSection(up), known
}
