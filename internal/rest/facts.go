package rest

import (
	"sync/atomic"
	"time"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/cluster"
)

// facts is one published status in the words of the API. It is made once per status and kept, since
// load balancers ask thousands of times between two of them.
type facts struct {
	*agent.Status
	state          cluster.State // what the API shows (rest-api.md 4.1)
	role           cluster.Role
	standbyCluster bool
	sync           cluster.SyncMode
	listed         bool         // the sync key of the snapshot names us
	tags           cluster.Tags // as published

	bodies [2]atomic.Pointer[[]byte] // the status document without and with a usable view of the store
}

func newFacts(s *agent.Status) *facts {
	f := &facts{Status: s, state: s.State, role: s.Role, tags: s.Tags.Effective()}
	f.standbyCluster = s.Config.StandbyCluster() != nil
	f.sync = s.Config.SynchronousMode()
	f.listed = s.Snapshot != nil && s.Snapshot.Sync.HasStandby(s.Name)
	switch p := &s.Postgres; {
	case !p.Queried && s.State == cluster.Running:
		f.state = cluster.UnknownState
	case !p.Queried:
	case !p.InRecovery:
		f.role = cluster.Primary
	case !f.standbyCluster || f.role != cluster.StandbyLeader:
		f.role = cluster.Replica
	}
	return f
}

// moment is what holds when a request is answered: leases and views age while a status does not.
type moment struct {
	*facts
	leader bool      // the lock is ours
	view   bool      // our view of the store is usable
	now    time.Time // boot-time clock
}

// primary says whether clients may write here. Patroni asks for the lock alone; a member that holds the lock and still
// recovers, or restarts, takes no writes (ha.md G10). In pause without a store nobody can hold a lock: the role counts.
func (m *moment) primary() bool {
	switch {
	case m.standbyCluster || !m.Writable():
		return false
	case !m.view && m.Pause:
		return true
	default:
		return m.leader
	}
}

// holder says whether we lead: the lock, or in pause without a store the role that we had.
func (m *moment) holder() bool {
	if !m.view && m.Pause {
		return m.role == cluster.Primary || m.role == cluster.StandbyLeader
	}
	return m.leader
}

func (m *moment) standbyLeader() bool {
	if !m.view && m.Pause {
		return m.role == cluster.StandbyLeader
	}
	return m.leader && m.standbyCluster && (m.role == cluster.Replica || m.role == cluster.StandbyLeader)
}

// replica says whether the member may serve reads as a replica, within the limits of the query.
func (m *moment) replica(q query) bool {
	if m.leader && m.standbyCluster {
		return false
	}
	return !m.tags.NoLoadBalance() && !m.lagging(q) && m.role == cluster.Replica && m.state == cluster.Running &&
		q.replicationState(m.Postgres.ReplicationState())
}

func (m *moment) syncStandby() bool   { return m.sync == cluster.SyncOn && m.inSync() }
func (m *moment) quorumStandby() bool { return m.sync == cluster.SyncQuorum && m.inSync() }
func (m *moment) inSync() bool        { return m.role == cluster.Replica && m.view && m.listed }

// unlocked says whether, as far as we know, nobody holds the lock.
func (m *moment) unlocked() bool { return !m.view || m.Snapshot.Leader.Name == "" }

// leaderPosition is the larger of what the leader published and what our WAL receiver heard of it; 0: unknown.
func (m *moment) leaderPosition() cluster.LSN {
	var at cluster.LSN
	if m.view {
		at = m.Snapshot.Status.Optime
	}
	if r := m.Postgres.Receiver; r != nil {
		at = max(at, r.LatestEnd)
	}
	return at
}

func (m *moment) lagging(q query) bool {
	limit, ok := q.lag()
	if !ok {
		return false
	}
	leader := m.leaderPosition()
	return leader != 0 && int64(leader-m.Postgres.Replayed) > limit
}

// facts returns those of the status, from memory when it was the last one asked for.
func (s *Server) facts(status *agent.Status) *facts {
	if f := s.lastFacts.Load(); f != nil && f.Status == status {
		return f
	}
	f := newFacts(status)
	s.lastFacts.Store(f)
	return f
}

func (s *Server) moment(status *agent.Status) moment {
	now := s.clock()
	return moment{facts: s.facts(status), leader: status.IsLeader(now), view: status.HasView(s.wall()), now: now}
}
