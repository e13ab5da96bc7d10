package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// act carries out one action and reports loop.ActionDone. The long ones only start here.
func (a *agent) act(e loop.Act) {
	if exit, ok := e.Action.(ha.Exit); ok {
		a.exit(exit.Failure)
		return
	}
	a.w.acting(a, e.Action)
	store, view := a.loop.Store, &a.loop.View
	done := func(err error) {
		if err != nil {
			err = fmt.Errorf("%s: %w", e.Action, err)
		}
		a.tell(loop.ActionDone{Err: err})
	}
	now := func(err error) { // an action that has nothing to wait for
		a.w.after(100*time.Microsecond, &a.process, func() { done(err) })
	}
	switch action := e.Action.(type) {
	case ha.AcquireLeader:
		a.order(loop.Acquire, a.now().Add(e.Limit), func(err error) {
			if err == nil {
				a.w.acquired(a)
			}
			done(err)
		})
	case ha.ReleaseLeader:
		a.release(e.Limit, action, store, done)
	case ha.WriteInitialize:
		a.put(e.Limit, cluster.KeyInitialize, cluster.Initialize{SystemID: action.SystemID}.Encode(), store.Initialize.Revision, done)
	case ha.WriteConfig:
		d := a.dynamic
		if len(d.Document.Fields) == 0 {
			d = a.w.bootstrapConfig
		}
		a.put(e.Limit, cluster.KeyConfig, d.Document.Encode(), store.Config.Revision, done)
	case ha.WriteFailover:
		a.put(e.Limit, cluster.KeyFailover, action.Failover.Encode(), store.Failover.Revision, done)
	case ha.WriteStatus:
		a.put(e.Limit, cluster.KeyStatus, action.Status.Encode(), action.Status.Revision, done)
	case ha.WriteSync:
		if action.Sync.Leader == "" {
			a.remove(e.Limit, cluster.KeySync, action.Sync.Revision, done)
			return
		}
		a.put(e.Limit, cluster.KeySync, action.Sync.Encode(), action.Sync.Revision, done)
	case ha.WriteFailsafe:
		a.put(e.Limit, cluster.KeyFailsafe, cluster.EncodeFailsafe(action.URLs, nil), action.Revision, done)
	case ha.RequireSync:
		a.requireSync(action.Names, done)
	case ha.WriteLosses:
		a.put(e.Limit, cluster.KeyLosses, action.Losses.Encode(), action.Losses.Revision, done)
	case ha.WriteHistory:
		a.writeHistory(e.Limit, action.Timeline, store, done)
	case ha.ClaimBootstrap:
		a.claimBootstrap(e.Limit, store, done)
	case ha.CancelBootstrap:
		a.cancelBootstrap(e.Limit, store, done)
	case ha.AskPeers:
		a.poll(e.Limit, action.Members, func() { done(nil) })
	case ha.SyncSlots:
		a.syncSlots(action, now)
	case ha.ResumeReplay:
		if s := a.m.server; s != nil {
			s.paused = false
		}
		now(nil)
	case ha.Checkpoint:
		a.startCheckpoint(view.Postgres.Timeline)
		now(nil)
	case ha.CancelJob:
		if a.job != nil {
			a.job.interrupt()
		}
		now(nil)
	default:
		j, err := a.newJob(action)
		if err != nil {
			now(err)
			return
		}
		if a.m.ambush {
			a.m.ambush, a.m.ambushed = false, a
			a.freeze()
		}
		// The loop knows of the job before it begins: its end must not be heard first.
		a.w.after(100*time.Microsecond, &a.process, func() {
			a.tell(loop.ActionDone{Job: &ha.Job{Name: j.name, Mode: j.mode, Since: a.now()}, ID: j.id})
			a.start(j)
		})
	}
}

// release publishes where our WAL ends and gives the lock up.
func (a *agent) release(limit time.Duration, r ha.ReleaseLeader, store *cluster.Snapshot, done func(error)) {
	if a.m.server == nil {
		a.m.killStray()
	}
	release := func(error) { a.order(loop.Release, time.Time{}, done) }
	if r.Optime == 0 || store == nil {
		release(nil)
		return
	}
	s := store.Status
	s.Optime = r.Optime
	a.put(limit, cluster.KeyStatus, s.Encode(), s.Revision, release)
}

// writeHistory records the ended timelines.
func (a *agent) writeHistory(limit time.Duration, tl cluster.Timeline, store *cluster.Snapshot, done func(error)) {
	var h cluster.History
	if tl > 1 {
		local := a.m.dir.history
		if a.m.dir.tli != tl {
			local = a.m.dir.knownHistory
		}
		var entries []cluster.HistoryEntry
		for i, e := range local {
			entry := cluster.HistoryEntry{Timeline: e.tli, LSN: e.at, Reason: "no recovery target specified"}
			if i == len(local)-1 {
				entry.Timestamp = "2026-01-01T00:00:00+00:00"
			}
			entries = append(entries, entry)
		}
		h.Entries = store.History.Continue(entries, tl, a.m.name)
	}
	a.put(limit, cluster.KeyHistory, h.Encode(), store.History.Revision, done)
}

// claimBootstrap writes who bootstraps before the key that stops everybody else.
func (a *agent) claimBootstrap(limit time.Duration, s *cluster.Snapshot, done func(error)) {
	a.put(limit, cluster.KeyBootstrap, []byte(a.m.name), s.BootstrapRevision, func(err error) {
		if err != nil || s.Initialize.Present && s.Initialize.SystemID == "" {
			done(err)
			return
		}
		a.put(limit, cluster.KeyInitialize, nil, 0, done)
	})
}

// cancelBootstrap lets others try, and moves the failed directory aside.
func (a *agent) cancelBootstrap(limit time.Duration, s *cluster.Snapshot, done func(error)) {
	aside := func() {
		a.stopServer(stopOptions{mode: immediate, killAfter: 5 * time.Second}, func(err error) {
			if err == nil {
				a.w.removing(a, "failed bootstrap")
				a.m.clear()
			}
			done(err)
		})
	}
	claim := func(err error) {
		if err != nil {
			done(err)
			return
		}
		a.remove(limit, cluster.KeyBootstrap, s.BootstrapRevision, func(err error) {
			if err != nil && !errors.Is(err, dcs.ErrConflict) {
				done(err)
				return
			}
			aside()
		})
	}
	if s.Initialize.Present && s.Initialize.SystemID == "" {
		a.remove(limit, cluster.KeyInitialize, s.Initialize.Revision, claim)
		return
	}
	claim(nil)
}

func (a *agent) syncSlots(action ha.SyncSlots, done func(error)) {
	s := a.m.server
	if s == nil || !s.accepting || s.frozen > 0 {
		done(errors.New("PostgreSQL does not answer"))
		return
	}
	want := make([]slotWant, 0, len(action.Want))
	for _, w := range action.Want {
		want = append(want, slotWant{w.Name, w.Advance, w.Anew != ""})
	}
	s.syncSlots(want, action.Drop)
	done(nil)
}

// startCheckpoint runs the checkpoint after a promotion beside everything else.
func (a *agent) startCheckpoint(tl cluster.Timeline) {
	s := a.m.server
	if a.checkpointing || s == nil {
		return
	}
	a.checkpointing = true
	a.w.after(a.w.rand.between(20*time.Millisecond, 2*time.Second), &a.process, func() {
		a.checkpointing = false
		if a.m.server != s || s.phase != primary || s.frozen > 0 || s.stalled > 0 {
			return // it failed, and will be asked for again
		}
		s.checkpoint(checkpoint)
		a.tell(loop.Checkpointed{Timeline: tl})
	})
}
