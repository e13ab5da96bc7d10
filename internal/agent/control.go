package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// Status returns the status published last.
func (a *Agent) Status() *Status { return a.status.Load() }

// Snapshot reads the store now.
func (a *Agent) Snapshot(ctx context.Context) (*cluster.Snapshot, error) {
	return a.store.Snapshot(ctx)
}

// PutConfig writes the dynamic configuration if it is still at prev. Its change wakes the loop.
func (a *Agent) PutConfig(ctx context.Context, doc []byte, prev cluster.Revision) error {
	return a.put(ctx, cluster.KeyConfig, doc, prev)
}

// RequestFailover writes the failover key; the last request wins. Its change wakes the loop.
func (a *Agent) RequestFailover(ctx context.Context, f cluster.Failover) error {
	s, err := a.store.Snapshot(ctx)
	if err != nil {
		return err
	}
	return a.put(ctx, cluster.KeyFailover, f.Encode(), s.Failover.Revision)
}

// CancelFailover clears the request if it is still at prev.
func (a *Agent) CancelFailover(ctx context.Context, prev cluster.Revision) error {
	return a.put(ctx, cluster.KeyFailover, cluster.Failover{}.Encode(), prev)
}

// Restart restarts PostgreSQL and returns when that is done, or plans it.
func (a *Agent) Restart(ctx context.Context, r RestartRequest) error {
	if !r.Schedule.IsZero() {
		if err := a.scheduled.set(r, a.Observed(ctx, time.Second)); err != nil {
			return err
		}
		a.wake()
		return nil
	}
	if j := a.jobs.status(); j != nil {
		return fmt.Errorf("%w: %s already in progress", ErrBusy, j.Name)
	}
	done := make(chan error, 1)
	a.answersMu.Lock()
	a.nextID++
	id := a.nextID
	a.answers[id] = done
	a.answersMu.Unlock()
	err := a.ask(ctx, func(asked *ha.Asked) { asked.Restart = &ha.Restart{ID: id, Timeout: r.Timeout} })
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("restart PostgreSQL: it goes on: %w", ctx.Err())
	}
}

// answer tells who asked for a restart how it ended.
func (a *Agent) answer(id int, err error) {
	a.answersMu.Lock()
	defer a.answersMu.Unlock()
	if done, ok := a.answers[id]; ok {
		done <- err
		delete(a.answers, id)
	}
}

// Reinitialize rebuilds this replica from the leader. It returns when the rebuild has been accepted.
func (a *Agent) Reinitialize(ctx context.Context, force, fromLeader bool) error {
	s := a.Status()
	switch {
	case s.Snapshot == nil || s.Snapshot.Leader.Name == "":
		//lint:ignore ST1005 Patroni's text, which clients compare
		return errors.New("Cluster has no leader, can not reinitialize")
	case s.Snapshot.Leader.Name == a.name:
		//lint:ignore ST1005 likewise
		return errors.New("I am the leader, can not reinitialize")
	}
	if j := a.jobs.status(); j != nil && !force {
		return fmt.Errorf("%w: %s already in progress", ErrBusy, j.Name)
	}
	a.answersMu.Lock()
	a.nextID++
	id := a.nextID
	a.answersMu.Unlock()
	return a.ask(ctx, func(asked *ha.Asked) { asked.Reinitialize = &ha.Reinitialize{ID: id, FromLeader: fromLeader} })
}

func (a *Agent) ask(ctx context.Context, change func(*ha.Asked)) error {
	select {
	case a.asks <- change:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reloadRequest asks the driver to re-read the local configuration.
type reloadRequest struct{}

// Reload re-reads the local configuration at the next turn of the loop.
func (a *Agent) Reload() { go a.tell(reloadRequest{}) }

// Why explains the election as it would go now, or as it stood at a past moment, and the last decisions.
func (a *Agent) Why(ctx context.Context, at time.Time, limit int) (WhyReport, error) {
	past := !at.IsZero()
	if !past {
		at = time.Now()
	}
	if limit <= 0 {
		limit = 10
	}
	entries, err := a.journal.read(at, limit)
	if err != nil {
		return WhyReport{}, err
	}
	w := WhyReport{Member: a.name, At: at}
	view := a.lastView.Load()
	if past && len(entries) > 0 {
		view = entries[0].View
	}
	if view != nil && view.Store != nil {
		v := *view
		if !past {
			v = a.withAnswers(ctx, v)
		}
		w.Leader = v.Store.Leader.Name
		w.Gates, w.Verdict = gates(v.Election())
		if r, ok := v.Risk(); ok {
			w.Risk = &Risk{Heir: r.Heir, Bytes: r.Lost, Synced: r.Synced, Detail: r.String()}
		}
		w.Durability = durability(&v)
		if l, ok := v.Store.LastLoss(); ok {
			w.Loss = &Loss{Timeline: l.Timeline, Member: l.Member, Bytes: l.Bytes(), Fate: l.Fate, Detail: l.String()}
		}
	} else {
		w.Verdict = "unknown: the store could not be read"
	}
	for _, e := range entries {
		w.Decisions = append(w.Decisions, WhyEntry{At: e.At, Reason: string(e.Reason), Detail: e.Detail, Actions: e.Actions, RuledOut: e.RuledOut, Errors: e.Errors})
	}
	return w, nil
}

// durability is nil where nobody asks for a site to be survived, or we do not lead.
func durability(v *ha.View) *Durability {
	d, ok := v.Durability()
	if !ok {
		return nil
	}
	return &Durability{Survive: v.Limits.Survive, Met: d.Met, Detail: d.String()}
}

// Risk is what losing this leader would cost, as of the last turn of the loop; ok is false when it does not lead.
func (a *Agent) Risk() (r ha.Risk, ok bool) {
	v := a.lastView.Load()
	if v == nil {
		return ha.Risk{}, false
	}
	return v.Risk()
}

// LastLoss is what the last failover has cost, if that is known.
func (a *Agent) LastLoss() (l cluster.Loss, ok bool) {
	v := a.lastView.Load()
	if v == nil || v.Store == nil {
		return cluster.Loss{}, false
	}
	return v.Store.LastLoss()
}

// withAnswers asks the others, so that the gates show this moment.
func (a *Agent) withAnswers(ctx context.Context, v ha.View) ha.View {
	var others []cluster.Member
	for _, m := range v.Store.Members {
		if m.Name != a.name && m.APIURL != "" {
			others = append(others, m)
		}
	}
	p := a.poll(ctx, others, a.Status().Timing.TTL)
	v.Now = a.clock()
	p.At = v.Now
	v.Poll = &p
	return v
}

// gates turns the gates of an election into what is shown, with the verdict of the whole.
func gates(list []ha.Gate) (out []Gate, verdict string) {
	verdict = "would be elected if the lock were free"
	for i := len(list) - 1; i >= 0; i-- {
		g := list[i]
		if !g.Passed {
			verdict = "would not be elected: " + string(g.Reason)
		}
		out = append([]Gate{{Name: string(g.Reason), Value: g.Value, Limit: g.Limit, Passed: g.Passed, Unknown: g.Unknown}}, out...)
	}
	return out, verdict
}
