package ha

import (
	"github.com/regent-ha/regent/internal/cluster"
)

// Standby clusters (ha.md 2.22). Every member is a standby of another cluster, the remote: who holds the lock, the standby leader, follows the remote, and the
// others follow it. Nobody here writes, so losing the lock is no danger and needs no stop: who has lost it follows who has it. Whose history counts is the
// remote's, for all members.

// standby says whether all members of this cluster are standbys of another cluster's.
func (v *View) standby() bool { return v.Limits.Type == cluster.FollowsAnother }

// remote is where a standby cluster follows the other one; known is false when it has nothing but an archive.
func (v *View) remote() (up cluster.Upstream, known bool) {
	return v.Limits.Remote, v.Limits.Remote.Host != ""
}

// origin is whose history counts: the leader's, in a standby cluster the remote's. known is false when it cannot be asked.
func (v *View) origin() (up cluster.Upstream, known bool) {
	if v.standby() {
		return v.remote()
	}
	return v.leaderUpstream()
}

// followsRemote: ha.md 2.11, "Upstream selection" 2.
func (v *View) followsRemote() bool {
	return v.standby() && (v.leader() == v.Self || v.leader() == "" && !v.Limits.Paused)
}

// fromRemote: what we stream is the remote's, so we lack nothing that still counts. What a leader here had published may be WAL that a failover over there
// has left behind.
func (v *View) fromRemote() bool {
	up, known := v.remote()
	is := v.Postgres.Upstream
	return v.standby() && known && is.Host == up.Host && is.Port == up.Port && v.Postgres.ReplicationState() == cluster.StateStreaming
}

// standbyRole is what a standby here is: the leader of a standby cluster, or, empty, a replica.
func (v *View) standbyRole() cluster.Role {
	if v.standby() && v.leader() == v.Self {
		return cluster.StandbyLeader
	}
	return ""
}

// withSection adds what section standby_cluster says for all members: where archived WAL is fetched. The delay is the standby leader's.
func (v *View) withSection(up cluster.Upstream) cluster.Upstream {
	if v.standby() {
		up.Archive = v.Limits.Remote.Archive
		up.Archive.Delay = ""
	}
	return up
}

// comparesTimelines says whether check_timeline holds. In a standby cluster the timelines are the remote's, and `/history` is of before.
func (v *View) comparesTimelines() bool { return v.Limits.CheckTimeline && !v.standby() }

// asStandbyLeader rules for the holder of a standby cluster's lock whose PostgreSQL answers (ha.md 2.10 H3).
func (v *View) asStandbyLeader() Decision {
	v.Memory.Unproven, v.Memory.Promoted = false, 0
	switch {
	case !v.Lock.Held && v.Lock.Refused && v.Limits.Paused:
		return v.decide(PausedLockRefused, "paused: the lock was refused, PostgreSQL goes on")
	case !v.live():
		return v.again(ResumeLeader, "the lock bears our name, from before the agent restarted or the store went away", AcquireLeader{})
	case v.primary() && v.Limits.Paused:
		return v.keep(v.decide(HealthyPrimary, "paused: still a primary, though the cluster is to follow another one"))
	case v.primary() && v.failed(JobDemote) && v.since(v.Ended.At) < v.pause():
		return v.soon(v.pause()-v.since(v.Ended.At), DemoteCluster, "PostgreSQL did not stop: "+v.Ended.Error)
	case v.primary():
		// The lock stays ours: nobody else here has more, and who follows the other cluster must have all that was acknowledged.
		return v.again(DemoteCluster, "the cluster is to follow another one: stop in order, and come back as its standby", Demote{Mode: ToStandby})
	}
	if d, ok := v.failoverRequest(); ok {
		return d
	}
	return v.follows()
}

// standbyLeaderDown: a standby cluster's lock is ours and PostgreSQL is down. Whatever it was, it comes back as a standby of the remote (ha.md 2.8 R7).
func (v *View) standbyLeaderDown() Decision {
	switch {
	case v.Memory.GiveUp:
		return v.letOthersLead("it was given up")
	case v.startFailed():
		return v.letOthersLead("PostgreSQL does not start: " + v.Ended.Error)
	}
	return v.replicaDown()
}

// keepStandby adds what a standby leader looks after in every cycle.
func (v *View) keepStandby(d *Decision) {
	v.keepKeys(d)
	s := v.Store
	if s.Sync.Leader != "" { // of before: whom it names must not be the only ones that may lead when the cluster stands on its own again
		d.Actions = append(d.Actions, WriteSync{cluster.Sync{Revision: s.Sync.Revision}})
	}
	if a, ok := v.failsafeKey(d); ok {
		d.Actions = append(d.Actions, a)
	}
}

// meanwhile: while nobody leads, the members of a standby cluster follow the remote themselves (ha.md 2.22). An election that takes no longer than
// loop_wait does not make them turn to it and back.
func (v *View) meanwhile(d Decision) Decision {
	up, _ := v.wantedUpstream()
	told := v.Memory.Pointed == up && v.since(v.Memory.PointedAt) < v.pause()
	for _, a := range d.Actions {
		if _, ok := a.(AcquireLeader); ok {
			return d
		}
	}
	if !v.followsRemote() || v.since(v.Memory.Leaderless) < v.Limits.LoopWait || told || !v.elsewhere(up) {
		return d
	}
	f := v.again(FollowNew, "nobody leads; "+v.turn(up), v.follow(up))
	f.Gates, f.RuledOut = d.Gates, d.RuledOut
	return f
}

func (v *View) follow(up cluster.Upstream) Follow { return Follow{Upstream: up, As: v.standbyRole()} }

func (v *View) startStandby(up cluster.Upstream) StartStandby {
	return StartStandby{Upstream: up, As: v.standbyRole()}
}
