package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
	"github.com/regent-ha/regent/internal/postgres"
	"github.com/regent-ha/regent/internal/version"
)

// role is what we say about our PostgreSQL (dcs.md 1.6).
func (a *Agent) role() cluster.Role {
	return a.loop.Role(a.promoting.Load())
}

// member is what we publish about ourselves (dcs.md 1.6).
func (a *Agent) member() cluster.Member {
	m := cluster.Member{Name: a.name, Version: version.Compatible, Regent: version.Regent, Tags: a.settings.Tags.Effective()}
	m.ScheduledRestart = a.scheduled.shown()
	m.ConnURL, m.APIURL, m.ProxyURL = addresses(&a.settings)
	return a.loop.Describe(m, a.promoting.Load())
}

// announce writes our key, in a goroutine of its own.
func (a *Agent) announce(ctx context.Context, limit time.Duration) {
	m, ttl := a.member(), a.settings.Timing.TTL
	readable := a.loop.Readable
	go func() {
		defer a.tell(loop.Announced{})
		if !readable {
			return // no member write in a cycle in which the store failed (dcs.md 2.2)
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if err := a.writeKey(ctx, m, ttl); err != nil {
			a.log.Warn("announce this member", "error", err)
		}
	}()
}

// writeKey writes our key, one write at a time: an older one must not arrive last.
func (a *Agent) writeKey(ctx context.Context, m cluster.Member, ttl time.Duration) error {
	select {
	case a.announcing <- struct{}{}:
		defer func() { <-a.announcing }()
		return a.store.Announce(ctx, m, ttl)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// report logs and journals the decision and publishes the status.
func (a *Agent) report(news bool) {
	d, v := &a.loop.Decision, &a.loop.View
	view := *v
	a.lastView.Store(&view)
	actions := make([]string, len(d.Actions))
	for i, action := range d.Actions {
		actions[i] = action.String()
	}
	if a.decided != nil {
		a.decided(string(d.Reason))
	}
	level := slog.LevelDebug
	if news && !quiet(d, a.reported) {
		level = slog.LevelInfo
		a.journal.write(entry{At: view.Wall, Reason: d.Reason, Detail: d.Detail, Actions: actions, RuledOut: d.RuledOut, Gates: d.Gates, Errors: a.loop.Errors, View: &view})
		if a.journaled != nil {
			a.journaled(Journaled{Reason: d.Reason, Detail: d.Detail, Actions: d.Actions, Errors: a.loop.Errors})
		}
	}
	a.reported = d.Reason
	a.logDecision(level, actions)
	a.logDurability(&view)
	if r := a.loop.Asked.Restart; r != nil && d.Reason == ha.RequestTaken && len(d.Actions) == 0 {
		a.answer(r.ID, errors.New(d.Detail)) // it was refused; who asked must not wait for ever
	}
	a.publish()
}

// logDurability tells when what acknowledged commits survive has changed.
func (a *Agent) logDurability(v *ha.View) {
	d := durability(v)
	before := a.durability
	a.durability = d
	if d == nil || before != nil && *d == *before {
		return
	}
	level := slog.LevelWarn
	if d.Met {
		level = slog.LevelInfo
	}
	a.log.Log(context.Background(), level, "durability.survive: "+string(d.Survive), "met", d.Met, "detail", d.Detail)
}

// logDecision writes the decision to the log, with Patroni's sentence for it as the message.
func (a *Agent) logDecision(level slog.Level, actions []string) {
	d, v, ctx := &a.loop.Decision, &a.loop.View, context.Background()
	lines, message, heartbeat := d.Say(v)
	if heartbeat && (level == slog.LevelInfo || a.heartbeatDue(v)) {
		level, a.heartbeat = slog.LevelInfo, v.Now
	}
	if level == slog.LevelInfo && d.Reason.Trouble() {
		level = slog.LevelWarn
	}
	if len(a.loop.Errors) > 0 { // what the sentences say has not happened, then
		lines, message, level = nil, "", slog.LevelWarn
	}
	if message == "" {
		message = "decided"
	}
	attrs := []slog.Attr{slog.String("reason", string(d.Reason))}
	if !strings.Contains(message, d.Detail) { // some sentences end in it
		attrs = append(attrs, slog.String("detail", d.Detail))
	}
	attrs = append(attrs, slog.Any("actions", actions), slog.String("at", v.Postgres.Position().String()))
	if len(a.loop.Errors) > 0 {
		attrs = append(attrs, slog.Any("errors", a.loop.Errors))
	}
	for _, line := range lines {
		a.log.LogAttrs(ctx, min(level, slog.LevelInfo), line)
	}
	a.log.LogAttrs(ctx, level, message, attrs...)
}

// heartbeatDue says whether a heartbeat is to be told although nothing is new: Patroni tells it in each cycle. Ours may follow each other closely.
func (a *Agent) heartbeatDue(v *ha.View) bool {
	return !a.settings.Log.Deduplicate && v.Now.Sub(a.heartbeat) >= v.Limits.LoopWait/2
}

// quiet says whether a decision only keeps house, as the one before it did: it is told at debug level.
func quiet(d *ha.Decision, before ha.Reason) bool {
	for _, action := range d.Actions {
		switch action.(type) {
		case ha.WriteStatus, ha.AskPeers, ha.SyncSlots, ha.TendSlots, ha.Checkpoint:
		default:
			return false
		}
	}
	return len(d.Actions) > 0 && d.Reason == before && (d.Reason == ha.HealthyPrimary || d.Reason == ha.Following || d.Reason == ha.StandbyLeading || d.Reason == ha.SwitchoverWait)
}

// publish makes the present state visible to readers.
func (a *Agent) publish() {
	l := &a.loop
	s := &Status{
		At: a.clock(), Wall: time.Now(), Scope: a.settings.Scope, Name: a.name, Version: version.Compatible, Regent: version.Regent,
		State: l.State(), Role: a.role(), Postgres: l.Postgres, SystemID: l.Postgres.SystemID,
		Leader: l.Lock.Held && !l.Lock.Refused && (l.Store == nil || l.Store.Leader.Name == "" || l.Store.Leader.Name == a.name), LockDeadline: l.Lock.Deadline,
		Snapshot: l.Store, SnapshotWall: a.snapshotWall, StoreError: a.storeError,
		Config: a.settings.Dynamic, Timing: a.settings.Timing, Tags: a.settings.Tags.Effective(),
		NextCycle: a.clock().Add(max(l.Decision.Within, l.Limits.LoopWait)), Pause: l.Limits.Paused,
		Reason: string(l.Decision.Reason), Job: a.jobs.status(),
		ScheduledRestart: a.scheduled.shown(), Guard: a.fencing.status(), WatchdogFailed: l.Unfenced != "", UnreadySlots: l.Decision.Unready,
		Durability: durability(&l.View),
	}
	s.FailsafeActive = l.Lock.Held && l.Lock.Agreed && s.At.Before(l.Lock.Deadline) || s.At.Before(l.Lock.Bound)
	if l.Job != nil && (l.Job.Name == ha.JobDemote || l.Job.Name == ha.JobSwitchover) {
		s.Leader = false // it stops: nobody may be sent here any more (ha.md L4)
	}
	if s.Postgres.Dir == cluster.DirMissing || s.Postgres.Dir == cluster.DirEmpty {
		s.SystemID = ""
	}
	for _, action := range l.Decision.Actions {
		s.Actions = append(s.Actions, action.String())
	}
	a.status.Store(s)
}

// fresher is a published status with a newer observation laid over it, made for readers.
type fresher struct{ base, status *Status }

// Observed returns a status whose observation is at most maxAge old. All callers that wait share one observation.
func (a *Agent) Observed(ctx context.Context, maxAge time.Duration) *Status {
	base := a.status.Load()
	s := base
	if f := a.fresh.Load(); f != nil && f.base == base {
		s = f.status
	}
	if a.clock().Sub(s.At) <= maxAge {
		return s
	}
	done := a.observation.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 1400*time.Millisecond)
		defer cancel()
		return a.pg.Observe(ctx, postgres.ObserveOptions{}), nil
	})
	var p cluster.Postgres
	select {
	case r := <-done:
		p = r.Val.(cluster.Postgres)
	case <-ctx.Done():
		p = base.Postgres
		p.Queried, p.QueryError = false, "PostgreSQL did not answer in time"
	}
	next := base.observed(p, a.clock())
	next.Guard = a.fencing.status()
	a.fresh.Store(&fresher{base, next})
	return next
}

// observed is this status with a newer observation. A data directory that is being made is no primary's yet, also when its PostgreSQL answers.
func (s *Status) observed(p cluster.Postgres, at time.Time) *Status {
	next := *s
	next.At, next.Postgres = at, p
	if s.Job != nil && (s.Job.Name == string(ha.JobBootstrap) || s.Job.Name == string(ha.JobClone)) {
		return &next
	}
	switch {
	case !p.Queried, next.Role == cluster.Promoted, p.InRecovery && next.Role == cluster.StandbyLeader:
	case p.InRecovery:
		next.Role = cluster.Replica
	default:
		next.Role = cluster.Primary
	}
	switch {
	case p.Queried && next.State != cluster.Stopping && next.State != cluster.Restarting:
		next.State = cluster.Running
	case !p.Running() && next.State == cluster.Running:
		next.State = cluster.Crashed
	}
	return &next
}
