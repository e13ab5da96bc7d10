package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
	"github.com/regent-ha/regent/internal/postgres"
)

// job says what a long action does. None of them waits without a bound: each wait ends with ctx, and stops escalate.
func (a *Agent) job(action ha.Action, f basis) (*job, error) {
	begin := func(name ha.JobName, work jobWork) (*job, error) { return a.jobs.new(name, "", work), nil }
	plain := func(f func(ctx context.Context, p postgres.Progress) error) jobWork {
		return func(ctx context.Context, p postgres.Progress) (loop.JobEnded, error) {
			return loop.JobEnded{}, f(ctx, p)
		}
	}
	switch action := action.(type) {
	case ha.Bootstrap:
		return begin(ha.JobBootstrap, plain(a.bootstrap))
	case ha.Clone:
		return begin(ha.JobClone, plain(func(ctx context.Context, p postgres.Progress) error {
			return a.clone(ctx, action, cloneSource(action, f.store, a.name, rand.IntN), p)
		}))
	case ha.StartStandby:
		return begin(ha.JobStart, plain(func(ctx context.Context, p postgres.Progress) error {
			return a.start(ctx, postgres.AsStandby, action.Upstream, standbyRole(action.As), p)
		}))
	case ha.StartPrimary:
		return begin(ha.JobStartPrimary, plain(func(ctx context.Context, p postgres.Progress) error {
			if err := a.mayLead(); err != nil {
				return err
			}
			return a.start(ctx, postgres.AsPrimary, cluster.Upstream{}, cluster.Primary, p)
		}))
	case ha.RestartPostgres:
		return begin(ha.JobRestart, plain(func(ctx context.Context, p postgres.Progress) error { return a.restart(ctx, action, f, p) }))
	case ha.Follow:
		return begin(ha.JobFollow, plain(func(ctx context.Context, p postgres.Progress) error {
			return a.follow(ctx, action.Upstream, standbyRole(action.As), p)
		}))
	case ha.CopySlots:
		return begin(ha.JobCopySlots, plain(a.copySlots(action)))
	case ha.Promote:
		return begin(ha.JobPromote, func(ctx context.Context, p postgres.Progress) (loop.JobEnded, error) {
			return a.promote(ctx, action.Above, p)
		})
	case ha.Demote:
		if action.Mode == ha.Graceful {
			return a.jobs.new(ha.JobSwitchover, action.Mode, a.stopForSwitchover(f)), nil
		}
		return a.jobs.new(ha.JobDemote, action.Mode, func(ctx context.Context, _ postgres.Progress) (ended loop.JobEnded, err error) {
			err = a.demote(ctx, action)
			ended.Ended.InUse = err == nil && a.pg.InUse(ctx) // it may have cut short a start that waited for this
			return ended, err
		}), nil
	case ha.Recover:
		return begin(ha.JobRecover, plain(func(ctx context.Context, _ postgres.Progress) error { return a.pg.CrashRecover(ctx) }))
	case ha.CheckDivergence:
		return begin(ha.JobDivergence, a.compare(action.Leader, f.store))
	case ha.Rewind:
		if action.HalfRecord {
			return begin(ha.JobRewind, a.cutHalfRecord(action.Leader))
		}
		return begin(ha.JobRewind, a.rewind(action.Leader))
	default:
		return nil, fmt.Errorf("action %T has no executor: a bug, nothing was done", action)
	}
}

// stillLeader is the last look at the lock before something that cannot be undone.
func (a *Agent) stillLeader() error {
	l := a.keeper.lock()
	if left := l.Deadline.Sub(a.clock()); !l.Held || left <= 0 {
		return fmt.Errorf("the lock ran out %s ago, a live one is needed: %w", -left, dcs.ErrNotHeld)
	}
	return nil
}

// mayLead is stillLeader, and arms what ends PostgreSQL's writing with the lock. In pause nothing does.
func (a *Agent) mayLead() error {
	if err := a.stillLeader(); err != nil || a.Status().Pause {
		return err
	}
	return a.fencing.arm(a.keeper.lock())
}

func source(u cluster.Upstream) postgres.Source {
	return postgres.Source{Host: u.Host, Port: u.Port, Name: u.Name, Restore: u.Archive.Restore}
}

// standbyRole is what a standby is told to be; a replica unless it leads a standby cluster.
func standbyRole(as cluster.Role) cluster.Role {
	if as == "" {
		return cluster.Replica
	}
	return as
}

func (a *Agent) bootstrap(ctx context.Context, p postgres.Progress) error {
	a.configurePostgres(cluster.Primary)
	if err := a.pg.Bootstrap(ctx, p); err != nil {
		return err
	}
	a.callback("on_start", cluster.Primary)
	return nil
}

// cloneSource is one of the members that offer themselves by the tag clonefrom, so that the leader is spared; else the leader (ha.md 2.12).
func cloneSource(c ha.Clone, s *cluster.Snapshot, self string, random func(int) int) postgres.Source {
	leader := source(c.From)
	leader.BaseBackup = c.FromLeader
	if c.FromLeader || s == nil || c.From.Host == "" || c.From.Name == "" { // the last one: the leader of a standby cluster copies the remote
		return leader
	}
	var offers []postgres.Source
	for _, m := range s.Members {
		host, port, ok := m.HostPort()
		if ok && m.Tags.CloneFrom() && m.State == cluster.Running && m.Name != self && m.Name != s.Leader.Name {
			offers = append(offers, postgres.Source{Host: host, Port: port, Name: m.Name})
		}
	}
	if len(offers) == 0 {
		return leader
	}
	return offers[random(len(offers))]
}

func (a *Agent) clone(ctx context.Context, c ha.Clone, from postgres.Source, p postgres.Progress) error {
	if c.Remove || c.Replace {
		if err := a.stopNow(ctx, cluster.Replica); err != nil {
			return err
		}
		switch {
		case c.Request != 0:
			if err := a.pg.Erase(); err != nil {
				return err
			}
		case c.Remove:
			if err := a.pg.Remove(); err != nil {
				return err
			}
		default:
			to, err := a.pg.MoveAside("diverged")
			if err != nil {
				return err
			}
			a.log.Warn("the diverged data directory was moved aside", "to", to)
		}
	}
	a.log.Info("copy the data of another member", "from", from.String())
	return a.pg.Clone(ctx, from, p)
}

func (a *Agent) start(ctx context.Context, mode postgres.StartMode, up cluster.Upstream, role cluster.Role, p postgres.Progress) error {
	a.configurePostgres(role)
	err := a.pg.Start(ctx, postgres.StartOptions{Mode: mode, Upstream: up, Progress: func(phase string) {
		if p != nil {
			p(postgres.Report{Phase: phase})
		}
	}})
	if err != nil {
		return err
	}
	a.callback("on_start", role)
	return nil
}

func (a *Agent) restart(ctx context.Context, r ha.RestartPostgres, f basis, p postgres.Progress) (err error) {
	defer func() { a.answer(r.Request, err) }()
	role, mode := standbyRole(r.As), postgres.AsStandby
	if f.postgres.Queried && !f.postgres.InRecovery {
		role, mode = cluster.Primary, postgres.AsPrimary
	}
	defer a.routers.over()
	if err := a.pg.Stop(ctx, postgres.StopOptions{
		Mode: postgres.Fast, Checkpoint: true, BeforeStop: true, BeforeSignal: a.tellRouters, SendersAfter: senderPatience,
	}); err != nil {
		return err
	}
	if mode == postgres.AsPrimary {
		if err := a.mayLead(); err != nil && !a.Status().Pause {
			return err
		}
	}
	a.configurePostgres(role)
	if err := a.pg.Start(ctx, postgres.StartOptions{Mode: mode, Upstream: r.Upstream}); err != nil {
		return err
	}
	a.callback("on_restart", role)
	return nil
}

func (a *Agent) follow(ctx context.Context, up cluster.Upstream, role cluster.Role, p postgres.Progress) error {
	a.configurePostgres(role)
	restart, err := a.pg.Follow(ctx, up)
	if err != nil {
		return err
	}
	if !restart {
		if a.callbacks.leadership(role) {
			a.callback("on_start", role) // or on_role_change
		}
		return nil
	}
	if err := a.pg.Stop(ctx, postgres.StopOptions{Mode: postgres.Fast, BeforeStop: true}); err != nil {
		return err
	}
	return a.start(ctx, postgres.AsStandby, up, role, p)
}

// promote runs pre_promote, looks at the lock once more, and ends recovery.
func (a *Agent) promote(ctx context.Context, above cluster.Timeline, p postgres.Progress) (ended loop.JobEnded, err error) {
	ended.Ended.Untold = true
	a.leaveSlots()
	if hook := a.pg.Settings().PrePromote; hook != "" {
		if err := a.pg.RunHook(ctx, hook); err != nil {
			return ended, fmt.Errorf("pre_promote: %w", err)
		}
	}
	if err := a.mayLead(); err != nil {
		return ended, err
	}
	ended.Ended.Untold = false
	a.promotion.Store(true)
	a.promoting.Store(true)
	defer a.promoting.Store(false)
	// A promotion that makes no progress for a minute gives the lock to somebody else (ha.md G10).
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := a.pg.Promote(ctx, above, p); err != nil {
		a.promotion.Store(ctx.Err() != nil) // when its time was up it is still on its way
		return ended, err
	}
	a.callback("on_role_change", cluster.Primary)
	return ended, nil
}

// senderPatience is how long standbys may take for the last WAL of a server that stops. Half of PostgreSQL's default wal_sender_timeout:
// a standby that says nothing for so long is not on its way.
const senderPatience = 30 * time.Second

// stopForSwitchover stops the leader in order. As soon as its shutdown checkpoint is written the loop looks for
// a member that has it; the lock is kept alive meanwhile.
func (a *Agent) stopForSwitchover(f basis) jobWork {
	return func(ctx context.Context, _ postgres.Progress) (loop.JobEnded, error) {
		var ended loop.JobEnded
		defer a.routers.over()
		err := a.pg.Stop(ctx, postgres.StopOptions{
			Mode: postgres.Fast, Checkpoint: true, BeforeStop: true, BeforeSignal: a.tellRouters, SendersAfter: senderPatience,
			OnShutdownCheckpoint: func(checkpoint, previous cluster.LSN) {
				a.tell(loop.ShutdownCheckpoint{Checkpoint: checkpoint, Previous: previous})
				ended.Ended.Checkpoint, ended.Ended.Previous = checkpoint, previous
			},
		})
		if err == nil {
			a.callback("on_stop", cluster.Primary)
			a.callback("on_role_change", cluster.Demoted)
		}
		return ended, err
	}
}

// demote stops a PostgreSQL within bounds: fast, then immediate, then kill (ha.md 2.19, G3).
func (a *Agent) demote(ctx context.Context, d ha.Demote) error {
	role := a.Status().Role
	o := postgres.StopOptions{}
	switch d.Mode {
	case ha.NoLock, ha.Immediate:
		o.Mode, o.KillAfter = postgres.Immediate, 2*time.Second
	case ha.Offline:
		left := max(d.Until.Sub(a.clock()), 0)
		o.Mode, o.ImmediateAfter, o.KillAfter = postgres.Fast, left/2+time.Millisecond, left*3/4+time.Millisecond
	default:
		o.Mode, o.BeforeStop, o.BeforeSignal, o.SendersAfter = postgres.Fast, true, a.tellRouters, senderPatience
		defer a.routers.over()
	}
	o.Checkpoint = d.Mode == ha.ToStandby
	if err := a.pg.Stop(ctx, o); err != nil {
		return err
	}
	if d.Mode == ha.ToStandby { // a cluster that follows our archive would else lack the end of our WAL
		if err := a.pg.ArchiveShutdown(ctx); err != nil {
			a.log.Warn("archive the segment with the shutdown checkpoint: a cluster that follows the archive alone lacks it", "error", err)
		}
	}
	a.callback("on_stop", role)
	if role == cluster.Primary || role == cluster.Promoted {
		a.callback("on_role_change", cluster.Demoted)
	}
	return nil
}

// stopNow stops what is to be thrown away anyway.
func (a *Agent) stopNow(ctx context.Context, role cluster.Role) error {
	if err := a.pg.Stop(ctx, postgres.StopOptions{Mode: postgres.Immediate, KillAfter: 5 * time.Second}); err != nil {
		return err
	}
	a.callback("on_stop", role)
	return nil
}

// compare finds out whether our WAL is part of the leader's history. A leader that is being promoted at the moment
// is waited for, as its history is about to change, and so is one of the past whose request for the lock came late: what we have more than that is
// not to be given up.
func (a *Agent) compare(leader cluster.Upstream, s *cluster.Snapshot) jobWork {
	return func(ctx context.Context, _ postgres.Progress) (loop.JobEnded, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		d := &ha.Divergence{Leader: leader.String(), Verdict: ha.DivergenceUnknown}
		expected, remote := s.History.ClusterTimeline(), leader.Name == ""
		if remote { // another cluster's primary: this cluster's history says nothing about it, and whether it is to be promoted nobody here knows
			expected = 0
		}
		v, err := a.pg.Divergence(ctx, source(leader), expected)
		for !remote && v.Outcome == postgres.Unknown && pause(ctx, 200*time.Millisecond) {
			v, err = a.pg.Divergence(ctx, source(leader), expected)
		}
		switch {
		case err != nil:
			d.Detail = "could not compare with " + leader.String() + ": " + err.Error()
		default:
			d.Detail = v.Why
			if remote { // no member key tells it
				d.Timeline = v.Timeline
			}
			switch v.Outcome {
			case postgres.NotNeeded:
				d.Verdict = ha.NotDiverged
			case postgres.Needed:
				d.Verdict = ha.Diverged
				d.Ended, d.Left, d.End = v.Ended, v.Left, v.End
			}
		}
		if d.Verdict == ha.Diverged {
			c, err := a.pg.Control(ctx)
			if err == nil {
				d.CanRewind, d.WhyNot = a.pg.CanRewind(&c)
			} else {
				d.WhyNot = err.Error()
			}
			if v.NoRewind != "" {
				d.CanRewind, d.WhyNot = false, v.NoRewind
			}
		}
		d.At = a.clock()
		return loop.JobEnded{Divergence: d}, nil
	}
}

func (a *Agent) rewind(leader cluster.Upstream) jobWork {
	return func(ctx context.Context, p postgres.Progress) (loop.JobEnded, error) {
		var ended loop.JobEnded
		if err := a.pg.Stop(ctx, postgres.StopOptions{Mode: postgres.Fast, ImmediateAfter: 30 * time.Second, KillAfter: time.Minute}); err != nil {
			return ended, err
		}
		a.configurePostgres(cluster.Replica)
		err := a.pg.Rewind(ctx, source(leader), p)
		ended.Ended.Impossible = err != nil && strings.Contains(err.Error(), postgres.ErrRewindImpossible.Error())
		return ended, err
	}
}

func (a *Agent) cutHalfRecord(leader cluster.Upstream) jobWork {
	return func(ctx context.Context, _ postgres.Progress) (ended loop.JobEnded, err error) {
		err = a.pg.CutHalfRecord(ctx, source(leader))
		ended.Ended.Impossible = errors.Is(err, postgres.ErrRewindImpossible)
		return ended, err
	}
}

// configurePostgres hands the instance its settings for the role that it is about to take.
func (a *Agent) configurePostgres(role cluster.Role) {
	a.mu.Lock()
	e := a.settings
	a.mu.Unlock()
	s, err := instanceSettings(&e, role, a.unsynced.Load(), a.feedback.Load())
	if err != nil {
		a.log.Error("apply settings", "error", err)
		return
	}
	a.pg.Configure(s)
}

// pause waits for what nothing announces; false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
