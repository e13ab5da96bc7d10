package sim

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// oracle holds what the invariants of ha.md 4.4 are judged by: facts of true time, which no member knows.
type oracle struct {
	w         *World
	violation *Violation

	rows         []row // acknowledged ones, in order
	acknowledged int
	lost         int          // rows that a failover left behind
	explained    map[int]bool // their ids
	promotions   int

	leaseEnd []moment // by member: the last confirmed renewal's end; 0: none ever
	watching []bool   // an event will look at that end
	stored   []moment // the same, by what the store has confirmed alone
	promised []moment // by member: when it has promised last not to take the lock; 0: never

	term        term
	released    *handOver // a leader gave the lock to somebody who has all of its WAL
	initialized string
	waived      moment // until when a store that broke its word excuses two primaries
	sampled     uint64
	calm        bool             // nothing may happen now
	newest      cluster.Timeline // that anybody was promoted to
	requested   moment           // when people asked for something last
	consumed    cluster.LSN      // where the consumer of the permanent slot is, as published at most
	named       moment           // ... for a switchover or failover
	unfounded   moment           // since when nobody makes the cluster: the agent that had claimed it is gone; 0: it is not so
}

// row is one acknowledged commit.
type row struct {
	id, index int
	at        moment
	tli       cluster.Timeline
	by        *Member
	sync      bool // acknowledged in synchronous mode
}

// term is the rule of one lock holder.
type term struct {
	holder   *Member
	clean    bool   // it was handed the lock
	forced   bool   // an operator wants it to lead, whatever it lacks
	ordinary bool   // it won while no synchronous mode was on, or /sync named nobody since it had been switched off before (ha.md D-12)
	failures int    // starts and promotions in a row
	promotes moment // since when it is being promoted; 0: it is not
	idle     moment // since when its PostgreSQL is stopped in pause; 0: it is not
}

type handOver struct {
	from *Member
	to   string
}

func (o *oracle) init(w *World) {
	o.w = w
	o.explained = map[int]bool{}
	o.requested, o.named = -int64(time.Hour), -int64(time.Hour)
	o.leaseEnd = make([]moment, len(w.Members))
	o.watching = make([]bool, len(w.Members))
	o.stored = make([]moment, len(w.Members))
	o.promised = make([]moment, len(w.Members))
}

// violate notes the first violation; the run ends.
func (w *World) violate(name, format string, args ...any) {
	if w.oracle.violation == nil && !w.options.ignores(name) {
		w.oracle.violation = &Violation{Oracle: name, At: time.Duration(w.now), Detail: fmt.Sprintf(format, args...)}
		w.note("VIOLATION %s", w.oracle.violation)
	}
}

// paused says whether the member has applied maintenance mode, or its agent is away and may have.
func (m *Member) paused() bool {
	if m.agent != nil {
		return m.agent.limits.Paused
	}
	return m.dir.document.Paused()
}

func (w *World) anyPaused() bool {
	for _, m := range w.Members {
		if m.paused() {
			return true
		}
	}
	return w.peek().Config.Paused()
}

// forsaken says whether nobody is left to stop PostgreSQL here: the guard died, and its agent before it could start another one.
// Or they were told only now that a pause has ended, in which the guard lets go, and need a moment; or its agent froze in that one.
func (m *Member) forsaken() bool {
	froze := m.guard.lapsed && m.agent != nil && m.agent.frozen > 0
	return !m.w.options.NoGuard && (!m.guard.alive || m.w.now < m.untold || froze)
}

// bootstraps says whether this is a new cluster that nobody knows of yet.
func (m *Member) bootstraps() bool {
	return m.bootstrapping != "" && m.bootstrapping == m.dir.system && m.w.oracle.initialized != m.dir.system
}

// writability checks V1, V2 and V20 when a PostgreSQL begins to accept commits.
func (w *World) writability(m *Member) {
	w.disturbed(m, "begins or ceases to accept commits")
	w.note("%-4s writable=%v at %s/%d", m.name, m.writes, m.dir.end(), m.dir.tli)
	if !m.writes || m == w.remote {
		return
	}
	if w.standbyRun {
		w.violate("V1", "%s becomes writable in a standby cluster", m.name)
	}
	o := &w.oracle
	if m.bootstraps() || w.anyPaused() {
		return
	}
	for _, other := range w.Members {
		if other != m && other.writes && !other.bootstraps() && w.now >= o.waived && other.dir.system == m.dir.system && !m.forsaken() && !other.forsaken() {
			w.violate("V1", "%s becomes writable on timeline %d while %s is, on timeline %d", m.name, m.dir.tli, other.name, other.dir.tli)
		}
	}
	if m.stray != nil {
		return
	}
	o.term.failures, o.term.promotes = 0, 0
	if m.dir.tli < o.newest && m.dir.tli >= w.peek().History.ClusterTimeline() {
		o.leftBehind(&m.dir) // the leader of the newer timeline was lost before it could tell anybody of it
	}
	if leader := w.peek().Leader.Name; leader != m.name && w.now >= o.waived && !m.thawing && !m.forsaken() && !(leader == "" && w.letGoOn(m)) {
		w.violate("V2", "%s becomes writable while the lock is %q's", m.name, leader)
	}
	if o.initialized != "" && m.dir.system != o.initialized && !w.restored {
		w.violate("V14", "%s leads with data of another cluster: %s, initialize is %s", m.name, m.dir.system, o.initialized)
	}
	if !w.options.NoGuard && m.guard.alive && !m.guard.armed && !m.guard.fired && !m.thawing {
		w.violate("V20", "%s becomes writable and its guard is not armed", m.name)
	}
	w.watchLease(m)
}

// confirmed notes a confirmed acquisition or renewal: V3 counts from when the request left.
func (w *World) confirmed(a *agent, request loop.Request, sent moment, ttl time.Duration) {
	o := &w.oracle
	if request == loop.Renew && sent > a.due {
		w.violate("V18", "%s renews the lock, and its loop should have decided something %s ago", a.m.name, time.Duration(sent-a.due))
	}
	if end := o.leaseEnd[a.m.place]; request == loop.Renew && sent > end+int64(clockSlack) {
		w.violate("V3", "%s renews the lock %s after it ran out: it may have been another's in between", a.m.name, time.Duration(sent-end))
	}
	o.leaseEnd[a.m.place] = max(o.leaseEnd[a.m.place], sent+int64(ttl))
	o.stored[a.m.place] = max(o.stored[a.m.place], sent+int64(ttl))
	w.watchLease(a.m)
}

// clockSlack is what clocks of different rate may differ by in one lease.
const clockSlack = 25 * time.Millisecond

// watchLease looks at the lease's end whether PostgreSQL still writes: V3.
func (w *World) watchLease(m *Member) {
	o := &w.oracle
	if o.watching[m.place] || o.leaseEnd[m.place] == 0 {
		return
	}
	o.watching[m.place] = true
	w.at(max(o.leaseEnd[m.place]+int64(clockSlack), m.untold), nil, func() {
		o.watching[m.place] = false
		switch {
		case w.now < o.leaseEnd[m.place]+int64(clockSlack):
			w.watchLease(m)
		case m.agent == nil && !m.guard.alive, m.forsaken(): // nobody is left to stop it
		case m.writes && !m.bootstraps() && !w.anyPaused() && m.dir.system == o.initialized:
			w.violate("V3", "%s is writable %s after the end of its lease", m.name, time.Duration(w.now-o.leaseEnd[m.place]))
		}
	})
}

// guardHadTo checks that an agent which runs has kept its PostgreSQL from writing before the guard has to: "guard".
func (w *World) guardHadTo(m *Member) {
	s := m.server
	a := m.agent
	if a == nil || a.frozen > 0 || a.stuck > 0 || w.now-a.since < int64(a.timing.TTL*9/10) || w.now < w.oracle.waived {
		return
	}
	if m.writes || s.promoting || s.frozen > 0 && s.phase == primary && a.lock.Held {
		w.violate("guard", "the guard of %s kills PostgreSQL, although its agent has run for %s: %s %s", m.name, time.Duration(w.now-a.since), a.loop.Decision.Reason, a.loop.Decision.Detail)
	}
}

// acknowledged notes a row that a client was told is committed.
func (w *World) acknowledged(m *Member, index int) {
	o, r := &w.oracle, &m.dir.wal[index]
	o.acknowledged++
	if m.bootstraps() || m == w.remote {
		return
	}
	o.rows = append(o.rows, row{id: r.id, index: index, at: w.now, tli: r.tli, by: m, sync: w.syncRun && w.syncIsOn(m)})
	if key := w.peek().Sync; w.quorumRun && key.Leader == m.name {
		w.checkRow(&o.rows[len(o.rows)-1], &key)
	}
	if w.sites != nil {
		w.sites.checkRow(w, m, o.rows[len(o.rows)-1])
	}
	if m.dir.tli < o.newest || w.excused(m) || w.unheardOf(m) { // what the older one takes is lost
		o.explained[r.id] = true
		o.lost++
	}
}

// excused says whether this is the older of two primaries, and nobody could do anything about it: another member leads and writes.
func (w *World) excused(m *Member) bool {
	leader := w.member(w.peek().Leader.Name)
	return (w.now < w.oracle.waived || m.forsaken()) && leader != nil && leader != m && leader.writes
}

// unheardOf says whether this is one of two primaries in pause, and timelines do not tell which is the newer: it has not published its own, or the
// other has one of the same number.
func (w *World) unheardOf(m *Member) bool {
	unpublished := m.dir.tli > w.peek().History.ClusterTimeline()
	other := func(o *Member) bool {
		return o != m && o.writes && o.dir.system == m.dir.system && (unpublished || o.dir.tli == m.dir.tli)
	}
	return w.anyPaused() && slices.ContainsFunc(w.Members, other)
}

// promoted looks at what a new primary lacks, and at its timeline: V11, V19.
func (w *World) promoted(s *server) {
	o := &w.oracle
	o.promotions++
	missing, last, synchronous := o.leftBehind(s.dir)
	w.note("%-4s promoted to timeline %d at %s; %d rows are left behind", s.m.name, s.dir.tli, s.dir.end(), missing)
	if missing > 0 && o.term.holder == s.m && o.term.clean && !w.restored {
		w.violate("V19", "%s was handed the lock and lacks %d acknowledged rows, the last of %s on timeline %d", s.m.name, missing, last.by.name, last.tli)
	}
	forced := o.term.holder == s.m && o.term.forced
	ordinary := o.term.holder == s.m && o.term.ordinary
	if r := synchronous; r.sync && !forced && !ordinary && !w.wiped && !w.restored && w.peek().Config.SynchronousMode().Active() {
		w.violate("V7", "%s is promoted and lacks row %d, which %s acknowledged on timeline %d at %s in synchronous mode", s.m.name, r.id, r.by.name, r.tli, time.Duration(r.at))
	}
	for _, m := range w.Members {
		if m != s.m && !forced && w.stopsInOrder(m) {
			w.violate("V19", "%s is promoted while %s, whose agent leaves, has not written its last WAL yet", s.m.name, m.name)
		}
	}
	o.newest = max(o.newest, s.dir.tli)
	if w.sites != nil {
		w.sites.promoted(w, s.m)
	}
	beside := s.m.paused() && w.peek().Leader.Name != s.m.name // a promotion from before the pause, which nobody stops
	if known := w.peek().History.ClusterTimeline(); s.dir.tli <= known && !beside && !w.excused(s.m) {
		w.violate("V11", "%s begins timeline %d, which the cluster was on already", s.m.name, known)
	}
}

// stopsInOrder says whether a primary is being stopped that could keep the lock meanwhile: its agent leaves, and reaches the store.
func (w *World) stopsInOrder(m *Member) bool {
	s, a := m.server, m.agent
	if s == nil || s.phase != stopping || s.role != primary || s.frozen > 0 || m.dir.control.State != cluster.ControlShuttingDown {
		return false
	}
	able := a != nil && a.leaving && a.frozen == 0 && a.stuck == 0 && !m.paused() && w.now-a.since > int64(a.limits.TTL)
	return able && w.reachesStore(m, a.limits.TTL+patience)
}

// reachesStore says whether a member has reached the store for that long, and the store has answered for some time.
func (w *World) reachesStore(m *Member, long time.Duration) bool {
	return w.net.steady(m.place, w.storePlace, long) && w.storeDown == 0 && (w.storeBack == 0 || w.now-w.storeBack > int64(patience)) && w.now >= w.oracle.waived
}

// leftBehind counts the rows that are lost with a new leader, each once, and returns the last one, and the last one of synchronous mode.
func (o *oracle) leftBehind(d *directory) (missing int, last, synchronous row) {
	for _, r := range o.rows {
		if !holds(d, r) && !o.explained[r.id] {
			missing++
			last = r
			if r.sync {
				synchronous = r
			}
			o.explained[r.id] = true
		}
	}
	o.lost += missing
	return missing, last, synchronous
}

// holds says whether a directory has the row.
func holds(d *directory, r row) bool { return r.index < len(d.wal) && d.wal[r.index].id == r.id }

// acquired checks who may win: V8, V9, V10.
func (w *World) acquired(a *agent) {
	o, v, d := &w.oracle, &a.loop.View, &a.loop.Decision
	if !a.now().Before(a.lock.Deadline) {
		return // it heard of it after that had run out
	}
	named := d.Reason == ha.CandidateIsMe && v.Store.Failover.Switchover() // also when the leader handed over to another one
	clean := o.released != nil && o.released.from != a.m && (o.released.to == a.m.name || named)
	if o.term.holder != a.m {
		key := w.peek()
		o.term = term{holder: a.m, clean: clean, ordinary: !key.Config.SynchronousMode().Active() || key.Sync.Leader == ""}
	}
	wish := w.peek().Failover // it has taken the lock for that, whatever it says by now: the answer may have got lost
	o.term.forced = o.term.forced || d.Reason == ha.CandidateIsMe && !v.Store.Failover.Switchover() || wish.Candidate == a.m.name && !wish.Switchover()
	o.released = nil
	w.note("%-4s has the lock", a.m.name)
	if v.Store != nil && v.Postgres.Queried {
		old := v.Postgres.Timeline < v.Store.History.ClusterTimeline()
		if old && !w.restored && !w.standbyRun && (!v.Postgres.InRecovery || v.Limits.CheckTimeline && d.Reason == ha.Healthiest) {
			w.violate("V11", "%s takes the lock (%s) on timeline %d, and the cluster was on %d", a.m.name, d.Reason, v.Postgres.Timeline, v.Store.History.ClusterTimeline())
		}
	}
	if v.Store == nil || v.Postgres.Queried && !v.Postgres.InRecovery || d.Reason != ha.Healthiest {
		return
	}
	if last := a.m.unpromoted; last > a.since && w.now-last < int64(min(a.timing.TTL, a.m.unpromotedTTL)*9/10) {
		w.violate("V18", "%s won an automatic race %s after its promotion failed", a.m.name, time.Duration(w.now-last))
	}
	if a.m.tags.NoFailover {
		w.violate("V10", "%s is tagged nofailover and won an automatic race", a.m.name)
	}
	truth := w.peek()
	if v.Limits.Sync.Mode.Active() && v.Store.Sync.Leader != "" && !v.Store.Sync.Has(a.m.name) {
		w.violate("V10", "%s is not in /sync and won an automatic race", a.m.name)
	}
	at, optime := a.m.dir.end(), min(truth.Status.Optime, v.Store.Status.Optime)
	ruled := v.Limits.Sync.Mode.Active() && v.Store.Sync.Leader == a.m.name                                // it has all that was acknowledged since it led
	ruled = ruled || v.Limits.Survive.Asked() && v.Limits.Sync.Mode.Active() && v.Store.Sync.Has(a.m.name) // likewise
	if w.standbyRun && a.m.dir.continues(&w.remote.dir) {                                                  // on the history that counts: it lacks what the remote will send
		ruled = true
	}
	if f := v.Store.Failover; (!f.Requested() || f.Switchover()) && !ruled && at+v.Limits.MaxLag < optime {
		w.violate("V8", "%s won at %s, more than %d bytes behind %s", a.m.name, at, v.Limits.MaxLag, optime)
	}
	if w.storeDown > 0 {
		return
	}
	for _, other := range w.Members { // V9: links are up, positions stand still
		s := other.server
		before := slices.ContainsFunc(v.Memory.Former, func(m cluster.Member) bool { return m.Name == other.name && m.APIURL == other.apiURL() })
		kept := v.Memory.FormerName == "" && v.Now.Sub(v.Memory.Leaderless) < v.Limits.TTL && slices.Contains(v.Store.Status.RetainSlots, cluster.SlotName(other.name))
		_, known := truth.Member(other.name)
		if !known && !before && !kept || !w.net.steady(a.m.place, other.place, 15*time.Second) {
			continue // nobody can know where to ask it, or no answer would come
		}
		answers := other != a.m && s != nil && s.accepting && s.frozen == 0 && other.agent != nil && other.agent.frozen == 0 && w.now-int64(5*time.Second) >= max(s.answering, other.agent.since)
		switch named := truth.Failover.Candidate == other.name && truth.Failover.ScheduledAt == nil && w.now-w.oracle.named < int64(v.Limits.TTL); {
		case answers && other.writes && w.now >= o.waived && other.dir.system == a.m.dir.system:
			w.violate("V1", "%s won although %s is a running primary and says so", a.m.name, other.name)
		case answers && named && known && !other.tags.NoFailover:
			w.violate("V19", "%s won although %s is to lead and answers", a.m.name, other.name)
		}
		if v.Store.Failover.Requested() || !w.net.steady(other.place, w.storePlace, time.Minute) {
			continue
		}
		if other == a.m || other.tags.NoFailover || s == nil || !s.accepting || s.frozen > 0 || other.agent == nil || other.agent.frozen > 0 || other.agent.stuck > 0 || w.now-other.moved < int64(5*time.Second) {
			continue
		}
		if limited := v.Limits.CheckTimeline && other.dir.tli < truth.History.ClusterTimeline(); limited || other.dir.system != a.m.dir.system || w.now-int64(5*time.Second) < max(s.answering, other.agent.since) {
			continue
		}
		if _, listed := v.Store.Failsafe[other.name]; v.Limits.Failsafe && len(v.Store.Failsafe) > 0 && !listed {
			continue // it may not lead
		}
		if v.Limits.Sync.Mode.Active() && (v.Store.Sync.Leader == other.name || v.Store.Sync.Leader != "" && !v.Store.Sync.Has(other.name)) {
			continue // what it has more was never acknowledged
		}
		if other.dir.end() > at {
			w.violate("V9", "%s won at %s although %s is at %s", a.m.name, at, other.name, other.dir.end())
		}
	}
}

// gave notes a lock that was handed to somebody.
func (w *World) gave(a *agent) {
	d := &a.loop.Decision
	if d.Reason != ha.HandOver {
		w.oracle.released = nil
		return
	}
	to := a.loop.View.Store.Failover.Candidate
	for _, action := range d.Actions {
		if write, ok := action.(ha.WriteFailover); ok {
			to = write.Failover.Candidate
		}
	}
	w.oracle.released = &handOver{a.m, to}
}

// acting checks what a switchover begins with, and what is begun in pause: V16, V19, V15.
func (w *World) acting(a *agent, action ha.Action) {
	v, d := &a.loop.View, &a.loop.Decision
	if stop, ok := action.(ha.Demote); ok && stop.Mode == ha.Graceful && d.Reason == ha.SwitchoverStart && v.Store != nil {
		f := v.Store.Failover
		if f.From != "" && f.From != a.m.name {
			w.violate("V16", "%s carries out a request that names %s as the leader", a.m.name, f.From)
		}
		if to := w.member(f.Candidate); to != nil && w.now-to.moved > int64(5*time.Second) && to.dir.end()+v.Limits.MaxLag < v.Postgres.Position() {
			w.violate("V19", "%s hands over to %s, which is at %s and does not get on, from %s", a.m.name, to.name, to.dir.end(), v.Postgres.Position())
		}
	}
	if w.standbyRun {
		w.standbyActs(a, action)
	}
	if !v.Limits.Paused || v.Store == nil {
		return
	}
	switch action.(type) {
	case ha.StartStandby, ha.StartPrimary, ha.Demote, ha.Promote, ha.Clone, ha.Rewind, ha.Recover, ha.Bootstrap:
	default:
		return
	}
	if v.Asked.Leave && v.Job == nil {
		w.violate("V15", "%s does %s (%s), and its agent leaves in pause", a.m.name, action, d.Reason)
	}
	asked := v.Store.Failover.Requested() || v.Asked.Restart != nil || v.Asked.Reinitialize != nil || !v.Memory.HandedOver.IsZero() || v.Asked.Leave
	if !asked && w.now-w.oracle.requested > int64(2*time.Minute) {
		w.violate("V15", "%s does %s (%s) in pause, and nobody asked for it", a.m.name, action, d.Reason)
	}
}

// removing checks who empties its data directory: V13.
func (w *World) removing(a *agent, why string) {
	m := a.m
	w.note("%-4s empties its data directory: %s", m.name, why)
	switch {
	case m.server != nil:
		w.violate("V13", "%s empties its data directory (%s) while PostgreSQL runs there", m.name, why)
	case why != "failed bootstrap" && !w.standbyRun && w.peek().Leader.Name == m.name && a.lock.Held:
		w.violate("V13", "%s empties its data directory (%s) while it holds the lock", m.name, why)
	case why == "removal option" && m.dir.problem == "" && !w.restored:
		if leader := w.member(w.peek().Leader.Name); leader != nil && leader.writes && m.dir.system == leader.dir.system && m.dir.continues(&leader.dir) {
			w.violate("V13", "%s empties its data directory (%s), and it has not diverged from %s", m.name, why, leader.name)
		}
		w.onlyCopy(m, why)
	}
}

// onlyCopy checks that nothing is removed that only this member has and that no failover gave up.
func (w *World) onlyCopy(m *Member, why string) {
	o := &w.oracle
	for i := len(o.rows) - 1; i >= 0 && i >= len(o.rows)-200; i-- {
		r := o.rows[i]
		if o.explained[r.id] || !holds(&m.dir, r) {
			continue
		}
		for _, other := range w.Members {
			if other != m && other.dir.present() && holds(&other.dir, r) {
				return // and so are all before it
			}
		}
		w.violate("V13", "%s empties its data directory (%s), the only one with row %d of %s", m.name, why, r.id, r.by.name)
		return
	}
}

// wrote checks V14 whenever a member writes the key.
func (w *World) wrote(a *agent, key string, value []byte, err error) {
	if key == cluster.KeyStatus && err == nil {
		w.published(value)
	}
	if key != cluster.KeyInitialize || err != nil || len(value) == 0 {
		return
	}
	o := &w.oracle
	if o.initialized != "" && o.initialized != string(value) && !w.restored {
		w.violate("V14", "%s changes initialize from %s to %s", a.m.name, o.initialized, value)
	}
	o.initialized = string(value)
}

// storeNews looks at the keys after each relevant change.
func (w *World) storeNews() {
	if w.sites != nil {
		w.sites.look(w)
	}
}

// slotsAsked checks what a member does to the slots of others: V17. No run lasts as long as member_slots_ttl.
func (w *World) slotsAsked(s *server, want []slotWant, drop []string) {
	c := w.peek().Config
	w.permanentAsked(s, want, drop)
	for _, m := range w.Members {
		name := cluster.SlotName(m.name)
		if slices.Contains(drop, name) && w.peek().Leader.Name == s.m.name && m != s.m && c.UseSlots() && c.MemberSlotsTTL() > 0 {
			w.violate("V17", "%s drops the slot of %s", s.m.name, m.name)
		}
	}
	for _, x := range want {
		switch o := s.dir.slot(x.name); {
		case x.advance == 0:
		case s.recovery && x.advance > s.caughtUp():
			w.violate("V17", "%s moves slot %s to %s and has replayed up to %s", s.m.name, x.name, x.advance, s.caughtUp())
		case o != nil && o.user == nil && x.advance < o.restart:
			w.violate("V17", "%s moves slot %s back from %s to %s", s.m.name, x.name, o.restart, x.advance)
		}
	}
}

// advanced checks that a slot is not moved past what its consumer has: V17. A slot that was made with the WAL that was left
// may be past it from the begin on, and is published so.
func (w *World) advanced(s *server, slot *slot) {
	if slot.restart <= w.peek().Status.Slots[slot.name] || w.standbyRun {
		return // the second: who has just copied the remote makes slots where its own WAL begins, leads, publishes them, and is replaced
	}
	for _, m := range w.Members {
		if cluster.SlotName(m.name) == slot.name && m.dir.present() && m.dir.system == s.dir.system && m.dir.continues(s.dir) && slot.restart > m.dir.end() {
			w.violate("V17", "%s moves slot %s to %s, its consumer has %s", s.m.name, slot.name, slot.restart, m.dir.end())
		}
	}
}

// checkDecision samples V21: the same view gives the same decision.
func (w *World) checkDecision(a *agent) {
	o := &w.oracle
	w.storeNews() // a member key that says something else is no news to anybody
	o.sampled++
	if o.sampled%256 != 0 {
		return
	}
	if again := ha.Decide(a.loop.View); !reflect.DeepEqual(again, a.loop.Decision) {
		w.violate("V21", "%s: the same view gives %s %v, then %s %v", a.m.name, a.loop.Decision.Reason, a.loop.Decision.Actions, again.Reason, again.Actions)
	}
}
