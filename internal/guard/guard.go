// Package guard keeps a second process beside PostgreSQL that kills it when the leader lock runs out unrenewed, also when the
// agent is frozen, killed, or waits for a processor.
//
// The guard (package process) holds the moment in memory that it shares with the agent, on the boot-time clock. The agent arms it
// before PostgreSQL becomes writable, moves the moment with every confirmed renewal of the lock, and disarms it when it has seen
// PostgreSQL in recovery or down. A guard outlives its agent: until the moment it waits for the next one, which carries on with it.
//
// Promised: while a guard is alive and armed, every process of the PostgreSQL in the data directory is killed as soon as the moment
// has passed, and nothing can be armed before the last is gone. Not promised: anything when the whole machine is frozen or the
// kernel does not schedule the guard; then a hardware watchdog helps (package watchdog).
//
// Sources: issue "guard" of DESIGN.md; ha.md G11, A-3, A-4, V3, V20.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/guard/process"
)

// Options say what to guard.
type Options struct {
	DataDir string // absolute; its links are followed
	Program string // base name of the server program; "postgres" is always meant too
	LogFile string // takes what the guard itself says; empty: nothing does
	Log     *slog.Logger
	Changed func() // a guard came or went; must not block. Nil: nobody cares
}

// ErrFiring: the moment has passed and the guard is killing. Nothing may become writable until it is done.
var ErrFiring = errors.New("the guard is killing PostgreSQL")

// Guard is the agent's side. Its methods may be called from any goroutine; those of a nil Guard find no guard and do nothing.
type Guard struct {
	log     *slog.Logger
	data    string
	program string
	logFile string
	changed func()
	files   *files

	mu      sync.Mutex // of what follows
	pid     int        // of the living guard; 0: none
	problem string     // why there is none
	lost    time.Time  // since when there is none, boot-time clock
}

// Margin is how long before the end of the lock the guard kills. It covers what lies between the moment and the last
// acknowledged commit: the timer, the search, the signals (docs/adr/0011-guard.md has them measured), and a guard that has to wait
// for a processor. Half a second, a tenth of a ttl below 5 s.
func Margin(ttl time.Duration) time.Duration { return min(ttl/10, 500*time.Millisecond) }

// Open takes possession of the shared memory and carries on with a living guard, or starts one. A guard that cannot be started is no
// error: Run goes on trying. The error is that of the shared memory.
func Open(o Options) (*Guard, error) {
	g := &Guard{log: o.Log, data: realPath(o.DataDir), program: o.Program, logFile: o.LogFile, changed: o.Changed, lost: boottime.Now()}
	if g.changed == nil {
		g.changed = func() {}
	}
	var err error
	if g.files, err = openFiles(g.data); err != nil {
		return nil, fmt.Errorf("share memory with the guard: %w", err)
	}
	g.tell()
	pid := g.files.holder()
	if pid != 0 && g.files.shared.Layout.Load() == process.Layout {
		g.log.Info("carry on with the guard that lives", "pid", pid)
		g.found(pid)
		g.files.wake()
		return g, nil
	}
	if pid != 0 {
		g.log.Info("replace the guard of another version", "pid", pid)
		g.kill(pid)
	}
	g.files.shared.Layout.Store(process.Layout)
	g.begin()
	return g, nil
}

// realPath is a directory as /proc shows it, also one that does not exist yet.
func realPath(dir string) string {
	dir = filepath.Clean(dir)
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		return filepath.Join(parent, filepath.Base(dir))
	}
	return dir
}

// Dismiss ends the guard of an earlier agent, which is not wanted any more. Without one nothing happens.
func Dismiss(dataDir string) {
	for _, name := range Files(dataDir) {
		if _, err := os.Lstat(name); err == nil {
			if f, err := openFiles(realPath(dataDir)); err == nil {
				g := &Guard{files: f}
				g.Disarm(false)
				f.wake()
				f.close()
			}
			return
		}
	}
}

// Remove ends the guard of a data directory whatever it waits for, and removes what it shares with its agent: for whoever plays the
// loss of a machine. An agent that lives starts another one.
func Remove(dataDir string) {
	for _, name := range Files(dataDir) {
		if fd, err := openOwned(name, ownerOf(dataDir), unix.O_RDWR, unix.S_IFREG); err == nil {
			g := &Guard{files: &files{memory: fd}}
			if pid := g.files.holder(); pid != 0 {
				g.kill(pid)
			}
			_ = unix.Close(fd)
		}
		_ = os.Remove(name)
	}
}

// Close lets go of the guard. One that has nothing to wait for ends; an armed one stays until its moment.
func (g *Guard) Close() {
	if g != nil {
		g.files.close()
	}
}

// Arm tells the guard to kill at that moment of the boot-time clock, and returns once it will. ErrFiring: it is killing already.
func (g *Guard) Arm(at time.Time) error { return g.order(process.Armed, at, false) }

// Extend moves the moment of an armed guard, and leaves any other alone.
func (g *Guard) Extend(at time.Time) error { return g.order(process.Armed, at, true) }

// Disarm tells the guard that there is nothing to kill; paused: because the cluster is.
func (g *Guard) Disarm(paused bool) {
	mode := process.Disarmed
	if paused {
		mode = process.Paused
	}
	_ = g.order(mode, time.Time{}, false)
}

func (g *Guard) order(mode process.Mode, at time.Time, onlyArmed bool) error {
	if g == nil {
		return nil
	}
	moment := int64(0)
	if !at.IsZero() {
		moment = at.UnixNano()
	}
	next, word := process.NewOrder(mode, moment), &g.files.shared.Order
	for {
		old := process.Order(word.Load())
		switch {
		case old.Mode() == process.Firing:
			return ErrFiring
		case onlyArmed && !old.Armed():
			return nil
		}
		if !word.CompareAndSwap(int64(old), int64(next)) {
			continue
		}
		if next.Armed() && (!old.Armed() || next.At() < old.At()) {
			g.files.wake() // else it wakes at the old moment and sees the new one
		}
		return nil
	}
}

// State is what the guard and its memory say.
type State struct {
	Alive   bool
	Pid     int
	Problem string        // why there is none
	Gone    time.Duration // how long there has been none
	Mode    string        // disarmed, armed, paused, failsafe, firing, fired
	Armed   bool
	Left    time.Duration // until it kills; 0 when it is not armed
	Lacks   []string      // what it was not allowed
	Kills   int           // since the machine started
	Killed  time.Duration // how long ago the last one was; 0: never
}

// State looks at the guard.
func (g *Guard) State() State {
	if g == nil {
		return State{}
	}
	g.mu.Lock()
	s := State{Alive: g.pid != 0, Pid: g.pid, Problem: g.problem}
	now := boottime.Now()
	if !s.Alive {
		s.Gone = now.Sub(g.lost)
	}
	g.mu.Unlock()
	shared := g.files.shared
	order := process.Order(shared.Order.Load())
	s.Mode = [...]string{"disarmed", "armed", "paused", "failsafe", "firing", "fired", "", ""}[order.Mode()]
	if s.Armed = order.Armed() || order.Mode() == process.Firing || order.Mode() == process.Fired; s.Armed {
		s.Left = max(time.Unix(0, order.At()).Sub(now), 0)
	}
	for bit, what := range []string{"locked memory", "a higher priority", "protection from the OOM killer"} {
		if s.Alive && shared.Lacks.Load()&(1<<bit) != 0 {
			s.Lacks = append(s.Lacks, what)
		}
	}
	if s.Kills = int(shared.Kills.Load()); s.Kills > 0 {
		s.Killed = now.Sub(time.Unix(0, shared.KilledAt.Load()))
	}
	return s
}

// Alive says whether a guard lives now.
func (g *Guard) Alive() bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pid != 0
}

// Run keeps a guard alive until ctx ends: the end of one is an event, and the next is started at once.
func (g *Guard) Run(ctx context.Context) error {
	if g == nil {
		return nil
	}
	for ctx.Err() == nil {
		g.mu.Lock()
		pid := g.pid
		g.mu.Unlock()
		if pid == 0 {
			if !rest(ctx, time.Second) { // what kept it from starting announces no end
				return nil
			}
			g.begin()
			continue
		}
		if !g.awaitEnd(ctx, pid) {
			return nil
		}
		g.gone("it ended")
		g.log.Warn("the guard is gone; starting another", "pid", pid, "log", g.logFile)
		g.begin()
	}
	return nil
}

// Look logs kills that nobody has logged yet. Call it from time to time.
func (g *Guard) Look() {
	if g != nil {
		g.tell()
	}
}

func (g *Guard) tell() {
	s := g.files.shared
	kills := s.Kills.Load()
	if kills == s.Told.Swap(kills) {
		return
	}
	at := s.KilledAt.Load()
	g.log.Error("the guard has killed PostgreSQL: the leader lock was about to run out and nobody had renewed it",
		"ago", boottime.Now().Sub(time.Unix(0, at)).Round(time.Millisecond), "late", time.Duration(at-s.Deadline.Load()).Round(time.Microsecond),
		"took", time.Duration(s.Took.Load()).Round(time.Microsecond), "processes", s.Processes.Load(), "kills", kills)
}

// found notes a living guard.
func (g *Guard) found(pid int) {
	g.mu.Lock()
	g.pid, g.problem = pid, ""
	g.mu.Unlock()
	if lacks := g.State().Lacks; len(lacks) > 0 {
		g.log.Info("the guard works without what it is not allowed", "lacks", strings.Join(lacks, ", "))
	}
	g.changed()
}

// gone notes that there is none.
func (g *Guard) gone(why string) {
	g.mu.Lock()
	if g.pid != 0 {
		g.lost = boottime.Now()
	}
	g.pid, g.problem = 0, why
	g.mu.Unlock()
	g.changed()
}

// kill ends a guard and waits for that.
func (g *Guard) kill(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if g.files.holder() == pid { // it is still that process
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 2000)
	}
}

func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
