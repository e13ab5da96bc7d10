package sim

import (
	"errors"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// compare finds out whether our WAL is part of the leader's history.
func (j *job) compare(leader cluster.Upstream, expected cluster.Timeline, until time.Time) {
	a := j.a
	d := &ha.Divergence{Leader: leader.String(), Verdict: ha.DivergenceUnknown}
	from, err := a.m.source(leader)
	v, noRewind := unknown, false
	took := a.w.rand.between(2*time.Millisecond, 30*time.Millisecond)
	switch {
	case a.m.dir.problem != "":
		v, d.Detail = diverged, a.m.dir.problem
	case err != nil:
		d.Detail = err.Error()
		took = a.w.rand.between(10*time.Millisecond, 3*time.Second)
	case from.dir.tli < expected:
		d.Detail = "the leader is on an older timeline than the cluster was"
	default:
		v, d.Detail, noRewind = a.m.divergence(from.m)
		if leader.Name == "" {
			d.Timeline = from.dir.tli
		}
	}
	if v == unknown && a.now().Before(until) {
		a.after(200*time.Millisecond+took, func() {
			if !j.over {
				j.compare(leader, expected, until)
			}
		})
		return
	}
	a.after(took, func() {
		if j.over {
			return
		}
		switch v {
		case fits:
			d.Verdict = ha.NotDiverged
			a.m.keepLineage(from)
		case diverged:
			d.Verdict = ha.Diverged
			d.CanRewind, d.WhyNot = a.m.local.UseRewind && a.m.dir.problem == "", "use_pg_rewind is off, or the directory is half-made"
			if noRewind {
				d.CanRewind, d.WhyNot = false, "pg_rewind takes two timelines of the same number for one"
			}
		}
		d.At = a.now()
		j.ended.Divergence = d
		j.end(nil)
	})
}

// keepLineage gives a stopped directory that fits the leader's history file and moves newer ones aside, or it might not start.
func (m *Member) keepLineage(from *server) {
	if d := &m.dir; m.server == nil && from.dir.tli != d.known {
		if d.known > from.dir.tli {
			d.aside = max(d.aside, d.known)
		}
		d.known, d.knownHistory = from.dir.tli, from.dir.history
	}
}

func (j *job) rewind(leader cluster.Upstream) {
	m := j.a.m
	j.stopThen(stopOptions{mode: fast, immediateAfter: 30 * time.Second, killAfter: time.Minute}, func() {
		done := func(err error) {
			j.then(func() {
				j.ended.Ended.Impossible = errors.Is(err, errImpossible)
				j.end(err)
			})
		}
		rewind := func(err error) {
			if err != nil {
				done(err)
				return
			}
			m.rewind(leader, done)
			j.tool = m.busy
		}
		if _, err := m.source(leader); err != nil { // before anything is done for it
			done(err)
			return
		}
		if s := m.dir.control.State; s != cluster.ControlShutDown && s != cluster.ControlShutDownRecovery && m.dir.problem == "" {
			m.recover(func(err error) { j.then(func() { rewind(err) }) })
			j.tool = m.busy
			return
		}
		rewind(nil)
	})
}
