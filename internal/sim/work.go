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

// job is a long action. Its steps happen in the agent; the programs and servers that it started are others' processes.
type job struct {
	a     *agent
	id    int
	name  ha.JobName
	mode  ha.StopMode
	work  func(j *job)
	tool  *tool
	over  bool
	alone bool // replaced: its end is nobody's news
	stop  *shutdown
	ended loop.JobEnded
}

// newJob says what a long action does.
func (a *agent) newJob(action ha.Action) (*job, error) {
	a.jobs++
	j := &job{a: a, id: a.jobs}
	begin := func(name ha.JobName, mode ha.StopMode, work func(j *job)) (*job, error) {
		j.name, j.mode, j.work = name, mode, work
		return j, nil
	}
	switch action := action.(type) {
	case ha.Bootstrap:
		return begin(ha.JobBootstrap, "", (*job).bootstrap)
	case ha.Clone:
		return begin(ha.JobClone, "", func(j *job) { j.clone(action) })
	case ha.StartStandby:
		return begin(ha.JobStart, "", func(j *job) { j.startServer(false, action.Upstream) })
	case ha.StartPrimary:
		return begin(ha.JobStartPrimary, "", func(j *job) {
			if err := a.mayLead(); err != nil {
				j.end(err)
				return
			}
			j.startServer(true, cluster.Upstream{})
		})
	case ha.RestartPostgres:
		p := a.loop.View.Postgres
		return begin(ha.JobRestart, "", func(j *job) { j.restart(p.Queried && !p.InRecovery, action.Upstream) })
	case ha.Follow:
		return begin(ha.JobFollow, "", func(j *job) { j.follow(action.Upstream) })
	case ha.Promote:
		return begin(ha.JobPromote, "", func(j *job) { j.promote(action.Above) })
	case ha.Demote:
		if action.Mode == ha.Graceful {
			return begin(ha.JobSwitchover, action.Mode, (*job).stopForSwitchover)
		}
		return begin(ha.JobDemote, action.Mode, func(j *job) { j.demote(action) })
	case ha.Recover:
		return begin(ha.JobRecover, "", func(j *job) {
			a.m.recover(j.toolEnded)
			j.tool = a.m.busy
		})
	case ha.CheckDivergence:
		return begin(ha.JobDivergence, "", func(j *job) {
			expected, until := a.loop.Store.History.ClusterTimeline(), a.now().Add(10*time.Second)
			if action.Leader.Name == "" { // a remote: asked once, and our history says nothing about it
				expected, until = 0, a.now()
			}
			j.compare(action.Leader, expected, until)
		})
	case ha.Rewind:
		if action.HalfRecord { // records arrive whole here
			return begin(ha.JobRewind, "", func(j *job) {
				j.ended.Ended.Impossible = true
				j.end(errors.New("no record begins there"))
			})
		}
		return begin(ha.JobRewind, "", func(j *job) { j.rewind(action.Leader) })
	}
	return nil, fmt.Errorf("action %T has no executor: a bug, nothing was done", action)
}

// start begins a job. One that is under way is cancelled and replaced; a replaced job reports no end.
func (a *agent) start(j *job) {
	wait := time.Duration(0)
	if old := a.job; old != nil {
		old.alone = true
		wait = old.cancel()
	}
	a.job = j
	a.w.after(wait, &a.process, func() {
		if !j.over {
			j.work(j)
		}
	})
}

// interrupt cancels the job; its end is reported as usual.
func (j *job) interrupt() { j.cancel() }

// cancel ends the job, as the end of its context does, and returns how long that takes.
func (j *job) cancel() time.Duration {
	if j.over {
		return 0
	}
	if t := j.tool; t != nil && j.a.m.busy == t {
		t.abort(false)
	} else {
		j.end(errCancelled)
	}
	return j.a.w.rand.between(0, 20*time.Millisecond)
}

// end reports how the job ended.
func (j *job) end(err error) {
	if j.over {
		return
	}
	j.over = true
	a := j.a
	if j.name == ha.JobPromote {
		a.promoting = false
	}
	if j.stop != nil {
		j.stop.over = true
	}
	if a.job == j {
		a.job = nil
	}
	if j.alone {
		return
	}
	e := j.ended
	e.ID, e.Ended.Name, e.Ended.At = j.id, j.name, a.now()
	if err != nil {
		e.Ended.Error = err.Error()
	}
	a.w.after(0, &a.process, func() { a.tell(e) })
}

// then continues the job in the agent.
func (j *job) then(fn func()) {
	a := j.a
	if j.over {
		return
	}
	a.w.after(a.w.rand.between(0, 10*time.Millisecond), &a.process, func() {
		if !j.over {
			fn()
		}
	})
}

// toolEnded is the end of a program that the job waited for.
func (j *job) toolEnded(err error) { j.then(func() { j.end(err) }) }

// stillLeader is the last look at the lock before something that cannot be undone.
func (a *agent) stillLeader() error {
	if !a.lock.Held || !a.now().Before(a.lock.Deadline) {
		return fmt.Errorf("the lock ran out, a live one is needed: %w", dcs.ErrNotHeld)
	}
	return nil
}

func (j *job) bootstrap() {
	m := j.a.m
	m.initdb(func(err error) {
		j.then(func() {
			if err != nil {
				j.end(err)
				return
			}
			j.tool = nil
			m.bootstrapping = m.dir.system
			m.launch(true, cluster.Upstream{}, func(err error) { j.then(func() { j.end(err) }) })
		})
	})
	j.tool = m.busy
}

func (j *job) clone(c ha.Clone) {
	m := j.a.m
	copyNow := func() {
		m.baseBackup(c.From, j.toolEnded)
		j.tool = m.busy
	}
	if !c.Remove && !c.Replace {
		copyNow()
		return
	}
	j.stopThen(stopOptions{mode: immediate, killAfter: 5 * time.Second}, func() {
		if err := m.vacant(); err != nil {
			j.end(err)
			return
		}
		switch {
		case c.Request != 0:
			m.w.removing(j.a, "reinitialize")
		case c.Remove && !m.local.RemoveOnRewindFailure && !m.local.RemoveOnDivergence && m.dir.problem == "":
			j.end(errors.New("no setting allows its removal"))
			return
		case c.Remove:
			m.w.removing(j.a, "removal option")
		default:
			m.aside++
			m.w.removing(j.a, "moved aside")
		}
		m.clear()
		copyNow()
	})
}

// startable is why PostgreSQL cannot be started now.
func (m *Member) startable() error {
	if err := m.vacant(); err != nil {
		return err
	}
	if !m.dir.present() || m.dir.problem != "" {
		return fmt.Errorf("the data directory cannot be used: %s %s", m.dir.state, m.dir.problem)
	}
	return nil
}

func (j *job) startServer(asPrimary bool, up cluster.Upstream) {
	m := j.a.m
	if err := m.startable(); err != nil {
		j.then(func() { j.end(err) })
		return
	}
	if d := &m.dir; !asPrimary && up == (cluster.Upstream{}) && d.refuses() != "" { // as the agent moves such a history file aside
		d.aside = max(d.aside, d.known)
		d.known, d.knownHistory = d.tli, d.history
	}
	m.launch(asPrimary, up, func(err error) { j.then(func() { j.end(err) }) })
}

func (j *job) restart(asPrimary bool, up cluster.Upstream) {
	j.stopThen(stopOptions{mode: fast}, func() {
		if asPrimary {
			if err := j.a.mayLead(); err != nil && !j.a.limits.Paused {
				j.end(err)
				return
			}
		}
		j.startServer(asPrimary, up)
	})
}

func (j *job) follow(up cluster.Upstream) {
	s := j.a.m.server
	switch {
	case s == nil:
		j.then(func() { j.end(nil) }) // the next start reads it
	case !j.a.m.dir.standbySignal:
		j.stopThen(stopOptions{mode: fast}, func() { j.startServer(false, up) })
	default:
		s.w.after(time.Millisecond, &s.process, func() { s.follow(up) }) // a frozen server takes the signal when it goes on
		j.then(func() { j.end(nil) })
	}
}

func (j *job) promote(above cluster.Timeline) {
	a := j.a
	j.ended.Ended.Untold = true
	if err := a.mayLead(); err != nil {
		j.end(err)
		return
	}
	j.ended.Ended.Untold = false
	a.promoting, a.promotion = true, true
	limit := a.now().Add(time.Minute)
	var wait func()
	asked := false
	wait = func() {
		s := a.m.server
		switch {
		case s == nil:
			a.promotion = false
			j.end(errors.New("promote PostgreSQL: it exited"))
		case s.phase == primary:
			j.end(nil)
		case !a.now().Before(limit):
			j.end(errors.New("promote PostgreSQL: it makes no progress"))
		default:
			if !asked && s.frozen == 0 {
				s.taken = above
				asked = s.promote()
			}
			a.after(20*time.Millisecond, func() {
				if !j.over {
					wait()
				}
			})
		}
	}
	wait()
}

// stopForSwitchover stops the leader in order, and tells the loop as soon as the shutdown checkpoint is written.
func (j *job) stopForSwitchover() {
	a := j.a
	told := false
	clean := func() {
		c := &a.m.dir.control
		if told || c.State != cluster.ControlShutDown && c.State != cluster.ControlShutDownRecovery {
			return
		}
		told = true
		j.ended.Ended.Checkpoint, j.ended.Ended.Previous = c.Checkpoint, c.Checkpoint
		a.tell(loop.ShutdownCheckpoint{Checkpoint: c.Checkpoint, Previous: c.Checkpoint})
	}
	a.onClean = clean
	a.stopServerIn(j, stopOptions{mode: fast}, func(err error) {
		a.onClean = nil
		if err == nil {
			clean()
		}
		j.end(err)
	})
}

// demote stops a PostgreSQL within bounds.
func (j *job) demote(d ha.Demote) {
	a := j.a
	var o stopOptions
	switch d.Mode {
	case ha.NoLock, ha.Immediate:
		o.mode, o.killAfter = immediate, 2*time.Second
	case ha.Offline:
		left := max(d.Until.Sub(a.now()), 0)
		o.mode, o.immediateAfter, o.killAfter = fast, left/2+time.Millisecond, left*3/4+time.Millisecond
	default:
		o.mode = fast
	}
	a.stopServerIn(j, o, j.end)
}
