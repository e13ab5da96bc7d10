package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

func planned(r RestartRequest) RestartRequest {
	r.Schedule = time.Now().Add(time.Hour)
	return r
}

func TestScheduledRestart(t *testing.T) {
	const started, loopWait = "2026-11-22 22:30:30.815296+00", 10 * time.Second
	for name, c := range map[string]struct {
		request RestartRequest
		later   func(*Status) // what changes half an hour before
		after   time.Duration // of the schedule; 0: it must not happen
	}{
		"without conditions":      {RestartRequest{}, nil, 1},
		"conditions that hold":    {RestartRequest{Role: cluster.Replica, PostgresVersion: "15.99"}, nil, 1},
		"became the primary":      {RestartRequest{Role: cluster.Replica}, func(s *Status) { s.Role = cluster.Primary }, 0},
		"became the replica":      {RestartRequest{Role: cluster.Primary}, func(s *Status) {}, 0},
		"new enough":              {RestartRequest{PostgresVersion: "15.18"}, nil, 0},
		"no restart is pending":   {RestartRequest{RestartPending: true}, nil, 0},
		"became pending":          {RestartRequest{RestartPending: true}, func(s *Status) { s.Postgres.Pending = []cluster.PendingParameter{{Name: "x"}} }, 1},
		"restarted meanwhile":     {RestartRequest{}, func(s *Status) { s.Postgres.StartedText = "2026-11-23 00:00:00+00" }, 0},
		"paused, and not resumed": {RestartRequest{}, func(s *Status) { s.Pause = true }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				status := &Status{Role: cluster.Replica, Timing: cluster.Timing{LoopWait: loopWait},
					Postgres: cluster.Postgres{StartedText: started, Version: 150018}}
				var mu sync.Mutex // of status: the detector does not know that time in the bubble orders it
				change := func(do func(*Status)) { mu.Lock(); defer mu.Unlock(); do(status) }
				s, at := newSchedule(), time.Time{}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				look := func(context.Context) *Status { mu.Lock(); defer mu.Unlock(); copied := *status; return &copied }
				restart := func(_ context.Context, r RestartRequest) error {
					if at = time.Now(); !r.Schedule.IsZero() || r.Role != c.request.Role {
						t.Errorf("have the request %+v", r)
					}
					return errors.New("which is only logged")
				}
				go func() { ended <- s.run(ctx, look, restart, func() {}, slog.New(slog.DiscardHandler)) }()
				request := planned(c.request)
				if err := s.set(request, look(ctx)); err != nil {
					t.Fatal(err)
				}
				if err := s.set(request, look(ctx)); !errors.Is(err, ErrScheduled) {
					t.Errorf("a second one: have %v", err)
				}
				if have := s.shown(); have == nil || have.PostmasterStart != "2026-11-22 22:30:30.815296+00:00" || have.Schedule != cluster.FormatTime(request.Schedule) {
					t.Errorf("have %+v", have)
				}
				time.Sleep(30 * time.Minute)
				synctest.Wait()
				if c.later != nil {
					change(c.later)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				switch late := at.Sub(request.Schedule); {
				case c.after == 0 && !at.IsZero():
					t.Errorf("restarted %s after the schedule, want no restart", late)
				case c.after != 0 && (at.IsZero() || late < 0 || late > time.Second):
					t.Errorf("restarted at %s, want %s", at, request.Schedule)
				}
				if status.Pause { // it waits, and is too late by now
					if s.shown() == nil {
						t.Error("dropped while paused")
					}
					change(func(s *Status) { s.Pause = false })
					time.Sleep(time.Minute)
					synctest.Wait()
				}
				if s.shown() != nil {
					t.Error("it is still planned")
				}
				cancel()
				<-ended
			})
		})
	}
}

func TestScheduledRestartIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := &Status{Timing: cluster.Timing{LoopWait: time.Second}}
		s := newSchedule()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- s.run(ctx, func(context.Context) *Status { return status }, func(context.Context, RestartRequest) error {
				t.Error("restarted")
				return nil
			}, func() {}, slog.New(slog.DiscardHandler))
		}()
		if s.drop() {
			t.Error("dropped what was not there")
		}
		if err := s.set(planned(RestartRequest{}), status); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if !s.drop() || s.shown() != nil {
			t.Error("it is still planned")
		}
		time.Sleep(2 * time.Hour)
		cancel()
		<-ended
	})
}

func TestVersionNumber(t *testing.T) {
	for text, want := range map[string]int{"15.18": 150018, "9.6.3": 90603, "10.0": 100000, "15": 0, "9.6": 0, "15.1.2": 0, "15.x": 0, "": 0, "15.-1": 0} {
		if have, ok := VersionNumber(text); have != want || ok != (want != 0) {
			t.Errorf("%q: have %d, %t, want %d", text, have, ok, want)
		}
	}
}
