package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// Member is one host with an agent, a PostgreSQL and a guard.
type Member struct {
	w     *World
	place int
	name  string
	clock clock
	down  int // by how many faults the host is away

	address string
	moves   int // addresses had before
	tags    ha.Tags
	keyTags cluster.Tags
	local   Local

	dir    directory
	server *server
	stray  *process // a backend that outlived its postmaster
	busy   *tool    // pg_basebackup, pg_rewind, initdb or a single-user server at work in the directory
	agent  *agent
	guard  guard
	aside  int // directories moved aside

	// What is wrong with this host, by how many faults or by how much.
	stalls, replayStalls, streamStalls            int
	failStart, failPromote, failRewind, failClone int
	slowStart, slowStop, slowPromote              time.Duration

	ambush   bool   // the agent is frozen as soon as it is about to begin a job
	ambushed *agent // it was

	wiped         bool   // its disk was lost
	strange       bool   // it came back with another cluster's data
	bootstrapping string // system identifier of the cluster that is being made here
	gaveUp        moment // when its agent said last that it cannot go on by itself
	writes        bool   // accepts commits
	thawing       bool
	untold        moment        // until when nobody can have acted on the end of a pause
	moved         moment        // when its WAL position changed last
	unpromoted    moment        // when its promotion failed last, and ...
	unpromotedTTL time.Duration // ... the ttl then
	started       [3]moment     // when PostgreSQL was started as a primary, the last times
	silent        bool          // the agent is stopped by an operator and not restarted
}

// Local is a member's local configuration, as far as decisions depend on it.
type Local struct {
	UseRewind, RemoveOnRewindFailure, RemoveOnDivergence bool
}

func (m *Member) apiURL() string  { return "http://" + m.address + ":8008/patroni" }
func (m *Member) connURL() string { return "postgres://" + m.address + ":5432/postgres" }

// move gives the host an address that nobody had before.
func (m *Member) move() {
	m.address = fmt.Sprintf("10.%d.0.%d", m.moves, m.place+1)
	m.moves++
	m.w.addresses[m.address] = m
}

// byAddress finds the member that has the address now.
func (w *World) byAddress(host string) *Member {
	if m := w.addresses[host]; m != nil && m.address == host {
		return m
	}
	return nil
}

// writable tells the oracles whether PostgreSQL accepts commits here now.
func (m *Member) writable() {
	s := m.server
	on := m.stray != nil || s != nil && s.phase == primary && s.frozen == 0 && m.down == 0
	if on != m.writes {
		m.writes = on
		m.w.writability(m)
	}
}

// lose takes the host away: power, or its virtual machine. What was not flushed is gone.
func (m *Member) lose() {
	m.down++
	if m.down > 1 {
		return
	}
	if m.busy != nil {
		m.busy.abort(true)
	}
	m.stopAgent()
	m.killStray()
	m.guard.die()
	m.guard.disarm() // shared memory does not survive the host
	if m.server != nil && m.server.recovery {
		m.dir.harden(m.w.now)
	}
	if m.server != nil {
		m.server.exit()
	}
	if d := &m.dir; d.present() && d.flushed < len(d.wal) {
		d.cut(max(d.flushed, 1))
	}
}

// comeBack boots the host again, with the same disk.
func (m *Member) comeBack(elsewhere bool) {
	m.down--
	if m.down > 0 {
		return
	}
	m.clock.boot = int64(m.w.rand.between(time.Minute, 1000*time.Hour)) - m.clock.elapsed()
	if elsewhere {
		m.move()
	}
	m.startAgent(m.w.rand.between(100*time.Millisecond, 5*time.Second))
}

// freezeServer stops all processes of PostgreSQL.
func (m *Member) freezeServer() {
	if s := m.server; s != nil {
		s.freeze()
		for _, t := range s.senders {
			t.stick()
		}
		if s.receiver != nil {
			s.receiver.stick()
		}
		m.writable()
	}
}

// hears gives the member time for what follows from the end of a pause: a look at PostgreSQL and a request to the store.
func (m *Member) hears() {
	if m.guard.lapsed {
		m.untold = m.w.now + int64(15*time.Second)
	}
}

// thawServer lets them go on, if it is still that server.
func (m *Member) thawServer(s *server) {
	if m.server != s {
		return
	}
	m.w.thaw(&s.process)
	if s.frozen > 0 {
		return
	}
	s.answering = m.w.now
	m.hears()
	m.thawing = true // it goes on being what it was
	m.writable()
	m.thawing = false
	for _, t := range slices.Clone(s.senders) {
		t.free()
		t.kick()
	}
	if s.receiver != nil {
		s.receiver.free()
		s.receiver.kick()
	}
}

// postmasterGone wakes the agent, as the pidfd does.
func (m *Member) postmasterGone() {
	if a := m.agent; a != nil {
		m.w.after(time.Millisecond, &a.process, a.exited)
	}
}

// stopped tells that the control file says "shut down".
func (m *Member) stopped() {
	if a := m.agent; a != nil && a.onClean != nil {
		m.w.after(10*time.Millisecond, &a.process, a.onClean)
	}
}

// role is what the members' traffic would find here: for traces.
func (m *Member) state() string {
	s := m.server
	switch {
	case m.down > 0:
		return "lost"
	case s == nil:
		return string(m.dir.state) + "/" + string(m.dir.control.State)
	}
	return [...]string{"starting", "standby", "primary", "stopping"}[s.phase]
}
