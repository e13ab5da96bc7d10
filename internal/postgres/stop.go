package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/cluster"
)

// StopMode is how PostgreSQL treats its clients when it shuts down (PostgreSQL documentation, "Shutting Down the Server").
type StopMode int

const (
	Fast      StopMode = iota // SIGINT: transactions are rolled back, a shutdown checkpoint is written
	Smart                     // SIGTERM: waits for the clients to leave
	Immediate                 // SIGQUIT: like a crash
)

func (m StopMode) String() string { return [...]string{"fast", "smart", "immediate"}[m] }

func (m StopMode) signal() unix.Signal {
	return [...]unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGQUIT}[m]
}

// StopOptions says how to stop. All times count from the call.
type StopOptions struct {
	Mode              StopMode
	Checkpoint        bool          // CHECKPOINTs first, until one is short, so that the one at the end is, too
	CheckpointTimeout time.Duration // of it; 0: none but the limits below
	BeforeStop        bool          // run the before_stop command
	ImmediateAfter    time.Duration // then like Immediate; 0: never
	KillAfter         time.Duration // then kill the postmaster and all its children; 0: never
	SendersAfter      time.Duration // from the shutdown checkpoint on: walsenders that still wait for their standbys are ended; 0: never

	// BeforeSignal is called last before the server is told to stop; nil: nothing is.
	BeforeSignal func(ctx context.Context)
	// OnShutdownCheckpoint is called once, as soon as the control data reports a clean shutdown, though the postmaster
	// may still run (it archives, or waits for a walsender). checkpoint is the shutdown checkpoint's position;
	// previous that of the WAL switch right before it if there is one, else the same (ha.md 2.19).
	OnShutdownCheckpoint func(checkpoint, previous cluster.LSN)
	// OnSafe is called once, when no process works for a client any more or the postmaster is gone.
	OnSafe func()
}

// stopPoll is how often processes are looked at while the server stops; its exit is an event, and so is a control file that is written.
const stopPoll = 20 * time.Millisecond

// Stop stops the server and returns when it and all its processes are gone; without a server it only makes sure
// of that. It escalates: as told by Mode, then immediate, then SIGSTOP and SIGKILL of postmaster and children,
// which also ends a server whose processes are stopped or hung. When ctx ends first the server goes on stopping.
// ErrRunning: a single-user process, which cannot be stopped in an orderly way, is at work.
func (p *Instance) Stop(ctx context.Context, o StopOptions) error {
	begun := time.Now()
	pm := p.postmaster()
	if pm == nil {
		if err := p.EndStrays(ctx); err != nil {
			return err
		}
		call(o.OnSafe)
		return nil
	}
	if pm.single {
		return fmt.Errorf("stop PostgreSQL: single-user process %d is repairing the data directory: %w; wait for its end", pm.pid, ErrRunning)
	}
	exited := p.watch(pm.pid)
	p.prepareStop(ctx, o, begun)
	s := &stopping{p: p, o: o, pid: pm.pid, begun: begun}
	if g, err := p.glance(); err == nil {
		s.before = g
	}
	written, unwatch := p.watchControl()
	defer unwatch()
	s.send(o.Mode.signal())
	tick := time.NewTicker(stopPoll)
	defer tick.Stop()
	for {
		select {
		case <-exited:
			return s.finish(ctx)
		case <-ctx.Done():
			return fmt.Errorf("stop PostgreSQL: %w after %s; it goes on stopping", context.Cause(ctx), time.Since(begun).Round(time.Millisecond))
		case <-written:
			s.look()
		case <-tick.C:
			s.look()
			s.escalate(ctx)
		}
	}
}

// What is written while a checkpoint runs is left to the one after it. If the first was longer than clients should wait there is another one before the stop.
const (
	checkpoints     = 2
	shortCheckpoint = 300 * time.Millisecond
)

// prepareStop runs what belongs before the signal. None of it may hold up the stop past its limits, and a
// failure is only logged: we were told to stop.
func (p *Instance) prepareStop(ctx context.Context, o StopOptions, begun time.Time) {
	for _, limit := range []time.Duration{o.ImmediateAfter, o.KillAfter} {
		if limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, begun.Add(limit))
			defer cancel()
		}
	}
	if o.Checkpoint && o.Mode != Immediate {
		limited := ctx
		if o.CheckpointTimeout > 0 {
			var cancel context.CancelFunc
			limited, cancel = context.WithTimeout(ctx, o.CheckpointTimeout)
			defer cancel()
		}
		for range checkpoints {
			asked := time.Now()
			if err := p.Checkpoint(limited); err != nil {
				p.log.LogAttrs(ctx, slog.LevelWarn, "checkpoint before the stop was not finished; the stop takes longer", slog.Any("error", err))
				break
			}
			if time.Since(asked) < shortCheckpoint {
				break
			}
		}
	}
	if command := p.Settings().BeforeStop; o.BeforeStop && command != "" {
		if err := p.RunHook(ctx, command); err != nil {
			p.log.LogAttrs(ctx, slog.LevelWarn, "before_stop did not succeed; stopping all the same", slog.Any("error", err))
		}
	}
	if o.BeforeSignal != nil {
		o.BeforeSignal(ctx)
	}
}

// stopping is one stop under way.
type stopping struct {
	p           *Instance
	o           StopOptions
	pid         int
	begun       time.Time
	before      glance
	safe, clean bool
	cleanAt     time.Time
	immediate   bool
	ending      bool // the walsenders have been told
}

func (s *stopping) send(signal unix.Signal) {
	if signal == unix.SIGQUIT {
		s.immediate = true
	}
	_ = unix.Kill(s.pid, signal) // it cannot have been reaped and its number reused: watch has not closed the channel yet
}

// look calls the hooks that are due.
func (s *stopping) look() {
	if (s.o.OnShutdownCheckpoint != nil || s.o.SendersAfter > 0) && !s.clean {
		if g, err := s.p.glance(); err == nil && g.stopped() && !s.before.stopped() {
			s.clean, s.cleanAt = true, time.Now()
			s.reached(g)
		}
	}
	if s.o.OnSafe != nil && !s.safe && (s.clean || !s.p.clientsLeft(s.pid)) {
		s.safe = true
		s.o.OnSafe()
	}
}

// stopped says whether the control data reports a clean shutdown.
func (g glance) stopped() bool {
	return g.state == cluster.ControlShutDown || g.state == cluster.ControlShutDownRecovery
}

func (s *stopping) reached(g glance) {
	if s.o.OnShutdownCheckpoint == nil {
		return
	}
	previous := g.checkpoint
	if before, err := s.p.walSwitchBefore(g.checkpoint, g.timeline); err != nil {
		s.p.log.LogAttrs(context.Background(), slog.LevelDebug, "record before the shutdown checkpoint cannot be read", slog.Any("error", err))
	} else if before != 0 {
		previous = before
	}
	s.o.OnShutdownCheckpoint(g.checkpoint, previous)
}

// escalate sends what is due by now.
func (s *stopping) escalate(ctx context.Context) {
	after := time.Since(s.begun)
	switch {
	case s.o.KillAfter > 0 && after >= s.o.KillAfter:
		s.p.log.LogAttrs(ctx, slog.LevelWarn, "PostgreSQL did not stop in time; killing it", slog.Duration("after", after), slog.Int("pid", s.pid))
		s.p.killAll(s.pid)
	case s.o.ImmediateAfter > 0 && after >= s.o.ImmediateAfter && !s.immediate:
		s.p.log.LogAttrs(ctx, slog.LevelWarn, "PostgreSQL did not stop in time; stopping it immediately", slog.Duration("after", after), slog.Int("pid", s.pid))
		s.send(unix.SIGQUIT)
	case s.o.SendersAfter > 0 && s.clean && time.Since(s.cleanAt) >= s.o.SendersAfter:
		s.endSenders(ctx)
	}
}

// endSenders ends walsenders of a server that has written its last record. What they wait for may never come: a standby that is frozen, or
// a network that is gone. Nothing is lost: the WAL is on this disk, and the standby asks for it again.
func (s *stopping) endSenders(ctx context.Context) {
	signal := unix.SIGTERM
	if time.Since(s.cleanAt) >= s.o.SendersAfter+senderGrace {
		signal = unix.SIGKILL
	}
	for _, q := range s.p.processes(s.p.realDir()) {
		if !q.child || s.p.role(q.title) != "walsender" {
			continue
		}
		_ = unix.Kill(q.pid, signal)
		if !s.ending {
			s.p.log.LogAttrs(ctx, slog.LevelWarn, "a standby does not take the last WAL; its walsender is ended", slog.String("walsender", q.title))
		}
	}
	s.ending = true
}

// senderGrace is how long a walsender may take to end when it is asked to.
const senderGrace = 5 * time.Second

// killAll suspends the postmaster, so that it starts no new children, kills the children and then itself. It may have begun a child before it
// stands still, which passes for a postmaster once its parent is gone.
func (p *Instance) killAll(pid int) {
	_ = unix.Kill(pid, unix.SIGSTOP)
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) { // nobody but its parent is told
		if state, _ := stat(pid); state != "R" && state != "S" && state != "D" {
			break
		}
	}
	for _, q := range p.processes(p.realDir()) {
		if q.child {
			_ = unix.Kill(q.pid, unix.SIGKILL)
		}
	}
	_ = unix.Kill(pid, unix.SIGKILL)
}

// finish makes sure that the whole server is gone.
func (s *stopping) finish(ctx context.Context) error {
	if s.o.OnShutdownCheckpoint != nil && !s.clean {
		if g, err := s.p.glance(); err == nil && g.stopped() {
			s.clean = true
			s.reached(g)
		}
	}
	if err := s.p.EndStrays(ctx); err != nil {
		return err
	}
	if !s.safe {
		call(s.o.OnSafe)
	}
	s.p.log.LogAttrs(ctx, slog.LevelInfo, "PostgreSQL stopped", slog.String("mode", s.o.Mode.String()), slog.Duration("after", time.Since(s.begun)))
	return nil
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// Kill ends postmaster and children at once, without any hook: for the moment when nothing but the end of all writing counts.
func (p *Instance) Kill(ctx context.Context) error {
	for pm := p.postmaster(); pm != nil; pm = p.postmaster() { // again for what killAll says of a child
		p.killAll(pm.pid)
		if _, err := waitGone(ctx, pm.pid, 10*time.Second); err != nil {
			return fmt.Errorf("kill postmaster %d: %w", pm.pid, err)
		}
	}
	return p.EndStrays(ctx)
}
