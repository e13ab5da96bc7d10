package loop

import (
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// Role is what we say about our PostgreSQL (dcs.md 1.6). promoting: the promote command is out.
func (l *Loop) Role(promoting bool) cluster.Role {
	p := &l.Postgres
	switch {
	case l.Job != nil && (l.Job.Name == ha.JobBootstrap || l.Job.Name == ha.JobClone):
		return cluster.Uninitialized
	case p.Dir == cluster.DirMissing || p.Dir == cluster.DirEmpty:
		return cluster.Uninitialized
	case p.Queried && !p.InRecovery:
		return cluster.Primary
	case promoting:
		return cluster.Promoted
	case (p.Queried || p.Running() && p.StandbySignal) && l.Memory.Role == cluster.StandbyLeader:
		return cluster.StandbyLeader
	case p.Queried || p.Running() && p.StandbySignal:
		return cluster.Replica
	case p.Running():
		return cluster.Primary
	case l.Job != nil && (l.Job.Name == ha.JobSwitchover || l.Job.Name == ha.JobDemote),
		l.Ended != nil && (l.Ended.Name == ha.JobSwitchover || l.Ended.Name == ha.JobDemote) && l.Memory.Role == cluster.Primary:
		return cluster.Demoted
	case l.Memory.Role != "":
		return l.Memory.Role
	case p.StandbySignal:
		return cluster.Replica
	default:
		return cluster.Demoted
	}
}

// State is what PostgreSQL is doing, in Patroni's words.
func (l *Loop) State() cluster.State {
	p := &l.Postgres
	if l.Job != nil {
		switch l.Job.Name {
		case ha.JobBootstrap:
			switch {
			case !l.Limits.CustomBootstrap:
				return cluster.InitializingCluster
			case p.Running():
				return cluster.StartingAfterCustom
			}
			return cluster.CustomBootstrap
		case ha.JobClone:
			return cluster.CreatingReplica
		case ha.JobStart, ha.JobStartPrimary:
			return cluster.Starting
		case ha.JobRestart:
			return cluster.Restarting
		case ha.JobDemote, ha.JobSwitchover:
			return cluster.Stopping
		case ha.JobRewind, ha.JobRecover:
			return cluster.Stopped
		}
	}
	failed := l.Ended != nil && l.Ended.Error != ""
	switch {
	case p.Queried:
		return cluster.Running
	case p.Running():
		return cluster.Starting
	case failed && (l.Ended.Name == ha.JobStart || l.Ended.Name == ha.JobStartPrimary):
		return cluster.StartFailed
	case failed && l.Ended.Name == ha.JobRestart:
		return cluster.RestartFailed
	case failed && l.Ended.Name == ha.JobBootstrap && l.Limits.CustomBootstrap:
		return cluster.CustomFailed
	case failed && l.Ended.Name == ha.JobBootstrap:
		return cluster.InitdbFailed
	case l.Memory.Started && (l.Ended == nil || l.Ended.Name != ha.JobDemote && l.Ended.Name != ha.JobSwitchover) && !p.Running() && !l.Memory.Down.IsZero() && l.Memory.Role == cluster.Primary:
		return cluster.Crashed
	default:
		return cluster.Stopped
	}
}

// Describe fills in what a member key says about PostgreSQL (dcs.md 1.6); the rest of m stays.
func (l *Loop) Describe(m cluster.Member, promoting bool) cluster.Member {
	p := &l.Postgres
	m.State, m.Role, m.Pause = l.State(), l.Role(promoting), l.Limits.Paused
	m.CheckpointAfterPromote = l.Memory.Promoted != 0 && l.Checkpointed <= l.Memory.Promoted && l.Lock.Held || m.Role == cluster.StandbyLeader
	m.PendingRestart, m.PendingRestartReason = len(p.Pending) > 0, p.Pending
	if p.Queried && (l.Job == nil || l.Job.Name == ha.JobPromote) {
		m.Timeline = p.Timeline
		m.XlogLocation = p.Position()
		if p.InRecovery {
			m.ReplayLSN, m.ReceiveLSN = p.Replayed, p.Received
			m.ReplicationState = p.ReplicationState()
		}
	}
	return m
}
