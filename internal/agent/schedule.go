package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// ErrScheduled: a restart is scheduled already.
var ErrScheduled = errors.New("another restart is already scheduled")

// schedule is the one restart that waits for its moment (ha.md 2.13e). It is lost when the agent restarts, and dropped when
// PostgreSQL has been restarted meanwhile. In pause it waits; who comes too late for it, by one and a half cycles, drops it.
type schedule struct {
	mu      sync.Mutex
	plan    *plan
	changed chan struct{} // holds one when the plan is another one
}

type plan struct {
	request RestartRequest
	shown   cluster.ScheduledRestart
}

func newSchedule() *schedule { return &schedule{changed: make(chan struct{}, 1)} }

// set plans a restart; status is of the PostgreSQL that it is meant for.
func (s *schedule) set(r RestartRequest, status *Status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan != nil {
		return ErrScheduled
	}
	s.plan = &plan{request: r, shown: cluster.ScheduledRestart{
		Schedule: cluster.FormatTime(r.Schedule), Role: r.Role, PostgresVersion: r.PostgresVersion, RestartPending: r.RestartPending,
		Timeout: int(r.Timeout / time.Second), PostmasterStart: startedText(&status.Postgres),
	}}
	s.tell()
	return nil
}

// drop forgets the plan; false: there was none.
func (s *schedule) drop() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := s.plan != nil
	s.plan = nil
	s.tell()
	return had
}

func (s *schedule) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *schedule) now() *plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan
}

// shown is what the member key and the status document say; nil: nothing is planned.
func (s *schedule) shown() *cluster.ScheduledRestart {
	if p := s.now(); p != nil {
		return &p.shown
	}
	return nil
}

// run waits for the moment of the plan. look observes PostgreSQL; wake lets the loop publish that a plan is gone.
func (s *schedule) run(ctx context.Context, look func(context.Context) *Status, restart func(context.Context, RestartRequest) error, wake func(), log *slog.Logger) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		case <-timer.C:
		}
		p := s.now()
		if p == nil {
			timer.Stop()
			continue
		}
		// The wall clock counts, and somebody may set it: look at it once in a cycle at least.
		status := look(ctx)
		cycle := max(status.Timing.LoopWait, time.Second)
		wait := time.Until(p.request.Schedule)
		if wait > 0 {
			timer.Reset(min(wait, cycle))
			continue
		}
		if status.Pause {
			timer.Reset(cycle)
			continue
		}
		s.drop()
		wake()
		if why := p.obsolete(status, -wait); why != "" {
			log.Info("drop the scheduled restart", "schedule", p.shown.Schedule, "reason", why)
			continue
		}
		now := p.request
		now.Schedule = time.Time{}
		log.Info("restart PostgreSQL as scheduled", "schedule", p.shown.Schedule)
		if err := restart(ctx, now); err != nil {
			log.Warn("restart PostgreSQL as scheduled", "schedule", p.shown.Schedule, "error", err)
		}
	}
}

// obsolete says why a restart that is due so long since must not happen any more; empty: it may.
func (p *plan) obsolete(s *Status, late time.Duration) string {
	pg := &s.Postgres
	want, _ := VersionNumber(p.request.PostgresVersion)
	switch {
	case late > s.Timing.LoopWait*3/2:
		return fmt.Sprintf("it was due %s ago", late.Round(time.Second))
	case p.shown.PostmasterStart != startedText(pg):
		return "PostgreSQL has been restarted since"
	case p.request.Role != "" && p.request.Role != s.Role:
		return fmt.Sprintf("this member is %s, asked for was %s", s.Role, p.request.Role)
	case want != 0 && pg.Version >= want:
		return "PostgreSQL is not older than " + p.request.PostgresVersion
	case p.request.RestartPending && len(pg.Pending) == 0:
		return "no restart is pending"
	}
	return ""
}

// startedText is when the postmaster started, as Patroni publishes it; empty: unknown.
func startedText(p *cluster.Postgres) string {
	t, err := cluster.ParseTime(p.StartedText)
	if err != nil {
		return p.StartedText
	}
	return strings.Replace(cluster.FormatTime(t), "T", " ", 1)
}

// VersionNumber is server_version_num of X.Y from 10 on, of X.Y.Z before; ok false for anything else.
func VersionNumber(text string) (n int, ok bool) {
	parts := strings.Split(text, ".")
	numbers := make([]int, len(parts))
	for i, p := range parts {
		var err error
		if numbers[i], err = strconv.Atoi(p); err != nil || numbers[i] < 0 || numbers[i] > 9999 {
			return 0, false
		}
	}
	switch {
	case len(parts) == 2 && numbers[0] >= 10:
		return numbers[0]*10000 + numbers[1], true
	case len(parts) == 3 && numbers[0] < 10 && slices.Max(numbers[1:]) < 100:
		return numbers[0]*10000 + numbers[1]*100 + numbers[2], true
	default:
		return 0, false
	}
}

// runSchedule is the goroutine of scheduled restarts.
func (a *Agent) runSchedule(ctx context.Context) error {
	look := func(ctx context.Context) *Status {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return a.Observed(ctx, time.Second)
	}
	return a.scheduled.run(ctx, look, a.Restart, a.wake, a.log)
}

// CancelRestart drops the scheduled restart; false: there was none.
func (a *Agent) CancelRestart(context.Context) (bool, error) {
	dropped := a.scheduled.drop()
	a.wake()
	return dropped, nil
}
