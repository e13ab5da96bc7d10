package sim

import (
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// stop shuts the server down: sessions end at once, a primary writes its shutdown checkpoint and sends it to
// everybody who is connected, then it exits.
func (s *server) stop() {
	if s.phase == stopping {
		return
	}
	s.w.disturbed(s.m, "is stopped")
	s.role, s.phase, s.accepting = s.phase, stopping, false
	s.m.writable()
	s.disconnect()
	took := s.w.rand.between(10*time.Millisecond, 400*time.Millisecond) + s.m.slowStop
	if s.role == starting {
		took = 20 * time.Millisecond
	}
	if s.stalled > 0 {
		took += time.Minute
	}
	s.tellReady(fmt.Errorf("it was stopped"))
	d := s.dir
	switch s.role {
	case primary:
		d.control.State = cluster.ControlShuttingDown
	case starting:
		s.w.after(took, &s.process, func() { s.exit() })
		return
	}
	s.w.after(took, &s.process, func() {
		if s.role == primary {
			s.checkpoint(shutdownRecord)
			d.control.State = cluster.ControlShutDown
		} else {
			at := s.caughtUp()
			d.flushed = len(d.wal)
			d.control.MinRecovery, d.control.MinRecoveryTLI = max(at, d.control.MinRecovery), d.timelineAt(max(at, d.control.MinRecovery))
			d.control.State = cluster.ControlShutDownRecovery
		}
		s.clean = true
		s.m.stopped()
		s.drain(s.w.now + int64(time.Minute)) // wal_sender_timeout
	})
}

// drain exits when every connected standby has the last record.
func (s *server) drain(until moment) {
	waits := false
	for _, t := range s.senders {
		waits = waits || t.sent < len(s.dir.wal)
	}
	if !waits || s.w.now >= until {
		s.exit()
		return
	}
	s.w.after(20*time.Millisecond, &s.process, func() { s.drain(until) })
}

// crash ends the server as SIGQUIT or SIGKILL do.
func (s *server) crash() { s.exit() }

// die is an end of its own.
func (s *server) die(why string) {
	s.tellReady(fmt.Errorf("PostgreSQL exited: %s", why))
	s.exit()
}

// vanish leaves the other ends of all connections hanging, as the loss of a host does.
func (s *server) vanish() {
	for _, t := range s.senders {
		t.stick()
	}
	s.senders = nil
	if t := s.receiver; t != nil {
		s.receiver = nil
		s.w.after(receiverTimeout, nil, t.drop)
	}
}

// exit is the end of all its processes.
func (s *server) exit() {
	m := s.m
	if m.server != s {
		return
	}
	if m.down > 0 {
		s.vanish()
	}
	s.disconnect()
	if s.recovery && !s.clean && s.phase != starting { // what its buffers had written needs at least this
		if at := s.caughtUp(); s.w.rand.chance(50) && at > s.dir.control.MinRecovery {
			s.dir.control.MinRecovery, s.dir.control.MinRecoveryTLI = at, s.dir.timelineAt(at)
			s.dir.flushed = max(s.dir.flushed, s.replayed) // WAL before data
		}
	}
	for len(s.senders) > 0 {
		s.senders[0].lost()
	}
	for i := range s.dir.slots {
		s.dir.slots[i].user = nil
	}
	m.server = nil
	s.phase, s.accepting = stopping, false
	s.kill()
	m.writable()
	s.tellReady(fmt.Errorf("PostgreSQL exited"))
	list := s.onExit
	s.onExit = nil
	for _, f := range list {
		f()
	}
	m.postmasterGone()
}
