package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// tool is a program that works on the data directory while no server runs there. Its end does not depend on the agent: a
// frozen agent hears of it later, and a killed one leaves it running for a moment.
type tool struct {
	process
	m      *Member
	what   string
	pid    int
	single bool // a single-user server
	done   func(error)
	broken func() // what its violent end leaves behind
}

var errCancelled = errors.New("context canceled")

// run starts a tool. work is called when it comes to its end.
func (m *Member) run(what string, took time.Duration, work func() error, broken func(), done func(error)) *tool {
	m.w.pids++
	t := &tool{m: m, what: what, pid: m.w.pids, done: done, broken: broken}
	m.busy = t
	m.w.after(took, &t.process, func() {
		err := work()
		t.finish(err)
	})
	return t
}

func (t *tool) finish(err error) {
	if t.m.busy == t {
		t.m.busy = nil
	}
	t.kill()
	if err != nil && t.broken != nil {
		t.broken()
	}
	if t.done != nil {
		t.done(err)
	}
}

// abort kills the tool; silent: nobody hears of it.
func (t *tool) abort(silent bool) {
	if silent {
		t.done = nil
	}
	t.finish(errCancelled)
}

// vacant makes sure that nothing works on the directory.
func (m *Member) vacant() error {
	if m.server != nil {
		return fmt.Errorf("process %d lives there: PostgreSQL is running", m.server.pid)
	}
	m.killStray()
	if m.busy != nil {
		m.busy.abort(true) // a program of an agent before us
	}
	return nil
}

// initdb makes a new cluster.
func (m *Member) initdb(done func(error)) {
	w := m.w
	if err := m.vacant(); err != nil {
		done(err)
		return
	}
	m.run("initdb", w.rand.between(time.Second, 4*time.Second), func() error {
		w.systems++
		m.dir = directory{state: cluster.DirPresent, major: 150000, system: systemIdentifier(w.rand.next()), tli: 1, known: 1, slots: nil, document: m.dir.document}
		d := &m.dir
		w.records++
		d.append(record{id: w.records, kind: shutdownRecord, end: systemBlock, at: w.now})
		d.flushed = 1
		d.control = cluster.Control{State: cluster.ControlShutDown, Checkpoint: firstLSN, Redo: firstLSN, CheckpointTLI: 1}
		return nil
	}, m.halfMade("initdb"), done)
}

func (m *Member) halfMade(what string) func() {
	return func() { m.dir = directory{state: cluster.DirEmpty, problem: "a half-made directory: " + what} }
}

// source is the server there, if it can be reached.
func (m *Member) source(up cluster.Upstream) (*server, error) {
	from := m.w.byAddress(up.Host)
	switch {
	case from == nil || from.down > 0 || !m.w.net.open(m.place, from.place):
		return nil, fmt.Errorf("connect to %s: connection timed out", up.Host)
	case from.server == nil:
		return nil, fmt.Errorf("connect to %s: connection refused", up.Host)
	case from.server.frozen > 0:
		return nil, fmt.Errorf("connect to %s: no answer", up.Host)
	case !from.server.accepting:
		return nil, fmt.Errorf("connect to %s: the database system is not accepting connections", up.Host)
	}
	return from.server, nil
}

// baseBackup clones a server into the empty directory.
func (m *Member) baseBackup(up cluster.Upstream, done func(error)) {
	w := m.w
	if err := m.vacant(); err != nil {
		done(err)
		return
	}
	if m.dir.state != cluster.DirEmpty && m.dir.state != cluster.DirMissing {
		done(errors.New("the data directory is not empty"))
		return
	}
	from, err := m.source(up)
	if err != nil {
		w.after(w.rand.between(10*time.Millisecond, 3*time.Second), &m.agent.process, func() { done(err) })
		return
	}
	document := m.dir.document
	m.run("pg_basebackup", w.rand.between(time.Second, 8*time.Second), func() error {
		if m.failClone > 0 {
			return errors.New("pg_basebackup: no space left on device")
		}
		now, err := m.source(up)
		if err != nil || now != from {
			return fmt.Errorf("pg_basebackup: the connection broke: %v", err)
		}
		m.dir = from.dir.copyOf(from.sendable(), w.now)
		d := &m.dir
		d.document = document
		d.control.State = cluster.ControlInProduction
		if from.recovery {
			d.control.State = cluster.ControlArchiveRecovery
		}
		d.control.MinRecovery, d.control.MinRecoveryTLI = d.end(), d.tli
		d.standbySignal = true // pg_basebackup --write-recovery-conf
		m.moved = w.now
		return nil
	}, m.halfMade("a clone"), done)
}

// recover runs crash recovery in single-user mode.
func (m *Member) recover(done func(error)) {
	w, d := m.w, &m.dir
	if err := m.vacant(); err != nil {
		done(err)
		return
	}
	if d.problem != "" || !d.present() {
		done(errors.New("the data directory cannot be used"))
		return
	}
	if d.control.State == cluster.ControlShutDown || d.control.State == cluster.ControlShutDownRecovery {
		done(nil)
		return
	}
	d.standbySignal = false
	t := m.run("postgres --single", w.rand.between(100*time.Millisecond, 4*time.Second)+m.slowStart, func() error {
		if m.failStart > 0 {
			return errors.New("single-user recovery failed: no space left on device")
		}
		w.records++
		d.append(record{id: w.records, kind: shutdownRecord, end: systemBlock, at: w.now})
		r := &d.wal[len(d.wal)-1]
		d.flushed = len(d.wal)
		d.control.State, d.control.Checkpoint, d.control.Redo, d.control.CheckpointTLI = cluster.ControlShutDown, r.start, r.start, d.tli
		d.control.MinRecovery, d.control.MinRecoveryTLI = 0, 0
		return nil
	}, nil, done)
	t.single = true
}

// errImpossible: another try of the rewind cannot help.
var errImpossible = errors.New("this data directory cannot be rewound")

// rewind brings the stopped directory to where the leader's history leaves ours, and takes the leader's WAL from there.
func (m *Member) rewind(up cluster.Upstream, done func(error)) {
	w, d := m.w, &m.dir
	from, err := m.source(up)
	switch {
	case err != nil:
	case from.recovery:
		err = errors.New("the leader is not ready to be rewound to: it is in recovery")
	case d.problem != "":
		err = fmt.Errorf("%w: %s", errImpossible, d.problem)
	case m.vacant() != nil:
		err = m.vacant()
	}
	if err != nil {
		w.after(w.rand.between(10*time.Millisecond, time.Second), &m.agent.process, func() { done(err) })
		return
	}
	if from.dir.control.CheckpointTLI != from.dir.tli {
		from.checkpoint(checkpoint) // the superuser makes it
	}
	copying := false
	broken := func() {
		if copying {
			d.problem = "an interrupted rewind"
		}
	}
	took := w.rand.between(200*time.Millisecond, 5*time.Second)
	t := m.run("pg_rewind", took, func() error {
		now, err := m.source(up)
		if err != nil || now != from {
			if copying {
				return fmt.Errorf("%w: it broke off while copying: %v", errImpossible, err)
			}
			return fmt.Errorf("pg_rewind: the connection broke: %v", err)
		}
		if m.failRewind > 0 {
			return errors.New("pg_rewind: could not find a WAL segment")
		}
		theirs := from.dir
		if common(d, theirs) == 0 {
			return fmt.Errorf("%w: no common ancestor", errImpossible)
		}
		if d.tli == theirs.tli { // it compares numbers only: "no rewind required"
			d.standbySignal = true
			return nil
		}
		lag := min(w.rand.below(3), len(theirs.wal)-1) // what came while it copied has to be streamed
		n := max(theirs.flushed-lag, common(d, theirs))
		document := d.document
		*d = theirs.copyOf(n, w.now)
		d.document = document
		d.control.State = cluster.ControlArchiveRecovery
		d.control.MinRecovery, d.control.MinRecoveryTLI = theirs.end(), theirs.tli
		d.standbySignal = true
		m.moved = w.now
		return nil
	}, broken, done)
	w.after(took/2, &t.process, func() { copying = true })
}

// clear empties the directory.
func (m *Member) clear() {
	m.dir = directory{state: cluster.DirEmpty, document: cluster.DynamicConfig{}}
	m.moved = m.w.now
}

// syncSlots makes the slots what they should be.
func (s *server) syncSlots(want []slotWant, drop []string) {
	d := s.dir
	s.w.slotsAsked(s, want, drop)
	d.slots = slices.DeleteFunc(d.slots, func(o slot) bool { return o.user == nil && slices.Contains(drop, o.name) })
	for _, x := range want {
		d.slots = slices.DeleteFunc(d.slots, func(o slot) bool { return x.anew && o.user == nil && o.name == x.name })
		o := d.slot(x.name)
		if o == nil {
			d.slots = append(d.slots, slot{name: x.name, restart: d.control.Redo}) // ReplicationSlotReserveWal
			o = &d.slots[len(d.slots)-1]
		}
		if o.user == nil && x.advance > o.restart {
			o.restart = min(x.advance, max(d.end(), o.restart))
			s.w.advanced(s, o)
		}
	}
	slices.SortFunc(d.slots, func(a, b slot) int {
		switch {
		case a.name < b.name:
			return -1
		case a.name > b.name:
			return 1
		}
		return 0
	})
}

type slotWant struct {
	name    string
	advance cluster.LSN
	anew    bool
}
