package ha

import (
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// leaving ends the agent in order: stopping the leader is a switchover, so that somebody else leads
// before this one is gone (ha.md 2.19 "Agent shutdown", G23).
func (v *View) leaving() Decision {
	if v.Memory.Leaving.IsZero() {
		v.Memory.Leaving = v.Now
	}
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
	case !v.Postgres.Running() && v.Lock.Held && v.live() && v.Store != nil:
		return v.lastLeader()
	case !v.Postgres.Running() && (v.failed(JobBootstrap) || v.failed(JobClone) && v.standby()) && v.Store != nil && v.Store.Bootstrapper == v.Self && !v.Lock.Held:
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
	case v.somebodyAnswers() && v.since(v.Memory.Leaving) < v.Limits.RetryTimeout:
		d := v.keep(v.decide(HealthyPrimary, "goes on until somebody could take over: "+detail))
		d.Reason, d.Within, d.Actions = Leaving, 100*time.Millisecond, append(d.Actions, AskPeers{v.peers()})
		return d
	default:
		return v.again(Leaving, "nobody can take over: "+detail, Demote{Mode: Shutdown})
	}
}

// lastLeader gives up the lock of a PostgreSQL that is down: at once to who has all of its WAL. Nobody has it, within retry_timeout if
// anybody answers: the lock is left to run out. Whoever starts this member again before loses nothing; later the lag limit keeps
// the worst out, as the final position is published.
func (v *View) lastLeader() Decision {
	at, previous := v.finalPosition(), v.finalPosition()
	if v.Ended != nil && v.Ended.Name == JobSwitchover && v.Ended.Checkpoint != 0 {
		at, previous = v.Ended.Checkpoint, v.Ended.Previous
	}
	if !v.indispensable() {
		return v.again(Leaving, "PostgreSQL is stopped, so the lock is released", ReleaseLeader{Optime: v.finalPosition()})
	}
	detail := "PostgreSQL did not shut down cleanly"
	if at != 0 {
		var fit string
		var ask *AskPeers
		fit, detail, ask = v.failoverPossible(v.Store.Failover.Candidate, at)
		if fit == "" && ask == nil && v.Store.Failover.Candidate != "" { // who was asked for does not have it
			fit, detail, ask = v.failoverPossible("", at)
		}
		switch {
		case ask != nil:
			return v.again(SwitchoverWait, "who has the WAL up to "+at.String()+"?", *ask)
		case fit != "":
			return v.again(HandOver, detail, v.handOver(fit, previous)...)
		case v.somebodyAnswers() && min(v.since(v.Memory.Leaving), v.since(v.Memory.Down)) < v.Limits.RetryTimeout:
			return v.soon(20*time.Millisecond, SwitchoverWait, detail, AskPeers{v.peers()})
		}
	}
	s := v.Store.Status
	s.Optime = max(s.Optime, v.finalPosition())
	return v.decide(Left, "the lock runs out, it is not released: "+detail, WriteStatus{s}, Exit{})
}

// indispensable says whether somebody else could lead and would lack what was acknowledged here. In synchronous mode only they may
// lead who lack nothing.
func (v *View) indispensable() bool {
	if v.syncActive() || v.Postgres.StandbySignal {
		return false
	}
	return slices.ContainsFunc(v.Store.Members, func(m cluster.Member) bool {
		return m.Name != v.Self && m.APIURL != "" && !m.Tags.NoFailover()
	})
}

// somebodyAnswers says whether anybody who could lead has answered, and so may get there yet.
func (v *View) somebodyAnswers() bool {
	return v.Poll != nil && slices.ContainsFunc(v.peers(), func(m cluster.Member) bool {
		a := v.Poll.Answers[m.Name]
		return a.Reachable && !a.NoFailover
	})
}
