package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// play lets a run happen: the cluster forms, faults come and go, and in the end all is well again.
func (w *World) play() {
	if w.standbyRun {
		w.startRemote()
	}
	apart := choose(&w.rand, 3*time.Second, 3*time.Second, 3*time.Millisecond) // or all at once: who makes the cluster?
	for _, m := range w.Members {
		m.startAgent(w.rand.between(0, apart))
	}
	if !w.early() && !w.until(3*time.Minute, func() bool { return w.trouble() == "" }) {
		w.wedged("the cluster does not form")
		return
	}
	w.note("formed")
	begin := w.now
	end := begin
	for i := range w.schedule {
		f := &w.schedule[i]
		w.at(begin+int64(f.At), nil, func() { w.strike(f) })
		end = max(end, begin+int64(f.At+f.For))
	}
	if w.standbyRun {
		w.remoteLives(end)
	}
	for w.oracle.violation == nil && w.advance(end) {
	}
	if w.oracle.violation != nil {
		return
	}
	w.heal()
	w.note("all faults are over")
	t := w.bootstrapConfig
	if c := w.peek().Config; c.Usable {
		t = c
	}
	timing, _ := t.Timing()
	slow := time.Duration(0) // what has begun slowly ends slowly
	for _, f := range w.schedule {
		if f.Kind == "slow-start" || f.Kind == "slow-promote" || f.Kind == "slow-stop" {
			slow += time.Duration(f.Value%100) * time.Second
		}
	}
	first := slow + 2*timing.TTL + 2*timing.LoopWait + 90*time.Second
	if !w.until(first, func() bool { return w.led() != nil }) {
		w.wedged("no primary")
		return
	}
	if !w.until(5*time.Minute, func() bool { return w.trouble() == "" }) {
		w.wedged("not everybody streams")
		return
	}
	if w.sites != nil {
		w.loseSite()
	}
	w.settle()
	w.watchCalm()
}

// early says whether the faults begin before there is a cluster.
func (w *World) early() bool { return w.options.Seed%16 == 7 }

// until plays until done holds, for the limit at most. It looks twice a second.
func (w *World) until(limit time.Duration, done func() bool) bool {
	end := w.now + int64(limit)
	for w.oracle.violation == nil {
		next := min(w.now+int64(500*time.Millisecond), end)
		for w.oracle.violation == nil && w.advance(next) {
		}
		if w.oracle.violation != nil || done() {
			return true
		}
		if w.now >= end {
			return false
		}
	}
	return true
}

// advance lets the next event happen. A loop that never waits would stop the time: V18.
func (w *World) advance(until moment) bool {
	before := w.now
	more := w.step(until)
	if w.crowd++; w.now != before {
		w.crowd = 0
	}
	if w.crowd > 100_000 {
		w.violate("V18", "somebody does one thing after the other and no time passes")
	}
	return more
}

// primary is the member that leads: the lock is its own and it accepts commits.
func (w *World) primary() *Member {
	m := w.member(w.peek().Leader.Name)
	if m != nil && m.writes {
		return m
	}
	return nil
}

// trouble is what is not well; empty: nothing.
func (w *World) trouble() string {
	if w.standbyRun {
		return w.standbyTrouble()
	}
	s := w.peek()
	leader := w.primary()
	if leader == nil {
		return fmt.Sprintf("nobody leads (lock: %q)", s.Leader.Name)
	}
	var list []string
	for _, m := range w.Members {
		if m == leader || m.silent || m.resigned() {
			continue
		}
		p := m.server
		switch {
		case p == nil || !p.accepting || p.phase != standingBy:
			list = append(list, m.name+" is "+m.state())
		case p.receiver == nil || p.receiver.from.m.server != p.receiver.from: // or it has not noticed yet that the other end is gone
			list = append(list, m.name+" does not stream")
		case p.dir.tli != leader.dir.tli || !p.dir.continues(&leader.dir):
			list = append(list, fmt.Sprintf("%s is on another history: %s/%d from %s, the leader at %s/%d", m.name, p.dir.end(), p.dir.tli, p.receiver.from.m.name, leader.dir.end(), leader.dir.tli))
		}
	}
	if s.Failover.Requested() {
		list = append(list, "a failover request is left")
	}
	if what := w.syncTrouble(leader); what != "" {
		list = append(list, what)
	}
	if s.Initialize.SystemID != leader.dir.system {
		list = append(list, "initialize is "+s.Initialize.SystemID)
	}
	return strings.Join(list, ", ")
}

// resigned says whether the member has said that it cannot come back by itself: its configuration does not allow it.
func (m *Member) resigned() bool {
	a := m.agent
	if up := m.w.member(m.tags.ReplicateFrom); up != nil && up != m && up.resigned() {
		return true // it was told to follow that one
	}
	if m.gaveUp == 0 || m.w.now-m.gaveUp > int64(time.Minute) {
		return false
	}
	leader := m.w.primary()
	if leader == nil {
		return false
	}
	failed := a != nil && a.loop.Memory.RewindFailed
	_, _, twin := m.divergence(leader)
	allowed := m.local.UseRewind && m.dir.problem == "" && !failed && !twin || m.local.RemoveOnDivergence || m.local.RemoveOnRewindFailure && failed
	return m.dir.system != leader.dir.system || !allowed && (m.dir.problem != "" || !m.dir.continues(&leader.dir))
}

// lastOnesGone says whether disks took what a new leader needs: nobody has usable data, or who has it belongs elsewhere.
func (w *World) lastOnesGone() bool {
	usable := func(m *Member) bool { return m.dir.present() && m.dir.problem == "" && !m.strange }
	return slices.ContainsFunc(w.Members, func(m *Member) bool { return m.strange }) || !slices.ContainsFunc(w.Members, usable)
}

// wedged reports a cluster that does not come back: V18.
func (w *World) wedged(what string) {
	if w.oracle.violation != nil {
		return
	}
	if !w.standbyRun && w.primary() == nil && (w.wiped && w.lastOnesGone() || w.electorsGone()) || !w.standbyRun && (w.wiped || w.newestMayNotLead()) && w.lagsTooFar() {
		return
	}
	var list []string
	for _, m := range w.Members {
		s := m.name + " " + m.state()
		if a := m.agent; a != nil {
			s += " (" + string(a.loop.Decision.Reason) + ": " + a.loop.Decision.Detail + ")"
		}
		list = append(list, s)
	}
	name := "V18"
	if w.primary() != nil && w.peek().Failover.Requested() && !strings.Contains(w.trouble(), ",") {
		name = "V16"
	}
	w.violate(name, "%s: %s; %s", what, w.trouble(), strings.Join(list, "; "))
}

// newestMayNotLead says whether all that are on the newest timeline are tagged nofailover: people have named one of them, and have to do it again.
func (w *World) newestMayNotLead() bool {
	return !slices.ContainsFunc(w.Members, func(m *Member) bool { return m.dir.present() && m.dir.tli == w.oracle.newest && !m.tags.NoFailover })
}

// electorsGone says whether only members may lead, by /sync, that have lost a disk or were emptied, or that are tagged otherwise. In quorum mode
// also whether too few are left to vote; who has followed a primary of the past into another history is ahead of all others.
func (w *World) electorsGone() bool {
	key := w.peek().Sync
	if !w.peek().Config.SynchronousMode().Active() || key.Leader == "" {
		return false
	}
	votes, leads := 0, false
	for _, m := range w.Members {
		apart := func(o *Member) bool { return o.dir.tli > m.dir.tli && o.dir.end() < m.dir.end() }
		if key.Has(m.name) && !m.wiped && m.dir.present() && m.dir.problem == "" && !slices.ContainsFunc(w.Members, apart) {
			if m.name == key.Leader { // it needs nobody, and may be ahead of all others
				if !m.tags.NoFailover {
					return false
				}
				continue
			}
			votes++
			leads = leads || !m.tags.NoFailover
		}
	}
	return !leads || votes <= key.Quorum
}

// lagsTooFar says whether nobody may lead because those with the newest WAL were lost or may not: what is missing is more than
// maximum_lag_on_failover, check_timeline and /sync allow to lose, and that is for people to decide.
func (w *World) lagsTooFar() bool {
	for _, m := range w.Members {
		if m.dir.present() && (m.dir.end() < m.dir.control.MinRecovery || m.dir.problem != "") {
			continue // a rewind or clone of the lost disk that nobody can complete any more
		}
		if a := m.agent; m.dir.present() && (a == nil || !slices.Contains([]ha.Reason{ha.LagTooHigh, ha.NoFailoverTag, ha.TimelineBehind, ha.NotSyncStandby, ha.NoQuorum, ha.NotInFailsafe}, a.loop.Decision.Reason)) {
			return false
		}
	}
	return true
}

// settle is the last account: every acknowledged row is there, or a failover left it behind.
func (w *World) settle() {
	leader := w.primary()
	if leader == nil || w.oracle.violation != nil || w.restored { // a store of yesterday may bring back a leader of yesterday
		return
	}
	for _, r := range w.oracle.rows {
		if !holds(&leader.dir, r) && !w.oracle.explained[r.id] && !(w.wiped && !w.anybodyHas(r)) {
			w.violate("rows", "row %d, acknowledged by %s on timeline %d at %s, is gone and no failover left it behind", r.id, r.by.name, r.tli, time.Duration(r.at))
			return
		}
	}
}

func (w *World) anybodyHas(r row) bool {
	for _, m := range w.Members {
		if holds(&m.dir, r) {
			return true
		}
	}
	return false
}

// peek is the store's truth.
func (w *World) peek() *cluster.Snapshot {
	s, err := w.truth.Snapshot(background)
	if err != nil {
		panic("the store inside the process does not answer: " + err.Error())
	}
	return s
}
