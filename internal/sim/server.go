package sim

import (
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// phase is where a server is in its life.
type phase uint8

const (
	starting   phase = iota
	standingBy       // in recovery
	primary          // out of recovery
	stopping         // asked to stop: no sessions any more
)

// server is a running PostgreSQL. Its slots point at streams only while it lives.
type server struct {
	taken cluster.Timeline // numbers up to that one are taken for the promotion
	process
	w     *World
	m     *Member
	dir   *directory
	pid   int
	since moment // when it was launched

	phase     phase
	accepting bool
	answering moment // since when it accepts connections, and was not frozen
	recovery  bool   // in recovery, also while starting or stopping
	role      phase
	promoting bool

	upstream cluster.Upstream // as configured
	receiver *stream
	retry    uint32    // number of the last attempt to connect
	senders  []*stream // to standbys

	replayed    int // records, lazily brought up to date
	replayDelay int64
	stuckReplay int // by how many faults replay stands still
	paused      bool

	stalled  int // by how many faults nothing is flushed
	pending  int // a row that waits for a flush: index+1
	onExit   []func()
	onReady  []func(error)
	clean    bool // the shutdown checkpoint is written
	waits    waits
	writeSeq uint32
}

// launch starts PostgreSQL. ready is called when it accepts connections, or when it has exited before.
func (m *Member) launch(asPrimary bool, up cluster.Upstream, ready func(error)) *server {
	w, d := m.w, &m.dir
	w.pids++
	s := &server{w: w, m: m, dir: d, pid: w.pids, phase: starting, recovery: true, upstream: up, since: w.now}
	s.replayDelay = int64(w.rand.between(200*time.Microsecond, 20*time.Millisecond))
	m.server = s
	s.readNames()
	if m.guard.fired {
		m.guard.launched(s)
	}
	w.disturbed(m, "is started")
	if asPrimary {
		w.startedAgain(m)
	}
	s.stalled = m.stalls
	s.stuckReplay = m.replayStalls
	if ready != nil {
		s.onReady = append(s.onReady, ready)
	}
	d.standbySignal = !asPrimary
	clean := d.control.State == cluster.ControlShutDown || d.control.State == cluster.ControlShutDownRecovery
	took := w.rand.between(40*time.Millisecond, 300*time.Millisecond)
	if !clean {
		took += w.rand.between(50*time.Millisecond, 3*time.Second)
	}
	took += m.slowStart
	if m.failStart > 0 {
		w.after(took, &s.process, func() {
			s.die("the start failed: no space left on device")
			w.failed(m, "start")
		})
		return s
	}
	if asPrimary {
		if !clean {
			d.control.State = cluster.ControlCrashRecovery
		}
		s.replayed = len(d.wal)
		w.after(took, &s.process, func() {
			if s.phase != starting {
				return // it was stopped meanwhile
			}
			s.recovery = false
			if !clean {
				s.checkpoint(checkpoint)
			}
			d.control.State = cluster.ControlInProduction
			s.phase, s.accepting, s.answering = primary, true, w.now
			s.m.writable()
			w.checkSync()
			s.scheduleWrite()
			s.ready()
		})
		return s
	}
	w.after(took, &s.process, func() { s.enterRecovery() })
	return s
}

// enterRecovery is where a standby has replayed its own WAL.
func (s *server) enterRecovery() {
	d := s.dir
	if s.phase != starting {
		return // it was stopped meanwhile
	}
	if why := d.refuses(); why != "" {
		s.die(why)
		return
	}
	if c := &d.control; c.MinRecovery < c.Redo { // StartupXLOG, when archive recovery begins
		c.MinRecovery, c.MinRecoveryTLI = c.Redo, c.CheckpointTLI
	}
	d.control.State = cluster.ControlArchiveRecovery
	s.replayed = len(d.wal)
	s.phase = standingBy
	s.consistent()
	s.connect(0)
}

// refuses is why a standby would not start on this directory: the newest history file does not have what it must
// have replayed (PostgreSQL, "requested timeline is not a child of this server's history").
func (d *directory) refuses() string {
	if d.known <= d.tli {
		return ""
	}
	check := func(at cluster.LSN, tli cluster.Timeline) bool {
		if left, ok := leftAt(d.knownHistory, tli); ok {
			return at <= left
		}
		return tli == d.known
	}
	if c := &d.control; !check(c.Checkpoint, c.CheckpointTLI) || c.MinRecovery != 0 && !check(c.MinRecovery, c.MinRecoveryTLI) {
		return fmt.Sprintf("requested timeline %d is not a child of this server's history", d.known)
	}
	return ""
}

// consistent opens a standby for queries as soon as it has all that it needs.
func (s *server) consistent() {
	if s.accepting || s.phase != standingBy || s.dir.end() < s.dir.control.MinRecovery {
		return
	}
	s.accepting, s.answering = true, s.w.now
	s.ready()
}

func (s *server) ready() { s.tellReady(nil) }

func (s *server) tellReady(err error) {
	list := s.onReady
	s.onReady = nil
	for _, f := range list {
		f(err)
	}
}

// write is the id of a new record.
func (s *server) write(kind recordKind, size cluster.LSN) *record {
	s.w.records++
	s.dir.append(record{id: s.w.records, kind: kind, end: size, at: s.w.now})
	return &s.dir.wal[len(s.dir.wal)-1]
}

// checkpoint writes and flushes a checkpoint of that kind.
func (s *server) checkpoint(kind recordKind) {
	d := s.dir
	r := s.write(kind, systemBlock)
	d.control.Checkpoint, d.control.Redo, d.control.CheckpointTLI = r.start, r.start, d.tli
	d.control.MinRecovery, d.control.MinRecoveryTLI = 0, 0
	s.flush()
}

// flush makes the WAL durable and sends it.
func (s *server) flush() {
	s.dir.flushed = len(s.dir.wal)
	s.pending = 0
	s.kick()
}

// scheduleWrite lets the open sessions write the next row.
func (s *server) scheduleWrite() {
	s.writeSeq++
	seq := s.writeSeq
	pause := s.w.rand.about(s.w.writeEvery)
	s.w.after(pause, &s.process, func() {
		if s.writeSeq == seq && s.phase == primary {
			s.row()
			s.scheduleWrite()
		}
	})
}

// row is one commit of an open session.
func (s *server) row() {
	if s.pending > 0 || len(s.waits.commits) >= 3 {
		return // every session waits for the disk, or for a standby
	}
	size := cluster.LSN(100 + s.w.rand.below(8000))
	if s.w.rand.below(200) == 0 {
		size = cluster.LSN(1+s.w.rand.below(20)) << 20
	}
	s.write(rowRecord, size)
	if s.stalled > 0 {
		s.pending = len(s.dir.wal)
		return
	}
	s.flush()
	s.commit(len(s.dir.wal))
	s.consume()
}

// unstall is the end of a disk that hung.
func (s *server) unstall() {
	s.stalled--
	if s.stalled > 0 {
		return
	}
	if n := s.pending; n > 0 {
		s.flush()
		if s.phase == primary {
			s.commit(n)
		}
	}
}

// caughtUp brings the replayed position up to date and returns it.
func (s *server) caughtUp() cluster.LSN {
	if s.recovery && !s.paused && s.stuckReplay == 0 {
		for s.replayed < len(s.dir.wal) && s.dir.wal[s.replayed].at+s.replayDelay <= s.w.now {
			s.replayed++
		}
	}
	return endOf(s.dir.wal[:s.replayed])
}

// promote asks a standby to leave recovery. It is nothing to a primary, and is not taken by one that still starts.
func (s *server) promote() bool {
	if s.phase != standingBy || s.promoting || s.dir.control.State != cluster.ControlArchiveRecovery {
		return false
	}
	s.promoting = true
	s.disconnect()
	s.finishPromotion()
	return true
}

func (s *server) finishPromotion() {
	took := s.w.rand.between(20*time.Millisecond, 400*time.Millisecond) + s.m.slowPromote
	s.caughtUp()
	if n := len(s.dir.wal); s.replayed < n { // it replays what it has
		if s.stuckReplay > 0 || s.paused {
			s.paused = false // a promotion ends a pause
			s.w.after(500*time.Millisecond, &s.process, s.finishPromotion)
			return
		}
		took += time.Duration(s.replayDelay)
	}
	s.w.after(took, &s.process, func() {
		if s.phase != standingBy {
			return
		}
		if s.m.failPromote > 0 {
			s.die("the promotion failed: no space left on device")
			s.w.failed(s.m, "promotion")
			return
		}
		d := s.dir
		s.replayed = len(d.wal)
		d.begin(max(d.known, d.tli, d.aside, s.taken) + 1)
		s.write(recoveryEnd, systemBlock)
		d.control.State = cluster.ControlInProduction
		d.control.MinRecovery, d.control.MinRecoveryTLI = 0, 0
		d.standbySignal = false
		s.recovery, s.promoting, s.phase, s.accepting = false, false, primary, true
		s.flush()
		s.w.promoted(s)
		s.m.writable()
		s.w.checkSync()
		s.scheduleWrite()
	})
}
