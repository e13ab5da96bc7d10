package explore

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// step is one thing that can happen next.
type step struct {
	name string
	do   func(w *world)
}

var errBroken = errors.New("it failed")

// steps lists everything that can happen in this state.
func (w *world) steps() []step {
	var list []step
	add := func(name string, do func(w *world)) {
		list = append(list, step{name, func(w *world) { do(w); w.check() }})
	}
	fault := func(name string, do func(w *world)) {
		if w.faults < w.bounds.Faults {
			add(name, func(w *world) { w.faults++; w.failed = true; do(w) })
		}
	}
	for i := range w.members[:w.bounds.Members] {
		m := &w.members[i]
		if m.alive {
			w.agentSteps(i, add, fault)
		} else {
			add(fmt.Sprintf("agent %s starts", name(i)), func(w *world) { w.boot(i) })
		}
		if w.streams(i) && m.pg.log != w.members[m.pg.upstream].pg.log {
			add(fmt.Sprintf("%s receives a record", name(i)), func(w *world) { w.receive(i) })
		}
		if m.pg.writable() && w.rows < w.bounds.Rows {
			add(fmt.Sprintf("a row is written on %s", name(i)), func(w *world) { w.write(i) })
		}
		fault(fmt.Sprintf("host of %s is lost", name(i)), func(w *world) { w.kill(i); w.members[i].alive = false })
		if m.alive {
			fault(fmt.Sprintf("agent %s is killed", name(i)), func(w *world) { w.members[i].alive = false; w.orphan(i) })
		}
		if m.pg.up {
			fault(fmt.Sprintf("postmaster of %s is killed", name(i)), func(w *world) { w.kill(i) })
		}
	}
	if w.store.Leader.Name != "" && w.now >= w.expiry {
		add("the lease ends", func(w *world) { w.change(func(s *cluster.Snapshot) { s.Leader = cluster.Leader{} }) })
	}
	if w.requests < w.bounds.Requests && w.store.Leader.Name != "" && !w.store.Failover.Requested() {
		add("a switchover is asked for", func(w *world) {
			w.requests++
			w.change(func(s *cluster.Snapshot) {
				s.Failover = cluster.Failover{From: s.Leader.Name, Revision: s.Failover.Revision + 1}
			})
		})
	}
	if w.now < w.bounds.Ticks {
		add("time passes", func(w *world) { w.tick() })
	}
	return list
}

// agentSteps are those of a living agent.
func (w *world) agentSteps(i int, add, fault func(string, func(*world))) {
	m := &w.members[i]
	who := name(i)
	if ask, _, _ := m.lease.Step(w.time()); ask == loop.Renew {
		add(who+" renews", func(w *world) { w.request(i, loop.Renew, nil) })
		fault(who+" renews, the answer is lost", func(w *world) { w.request(i, loop.Renew, dcs.ErrUnavailable) })
	}
	switch {
	case len(m.pending) > 0:
		a := m.pending[0].(loop.Act).Action
		add(who+" does "+a.String(), func(w *world) { w.carryOut(i, nil) })
		switch a.(type) {
		case ha.AcquireLeader, ha.ReleaseLeader, ha.WriteFailover:
			fault(who+" does "+a.String()+", the answer is lost", func(w *world) { w.carryOut(i, dcs.ErrUnavailable) })
		}
	case m.news || !w.time().Before(m.rest):
		add(who+" looks", func(w *world) { w.tell(i, loop.Wake{}) })
	}
	if m.job != nil {
		what := m.job.String()
		if d, ok := m.job.(ha.Demote); ok && d.Mode == ha.Graceful && !m.halfway && m.pg.up {
			add(who+" writes its shutdown checkpoint", func(w *world) { w.shutdownCheckpoint(i) })
		} else {
			add(who+" ends "+what, func(w *world) { w.endJob(i, nil) })
		}
		fault(who+" "+what+" fails", func(w *world) { w.endJob(i, errBroken) })
	}
}

// carryOut does the next action. lost: it happens, but the answer does not arrive.
func (w *world) carryOut(i int, lost error) {
	m := &w.members[i]
	a := m.pending[0].(loop.Act)
	m.pending = m.pending[1:]
	w.act(i, a.Action, lost)
}

func (w *world) announce(i int) {
	key := w.members[i].loop.Describe(w.store.Members[i], false)
	if reflect.DeepEqual(key, w.store.Members[i]) {
		return
	}
	w.change(func(s *cluster.Snapshot) {
		s.Members = slices.Clone(s.Members)
		s.Members[i] = key
	})
}

func (w *world) act(i int, a ha.Action, lost error) {
	m := &w.members[i]
	var err error
	switch a := a.(type) {
	case ha.AcquireLeader:
		err = w.request(i, loop.Acquire, lost)
	case ha.ReleaseLeader:
		if a.Optime != 0 {
			w.change(func(s *cluster.Snapshot) { s.Status.Optime = a.Optime; s.Status.Revision++ })
		}
		err = w.request(i, loop.Release, lost)
	case ha.WriteStatus:
		err = w.put(w.store.Status.Revision == a.Status.Revision, func(s *cluster.Snapshot) { s.Status = a.Status; s.Status.Revision++ })
	case ha.WriteFailover:
		err = w.put(w.store.Failover.Revision == a.Failover.Revision, func(s *cluster.Snapshot) { s.Failover = a.Failover; s.Failover.Revision++ })
		err = errors.Join(err, lost)
	case ha.WriteHistory:
		err = w.put(m.loop.Store.History.Revision == w.store.History.Revision, func(s *cluster.Snapshot) { s.History = history(m.pg.log, s.History, name(i)) })
	case ha.AskPeers:
		p := ha.Poll{At: w.time(), Asked: a.Members, Answers: map[string]ha.Answer{}}
		for _, peer := range a.Members {
			p.Answers[peer.Name] = w.answer(index(peer.Name))
		}
		w.tell(i, loop.PeersAnswered{Poll: p})
	case ha.Checkpoint:
		defer w.tell(i, loop.Checkpointed{Timeline: m.pg.timeline()})
	case ha.CancelJob:
		defer w.endJob(i, errors.New("cancelled"))
	case ha.WriteLosses, ha.SyncSlots, ha.ResumeReplay, ha.WriteConfig, ha.WriteInitialize:
	case ha.Exit:
		m.alive = false
		return
	default:
		w.beginJob(i, a)
		return
	}
	w.tell(i, loop.ActionDone{Err: err})
}

func (w *world) put(ok bool, f func(*cluster.Snapshot)) error {
	if !ok {
		return dcs.ErrConflict
	}
	w.change(f)
	return nil
}

// request puts a request of the lease to the store.
func (w *world) request(i int, r loop.Request, lost error) (outcome error) {
	m := &w.members[i]
	if r != loop.Renew {
		m.lease.Order(loop.Order{Request: r, Done: func(err error) { outcome = err }})
	}
	holder, me := w.store.Leader.Name, name(i)
	var err error
	switch {
	case r == loop.Release && holder == me:
		w.change(func(s *cluster.Snapshot) { s.Leader = cluster.Leader{} })
	case r == loop.Release:
		err = dcs.ErrNotHeld
	case holder != "" && holder != me && r == loop.Acquire:
		err = dcs.ErrHeld
	case holder != "" && holder != me:
		err = dcs.ErrNotHeld
	default:
		if r == loop.Acquire && holder == "" && m.pg.signal {
			w.elected(i)
		}
		w.expiry = w.now + int(ttl/tick)
		if holder == "" {
			w.change(func(s *cluster.Snapshot) { s.Leader = cluster.Leader{Name: me} })
		}
	}
	if lost != nil {
		err = lost
	}
	deliver, changed := m.lease.Answered(r, w.time(), w.time(), dcs.Lock{Holder: me, Deadline: w.time().Add(ttl)}, err)
	deliver()
	if changed {
		m.news = true
	}
	return outcome
}

// elected: a standby has taken the lock.
func (w *world) elected(i int) {
	if at, optime := w.members[i].pg.position(), w.store.Status.Optime; at+limits.MaxLag < optime {
		w.breaks("V8", fmt.Sprintf("%s is elected at %s, the last published position is %s", name(i), at, optime))
	}
}

func (w *world) receive(i int) {
	g := &w.members[i].pg
	from := w.members[g.upstream].pg.log
	g.log = from[:len(g.log)+2]
}

func (w *world) write(i int) {
	g := &w.members[i].pg
	row := string(rune('A' + w.rows))
	w.rows++
	g.log += string(g.log[len(g.log)-2]) + row
	w.acknowledged += row
}

// kill ends a PostgreSQL at once.
func (w *world) kill(i int) {
	m := &w.members[i]
	m.pg.up, m.pg.stopping, m.pg.clean = false, false, false
	m.news = true
}

// orphan: the job of a dead agent. A start goes on by itself; what else there is ends with the agent.
func (w *world) orphan(i int) {
	m := &w.members[i]
	m.pg.stopping = m.pg.stopping && m.halfway
	m.job, m.pending = nil, nil
}

// tick lets time pass. The guard kills at the lease's end by the deadline that it was given last.
func (w *world) tick() {
	w.now++
	for i := range w.members[:w.bounds.Members] {
		if w.members[i].pg.up && w.guarded(i) {
			w.kill(i)
		}
	}
}

// guarded says whether the guard lets no PostgreSQL live here now, neither one that runs nor one that is just being started.
func (w *world) guarded(i int) bool {
	m := &w.members[i]
	return m.armed && !w.bounds.NoGuard && !w.time().Before(m.lease.State().Deadline)
}

func history(log string, old cluster.History, leader string) cluster.History {
	h := cluster.History{Present: true, Revision: old.Revision + 1}
	for i := 2; i < len(log); i += 2 {
		if log[i] != log[i-2] {
			h.Entries = append(h.Entries, cluster.HistoryEntry{Timeline: cluster.Timeline(log[i-2] - '0'), LSN: cluster.LSN(i/2) * record, NewLeader: leader})
		}
	}
	return h
}

// end lets everything happen in its order and no more faults, and says what is wrong when the cluster does not heal.
func (w *world) end() *Violation {
	for i := range w.members[:w.bounds.Members] {
		if !w.members[i].alive {
			w.boot(i)
		}
	}
	limit := w.now + 40
	w.bounds.Ticks, w.bounds.Faults, w.bounds.Requests, w.bounds.Rows = limit, 0, 0, 0
	var path []string
	for w.broken == nil {
		list := w.steps()
		s := list[0] // "time passes" comes last: nothing waits
		if len(path) > 4000 {
			return &Violation{Oracle: "V18", Detail: "turns in circles", Path: path[len(path)-60:]}
		}
		if s.name == "time passes" {
			if w.ill() == "" && w.now > limit-30 {
				return w.lost(path)
			}
			if w.now >= limit-1 {
				return &Violation{Oracle: "V18", Detail: "does not heal: " + w.ill(), Path: path}
			}
		}
		path = append(path, s.name)
		s.do(w)
	}
	w.broken.Path = path
	return w.broken
}

// ill says what is missing to a healthy cluster.
func (w *world) ill() string {
	leader := index(w.store.Leader.Name)
	if leader < 0 {
		return "no leader"
	}
	top := &w.members[leader]
	if !top.pg.writable() || !top.lease.State().Held {
		return name(leader) + " leads but is no primary"
	}
	for i := range w.members[:w.bounds.Members] {
		g := &w.members[i].pg
		if i != leader && (!w.streams(i) || g.upstream != leader || g.log != top.pg.log) {
			return name(i) + " does not stream"
		}
	}
	if w.store.Failover.Requested() {
		return "a request is left"
	}
	return ""
}

// lost checks, where nothing failed, that no acknowledged row is missing.
func (w *world) lost(path []string) *Violation {
	log := w.members[index(w.store.Leader.Name)].pg.log
	for _, row := range w.acknowledged {
		if !w.failed && !strings.ContainsRune(log, row) {
			return &Violation{Oracle: "V19", Detail: "a row is lost although nothing failed: " + string(row), Path: path}
		}
	}
	return nil
}
