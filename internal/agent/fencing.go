package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/guard"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/watchdog"
)

// fencing is what ends the writing of PostgreSQL when this agent cannot: the guard and, where there is one, a hardware watchdog. The
// loop says whether something is to be fenced, the keeper moves the moment with each confirmed renewal.
type fencing struct {
	log *slog.Logger

	guard    *guard.Guard // nil: switched off, or its memory cannot be had
	watchdog *watchdog.Watchdog

	mu      sync.Mutex
	mode    string // regent.guard
	need    bool   // watchdog.mode is required
	ttl     time.Duration
	noGuard string // why guard is nil
	wanted  bool   // something is to be fenced
}

// grace is how long a member may do without a guard that is required: as long as a dead one takes to be replaced, with room.
const grace = time.Second

// newFencing prepares both; it opens nothing.
func newFencing(e *config.Effective, log *slog.Logger) *fencing {
	f := &fencing{log: log, watchdog: watchdog.New(watchdogSettings(e), log), noGuard: "it is not started yet"}
	f.configure(e)
	return f
}

func watchdogSettings(e *config.Effective) watchdog.Settings {
	w := e.Watchdog
	return watchdog.Settings{
		Mode: watchdog.Mode(w.Mode), Path: w.Device, Margin: w.SafetyMargin, Half: w.HalfTTL,
		TTL: e.Timing.TTL, LoopWait: e.Timing.LoopWait,
	}
}

func (f *fencing) configure(e *config.Effective) {
	f.watchdog.Configure(watchdogSettings(e))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode, f.need, f.ttl = e.Regent.Guard, e.Watchdog.Mode == "required", e.Timing.TTL
}

// open starts the guard, or carries on with one that lives. changed is called when a guard comes or goes.
func (f *fencing) open(e *config.Effective, changed func()) {
	program := "postgres"
	if name := e.Postgres.BinName["postgres"]; name != "" {
		program = filepath.Base(name)
	}
	if e.Regent.Guard == "off" {
		f.lack("regent.guard is off")
		guard.Dismiss(e.Postgres.DataDir)
		return
	}
	g, err := guard.Open(guard.Options{
		DataDir: e.Postgres.DataDir, Program: program, LogFile: filepath.Join(e.Regent.JournalDir, "guard.log"), Log: f.log,
		Changed: func() { changed(); time.AfterFunc(grace, changed) },
	})
	if err != nil {
		f.lack(err.Error())
		f.log.Error("no guard: a frozen or killed agent cannot keep PostgreSQL from writing after its lock has ended", "error", err)
		return
	}
	f.mu.Lock()
	f.guard = g
	f.mu.Unlock()
}

func (f *fencing) lack(why string) {
	f.mu.Lock()
	f.noGuard = why
	f.mu.Unlock()
}

// close lets go of both. What is still to be fenced stays so: nobody renews any more, and the guard waits for its moment.
func (f *fencing) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.wanted {
		f.watchdog.Disable()
	}
	f.guard.Close()
}

// moment is when the guard kills: a little before the lock's end, so that the last commit is earlier than that.
func (f *fencing) moment(deadline time.Time) time.Time { return deadline.Add(-guard.Margin(f.ttl)) }

// follow does as the loop has seen and decided. unlocked is since when PostgreSQL writes without a lock; zero: it does not.
func (f *fencing) follow(guarded, paused bool, lock ha.Lock, unlocked time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.guard.Look()
	f.wanted = guarded
	switch {
	case !guarded:
		f.guard.Disarm(paused)
		f.watchdog.Disable()
	case lock.Held:
		f.fire(f.guard.Arm(f.moment(lock.Deadline)))
		_ = f.watchdog.Activate() // it says itself what is wrong
	case !unlocked.IsZero() && !f.guard.State().Armed:
		// A primary without lock has ttl to get one (ha.fence). A lock that is lost leaves its own, earlier moment.
		f.fire(f.guard.Arm(f.moment(unlocked.Add(f.ttl))))
	}
}

// renewed moves the guard's moment and feeds the watchdog, right after the store has confirmed the lock.
func (f *fencing) renewed(deadline time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.wanted {
		return
	}
	f.fire(f.guard.Arm(f.moment(deadline)))
	f.watchdog.Feed()
}

func (f *fencing) fire(err error) {
	if errors.Is(err, guard.ErrFiring) {
		f.log.Warn("the lock was renewed too late: the guard kills PostgreSQL at this moment")
	}
}

// arm is the last step before PostgreSQL becomes writable: from here on it cannot outlive the lock.
func (f *fencing) arm(lock ha.Lock) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.moment(lock.Deadline)
	if left := at.Sub(boottime.Now()); left <= 0 {
		return fmt.Errorf("arm the guard: the lock ends in %s, before which PostgreSQL must be down again: %w", lock.Deadline.Sub(boottime.Now()), dcs.ErrNotHeld)
	}
	if err := f.guard.Arm(at); err != nil {
		return fmt.Errorf("arm the guard: %w; wait until it is done", err)
	}
	_ = f.watchdog.Activate()
	if why := f.lacking(0); why != "" {
		if !f.wanted {
			f.guard.Disarm(false)
			f.watchdog.Disable()
		}
		return fmt.Errorf("become writable: %s", why)
	}
	f.wanted = true
	return nil
}

// problem says why this member must not lead for want of fencing; empty: nothing is against it.
func (f *fencing) problem() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lacking(grace)
}

// lacking compares what is required with what there is. patience is how long a guard may be gone.
func (f *fencing) lacking(patience time.Duration) string {
	if f.mode != "required" && !f.need {
		return ""
	}
	why := f.noGuard
	if f.guard != nil {
		s := f.guard.State()
		if s.Alive || patience > 0 && s.Gone < patience {
			return ""
		}
		why = s.Problem
	}
	why = "the guard does not run (" + why + ")"
	if f.mode == "required" {
		return why + ", and regent.guard is required"
	}
	if err := f.watchdog.Problem(); err != nil {
		return why + ", " + err.Error() + ", and watchdog.mode is required"
	}
	return ""
}

// early is by how much a hardware watchdog fires before the lock's end, and after which time it does. A demotion must be over
// before it resets the machine. Zeros: it is not active.
func (f *fencing) early() (early, timeout time.Duration) {
	timeout, active := f.watchdog.Active()
	if !active {
		return 0, 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(f.ttl-timeout, 0), timeout
}

// inherited says whether the guard is still armed from an agent before us: something was, or was about to become, writable.
func (f *fencing) inherited() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.guard != nil && f.guard.State().Armed
}

// armed says whether something was to be fenced when the loop looked last.
func (f *fencing) armed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wanted
}

// fence makes the guard follow what was seen and decided.
func (a *Agent) fence() {
	p := &a.loop.Postgres
	if !p.Running() || p.Queried && !p.InRecovery {
		a.promotion.Store(false)
	}
	guarded := a.loop.Guarded()
	if !guarded && !a.loop.Limits.Paused && a.fencing.armed() {
		// A promotion that was given up may still come true, and a backend that outlived its postmaster may still write.
		guarded = a.promotion.Load() || !p.Running() && a.pg.Strays()
	}
	a.fencing.follow(guarded, a.loop.Limits.Paused, a.keeper.lock(), a.loop.Memory.Unlocked)
	a.configureLoop()
}

// lockInView is our hold on the lock as decisions see it: with an active hardware watchdog it ends when that fires.
func (a *Agent) lockInView() ha.Lock {
	l := a.keeper.lock()
	if early, _ := a.fencing.early(); l.Held {
		l.Deadline = l.Deadline.Add(-early)
	}
	return l
}

// GuardStatus is what readers see of the guard.
type GuardStatus struct {
	Mode     string // regent.guard
	Alive    bool
	Pid      int
	State    string // disarmed, armed, paused, firing; empty: there is no memory to keep it in
	Armed    bool
	Deadline time.Time // boot-time clock: when it kills if nobody renews; zero: it is not armed
	Kills    int       // since the machine started
	Killed   time.Time // the last one, wall clock; zero: none
	Lacks    []string  // what it was not allowed
	Problem  string    // why there is none

	Watchdog bool // a hardware watchdog is active
}

// Guard tells of the guard as it is now.
func (a *Agent) Guard() GuardStatus { return a.fencing.status() }

func (f *fencing) status() GuardStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, active := f.watchdog.Active()
	g := GuardStatus{Mode: f.mode, Problem: f.noGuard, Watchdog: active}
	if f.guard == nil {
		return g
	}
	s := f.guard.State()
	g.Alive, g.Pid, g.State, g.Armed, g.Kills, g.Lacks, g.Problem = s.Alive, s.Pid, s.Mode, s.Armed, s.Kills, s.Lacks, s.Problem
	if s.Armed {
		g.Deadline = boottime.Now().Add(s.Left)
	}
	if s.Kills > 0 {
		g.Killed = time.Now().Add(-s.Killed)
	}
	return g
}
