package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
	"github.com/regent-ha/regent/internal/postgres"
)

// act carries out one action in a goroutine of its own and reports loop.ActionDone. The long ones only start here.
func (a *Agent) act(ctx context.Context, e loop.Act) {
	snapshot, settings, pg := a.loop.Store, a.settings, a.loop.Postgres
	if exit, ok := e.Action.(ha.Exit); ok {
		a.exit = &exit
		return
	}
	go func() {
		limited, cancel := context.WithTimeout(ctx, e.Limit)
		defer cancel()
		job, err := a.do(ctx, limited, e.Action, basis{snapshot, &pg, settings.Timing.TTL})
		if err != nil {
			err = fmt.Errorf("%s: %w", e.Action, err)
		}
		if job == nil {
			a.tell(loop.ActionDone{Err: err})
			return
		}
		// The loop knows of the job before it begins: its end must not be heard first.
		a.tell(loop.ActionDone{Job: &ha.Job{Name: job.name, Mode: job.mode, Since: a.clock()}, ID: job.id})
		a.jobs.start(ctx, job)
	}()
}

// basis is what the actions of one decision were decided on.
type basis struct {
	store    *cluster.Snapshot
	postgres *cluster.Postgres
	ttl      time.Duration
}

// do carries out one action. Time has passed since the decision, so an effect that cannot be undone looks
// at the lock once more. ctx is the agent's; limited ends when a quick action must have ended.
func (a *Agent) do(ctx, limited context.Context, action ha.Action, f basis) (*job, error) {
	switch action := action.(type) {
	case ha.AcquireLeader:
		return nil, a.keeper.do(limited, loop.Acquire)
	case ha.ReleaseLeader:
		return nil, a.release(ctx, limited, action, f)
	case ha.WriteInitialize:
		return nil, a.put(limited, cluster.KeyInitialize, cluster.Initialize{SystemID: action.SystemID}.Encode(), f.store.Initialize.Revision)
	case ha.WriteConfig:
		return nil, a.put(limited, cluster.KeyConfig, a.configToWrite(), f.store.Config.Revision)
	case ha.WriteFailover:
		return nil, a.put(limited, cluster.KeyFailover, action.Failover.Encode(), f.store.Failover.Revision)
	case ha.WriteStatus:
		return nil, a.put(limited, cluster.KeyStatus, action.Status.Encode(), action.Status.Revision)
	case ha.WriteSync:
		return nil, a.writeSync(limited, action.Sync)
	case ha.WriteFailsafe:
		return nil, a.put(limited, cluster.KeyFailsafe, cluster.EncodeFailsafe(action.URLs, memberOrder(f.store)), action.Revision)
	case ha.RequireSync:
		return nil, a.pg.SetSyncNames(limited, action.Names)
	case ha.WriteHistory:
		return nil, a.writeHistory(limited, action.Timeline, f.store)
	case ha.WriteLosses:
		return nil, a.put(limited, cluster.KeyLosses, action.Losses.Encode(), action.Losses.Revision)
	case ha.ClaimBootstrap:
		return nil, a.claimBootstrap(limited, f.store)
	case ha.CancelBootstrap:
		return nil, a.cancelBootstrap(ctx, limited, f.store)
	case ha.AskPeers:
		a.tell(loop.PeersAnswered{Poll: a.poll(limited, action.Members, f.ttl)})
		return nil, nil
	case ha.SyncSlots:
		return nil, a.syncSlots(limited, action)
	case ha.TendSlots:
		a.tendSlots(ctx, action)
		return nil, nil
	case ha.ResumeReplay:
		return nil, a.pg.ResumeReplay(limited)
	case ha.Checkpoint:
		a.startCheckpoint(ctx, f.postgres.Timeline)
		return nil, nil
	case ha.CancelJob:
		a.jobs.interrupt()
		return nil, nil
	default:
		return a.job(action, f)
	}
}

// put writes a key at the revision that the decision was based on.
func (a *Agent) put(ctx context.Context, key string, value []byte, prev cluster.Revision) error {
	_, err := a.store.Put(ctx, key, value, prev)
	return err
}

// release publishes where our WAL ends and gives the lock up. A position that could not be written must
// not keep the lock: it only sharpens the lag check of others.
func (a *Agent) release(ctx, limited context.Context, r ha.ReleaseLeader, f basis) error {
	if !f.postgres.Running() { // a busy backend outlives its postmaster, and commits
		if err := a.pg.EndStrays(limited); err != nil {
			return err
		}
	}
	if r.Optime != 0 && f.store != nil {
		s := f.store.Status
		s.Optime = r.Optime
		if err := a.put(limited, cluster.KeyStatus, s.Encode(), s.Revision); err != nil {
			a.log.Warn("write final position", "error", err)
		}
	}
	return a.keeper.do(ctx, loop.Release)
}

// configToWrite is the last known dynamic configuration, or the bootstrap section's, as bootstrap writes it: with adjusted timing.
func (a *Agent) configToWrite() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.settings.Dynamic
	if len(d.Document.Fields) == 0 {
		d = a.settings.Bootstrap.DCS
	}
	t, _ := d.Timing()
	doc := d.Document
	for _, s := range []struct {
		name  string
		value time.Duration
	}{{"ttl", t.TTL}, {"loop_wait", t.LoopWait}, {"retry_timeout", t.RetryTimeout}} {
		if _, ok := doc.Get(s.name); ok {
			doc = doc.Set(cluster.Int(int64(s.value/time.Second)), s.name)
		}
	}
	if doc.Kind != cluster.Object {
		doc = cluster.Value{Kind: cluster.Object}
	}
	return doc.Encode()
}

// writeSync writes or removes the key at the revision that the decision was based on.
func (a *Agent) writeSync(ctx context.Context, s cluster.Sync) error {
	if s.Leader == "" {
		return a.store.Delete(ctx, cluster.KeySync, s.Revision)
	}
	return a.put(ctx, cluster.KeySync, s.Encode(), s.Revision)
}

// writeHistory records the ended timelines, keeping what the key knows and the local file does not (ha.md 2.10a P3).
func (a *Agent) writeHistory(ctx context.Context, tl cluster.Timeline, s *cluster.Snapshot) error {
	h := cluster.History{}
	if tl > 1 {
		entries, err := a.pg.LocalHistory(tl)
		if err != nil {
			return err
		}
		h.Entries = s.History.Continue(entries, tl, a.name)
		if n := a.settings.Dynamic.MaxTimelinesHistory(); n > 0 && len(h.Entries) > n {
			h.Entries = h.Entries[len(h.Entries)-n:]
		}
	}
	return a.put(ctx, cluster.KeyHistory, h.Encode(), s.History.Revision)
}

// claimBootstrap writes who bootstraps before the key that stops everybody else (ha.md G15).
func (a *Agent) claimBootstrap(ctx context.Context, s *cluster.Snapshot) error {
	if err := a.put(ctx, cluster.KeyBootstrap, []byte(a.name), s.BootstrapRevision); err != nil {
		return err
	}
	if s.Initialize.Present && s.Initialize.SystemID == "" {
		return nil // a dead member's claim, now ours
	}
	return a.put(ctx, cluster.KeyInitialize, nil, 0)
}

// cancelBootstrap lets others try. The failed directory is kept for its logs.
func (a *Agent) cancelBootstrap(ctx, limited context.Context, s *cluster.Snapshot) error {
	if s.Initialize.Present && s.Initialize.SystemID == "" {
		if err := a.store.Delete(limited, cluster.KeyInitialize, s.Initialize.Revision); err != nil {
			return err
		}
	}
	if err := a.store.Delete(limited, cluster.KeyBootstrap, s.BootstrapRevision); err != nil && !errors.Is(err, dcs.ErrConflict) {
		return err
	}
	stop, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := a.pg.Stop(stop, postgres.StopOptions{Mode: postgres.Immediate, KillAfter: 5 * time.Second}); err != nil {
		return err
	}
	to, err := a.pg.MoveAside("failed")
	if err == nil && to != "" {
		a.log.Warn("the data directory of the failed bootstrap was moved aside", "to", to)
	}
	return err
}

// startCheckpoint runs the checkpoint after a promotion beside everything else: pg_rewind on the others needs it.
func (a *Agent) startCheckpoint(ctx context.Context, tl cluster.Timeline) {
	if !a.checkpointing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer a.checkpointing.Store(false)
		if err := a.pg.Checkpoint(ctx); err != nil {
			a.log.Warn("checkpoint after promotion", "error", err)
			return
		}
		a.tell(loop.Checkpointed{Timeline: tl})
	}()
}

// poll asks members side by side, two seconds at most each (ha.md 1.1, I10).
func (a *Agent) poll(ctx context.Context, members []cluster.Member, ttl time.Duration) ha.Poll {
	p := ha.Poll{At: a.clock(), Asked: members, Answers: map[string]ha.Answer{}}
	for name, s := range a.Peers(ctx, members) {
		p.Answers[name] = ha.Answer{
			Reachable: s.Reachable, Primary: s.Primary, Position: s.Position, Timeline: s.Timeline,
			NoFailover: s.NoFailover, WatchdogFailed: s.WatchdogFailed, Priority: s.Priority, Waives: s.Waives,
			Isolated: !s.DCSLastSeen.IsZero() && time.Since(s.DCSLastSeen) > ttl,
		}
	}
	return p
}

// Peers asks the given members for their status, two seconds at most each.
func (a *Agent) Peers(ctx context.Context, members []cluster.Member) map[string]PeerStatus {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	type answer struct {
		name   string
		status PeerStatus
	}
	answers := make(chan answer, len(members))
	for _, m := range members {
		go func() { answers <- answer{m.Name, a.peers(ctx, m)} }()
	}
	out := make(map[string]PeerStatus, len(members))
	for range members {
		r := <-answers
		out[r.name] = r.status
	}
	return out
}
