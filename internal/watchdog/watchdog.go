// Package watchdog uses a hardware watchdog as Patroni does (ha.md 2.30): a device that resets the machine unless it is fed in time.
//
// It is active from before PostgreSQL becomes writable until it has been seen in recovery or down, and is fed after each confirmed
// renewal of the leader lock. It stands beside the guard (package guard), which ends PostgreSQL alone and needs no device: the
// hardware also ends a machine that no longer runs anything at all.
//
// Source: Linux kernel documentation, "The Linux Watchdog driver API".
package watchdog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"
)

// Mode says how much a working device matters.
type Mode string

const (
	Off       Mode = "off"
	Automatic Mode = "automatic" // use it if it can be used
	Required  Mode = "required"  // without it this member must not lead
)

// Settings of the watchdog, and the rhythm that they are judged by.
type Settings struct {
	Mode          Mode
	Path          string        // of the device
	Margin        time.Duration // the device fires at TTL minus this
	Half          bool          // the device fires at half of TTL
	TTL, LoopWait time.Duration
}

// Timeout is after which time without food the device is to fire: whole seconds, as the devices know no others.
func (s Settings) Timeout() time.Duration {
	if s.Half {
		return (s.TTL / 2).Truncate(time.Second)
	}
	return s.TTL - s.Margin
}

// Device is a watchdog that runs. It is fed or closed, nothing else stops it.
type Device interface {
	// SetTimeout asks for a time and returns the one that the device has chosen.
	SetTimeout(d time.Duration) (time.Duration, error)
	// Feed starts the time anew.
	Feed() error
	// Stoppable says whether Stop stops it: nowayout devices run on until the machine is reset.
	Stoppable() bool
	// Stop ends it with the magic close.
	Stop() error
}

// Watchdog is the device of one agent. Its methods may be called from any goroutine.
type Watchdog struct {
	log    *slog.Logger
	open   func(path string) (Device, error)
	usable func(path string) error // whether the device could be opened, without starting it

	mu       sync.Mutex
	settings Settings
	applied  Settings // those that the device runs with
	device   Device   // nil: inactive
	timeout  time.Duration
	problem  string // why it could not be activated, as logged last
}

// New prepares a watchdog; it opens nothing.
func New(s Settings, log *slog.Logger) *Watchdog {
	return &Watchdog{log: log, open: openDevice, usable: writable, settings: s}
}

// NewOn is New with another kind of device, one that can always be opened: for tests.
func NewOn(s Settings, log *slog.Logger, open func(path string) (Device, error)) *Watchdog {
	return &Watchdog{log: log, open: open, usable: func(string) error { return nil }, settings: s}
}

// Configure replaces the settings. An active device gets them with its next food.
func (w *Watchdog) Configure(s Settings) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settings = s
}

// Activate starts the device before PostgreSQL becomes writable. It does nothing when it runs or is switched off. The error matters only
// in mode required; in mode automatic it has been logged, once.
func (w *Watchdog) Activate() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.device != nil || w.settings.Mode == Off {
		return nil
	}
	err := w.activate()
	w.note(err)
	return err
}

// note logs why the device cannot be used when that is news. That there is none is usual.
func (w *Watchdog) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == w.problem {
		return
	}
	w.problem = text
	switch {
	case err == nil:
	case w.settings.Mode == Required:
		w.log.Error("the hardware watchdog cannot be used", "error", err)
	case errors.Is(err, fs.ErrNotExist):
		w.log.Debug("no hardware watchdog", "error", err)
	default:
		w.log.Warn("go on without a hardware watchdog", "error", err)
	}
}

// unfit says what is wrong with the settings as such.
func (s Settings) unfit() error {
	if slack := s.Timeout() - s.LoopWait; s.Timeout() <= 0 || slack < 0 {
		return fmt.Errorf("watchdog.safety_margin: the device would fire after %s, and the lock is renewed every %s only; raise ttl, or lower loop_wait or the margin", s.Timeout(), s.LoopWait)
	}
	return nil
}

func (w *Watchdog) activate() error {
	s := w.settings
	if err := s.unfit(); err != nil {
		return err
	}
	d, err := w.open(s.Path)
	if err != nil {
		return fmt.Errorf("open watchdog %s: %w; load its driver (softdog, for example) and let the agent's user write it", s.Path, err)
	}
	timeout, err := w.time(d, s)
	if err != nil {
		stop := d.Stop()
		if stop == nil && !d.Stoppable() {
			stop = errors.New("its driver does not allow it (nowayout)")
		}
		if stop != nil {
			return errors.Join(err, fmt.Errorf("stop watchdog %s: %w; it will reset this machine", s.Path, stop))
		}
		return err
	}
	w.device, w.applied, w.timeout = d, s, timeout
	w.log.Info("hardware watchdog active", "device", s.Path, "timeout", timeout, "slack", timeout-s.LoopWait)
	return nil
}

// time sets the device's timeout and judges what it made of it.
func (w *Watchdog) time(d Device, s Settings) (time.Duration, error) {
	want := s.Timeout()
	have, err := d.SetTimeout(want)
	switch {
	case err != nil:
		return 0, fmt.Errorf("set the timeout of watchdog %s to %s: %w", s.Path, want, err)
	case have > want && s.Mode == Required:
		return 0, fmt.Errorf("watchdog %s fires after %s, want at most %s: it would come too late, and watchdog.mode is required", s.Path, have, want)
	case have < s.LoopWait && d.Stoppable():
		return 0, fmt.Errorf("watchdog %s fires after %s, which is less than loop_wait, %s", s.Path, have, s.LoopWait)
	case have > want:
		w.log.Warn("the hardware watchdog fires later than it should", "device", s.Path, "timeout", have, "wanted", want)
	case have < s.LoopWait:
		w.log.Error("the hardware watchdog fires before the lock is renewed, and cannot be stopped", "device", s.Path, "timeout", have, "loop_wait", s.LoopWait)
	}
	return have, nil
}

// Feed starts the time anew after a confirmed renewal, and applies settings that have changed. An inactive device stays so.
func (w *Watchdog) Feed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.device == nil {
		return
	}
	if s := w.settings; s != w.applied {
		switch {
		case s.Mode == Off, s.unfit() != nil:
			w.note(s.unfit())
			w.stop()
			return
		case s.Path != w.applied.Path:
			w.stop()
			w.note(w.activate())
			return
		}
		timeout, err := w.time(w.device, s)
		if w.applied = s; err != nil {
			w.note(err)
			w.stop()
			return
		}
		w.timeout = timeout
	}
	if err := w.device.Feed(); err != nil {
		w.log.Error("feed the hardware watchdog: it will reset this machine", "device", w.applied.Path, "within", w.timeout, "error", err)
	}
}

// Disable stops the device: PostgreSQL cannot write any more, or the cluster is paused.
func (w *Watchdog) Disable() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.device != nil {
		w.stop()
	}
}

func (w *Watchdog) stop() {
	stoppable := w.device.Stoppable()
	err := w.device.Stop()
	w.device = nil
	if err != nil || !stoppable {
		w.log.Error("the hardware watchdog cannot be stopped and will reset this machine", "device", w.applied.Path, "within", w.timeout, "error", err)
		return
	}
	w.log.Info("hardware watchdog stopped", "device", w.applied.Path)
}

// Active says whether the device runs, and after which time without food it fires.
func (w *Watchdog) Active() (timeout time.Duration, active bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.timeout, w.device != nil
}

// Problem says why this member could not use the device if it had to lead now; nil: it could.
func (w *Watchdog) Problem() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s := w.settings; {
	case w.device != nil:
		return nil
	case s.Mode == Off:
		return errors.New("watchdog.mode is off")
	case s.unfit() != nil:
		return s.unfit()
	default:
		if err := w.usable(s.Path); err != nil {
			return fmt.Errorf("the hardware watchdog %s cannot be used: %w", s.Path, err)
		}
		return nil
	}
}
