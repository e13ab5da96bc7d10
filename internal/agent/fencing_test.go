package agent

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/guard"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/watchdog"
)

// dog is a watchdog device that writes down what happens to it.
type dog struct{ calls []string }

func (d *dog) SetTimeout(t time.Duration) (time.Duration, error) { return t, nil }
func (d *dog) Feed() error                                       { d.calls = append(d.calls, "feed"); return nil }
func (d *dog) Stoppable() bool                                   { return true }
func (d *dog) Stop() error                                       { d.calls = append(d.calls, "stop"); return nil }

// fenced is a fencing with a real guard of an empty directory, and a mock of a device.
func fenced(t *testing.T, change func(*config.Effective)) (*fencing, *dog) {
	t.Helper()
	e := &config.Effective{}
	e.Timing = cluster.Timing{TTL: 30 * time.Second, LoopWait: 10 * time.Second, RetryTimeout: 10 * time.Second}
	e.Regent = config.Regent{Guard: "automatic", JournalDir: t.TempDir()}
	e.Watchdog = config.Watchdog{Mode: "automatic", Device: "/dev/watchdog", SafetyMargin: 5 * time.Second}
	e.Postgres.DataDir = t.TempDir()
	if change != nil {
		change(e)
	}
	d := &dog{}
	f := newFencing(e, slog.New(slog.DiscardHandler))
	f.watchdog = watchdog.NewOn(watchdogSettings(e), f.log, func(string) (watchdog.Device, error) {
		d.calls = append(d.calls, "open")
		return d, nil
	})
	f.open(e, func() {})
	t.Cleanup(func() {
		f.close()
		guard.Remove(e.Postgres.DataDir)
	})
	return f, d
}

func in(d time.Duration) time.Time { return boottime.Now().Add(d) }

func held(d time.Duration) ha.Lock { return ha.Lock{Held: true, Deadline: in(d)} }

// at is when the guard kills, as far as can be told: not before the first moment, and not after the second one. ok is false when it is not armed.
func (f *fencing) at() (from, to time.Time, ok bool) {
	from = boottime.Now()
	s := f.guard.State()
	to = boottime.Now()
	const rounding = 10 * time.Nanosecond
	return from.Add(s.Left - rounding), to.Add(s.Left + rounding), s.Armed
}

// The whole life of a leader: armed before it is one, moved by renewals, left alone when the lock is lost, disarmed when seen down.
func TestFencingFollowsTheLeader(t *testing.T) {
	f, d := fenced(t, nil)
	never := time.Time{}
	step := func(what string, want time.Time) {
		t.Helper()
		from, to, armed := f.at()
		switch {
		case armed != !want.IsZero():
			t.Errorf("%s: have an armed guard: %v, want it: %v", what, armed, !armed)
		case armed && (want.Before(from) || want.After(to)):
			t.Errorf("%s: the guard kills between %s and %s, want at %s", what, from, to, want)
		}
	}
	margin := guard.Margin(30 * time.Second)
	end := in(time.Minute)
	f.follow(false, false, ha.Lock{}, never)
	f.renewed(end)
	step("a renewal for a standby", never)
	if err := f.arm(ha.Lock{Held: true, Deadline: end}); err != nil {
		t.Fatal(err)
	}
	step("before the promotion", end.Add(-margin))
	end = end.Add(10 * time.Second)
	f.renewed(end)
	step("renewed", end.Add(-margin))
	end = end.Add(10 * time.Second)
	f.follow(true, false, ha.Lock{Held: true, Deadline: end}, never)
	step("seen as a primary with the lock", end.Add(-margin))
	f.follow(true, false, ha.Lock{Refused: true, Deadline: end}, in(0))
	step("the lock is lost: the old moment stays", end.Add(-margin))
	f.follow(false, false, ha.Lock{}, never)
	step("seen down", never)
	f.follow(true, false, held(time.Minute), never)
	f.follow(false, true, held(time.Minute), never)
	step("paused", never)
	if g := f.status(); g.State != "paused" {
		t.Errorf("have state %s, want paused", g.State)
	}
	since := in(time.Minute)
	f.follow(true, false, ha.Lock{}, since)
	step("a primary without lock has ttl to get one", since.Add(30*time.Second-margin))
	if have := strings.Join(d.calls, " "); have != "open feed stop open stop" {
		t.Errorf("the hardware watchdog was used like this: %s; want it fed by renewals, stopped with the leader", have)
	}
}

func TestArmingNeedsTime(t *testing.T) {
	f, _ := fenced(t, nil)
	if err := f.arm(held(400 * time.Millisecond)); !errors.Is(err, dcs.ErrNotHeld) || f.guard.State().Armed {
		t.Errorf("have %v with a lock that ends at once, want ErrNotHeld and a guard that is not armed", err)
	}
}

// What is required, what there is, and whether the member may lead.
func TestRequired(t *testing.T) {
	nowhere := func(e *config.Effective) { // files that others may read are no place for the guard's memory
		for _, name := range guard.Files(e.Postgres.DataDir) {
			if !strings.HasSuffix(name, ".wake") {
				_ = os.WriteFile(name, nil, 0o644)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*config.Effective)
		want   string // part of the problem; empty: it may lead
	}{
		"nothing is required":         {func(e *config.Effective) { nowhere(e) }, ""},
		"everything is there":         {func(e *config.Effective) { e.Regent.Guard, e.Watchdog.Mode = "required", "required" }, ""},
		"no guard, a device will do":  {func(e *config.Effective) { e.Regent.Guard, e.Watchdog.Mode = "off", "required" }, ""},
		"no guard, which is required": {func(e *config.Effective) { nowhere(e); e.Regent.Guard = "required" }, "regent.guard is required"},
		"a device that fires too early, no guard": {func(e *config.Effective) {
			e.Regent.Guard, e.Watchdog.Mode, e.Watchdog.SafetyMargin = "off", "required", 25*time.Second
		}, "watchdog.mode is required"},
		"a device that fires too early, a guard": {func(e *config.Effective) { e.Watchdog.Mode, e.Watchdog.SafetyMargin = "required", 25*time.Second }, ""},
	} {
		f, d := fenced(t, c.change)
		have := f.problem()
		if (have == "") != (c.want == "") || !strings.Contains(have, c.want) {
			t.Errorf("%s: have problem %q, want %q", name, have, c.want)
		}
		err := f.arm(held(time.Minute))
		if (err == nil) != (c.want == "") {
			t.Errorf("%s: arming says %v", name, err)
		}
		if err != nil && (f.guard.State().Armed || len(d.calls) > 0 && d.calls[len(d.calls)-1] != "stop") {
			t.Errorf("%s: refused, and the guard is armed: %v, the device was used: %v", name, f.guard.State().Armed, d.calls)
		}
	}
}

// A device that fires before the lock's end takes that time from a demotion, which must be over by then.
func TestEarlyDevice(t *testing.T) {
	f, _ := fenced(t, nil)
	if early, _ := f.early(); early != 0 {
		t.Errorf("inactive: have %s, want nothing", early)
	}
	if err := f.arm(held(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if early, timeout := f.early(); early != 5*time.Second || timeout != 25*time.Second {
		t.Errorf("have %s early after %s, want ttl less the margin", early, timeout)
	}
}
