package sim

import (
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Fault is one line of a schedule.
type Fault struct {
	At     time.Duration `json:"at"`            // after the cluster has formed
	For    time.Duration `json:"for,omitempty"` // how long it lasts
	Kind   string        `json:"kind"`
	Member int           `json:"member"`          // its place; Leader: whoever leads then
	Other  int           `json:"other,omitempty"` // of what concerns two
	Value  int           `json:"value,omitempty"`
}

// Leader as a target is the member that leads when the fault strikes.
const Leader = -1

// replica as a target is one of the others.
const replica = -2

func (f Fault) String() string {
	who := fmt.Sprintf("pg%d", f.Member)
	switch f.Member {
	case Leader:
		who = "leader"
	case replica:
		who = "replica"
	}
	return fmt.Sprintf("%s %s %s other=%d value=%d for %s", f.At, f.Kind, who, f.Other, f.Value, f.For)
}

// strike lets a fault happen, and ends it in time.
func (w *World) strike(f *Fault) {
	kind := kinds[f.Kind]
	m := w.target(f.Member)
	w.note("FAULT %s (%s)", f, m.name)
	w.active++
	if w.struck == 0 {
		w.struck = w.now
	}
	undo := kind.strike(w, m, f)
	end := func() {
		w.active--
		if undo != nil {
			w.note("END %s (%s)", f, m.name)
			undo()
		}
	}
	w.after(f.For, nil, end)
}

func (w *World) target(place int) *Member {
	if place >= 0 {
		return w.Members[place%len(w.Members)]
	}
	leader := w.member(w.peek().Leader.Name)
	for _, m := range w.Members {
		if (m == leader) == (place == Leader) {
			return m
		}
	}
	return w.Members[0]
}

// kind is one sort of fault: how often it is drawn, how long it lasts, and what it does.
type kind struct {
	weight   int
	low, top time.Duration
	strike   func(w *World, m *Member, f *Fault) (undo func())
}

var kinds map[string]kind

func init() {
	kinds = map[string]kind{
		"host-lost":         {10, time.Second, 90 * time.Second, hostLost},
		"agent-killed":      {8, 100 * time.Millisecond, time.Minute, agentKilled},
		"agent-frozen":      {10, time.Second, 90 * time.Second, agentFrozen},
		"agent-stuck":       {4, time.Second, 2 * time.Minute, agentStuck},
		"agent-ambushed":    {5, time.Second, 90 * time.Second, agentAmbushed},
		"postgres-killed":   {8, 0, 0, postgresKilled},
		"postgres-frozen":   {6, time.Second, 90 * time.Second, postgresFrozen},
		"both-frozen":       {6, time.Second, 90 * time.Second, bothFrozen},
		"cut-off":           {10, time.Second, 90 * time.Second, cutOff},
		"cut-store":         {8, time.Second, 90 * time.Second, cutStore},
		"cut-store-way":     {6, time.Second, 60 * time.Second, cutStoreWay},
		"cut-peers":         {6, time.Second, 90 * time.Second, cutPeers},
		"cut-pair":          {5, time.Second, 90 * time.Second, cutPair},
		"slow-links":        {5, time.Second, time.Minute, slowLinks},
		"lossy-links":       {5, time.Second, time.Minute, lossyLinks},
		"store-down":        {5, time.Second, time.Minute, storeDown},
		"lease-lost":        {3, 0, 0, leaseLost},
		"store-restored":    {2, time.Second, time.Minute, storeRestored},
		"disk-full":         {4, time.Second, time.Minute, diskFull},
		"postmaster-killed": {4, 0, 0, postmasterKilled},
		"disk-lost":         {3, time.Second, time.Minute, diskLost},
		"disk-swapped":      {1, time.Second, time.Minute, diskSwapped},
		"clock-jump":        {2, 0, 0, clockJump},
		"disk-stall":        {4, time.Second, time.Minute, diskStall},
		"replay-stall":      {3, time.Second, time.Minute, replayStall},
		"stream-stall":      {10, time.Second, 90 * time.Second, streamStall},
		"slow-stop":         {4, 10 * time.Second, 2 * time.Minute, slowStop},
		"slow-start":        {4, 10 * time.Second, 2 * time.Minute, slowStart},
		"slow-promote":      {3, 10 * time.Second, 2 * time.Minute, slowPromote},
		"fail-start":        {3, time.Second, time.Minute, failing(func(m *Member) *int { return &m.failStart })},
		"fail-promote":      {3, time.Second, time.Minute, failing(func(m *Member) *int { return &m.failPromote })},
		"fail-rewind":       {3, time.Second, time.Minute, failing(func(m *Member) *int { return &m.failRewind })},
		"fail-clone":        {3, time.Second, time.Minute, failing(func(m *Member) *int { return &m.failClone })},
		"guard-killed":      {2, 0, 0, guardKilled},
		"pause":             {3, time.Second, 2 * time.Minute, pause},
		"switchover":        {10, 0, 0, switchover},
		"failover":          {4, 0, 0, failover},
		"restart":           {5, 0, 0, restart},
		"reinitialize":      {4, 0, 0, reinitialize},
		"leave":             {5, time.Second, time.Minute, leave},
		"set-timing":        {3, 0, 0, setTiming},
		"set-sync":          {0, 0, 0, setSync},  // only in a run in synchronous mode
		"site-lost":         {0, 0, 0, siteLost}, // only in a run with sites
		"cut-site":          {0, 0, 0, cutSite},  // likewise
	}
}

func hostLost(w *World, m *Member, f *Fault) func() {
	m.lose()
	return func() { m.comeBack(f.Value&1 == 1) }
}

func agentKilled(w *World, m *Member, f *Fault) func() {
	if m.down > 0 || m.agent == nil {
		return nil
	}
	m.stopAgent()
	return func() {
		if m.down == 0 {
			m.startAgent(0)
		}
	}
}

func agentFrozen(w *World, m *Member, f *Fault) func() {
	a := m.agent
	if a == nil {
		return nil
	}
	a.freeze()
	return func() {
		if m.agent == a {
			w.thaw(&a.process)
		}
	}
}

// agentStuck hangs the loop alone: the lease keeper, jobs and the rest go on.
func agentStuck(w *World, m *Member, _ *Fault) func() {
	a := m.agent
	if a == nil {
		return nil
	}
	a.stuck++
	return func() {
		a.stuck--
		a.since = w.now
		w.after(0, &a.process, a.drain)
	}
}

// agentAmbushed freezes the agent where it hurts: between a decision and what it leads to.
func agentAmbushed(w *World, m *Member, _ *Fault) func() {
	m.ambush = true
	return func() {
		m.ambush = false
		if a := m.ambushed; a != nil && a == m.agent {
			w.thaw(&a.process)
		}
		m.ambushed = nil
	}
}

func postgresKilled(w *World, m *Member, f *Fault) func() {
	if m.server != nil {
		m.server.crash()
	}
	return nil
}

func postgresFrozen(w *World, m *Member, f *Fault) func() {
	s := m.server
	if s == nil {
		return nil
	}
	m.freezeServer()
	return func() { m.thawServer(s) }
}

func bothFrozen(w *World, m *Member, f *Fault) func() {
	a, b := agentFrozen(w, m, f), postgresFrozen(w, m, f)
	return func() {
		if b != nil {
			b()
		}
		if a != nil {
			a()
		}
	}
}

// diskFull makes PostgreSQL panic; it does not start while there is no room.
func diskFull(w *World, m *Member, f *Fault) func() {
	m.failStart++
	if m.server != nil {
		m.server.crash()
	}
	return func() { m.failStart-- }
}

// postmasterKilled leaves a backend behind that is busy and goes on for a while.
func postmasterKilled(w *World, m *Member, f *Fault) func() {
	s := m.server
	if s == nil || s.frozen > 0 {
		return nil
	}
	if s.phase == primary && s.stalled == 0 {
		m.leaveStray(time.Duration(f.Value%20) * time.Second)
	}
	s.crash()
	return nil
}

// diskLost is a host that comes back with an empty disk. Somebody else must have the data.
func diskLost(w *World, m *Member, f *Fault) func() {
	for _, o := range w.Members {
		if o != m && o.dir.present() && o.dir.problem == "" && o.dir.system == m.dir.system {
			m.lose()
			m.dir = directory{state: cluster.DirEmpty}
			w.wiped, m.wiped = true, true
			return func() { m.comeBack(f.Value&1 == 1) }
		}
	}
	return nil
}

// diskSwapped lets the host come back with the disk of another cluster.
func diskSwapped(w *World, m *Member, f *Fault) func() {
	strange := m.dir
	undo := diskLost(w, m, f)
	if undo == nil || w.early() || !strange.present() {
		return undo
	}
	m.dir = strange.copyOf(strange.flushed, w.now)
	for i := range m.dir.wal {
		w.records++
		m.dir.wal[i].id = w.records
	}
	m.dir.system, m.strange = systemIdentifier(w.rand.next()), true
	return undo
}

func clockJump(w *World, m *Member, f *Fault) func() {
	m.clock.wall += int64(time.Duration(f.Value-5000) * time.Second / 10)
	return nil
}

func diskStall(w *World, m *Member, f *Fault) func() {
	m.stalls++
	if m.server != nil {
		m.server.stalled++
	}
	return func() {
		m.stalls--
		if m.server != nil && m.server.stalled > 0 {
			m.server.unstall()
		}
	}
}

func replayStall(w *World, m *Member, f *Fault) func() {
	m.replayStalls++
	if m.server != nil {
		m.server.caughtUp()
		m.server.stuckReplay++
	}
	return func() {
		m.replayStalls--
		if m.server != nil && m.server.stuckReplay > 0 {
			m.server.stuckReplay--
		}
	}
}

// streamStall lets no WAL through to the member, while all else works.
func streamStall(_ *World, m *Member, _ *Fault) func() {
	m.streamStalls++
	return func() {
		m.streamStalls--
		if m.server != nil && m.server.receiver != nil && m.streamStalls == 0 {
			m.server.receiver.free()
		}
	}
}

func slowStop(w *World, m *Member, f *Fault) func() {
	d := time.Duration(f.Value%100) * time.Second
	m.slowStop += d
	return func() { m.slowStop -= d }
}

func slowStart(w *World, m *Member, f *Fault) func() {
	d := time.Duration(f.Value%100) * time.Second
	m.slowStart += d
	return func() { m.slowStart -= d }
}

func slowPromote(w *World, m *Member, f *Fault) func() {
	d := time.Duration(f.Value%100) * time.Second
	m.slowPromote += d
	return func() { m.slowPromote -= d }
}

func failing(counter func(*Member) *int) func(*World, *Member, *Fault) func() {
	return func(w *World, m *Member, f *Fault) func() {
		*counter(m)++
		return func() { *counter(m)-- }
	}
}

func guardKilled(w *World, m *Member, f *Fault) func() {
	if !m.guard.alive || m.agent == nil || m.agent.frozen > 0 {
		return nil // the guard and its agent at once are more than we promise to bear
	}
	m.guard.die()
	a := m.agent
	w.after(50*time.Millisecond, &a.process, func() { // the agent sees its end and starts another
		m.guard.start()
	})
	return nil
}
