package ha

import (
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// directory rules when there is no usable data directory (ha.md 2.5, 2.6).
func (v *View) directory() (Decision, bool) {
	if v.failed(JobBootstrap) && v.Store.Bootstrapper == v.Self && !v.Lock.Held {
		detail := "the new cluster could not be made: " + v.Ended.Error
		return v.decide(BootstrapFailed, detail, CancelBootstrap{}, Exit{Failure: detail}), true
	}
	switch v.Postgres.Dir {
	case cluster.DirPresent:
		return Decision{}, false
	case cluster.DirMissing, cluster.DirEmpty:
		return v.withoutData(), true
	default:
		switch {
		case v.Postgres.Running():
			return Decision{}, false // a disk that hiccups: what runs is judged by whether it answers
		case v.Lock.Held:
			return v.again(DirUnusable, v.Postgres.DirProblem, ReleaseLeader{}), true
		}
		return v.decide(DirUnusable, v.Postgres.DirProblem), true
	}
}

// withoutData makes the cluster, or clones from its leader.
func (v *View) withoutData() Decision {
	leader, known := v.leaderUpstream()
	switch {
	case v.Postgres.Running() && v.Limits.Paused:
		return v.decide(DirUnusable, "paused: the data directory is gone from under a running PostgreSQL")
	case v.Postgres.Running():
		return v.again(DirUnusable, "the data directory is gone from under a running PostgreSQL", Demote{Mode: NoLock})
	case v.leader() == v.Self && !v.live():
		return v.again(ResumeLeader, "the lock bears our name, but there is no data: take it to release it", AcquireLeader{}, ReleaseLeader{})
	case v.Lock.Held:
		return v.again(DirUnusable, "we hold the lock without any data", ReleaseLeader{})
	case v.Limits.Paused:
		return v.decide(StayDown, "paused: an empty data directory stays empty")
	case v.failed(JobClone) && v.founding():
		return v.again(BootstrapFailed, "the standby cluster could not be made: "+v.Ended.Error+"; another member may try", CancelBootstrap{})
	case v.failed(JobClone) && v.since(v.Ended.At) < v.pause():
		return v.soon(v.pause()-v.since(v.Ended.At), CloneAfterFailure, v.Ended.Error)
	case v.leader() != "" && known:
		return v.again(CloneFromLeader, "the data directory is empty; "+leader.Name+" leads", Clone{From: leader})
	case v.leader() != "":
		return v.decide(WaitForLeader, v.leader()+" leads but has not told its address yet")
	default:
		return v.makeCluster()
	}
}

// founding: the claim to make the cluster is ours.
func (v *View) founding() bool {
	return v.Store.Bootstrapper == v.Self && v.Store.Initialize.Present && v.Store.Initialize.SystemID == ""
}

// found makes the cluster: a standby cluster is a copy of the remote (ha.md 2.22).
func (v *View) found() Action {
	if v.standby() {
		up, _ := v.remote()
		return Clone{From: up}
	}
	return Bootstrap{}
}

// makeCluster races for the right to bootstrap. Who won is written down, so that a dead winner can be
// replaced (ha.md G15); for Patroni members the empty initialize key says that somebody is at it.
func (v *View) makeCluster() Decision {
	key, me := v.Store.Initialize, v.Self
	_, announced := v.Store.Member(me)
	switch {
	case validID(key.SystemID) && v.Limits.NoLeaderClone:
		return v.again(CloneFromLeader, "nobody leads, but create_replica_methods has one that needs no leader", Clone{})
	case validID(key.SystemID) && v.standby() && v.Limits.Remote.Host != "" && v.since(v.Memory.Leaderless) >= v.Limits.TTL:
		return v.again(CloneFromLeader, "nobody leads, and nobody has for ttl: the data are "+v.Limits.Remote.String()+"'s", Clone{From: v.Limits.Remote})
	case validID(key.SystemID):
		return v.decide(WaitForLeader, "the cluster exists, but nobody leads: nothing to clone from")
	case key.Present && v.Store.Bootstrapper == me && (v.Tags.NoFailover || !v.Limits.CanBootstrap):
		return v.again(CannotBootstrap, "this member may not make the cluster any more: its claim is withdrawn", CancelBootstrap{})
	case v.Tags.NoFailover:
		return v.decide(CannotBootstrap, "this member is tagged nofailover: it waits for a leader")
	case !v.Limits.CanBootstrap:
		return v.decide(CannotBootstrap, "the configuration has no bootstrap section: this member waits for a leader")
	case v.Unfenced != "" && !v.standby():
		return v.soon(time.Second, WatchdogFailed, v.Unfenced)
	case !announced:
		return v.soon(time.Second, BootstrapClaim, "announce this member first: its key shows the others that it lives")
	case key.Present && v.Store.Bootstrapper == me:
		return v.again(BootstrapRun, "our claim stands", v.found())
	case v.Store.Bootstrapper == "" && key.Present, v.Store.Bootstrapper != "" && v.Store.Bootstrapper != me && v.bootstrapperLives():
		return v.decide(BootstrapOther, "another member makes the cluster: "+orUnknown(v.Store.Bootstrapper))
	default:
		return v.again(BootstrapClaim, "the cluster does not exist yet", ClaimBootstrap{}, v.found())
	}
}

// bootstrapperLives says whether the member that claimed the bootstrap still has its key.
func (v *View) bootstrapperLives() bool {
	if v.Store.Bootstrapper == "" {
		return true // a Patroni member, of which nothing is known
	}
	_, ok := v.Store.Member(v.Store.Bootstrapper)
	return ok
}

func orUnknown(name string) string {
	if name == "" {
		return "a Patroni member"
	}
	return name
}
