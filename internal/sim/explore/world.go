package explore

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

const (
	tick     = 5 * time.Second
	ttl      = 4 * tick
	systemID = "7000000000000000001"
	record   = cluster.LSN(0x100) // bytes of one record
)

var (
	epoch  = time.Unix(1_000_000, 0).UTC()
	limits = ha.Limits{
		TTL: ttl, LoopWait: tick, RetryTimeout: tick, Reserve: tick, MaxLag: record, PrimaryStart: 10 * ttl, CanBootstrap: true, UseRewind: true,
	}
)

// world is one state of everything.
type world struct {
	state
	members   [3]member
	bounds    Bounds
	broken    *Violation
	decisions int
	snapshots map[*cluster.Snapshot]uint64 // their hashes, for all states
}

// state is what is not a member's own.
type state struct {
	now                    int // ticks
	rows, faults, requests int // used up
	store                  *cluster.Snapshot
	expiry                 int    // tick at which the leader's lease ends
	acknowledged           string // rows, a letter each
	failed                 bool   // something failed: rows may be lost
}

// member is one agent and its PostgreSQL.
type member struct {
	alive   bool // the agent
	loop    loop.Loop
	lease   loop.Lease
	pending []loop.Effect // to be carried out, in order
	rest    time.Time
	news    bool // the store or PostgreSQL has changed
	job     ha.Action
	jobID   int
	last    int  // number of the last job
	halfway bool // a stop that has written its shutdown checkpoint
	armed   bool // the guard
	pg      server
}

// server is one PostgreSQL and its directory.
type server struct {
	up, stopping bool
	signal       bool   // standby.signal
	log          string // two letters a record: timeline and what
	upstream     int    // -1: none
	clean        bool   // shut down in order
}

func (p *server) recovery() bool        { return p.signal }
func (p *server) writable() bool        { return p.up && !p.signal && !p.stopping }
func (p *server) position() cluster.LSN { return cluster.LSN(len(p.log)/2) * record }
func (p *server) timeline() cluster.Timeline {
	return cluster.Timeline(p.log[len(p.log)-2] - '0')
}

func name(i int) string { return fmt.Sprintf("m%d", i) }

func index(name string) int {
	if len(name) != 2 {
		return -1
	}
	return int(name[1] - '0')
}

func (w *world) clone() *world {
	c := *w
	return &c
}

func (w *world) time() time.Time { return epoch.Add(time.Duration(w.now) * tick) }

// change replaces the store's content. A leader or a request that changes is news for everybody.
func (w *world) change(f func(s *cluster.Snapshot)) {
	s := *w.store
	f(&s)
	if s.Leader.Name != w.store.Leader.Name || s.Failover != w.store.Failover {
		for i := range w.members {
			w.members[i].news = true
		}
	}
	w.store = &s
}

// healthy is a cluster at rest: m0 leads, the others stream.
func healthy(b Bounds) *world {
	w := &world{bounds: b, snapshots: map[*cluster.Snapshot]uint64{}}
	s := &cluster.Snapshot{Revision: 1, Initialize: cluster.Initialize{Present: true, SystemID: systemID, Revision: 1}}
	s.Config = cluster.DynamicConfig{Usable: true, Revision: 1, Document: cluster.Value{Kind: cluster.Object, Fields: []cluster.Field{{Name: "ttl", Value: cluster.Int(20)}}}}
	s.History = cluster.History{Present: true, Revision: 1}
	s.Leader = cluster.Leader{Name: name(0), Revision: 1}
	for i := range b.Members {
		s.Members = append(s.Members, cluster.Member{Name: name(i), ConnURL: fmt.Sprintf("postgres://%s:5432/postgres", name(i)), APIURL: "http://" + name(i) + ":8008/patroni", State: cluster.Running, Role: cluster.Replica})
		w.members[i].pg = server{up: true, signal: i > 0, log: "1a", upstream: -1}
		w.boot(i)
	}
	w.store, w.expiry = s, int(ttl/tick)
	if v := w.end(); v != nil {
		panic(v)
	}
	// The clock goes back to the begin: bounds count from here.
	w.bounds = b
	w.bounds.Ticks += w.now
	return w
}

// boot starts an agent.
func (w *world) boot(i int) {
	m := &w.members[i]
	m.alive, m.loop, m.lease, m.pending, m.job, m.halfway, m.news = true, loop.Loop{Self: name(i)}, loop.Lease{Interval: tick, Retry: tick}, nil, nil, false, false
	m.loop.Configure(limits, ha.Tags{Priority: 1})
	m.rest = time.Time{}
}

// tell steps the loop and queues what it asks for.
func (w *world) tell(i int, f loop.Fact) {
	m := &w.members[i]
	out := m.loop.Step(w.time(), w.time(), m.lease.State(), f)
	m.pending = append(slices.Clone(m.pending), out...)
	w.settle(i)
}

// settle carries out what is not worth an order of its own: an observation and what is decided on it are one step, and so
// is the announcement. What others do before the actions that follow makes them late, and that is what is explored.
func (w *world) settle(i int) {
	m := &w.members[i]
	for len(m.pending) > 0 {
		if a, ok := m.pending[0].(loop.Act); ok && !housekeeping(a.Action) {
			return
		}
		e := m.pending[0]
		m.pending = m.pending[1:]
		switch e := e.(type) {
		case loop.Act:
			w.act(i, e.Action, nil)
		case loop.Permit:
			w.decisions++
			m.lease.Permitted = e.Until
		case loop.Report:
			m.loop.View = ha.View{}
			w.guard(i)
		case loop.Rest:
			m.rest = e.Until
		case loop.Observe:
			m.news = false
			w.tell(i, loop.StoreRead{Snapshot: w.store})
			w.tell(i, loop.PostgresSeen{Postgres: w.observed(i)})
		case loop.Announce:
			w.announce(i)
			w.tell(i, loop.Announced{})
		}
	}
}

// housekeeping is what nobody's safety depends on the moment of.
func housekeeping(a ha.Action) bool {
	switch a.(type) {
	case ha.WriteStatus, ha.WriteHistory, ha.WriteLosses, ha.Checkpoint, ha.SyncSlots:
		return true
	}
	return false
}

// guard arms or disarms the guard by what was observed.
func (w *world) guard(i int) {
	m := &w.members[i]
	m.armed = m.pg.up && !m.pg.recovery() || promotes(m.job)
}

func promotes(a ha.Action) bool {
	switch a := a.(type) {
	case ha.Promote, ha.StartPrimary:
		return true
	case ha.RestartPostgres:
		return a.Upstream == cluster.Upstream{}
	}
	return false
}

// observed is PostgreSQL as the agent sees it.
func (w *world) observed(i int) cluster.Postgres {
	m := &w.members[i]
	g := &m.pg
	p := cluster.Postgres{Dir: cluster.DirPresent, Binaries: 15, Version: 150000, SystemID: systemID, StandbySignal: g.signal}
	if !g.up {
		c := &cluster.Control{State: cluster.ControlInProduction, SystemID: systemID, Checkpoint: g.position(), CheckpointTLI: g.timeline()}
		switch {
		case g.signal:
			c.State = cluster.ControlShutDownRecovery
		case g.clean:
			c.State = cluster.ControlShutDown
		}
		p.Control = c
		return p
	}
	p.Pid, p.Ready = 1, cluster.Accepting
	if g.stopping {
		p.Ready = cluster.Rejecting
		return p
	}
	p.Queried, p.InRecovery, p.Timeline = true, g.recovery(), g.timeline()
	if !g.recovery() {
		p.Write, p.Flush = g.position(), g.position()
		return p
	}
	p.Received, p.Replayed = g.position(), g.position()
	if up := g.upstream; up >= 0 {
		p.Upstream = cluster.Upstream{Name: name(up), Host: name(up), Port: 5432}
		if w.streams(i) {
			p.Receiver = &cluster.Receiver{Status: cluster.StateStreaming, Timeline: p.Timeline}
		}
	}
	p.Upstream.Name = ""
	return p
}

// streams says whether the standby gets WAL.
func (w *world) streams(i int) bool {
	g := &w.members[i].pg
	if !g.up || !g.signal || g.upstream < 0 {
		return false
	}
	from := &w.members[g.upstream].pg
	return from.up && strings.HasPrefix(from.log, g.log)
}

// answer is what the REST API of a member says.
func (w *world) answer(i int) ha.Answer {
	m := &w.members[i]
	if !m.alive || !m.pg.up || m.pg.stopping {
		return ha.Answer{}
	}
	return ha.Answer{Reachable: true, Primary: m.pg.writable(), Position: m.pg.position(), Timeline: m.pg.timeline(), Priority: 1}
}

// check looks at what must always hold.
func (w *world) check() {
	var writable []string
	for i := range w.members[:w.bounds.Members] {
		if w.members[i].pg.writable() {
			writable = append(writable, name(i))
		}
	}
	if len(writable) > 1 {
		w.breaks("V1", "writable at the same time: "+strings.Join(writable, ", "))
	}
}

func (w *world) breaks(oracle, detail string) {
	if w.broken == nil {
		w.broken = &Violation{Oracle: oracle, Detail: detail}
	}
}
