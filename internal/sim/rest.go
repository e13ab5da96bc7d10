package sim

import (
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// calmFor is how long a healthy cluster is watched at the end of a run. Nothing may happen to it.
const calmFor = 25 * time.Second

// watchCalm plays on without faults and without operators: who leads must not change, and PostgreSQL must not be touched.
// Then everything that the members keep in the store must be complete.
func (w *World) watchCalm() {
	if w.oracle.violation != nil {
		return
	}
	t, _ := w.peek().Config.Timing()
	w.until(t.LoopWait+t.RetryTimeout+reserve(t.TTL)+5*time.Second, func() bool { return false }) // what was on its way comes to its end
	if !w.until(2*time.Minute, func() bool { return w.trouble() == "" }) {
		w.wedged("it does not last")
	}
	leader := w.led()
	if leader == nil || w.oracle.violation != nil {
		return
	}
	// Who has said that it cannot come back by itself may try now and then, and is seen at it.
	resigned := slices.ContainsFunc(w.Members, (*Member).resigned)
	w.oracle.calm = true
	w.until(calmFor, func() bool { return false })
	w.oracle.calm = false
	if w.oracle.violation != nil {
		return
	}
	if now := w.led(); now != leader {
		w.violate("calm", "without any fault %s does not lead any more", leader.name)
		return
	}
	if what := w.trouble(); what != "" && !resigned {
		w.violate("calm", "without any fault: %s", what)
		return
	}
	if !resigned {
		w.complete(leader)
	}
}

// complete checks what is in the store and on the leader in the end.
func (w *World) complete(leader *Member) {
	if w.standbyRun {
		w.completeStandby(leader)
		return
	}
	s := w.peek()
	tli := leader.dir.tli
	if n := len(s.History.Entries); tli > 1 && (s.History.ClusterTimeline() != tli || s.History.Entries[n-1].NewLeader == "") {
		w.violate("complete", "the history key ends before timeline %d of %s: %+v", tli, leader.name, s.History.Entries)
	}
	if s.Status.Optime > leader.dir.end() || s.Status.Optime == 0 {
		w.violate("complete", "status says %s, the leader is at %s", s.Status.Optime, leader.dir.end())
	}
	for _, m := range w.Members {
		if m.agent == nil || m.resigned() {
			continue
		}
		key, ok := s.Member(m.name)
		role, state := cluster.Replica, cluster.StateStreaming
		if m == leader {
			role, state = cluster.Primary, ""
		}
		switch {
		case !ok:
			w.violate("complete", "%s has no key", m.name)
		case key.State != cluster.Running || key.Role != role || key.ReplicationState != state || key.Timeline != tli || key.ConnURL != m.connURL():
			w.violate("complete", "the key of %s says %s, %s, %q, timeline %d, %s", m.name, key.State, key.Role, key.ReplicationState, key.Timeline, key.ConnURL)
		case key.CheckpointAfterPromote:
			w.violate("complete", "%s has not made its checkpoint after the promotion", m.name)
		case m != leader && s.Config.UseSlots() && m.tags.ReplicateFrom == "" && leader.dir.slot(cluster.SlotName(m.name)) == nil:
			w.violate("complete", "%s has no slot for %s", leader.name, m.name)
		case w.keepsPermanent(m, m == leader) && m.dir.slot(permanentSlot) == nil:
			w.violate("complete", "%s has no permanent slot", m.name)
		}
	}
}

// disturbed is called when a PostgreSQL begins or ceases to be what it was.
func (w *World) disturbed(m *Member, what string) {
	if w.oracle.calm && !m.resigned() {
		w.violate("calm", "without any fault %s %s", m.name, what)
	}
}
