package watchdog

import (
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// mock is a device that writes down what happens to it.
type mock struct {
	calls    []string
	minimum  time.Duration // it takes no shorter timeout
	maximum  time.Duration // nor a longer one; 0: any
	nowayout bool
	refuses  error
}

func (m *mock) SetTimeout(d time.Duration) (time.Duration, error) {
	m.calls = append(m.calls, "set "+d.String())
	d = max(d, m.minimum)
	if m.maximum != 0 {
		d = min(d, m.maximum)
	}
	return d, m.refuses
}
func (m *mock) Feed() error     { m.calls = append(m.calls, "feed"); return nil }
func (m *mock) Stoppable() bool { return !m.nowayout }
func (m *mock) Stop() error     { m.calls = append(m.calls, "stop"); return nil }

func defaults() Settings {
	return Settings{Mode: Automatic, Path: "/dev/watchdog", Margin: 5 * time.Second, TTL: 30 * time.Second, LoopWait: 10 * time.Second}
}

func with(m *mock, change func(*Settings)) *Watchdog {
	s := defaults()
	if change != nil {
		change(&s)
	}
	return NewOn(s, slog.New(slog.DiscardHandler), func(path string) (Device, error) {
		m.calls = append(m.calls, "open "+path)
		return m, nil
	})
}

func TestTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Settings)
		want   time.Duration
	}{
		"ttl less the margin": {func(*Settings) {}, 25 * time.Second},
		"no margin":           {func(s *Settings) { s.Margin = 0 }, 30 * time.Second},
		"half of an odd ttl":  {func(s *Settings) { s.Half, s.TTL = true, 25*time.Second }, 12 * time.Second},
	} {
		s := defaults()
		c.change(&s)
		if have := s.Timeout(); have != c.want {
			t.Errorf("%s: have %s, want %s", name, have, c.want)
		}
	}
}

func TestActivate(t *testing.T) {
	for name, c := range map[string]struct {
		device *mock
		change func(*Settings)
		active bool
		fails  string // part of the error
		calls  string
	}{
		"usual":                          {&mock{}, nil, true, "", "open /dev/watchdog, set 25s"},
		"off":                            {&mock{}, func(s *Settings) { s.Mode = Off }, false, "", ""},
		"no slack":                       {&mock{}, func(s *Settings) { s.LoopWait = 26 * time.Second }, false, "renewed every 26s", ""},
		"slack of nothing":               {&mock{}, func(s *Settings) { s.LoopWait = 25 * time.Second }, true, "", "open /dev/watchdog, set 25s"},
		"fires late":                     {&mock{minimum: time.Minute}, nil, true, "", "open /dev/watchdog, set 25s"},
		"fires late, required":           {&mock{minimum: time.Minute}, func(s *Settings) { s.Mode = Required }, false, "too late", "open /dev/watchdog, set 25s, stop"},
		"fires early":                    {&mock{maximum: 20 * time.Second}, nil, true, "", "open /dev/watchdog, set 25s"},
		"fires too early":                {&mock{maximum: 5 * time.Second}, nil, false, "less than loop_wait", "open /dev/watchdog, set 25s, stop"},
		"fires too early, cannot stop":   {&mock{maximum: 5 * time.Second, nowayout: true}, nil, true, "", "open /dev/watchdog, set 25s"},
		"refuses":                        {&mock{refuses: errors.New("no")}, nil, false, "set the timeout", "open /dev/watchdog, set 25s, stop"},
		"refuses, and cannot be stopped": {&mock{refuses: errors.New("no"), nowayout: true}, nil, false, "will reset", "open /dev/watchdog, set 25s, stop"},
	} {
		w := with(c.device, c.change)
		err := w.Activate()
		if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: have error %v, want %q", name, err, c.fails)
		}
		if _, active := w.Active(); active != c.active {
			t.Errorf("%s: have active %t, want %t", name, active, c.active)
		}
		if calls := strings.Join(c.device.calls, ", "); calls != c.calls {
			t.Errorf("%s: have calls %s, want %s", name, calls, c.calls)
		}
	}
}

func TestLife(t *testing.T) {
	m := &mock{}
	w := with(m, nil)
	w.Feed() // inactive: no food
	w.Disable()
	if err := errors.Join(w.Activate(), w.Activate()); err != nil {
		t.Fatal(err)
	}
	w.Feed()
	s := defaults()
	s.TTL = 20 * time.Second
	w.Configure(s)
	w.Feed()
	s.Path = "/dev/watchdog1"
	w.Configure(s)
	w.Feed()
	w.Disable()
	w.Feed()
	want := "open /dev/watchdog, set 25s, feed, set 15s, feed, stop, open /dev/watchdog1, set 15s, stop"
	if have := strings.Join(m.calls, ", "); have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}

func TestSettingsThatNoLongerFitStopIt(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"off": func(s *Settings) { s.Mode = Off }, "no slack": func(s *Settings) { s.LoopWait = time.Minute },
	} {
		m := &mock{}
		w := with(m, nil)
		if err := w.Activate(); err != nil {
			t.Fatal(err)
		}
		s := defaults()
		change(&s)
		w.Configure(s)
		w.Feed()
		if have := strings.Join(m.calls, ", "); have != "open /dev/watchdog, set 25s, stop" {
			t.Errorf("%s: have %s, want it stopped", name, have)
		}
	}
}

func TestProblem(t *testing.T) {
	w := with(&mock{}, nil)
	if err := w.Problem(); err != nil {
		t.Errorf("a device that could be used: have %v", err)
	}
	w.usable = func(string) error { return fs.ErrNotExist }
	if err := w.Problem(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no device: have %v, want ErrNotExist", err)
	}
	if err := w.Activate(); err != nil { // the mock opens all the same
		t.Fatal(err)
	}
	if err := w.Problem(); err != nil {
		t.Errorf("an active device: have %v", err)
	}
}

// A plain file takes no ioctl: it is no watchdog, and is left as it was.
func TestNoDevice(t *testing.T) {
	s := defaults()
	s.Path = t.TempDir() + "/none"
	w := New(s, slog.New(slog.DiscardHandler))
	if err := w.Activate(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("have %v, want ErrNotExist", err)
	}
	if _, active := w.Active(); active || w.Problem() == nil {
		t.Error("want it inactive, with a problem")
	}
}
