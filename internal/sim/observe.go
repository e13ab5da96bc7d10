package sim

import (
	"strconv"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// observe is what an agent sees of its PostgreSQL at this moment.
func (m *Member) observe() cluster.Postgres {
	d, s := &m.dir, m.server
	p := cluster.Postgres{Dir: d.state, DirProblem: d.problem, Binaries: 15}
	if d.present() {
		p.Version, p.SystemID = d.major, d.system
		p.StandbySignal = d.standbySignal
	}
	if m.busy != nil && m.busy.single {
		p.Pid, p.SingleUser = m.busy.pid, true
	}
	if s == nil {
		if d.present() {
			c := d.control
			c.SystemID, c.Checksums = d.system, true
			p.Control = &c
		}
		return p
	}
	p.Pid, p.Ready = s.pid, cluster.Rejecting
	switch {
	case s.frozen > 0:
		p.Ready, p.QueryError = cluster.NoResponse, "no answer in time"
		return p
	case !s.accepting:
		p.QueryError = "the database system is " + [...]string{"starting up", "starting up", "starting up", "shutting down"}[s.phase]
		return p
	}
	p.Ready, p.Queried = cluster.Accepting, true
	p.Version, p.StartedText = 150004, "2026-01-01"
	p.InRecovery, p.Upstream = s.recovery, s.upstream
	p.Upstream.Name = ""
	p.Timeline = d.tli
	p.SyncNames, p.Heeded = s.waits.names.String(), !s.recovery && s.waits.busy == 0
	if s.recovery {
		p.Received, p.Replayed = d.end(), s.caughtUp()
		p.ReplayPaused = s.paused
		if t := s.receiver; t != nil {
			p.Receiver = &cluster.Receiver{Status: cluster.StateStreaming, Timeline: d.tli, Written: p.Received, LatestEnd: p.Received, Slot: t.slot, Host: s.upstream.Host, Port: s.upstream.Port}
		}
	} else {
		p.Write, p.Flush = d.end(), endOf(d.wal[:d.flushed])
		p.Upstream = cluster.Upstream{}
	}
	if len(d.slots) > 0 {
		p.Slots = make([]cluster.Slot, len(d.slots))
		for i, slot := range d.slots {
			p.Slots[i] = cluster.Slot{Name: slot.name, Type: "physical", Active: slot.user != nil, Restart: slot.restart, WALStatus: "reserved"}
		}
	}
	if len(s.senders) > 0 {
		p.Walsenders = make([]cluster.Walsender, len(s.senders))
		for i, t := range s.senders {
			p.Walsenders[i] = t.row()
		}
	}
	return p
}

// look observes and hands the result over after the time that the query takes; a server that hangs costs the limit.
func (a *agent) look(limit time.Duration, done func(cluster.Postgres)) {
	m, w := a.m, a.w
	if s := m.server; s != nil && s.frozen > 0 {
		w.after(limit, &a.process, func() { done(m.observe()) })
		return
	}
	a.seen = m.observe() // one look at a time
	w.after(w.rand.between(200*time.Microsecond, 4*time.Millisecond), &a.process, func() { done(a.seen) })
}

// divergence compares like the agent's comparison does: by what PostgreSQL tells, ha.md 2.14 W1 to W7.
func (m *Member) divergence(leader *Member) (verdict outcome, why string, noRewind bool) {
	d := &m.dir
	if d.problem != "" {
		return diverged, d.problem, false
	}
	var at, end cluster.LSN
	var mine cluster.Timeline
	standby := false
	if s := m.server; s != nil && s.accepting {
		if !s.recovery {
			return unknown, "PostgreSQL runs as a primary here", false
		}
		at, mine, standby = s.caughtUp(), d.tli, true
	} else {
		c := &d.control
		switch c.State {
		case cluster.ControlShutDownRecovery, cluster.ControlArchiveRecovery:
			if c.MinRecovery != 0 {
				at, mine, standby = c.MinRecovery, c.MinRecoveryTLI, true
				break
			}
			at, mine, end = c.Checkpoint, c.CheckpointTLI, d.recordEnd(c.Checkpoint)
		case cluster.ControlShutDown:
			at, mine, end = c.Checkpoint, c.CheckpointTLI, d.recordEnd(c.Checkpoint)
		default:
			return unknown, "the end of its WAL is not known: PostgreSQL is " + string(c.State), false
		}
	}
	them := leader.server
	if them == nil || !them.accepting || them.frozen > 0 {
		return unknown, "the leader does not answer", false
	}
	theirs := them.dir
	switch {
	case theirs.system != d.system:
		return unknown, "the leader belongs to another cluster", false
	case them.recovery:
		return unknown, "the leader is still in recovery", false
	}
	if why := twins(d, theirs, mine, max(at, end)); why != "" {
		return diverged, why, mine == theirs.tli
	}
	tli := theirs.tli
	left, known := leftAt(theirs.history, mine)
	switch {
	case mine == tli:
		return fits, "same timeline", false
	case mine > tli:
		return diverged, "the leader is on an older timeline", false
	case !known:
		return diverged, "the leader's history does not have ours", false
	case standby && at <= left:
		return fits, "the leader left that timeline later", false
	case standby:
		return diverged, "the leader left that timeline earlier", false
	case at >= left:
		return diverged, "the leader left that timeline before our shutdown checkpoint", false
	case end == left:
		return fits, "the leader left that timeline right at the end of our shutdown checkpoint", false
	}
	return diverged, "our shutdown checkpoint does not end where the leader left that timeline", false
}

// twins says why two timelines of one number are not the same, as internal/postgres tells: by their histories, by the first record,
// and because nobody can be ahead of his own leader.
func twins(d, theirs *directory, tli cluster.Timeline, at cluster.LSN) string {
	if tli > theirs.tli {
		return ""
	}
	if tli == theirs.tli && at > endOf(theirs.wal[:theirs.flushed]) {
		return "ahead of the leader on its own timeline"
	}
	ours := d.history
	if tli != d.tli {
		ours = d.knownHistory
		if tli != d.known {
			return ""
		}
	}
	others := theirs.history[:historyBefore(theirs.history, tli)]
	if tli <= 1 {
		return ""
	}
	if len(ours) != len(others) {
		return "two timelines of the same number: other histories"
	}
	for i := range ours {
		if ours[i].tli != others[i].tli || ours[i].at != others[i].at {
			return "two timelines of the same number: other histories"
		}
	}
	n := ours[len(ours)-1].index
	if at > ours[len(ours)-1].at && n < len(d.wal) && n < len(theirs.wal) && d.wal[n].id != theirs.wal[n].id {
		return "two timelines of the same number: another first record"
	}
	return ""
}

type outcome uint8

const (
	unknown outcome = iota
	fits
	diverged
)

// recordEnd is where the record that begins there ends; 0 when there is none.
func (d *directory) recordEnd(start cluster.LSN) cluster.LSN {
	for i := len(d.wal) - 1; i >= 0 && d.wal[i].start >= start; i-- {
		if d.wal[i].start == start {
			return d.wal[i].end
		}
	}
	return 0
}

func systemIdentifier(n uint64) string {
	return strconv.FormatUint(7_000_000_000_000_000_000+n%1_000_000_000_000_000, 10)
}
