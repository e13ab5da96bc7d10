package sim

import (
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// The oracle of a leader that cannot lead, while faults last: whoever holds the lock and fails again and again, or does not come
// up, must leave it to a member that could lead (ha.md 2.3, 2.20, V18).

// patience is how long a leader's start may take beyond primary_start_timeout.
const patience = 30 * time.Second

// failed notes that a start or promotion of this member has failed.
func (w *World) failed(m *Member, what string) {
	t := &w.oracle.term
	if t.holder != m || w.peek().Leader.Name != m.name || m.paused() {
		return
	}
	if what == "promotion" {
		m.unpromoted = w.now
		if m.agent != nil {
			m.unpromotedTTL = m.agent.limits.TTL
		}
	}
	t.failures++
	if other := w.couldLead(m); t.failures >= 3 && other != nil {
		w.violate("V18", "%s keeps the lock and its %s fails for the %dth time, although %s could lead", m.name, what, t.failures, other.name)
	}
}

// starting looks at a lock holder whose start is under way.
func (w *World) starting(a *agent) {
	j := a.loop.Job
	if j == nil || w.oracle.term.holder != a.m || w.peek().Leader.Name != a.m.name || a.limits.Paused || a.m.server == nil || a.loop.Asked.Restart != nil {
		return
	}
	t := &w.oracle.term
	if j.Name == ha.JobPromote && t.promotes <= max(a.m.server.since, a.since) { // another server or agent than those of the last promotion
		t.promotes = w.now
	}
	if since := max(t.promotes, a.m.server.answering); j.Name == ha.JobPromote && w.now-since > int64(time.Minute+patience/2) {
		if other := w.couldLead(a.m); other != nil {
			w.violate("V18", "%s keeps the lock and is being promoted for %s, although %s could lead", a.m.name, time.Duration(w.now-since), other.name)
		}
	}
	took := a.now().Sub(j.Since)
	switch j.Name {
	case ha.JobStart, ha.JobStartPrimary, ha.JobRecover:
	case ha.JobSwitchover:
		if took > max(a.limits.PrimaryStart, a.limits.TTL)+patience && w.now-a.since > int64(patience) && w.reachesStore(a.m, patience) {
			w.violate("V18", "%s keeps the lock and waits for its stop for %s", a.m.name, took)
		}
		return
	default:
		return
	}
	if a.now().Sub(a.lock.Bound) < patience {
		return // the lock came to it by a request that was late, and until now it was bound not to take it up, not even to release it (ADR 18)
	}
	if took > a.limits.PrimaryStart+patience && w.now-a.since > int64(patience) {
		if other := w.couldLead(a.m); other != nil {
			w.violate("V18", "%s keeps the lock and starts for %s, although %s could lead", a.m.name, took, other.name)
		}
	}
}

// startedAgain notes that PostgreSQL is started as a primary: what has to be stopped at once is not worth it.
func (w *World) startedAgain(m *Member) {
	if first := m.started[0]; first > 0 && w.now-first < int64(5*time.Second) {
		w.violate("V18", "%s starts PostgreSQL as a primary for the fourth time within %s", m.name, time.Duration(w.now-first))
	}
	copy(m.started[:], m.started[1:])
	m.started[len(m.started)-1] = w.now
}

// idle looks at a lock holder in pause whose PostgreSQL is stopped: while it keeps the lock nobody else can be made the leader.
func (w *World) idle(a *agent) {
	v, t := &a.loop.View, &w.oracle.term
	if t.holder != a.m || w.peek().Leader.Name != a.m.name || !a.lock.Held || !v.Limits.Paused || v.Store == nil || v.Postgres.Running() || v.Job != nil {
		t.idle = 0
		return
	}
	if t.idle == 0 {
		t.idle = w.now
	}
	if took := w.now - t.idle; took > int64(patience) {
		w.violate("V18", "%s keeps the lock in pause, and its PostgreSQL is stopped for %s", a.m.name, time.Duration(took))
	}
}

// unfounded looks at a member that could make the cluster while the one that claimed to is gone (ha.md G15).
func (w *World) unfounded(a *agent) {
	s := w.peek()
	owner := w.member(s.Bootstrapper)
	if !s.Initialize.Present || s.Initialize.SystemID != "" || owner == nil || owner.agent != nil || w.storeDown > 0 {
		w.oracle.unfounded = 0
		return
	}
	if w.oracle.unfounded == 0 {
		w.oracle.unfounded = w.now
	}
	took := w.now - w.oracle.unfounded
	able := !a.m.tags.NoFailover && w.now-a.since > int64(patience) && w.net.steady(a.m.place, w.storePlace, patience)
	if able && took > int64(2*a.limits.TTL+patience) {
		w.violate("V18", "%s claimed to make the cluster and has been gone for %s, although %s could make it", owner.name, time.Duration(took), a.m.name)
	}
}

// couldLead is a member that the lock holder could find fit: it has stood by, in reach of everybody, for some time.
func (w *World) couldLead(holder *Member) *Member {
	s := w.peek()
	if !w.reachesStore(holder, patience) {
		return nil
	}
	for _, m := range w.Members {
		p, known := m.server, false
		for _, key := range s.Members {
			known = known || key.Name == m.name && key.Role == cluster.Replica
		}
		switch {
		case m == holder || !known || m.tags.NoFailover || p == nil || m.agent == nil:
		case !p.accepting || p.phase != standingBy || p.frozen > 0 || m.agent.frozen > 0 || w.now-max(p.answering, m.agent.since) < int64(patience):
		case !w.net.steady(holder.place, m.place, patience) || !w.net.steady(m.place, w.storePlace, patience):
		case s.Config.SynchronousMode().Active() && s.Sync.Leader != "" && (!s.Sync.Has(m.name) || s.Sync.Quorum > 0):
		case m.dir.system != holder.dir.system || m.dir.end() < s.Status.Optime || m.dir.tli < s.History.ClusterTimeline():
		default:
			return m
		}
	}
	return nil
}
