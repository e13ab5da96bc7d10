package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
	"github.com/regent-ha/regent/internal/postgres"
)

// jobs runs what takes long beside the loop, one at a time. The end arrives at the loop as a fact.
type jobs struct {
	clock  dcs.Clock
	report func(loop.Fact)
	log    *slog.Logger

	mu       sync.Mutex
	last     int // number of the job made last
	current  *running
	finished sync.WaitGroup
}

// job is a long action that has not begun.
type job struct {
	id   int
	name ha.JobName
	mode ha.StopMode // of stops
	work jobWork
}

// new gives a job its number.
func (j *jobs) new(name ha.JobName, mode ha.StopMode, work jobWork) *job {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	return &job{id: j.last, name: name, mode: mode, work: work}
}

// running is the job under way.
type running struct {
	name     ha.JobName
	since    time.Time
	cancel   context.CancelFunc
	done     chan struct{}
	replaced bool
	progress postgres.Report
}

// jobWork does the job and says how it ended; Name, At, Error and what an error means are filled in by jobs.
type jobWork func(ctx context.Context, progress postgres.Progress) (loop.JobEnded, error)

// start begins a job. One that is under way is cancelled and replaced; a replaced job reports no end.
// What cannot be cancelled in time goes on beside the new one, which must be able to bear that: only stops replace.
func (j *jobs) start(ctx context.Context, begun *job) {
	j.cancel(time.Second)
	ctx, cancel := context.WithCancel(ctx)
	name := begun.name
	r := &running{name: name, since: j.clock(), cancel: cancel, done: make(chan struct{})}
	j.mu.Lock()
	j.current = r
	j.mu.Unlock()
	j.finished.Add(1)
	go func() {
		defer j.finished.Done()
		defer cancel()
		ended, err := begun.work(ctx, func(p postgres.Report) {
			j.mu.Lock()
			r.progress = p
			j.mu.Unlock()
		})
		close(r.done)
		j.mu.Lock()
		replaced := r.replaced
		if j.current == r {
			j.current = nil
		}
		j.mu.Unlock()
		took := j.clock().Sub(r.since)
		if err != nil {
			j.log.Warn("job ended", "job", name, "after", took.Round(time.Millisecond), "error", err)
		} else {
			j.log.Info("job ended", "job", name, "after", took.Round(time.Millisecond))
		}
		if replaced {
			return
		}
		ended.ID, ended.Ended.Name, ended.Ended.At = begun.id, name, j.clock()
		if err != nil {
			ended.Ended.Error = err.Error()
		}
		ended.Ended.InUse = ended.Ended.InUse || errors.Is(err, postgres.ErrInUse)
		j.report(ended)
	}()
}

// cancel ends the job under way and waits for it, up to limit. Its end is not reported.
func (j *jobs) cancel(limit time.Duration) {
	j.mu.Lock()
	r := j.current
	if r != nil {
		r.replaced = true
	}
	j.mu.Unlock()
	if r == nil {
		return
	}
	r.cancel()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
		j.log.Warn("job does not end when cancelled; going on beside it", "job", r.name)
	}
}

// interrupt cancels the job under way; its end is reported as usual.
func (j *jobs) interrupt() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.current != nil {
		j.current.cancel()
	}
}

// status is the progress of the job under way.
func (j *jobs) status() *JobStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.current
	if r == nil {
		return nil
	}
	return &JobStatus{Name: string(r.name), Phase: r.progress.Phase, Done: r.progress.Done, Total: r.progress.Total, Since: r.since, Detail: r.progress.Detail}
}

func (j *jobs) wait() { j.finished.Wait() }
