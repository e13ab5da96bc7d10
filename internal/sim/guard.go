package sim

import (
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
)

// guard is the second process beside the postmaster: it kills PostgreSQL when the lock's moment passes unrenewed, whatever
// has become of the agent. It is not frozen with it. What it is told lies in shared memory, so it outlives the process.
type guard struct {
	m        *Member
	alive    bool
	armed    bool
	fired    bool      // nothing may start until the agent says something else
	deadline time.Time // boot-time clock: when it kills
	lapsed   bool      // it was disarmed in pause
	late     bool      // it was armed after that: the lock ran out in pause
	seq      uint32
}

// guardMargin is how long before the lease's end the guard kills.
func guardMargin(ttl time.Duration) time.Duration { return min(ttl/10, 500*time.Millisecond) }

// arm sets the moment.
func (g *guard) arm(at time.Time) {
	if g.m.w.options.NoGuard {
		return
	}
	if g.armed && at.Equal(g.deadline) {
		return
	}
	g.armed, g.fired, g.lapsed, g.deadline = true, false, false, at
	g.late = !g.m.clock.now().Before(at)
	g.seq++
	g.sleep(g.seq)
}

// disarm is for when PostgreSQL cannot write, or nobody looks after it.
func (g *guard) disarm() { g.armed, g.fired = false, false }

func (g *guard) sleep(seq uint32) {
	w := g.m.w
	w.at(g.m.clock.when(g.deadline), nil, func() {
		switch {
		case g.seq != seq || !g.alive || !g.armed:
		case g.m.clock.now().Before(g.deadline):
			g.sleep(seq) // rounding
		default:
			g.fire()
		}
	})
}

func (g *guard) fire() {
	w := g.m.w
	g.armed, g.fired = false, true
	g.m.killStray()
	if s := g.m.server; s != nil {
		w.traceEvent(g.m, "the guard kills PostgreSQL")
		w.guardKills++
		if !g.late {
			w.guardHadTo(g.m)
		}
		s.crash()
	}
}

// launched sees a postmaster that was started after the moment, by an agent that was frozen between its last look at the lock and
// the start.
func (g *guard) launched(s *server) {
	g.m.w.after(g.m.w.rand.between(0, 50*time.Millisecond), nil, func() {
		if g.alive && g.fired && g.m.server == s {
			g.fire()
		}
	})
}

// start begins the process; it carries on with what the memory says.
func (g *guard) start() {
	if g.m.w.options.NoGuard || g.alive {
		return
	}
	g.alive = true
	if g.armed {
		g.seq++
		g.sleep(g.seq)
	}
}

// die ends the process.
func (g *guard) die() { g.alive = false }

// moment is when the guard kills for a lock that ends then.
func (a *agent) moment(deadline time.Time) time.Time {
	return deadline.Add(-guardMargin(a.timing.TTL))
}

// mayLead is the last look at the lock before PostgreSQL becomes writable: it arms the guard.
func (a *agent) mayLead() error {
	if err := a.stillLeader(); err != nil || a.limits.Paused {
		return err
	}
	at := a.moment(a.lock.Deadline)
	if !a.now().Before(at) {
		return fmt.Errorf("arm the guard: the lock ends before PostgreSQL would be down again: %w", dcs.ErrNotHeld)
	}
	a.m.guard.arm(at)
	a.fenced = true
	return nil
}

// renewed moves the guard's moment after a confirmed renewal.
func (a *agent) renewed() {
	if a.fenced && a.lock.Held {
		a.m.guard.arm(a.moment(a.lock.Deadline))
	}
}

// fence makes the guard follow what was seen and decided, after each decision.
func (a *agent) fence() {
	p, g := &a.loop.Postgres, &a.m.guard
	if !p.Running() || p.Queried && !p.InRecovery {
		a.promotion = false
	}
	guarded := a.loop.Guarded()
	if !guarded && !a.loop.Limits.Paused && a.fenced {
		guarded = a.promotion || !p.Running() && a.m.stray != nil // what was given up may still come true
	}
	a.fenced = guarded
	unlocked := a.loop.Memory.Unlocked
	switch {
	case !guarded:
		g.disarm()
		g.lapsed = a.loop.Limits.Paused
	case a.lock.Held:
		g.arm(a.moment(a.lock.Deadline))
	case !unlocked.IsZero() && !g.armed && !g.fired:
		lapsed := g.lapsed
		g.arm(a.moment(unlocked.Add(a.timing.TTL)))
		g.lapsed = lapsed
	}
}
