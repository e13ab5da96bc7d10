package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// A run of a standby cluster (ha.md 2.22): all members follow the primary of another cluster, the remote. That is a host beside the members, without an agent,
// which writes all the time, and now and then goes on with less than it has sent, on a new timeline, as after a failover there. Nobody here may ever
// write, and in the end everybody streams and has the remote's history.

// addRemote makes the host that the members follow, and says so in the configuration.
func (w *World) addRemote(place int) {
	m := &Member{w: w, place: place, name: "far"}
	m.clock = clock{k: &w.kernel}
	m.guard = guard{m: m}
	m.move()
	w.remote = m
	w.bootstrapConfig.Document = w.bootstrapConfig.Document.Set(cluster.Text(m.address), "standby_cluster", "host")
	for _, m := range w.Members { // or a member may be right to give up
		m.local = Local{UseRewind: true, RemoveOnRewindFailure: true}
	}
}

// startRemote makes the other cluster's data and starts its primary.
func (w *World) startRemote() {
	w.systems++
	w.records++
	d := &w.remote.dir
	*d = directory{state: cluster.DirPresent, major: 150000, system: systemIdentifier(w.rand.next()), tli: 1, known: 1}
	d.append(record{id: w.records, kind: shutdownRecord, end: systemBlock, at: w.now})
	d.flushed = 1
	d.control = cluster.Control{State: cluster.ControlShutDown, Checkpoint: firstLSN, Redo: firstLSN, CheckpointTLI: 1}
	w.remote.launch(true, cluster.Upstream{}, nil)
}

// remoteFails is a failover over there: what goes on may lack the last records.
func (w *World) remoteFails(lost int) {
	m := w.remote
	if m.server == nil {
		return
	}
	m.server.exit()
	d := &m.dir
	d.cut(max(len(d.wal)-lost, 1))
	d.flushed = len(d.wal)
	d.begin(max(d.known, d.tli) + 1)
	d.control = cluster.Control{State: cluster.ControlInProduction, Checkpoint: firstLSN, Redo: firstLSN, CheckpointTLI: d.tli}
	w.note("far  goes on without its last %d records, on timeline %d at %s", lost, d.tli, d.end())
	w.after(w.rand.between(time.Second, 40*time.Second), nil, func() { m.launch(true, cluster.Upstream{}, nil) })
}

// remoteLives draws when that happens, until the faults are over.
func (w *World) remoteLives(until moment) {
	for at := w.now; ; {
		at += int64(w.rand.between(20*time.Second, 3*time.Minute))
		if at >= until {
			return
		}
		lost := choose(&w.rand, 0, 0, 1, 2, 5)
		w.at(at, nil, func() { w.remoteFails(lost) })
	}
}

// led is the member that leads: a primary, or the leader of a standby cluster.
func (w *World) led() *Member {
	if !w.standbyRun {
		return w.primary()
	}
	m := w.member(w.peek().Leader.Name)
	if m == nil || m.server == nil || !m.server.accepting || m.server.phase != standingBy || m.server.frozen > 0 {
		return nil
	}
	return m
}

// standbyTrouble is trouble in a standby cluster.
func (w *World) standbyTrouble() string {
	s, leader := w.peek(), w.led()
	if leader == nil {
		return fmt.Sprintf("nobody leads (lock: %q)", s.Leader.Name)
	}
	var list []string
	for _, m := range w.Members {
		if m.silent {
			continue
		}
		switch p := m.server; {
		case p == nil || !p.accepting || p.phase != standingBy:
			list = append(list, m.name+" is "+m.state())
		case p.receiver == nil || p.receiver.from.m.server != p.receiver.from:
			list = append(list, m.name+" does not stream")
		case (p.receiver.from.m == w.remote) != (m == leader):
			list = append(list, m.name+" streams from "+p.receiver.from.m.name)
		case p.dir.tli != w.remote.dir.tli || !p.dir.continues(&w.remote.dir):
			list = append(list, fmt.Sprintf("%s is on another history: %s/%d, the remote at %s/%d", m.name, p.dir.end(), p.dir.tli, w.remote.dir.end(), w.remote.dir.tli))
		}
	}
	if s.Failover.Requested() {
		list = append(list, "a failover request is left")
	}
	if s.Initialize.SystemID != w.remote.dir.system {
		list = append(list, "initialize is "+s.Initialize.SystemID)
	}
	return strings.Join(list, ", ")
}

// completeStandby checks what is in the store and on the leader of a standby cluster in the end.
func (w *World) completeStandby(leader *Member) {
	s := w.peek()
	if s.Status.Optime > leader.dir.end() || s.Status.Optime == 0 {
		w.violate("complete", "status says %s, the leader is at %s", s.Status.Optime, leader.dir.end())
	}
	for _, m := range w.Members {
		if m.agent == nil {
			continue
		}
		key, ok := s.Member(m.name)
		role := cluster.Replica
		if m == leader {
			role = cluster.StandbyLeader
		}
		switch {
		case !ok:
			w.violate("complete", "%s has no key", m.name)
		case key.State != cluster.Running || key.Role != role || key.ReplicationState != cluster.StateStreaming || key.Timeline != w.remote.dir.tli || key.CheckpointAfterPromote != (m == leader):
			w.violate("complete", "the key of %s says %s, %s, %q, timeline %d", m.name, key.State, key.Role, key.ReplicationState, key.Timeline)
		case m != leader && s.Config.UseSlots() && m.tags.ReplicateFrom == "" && leader.dir.slot(cluster.SlotName(m.name)) == nil:
			w.violate("complete", "%s has no slot for %s", leader.name, m.name)
		}
	}
}

// standbyActs: what would make a primary of a member of a standby cluster is not even tried.
func (w *World) standbyActs(a *agent, action ha.Action) {
	switch action.(type) {
	case ha.Promote, ha.StartPrimary, ha.Bootstrap, ha.RequireSync:
		w.violate("V1", "%s does %s (%s) in a standby cluster", a.m.name, action, a.loop.Decision.Reason)
	}
}
