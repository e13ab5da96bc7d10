package ha

import "time"

// leaving ends the agent in order: stopping the leader is a switchover, so that somebody else leads
// before this one is gone (ha.md 2.19 "Agent shutdown", G23).
func (v *View) leaving() Decision {
	stopped := v.Ended != nil && (v.Ended.Name == JobSwitchover || v.Ended.Name == JobDemote)
	switch {
	case v.Job != nil && v.Job.Name == JobSwitchover:
		return v.handingOver(v.Job.Checkpoint, v.Job.Previous)
	case v.Job != nil && v.Job.Name == JobDemote:
		return v.soon(time.Second, Leaving, "PostgreSQL is being stopped")
	case v.Limits.Paused:
		return v.decide(Left, "paused: PostgreSQL and the lock are left alone", Exit{})
	case v.Job != nil && (v.Job.Name == JobBootstrap || v.Job.Name == JobClone):
		return v.soon(100*time.Millisecond, Leaving, "the job under way is cancelled", CancelJob{})
	case v.Job != nil:
		return v.again(Leaving, "PostgreSQL is stopped in the middle of "+string(v.Job.Name), Demote{Mode: Shutdown})
	case !v.Postgres.Running() && v.Lock.Held && v.contested():
		return v.decide(Left, "another container's PostgreSQL uses the data directory and may still write: the lock runs out, it is not released", Exit{})
	case !v.Postgres.Running() && v.Lock.Held && v.Store != nil && v.live() && stopped:
		return v.lastLeader()
	case !v.Postgres.Running() && v.Lock.Held && v.live() && v.Store != nil:
		return v.again(Leaving, "PostgreSQL is down, so the lock is released", ReleaseLeader{Optime: v.finalPosition()})
	case !v.Postgres.Running() && v.failed(JobBootstrap) && v.Store != nil && v.Store.Bootstrapper == v.Self && !v.Lock.Held:
		return v.decide(Left, "the bootstrap was cut short: another member may make the cluster", CancelBootstrap{}, Exit{})
	case !v.Postgres.Running():
		return v.decide(Left, "nothing runs any more", Exit{})
	case v.failed(JobDemote) && v.since(v.Ended.At) < time.Second:
		return v.soon(time.Second, Leaving, "PostgreSQL did not stop: "+v.Ended.Error)
	case v.Store == nil || !v.mine() || !v.primary() || v.failed(JobSwitchover) || v.failed(JobDemote):
		return v.again(Leaving, "PostgreSQL is stopped", Demote{Mode: Shutdown})
	}
	fit, detail, ask := v.failoverPossible("", 0)
	switch {
	case ask != nil:
		return v.again(Leaving, "who could take over?", *ask)
	case fit != "":
		return v.again(Leaving, "hand over first: "+detail, Demote{Mode: Graceful})
	default:
		return v.again(Leaving, "nobody can take over: "+detail, Demote{Mode: Shutdown})
	}
}

// lastLeader releases the lock of a stopped PostgreSQL: at once when somebody has all of its WAL, and
// after retry_timeout in any case. The final position is published, so that whoever lags too far stays out.
func (v *View) lastLeader() Decision {
	if at := v.Ended.Checkpoint; at != 0 && v.Ended.Name == JobSwitchover && v.since(v.Ended.At) < v.Limits.RetryTimeout {
		fit, detail, ask := v.failoverPossible(v.Store.Failover.Candidate, at)
		if fit == "" && ask == nil && v.Store.Failover.Candidate != "" { // who was asked for does not have it
			fit, detail, ask = v.failoverPossible("", at)
		}
		switch {
		case ask != nil:
			return v.again(SwitchoverWait, "who has the WAL up to "+at.String()+"?", *ask)
		case fit == "":
			return v.soon(20*time.Millisecond, SwitchoverWait, detail, AskPeers{v.peers()})
		}
		return v.again(HandOver, detail, v.handOver(fit, v.Ended.Previous)...)
	}
	return v.again(Leaving, "PostgreSQL is stopped, so the lock is released", ReleaseLeader{Optime: v.finalPosition()})
}
