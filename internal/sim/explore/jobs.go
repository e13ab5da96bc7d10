package explore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// beginJob starts what takes time. Its last look at the lock comes now; how long it takes is up to the order of steps.
func (w *world) beginJob(i int, a ha.Action) {
	m := &w.members[i]
	m.last++
	j := ha.Job{Since: w.time()}
	switch a := a.(type) {
	case ha.StartStandby:
		j.Name = ha.JobStart
	case ha.StartPrimary:
		j.Name = ha.JobStartPrimary
	case ha.RestartPostgres:
		j.Name = ha.JobRestart
	case ha.Follow:
		j.Name = ha.JobFollow
	case ha.Promote:
		j.Name = ha.JobPromote
	case ha.Demote:
		j.Name, j.Mode = ha.JobDemote, a.Mode
		if a.Mode == ha.Graceful {
			j.Name = ha.JobSwitchover
		}
	case ha.Recover:
		j.Name = ha.JobRecover
	case ha.CheckDivergence:
		j.Name = ha.JobDivergence
	case ha.Rewind:
		j.Name = ha.JobRewind
	case ha.Clone:
		j.Name = ha.JobClone
	default:
		w.breaks("model", fmt.Sprintf("%T has no model", a))
		return
	}
	m.job, m.jobID, m.halfway = a, m.last, false // a job under way is replaced: only stops do that
	w.tell(i, loop.ActionDone{Job: &j, ID: m.last})
	lock := m.lease.State()
	if promotes(a) {
		if !lock.Held || !w.time().Before(lock.Deadline) {
			w.endJob(i, errors.New("the lock ran out"))
			return
		}
		m.armed = true
	}
	if d, ok := a.(ha.Demote); ok && d.Mode == ha.Graceful {
		m.pg.stopping = m.pg.up
	}
}

// shutdownCheckpoint: sessions are gone, the last record is written; walsenders go on sending it.
func (w *world) shutdownCheckpoint(i int) {
	m := &w.members[i]
	before := m.pg.position()
	if !m.pg.signal {
		m.pg.log += string(m.pg.log[len(m.pg.log)-2]) + "s"
	}
	m.halfway, m.pg.clean = true, true
	w.tell(i, loop.ShutdownCheckpoint{Checkpoint: m.pg.position(), Previous: before})
}

// endJob ends the job; what it does happens now.
func (w *world) endJob(i int, failure error) {
	m := &w.members[i]
	if m.job == nil {
		return
	}
	ended := ha.Ended{At: w.time()}
	fact := loop.JobEnded{ID: m.jobID}
	if m.loop.Job != nil {
		ended.Name = m.loop.Job.Name
	}
	err := failure
	if err == nil {
		err = w.doJob(i, &ended, &fact)
	}
	if err != nil {
		ended.Error = err.Error()
	}
	if d, ok := m.job.(ha.Demote); ok && d.Mode == ha.Graceful && err != nil {
		m.pg.stopping = false
	}
	fact.Ended = ended
	m.job, m.halfway = nil, false
	m.news = true
	w.tell(i, fact)
}

func (w *world) doJob(i int, ended *ha.Ended, fact *loop.JobEnded) error {
	m := &w.members[i]
	g := &m.pg
	if promotes(m.job) && w.guarded(i) {
		w.kill(i)
		return errors.New("killed by the guard")
	}
	switch a := m.job.(type) {
	case ha.Demote:
		if m.halfway {
			ended.Checkpoint, ended.Previous = g.position(), g.position()-record
		}
		clean := m.halfway || a.Mode != ha.Immediate && a.Mode != ha.NoLock
		if clean && !m.halfway && g.writable() {
			g.log += string(g.log[len(g.log)-2]) + "s"
		}
		g.clean = g.clean && !g.up || clean && g.up
		g.up, g.stopping = false, false
	case ha.StartStandby:
		if g.up {
			return errors.New("it runs already")
		}
		g.up, g.signal, g.upstream = true, true, index(a.Upstream.Name)
	case ha.Follow:
		if !g.up || !g.signal {
			return errors.New("it is no running standby")
		}
		g.upstream = index(a.Upstream.Name)
	case ha.StartPrimary:
		if g.up {
			return errors.New("it runs already")
		}
		g.up, g.signal, g.clean = true, false, false
		w.leads(i)
	case ha.RestartPostgres:
		g.stopping = false
	case ha.Promote:
		if !g.up {
			return errors.New("PostgreSQL is down")
		}
		if g.signal {
			g.signal, g.clean = false, false
			g.log += string(max(rune(g.log[len(g.log)-2]), rune('0'+a.Above))+1) + string(rune('p'+i))
			w.leads(i)
		}
	case ha.Recover:
		g.clean = true
	case ha.CheckDivergence:
		fact.Divergence = w.compare(i, a.Leader.Name)
	case ha.Rewind, ha.Clone:
		from := 0
		if r, ok := a.(ha.Rewind); ok {
			from = index(r.Leader.Name)
		} else {
			from = index(m.job.(ha.Clone).From.Name)
		}
		g.up = false
		if !w.members[from].pg.writable() {
			return errors.New("the source is no primary")
		}
		g.log, g.signal, g.clean = w.members[from].pg.log, true, true
	}
	return nil
}

// leads checks that whoever begins to write has the lock (V2).
func (w *world) leads(i int) {
	if w.store.Leader.Name != name(i) {
		w.breaks("V2", fmt.Sprintf("%s becomes writable, the lock is %q's", name(i), w.store.Leader.Name))
	}
}

// compare is what a comparison with the leader's history finds.
func (w *world) compare(i int, leader string) *ha.Divergence {
	d := &ha.Divergence{Leader: leader, Verdict: ha.DivergenceUnknown, At: w.time(), CanRewind: true}
	top := &w.members[index(leader)].pg
	if !top.writable() {
		return d
	}
	d.Timeline = top.timeline()
	d.Verdict = ha.Diverged
	if strings.HasPrefix(top.log, w.members[i].pg.log) {
		d.Verdict = ha.NotDiverged
	}
	return d
}
