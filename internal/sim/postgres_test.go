package sim

import (
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// bench is a world without agents: hosts whose PostgreSQL a test handles itself.
func bench(t *testing.T, members int) *World {
	t.Helper()
	w := newWorld(Options{Seed: 3, Members: members, Schedule: &[]Fault{}, NoGuard: true})
	for _, m := range w.Members {
		m.tags = ha.Tags{Priority: 1}
		m.agent = &agent{w: w, m: m}
		m.agent.freeze() // it hears of everything and does nothing
	}
	return w
}

func (w *World) pass(d time.Duration) {
	for end := w.now + int64(d); w.step(end); {
	}
}

// primaryOf makes a running primary of the first member, with some rows.
func primaryOf(t *testing.T, w *World) *Member {
	t.Helper()
	m := w.Members[0]
	m.initdb(func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
	w.pass(10 * time.Second)
	m.launch(true, cluster.Upstream{}, nil)
	w.pass(20 * time.Second)
	if !m.writes || len(m.dir.wal) < 2 {
		t.Fatalf("the primary is %s with %d records", m.state(), len(m.dir.wal))
	}
	return m
}

func (m *Member) upstream() cluster.Upstream {
	return cluster.Upstream{Name: m.name, Host: m.address, Port: 5432}
}

// standbyOf clones a member onto another and starts it.
func standbyOf(t *testing.T, w *World, from *Member, place int) *Member {
	t.Helper()
	m := w.Members[place]
	var failed error
	m.baseBackup(from.upstream(), func(err error) { failed = err })
	w.pass(20 * time.Second)
	if failed != nil || !m.dir.present() || !m.dir.continues(&from.dir) {
		t.Fatalf("clone: %v, %s", failed, m.dir.state)
	}
	m.launch(false, from.upstream(), nil)
	w.pass(20 * time.Second)
	if !streams(m, from) {
		t.Fatalf("%s does not stream", m.name)
	}
	return m
}

func streams(m, from *Member) bool {
	return m.server != nil && m.server.receiver != nil && m.server.receiver.from == from.server
}

func TestStandbyHasWhatThePrimarySent(t *testing.T) {
	w := bench(t, 2)
	p := primaryOf(t, w)
	s := standbyOf(t, w, p, 1)
	w.pass(time.Minute)
	p.server.writeSeq++ // no more rows
	w.pass(time.Second)
	if s.dir.end() != p.dir.end() || s.server.caughtUp() != p.dir.end() {
		t.Errorf("have received %s and replayed %s, want %s", s.dir.end(), s.server.caughtUp(), p.dir.end())
	}
}

func TestFastStopSendsTheShutdownCheckpoint(t *testing.T) {
	w := bench(t, 2)
	p := primaryOf(t, w)
	s := standbyOf(t, w, p, 1)
	p.server.stop()
	w.pass(5 * time.Second)
	last := s.dir.wal[len(s.dir.wal)-1]
	if p.server != nil || p.dir.control.State != cluster.ControlShutDown {
		t.Fatalf("have %s, %s, want it shut down", p.state(), p.dir.control.State)
	}
	if last.kind != shutdownRecord || last.start != p.dir.control.Checkpoint {
		t.Errorf("the standby ends with %+v, want the shutdown checkpoint at %s", last, p.dir.control.Checkpoint)
	}
}

func TestFastStopWaitsForACutStandby(t *testing.T) {
	w := bench(t, 2)
	p := primaryOf(t, w)
	standbyOf(t, w, p, 1)
	undo := w.cuts(w.peerWays(p)...)
	w.pass(5 * time.Second)
	p.server.stop()
	w.pass(20 * time.Second)
	if p.server == nil || p.dir.control.State != cluster.ControlShutDown {
		t.Errorf("have %s, want the checkpoint written and the WAL sender waiting", p.state())
	}
	w.pass(2 * time.Minute)
	if p.server != nil {
		t.Error("it waits longer than wal_sender_timeout")
	}
	undo()
}

func TestHostLossLosesWhatWasNotFlushed(t *testing.T) {
	w := bench(t, 1)
	p := primaryOf(t, w)
	p.server.stalled++
	w.pass(20 * time.Second)
	written, flushed := len(p.dir.wal), p.dir.flushed
	if written <= flushed {
		t.Fatal("a stalled disk has flushed")
	}
	p.server.crash()
	if len(p.dir.wal) != written {
		t.Error("a crash of PostgreSQL alone loses what the kernel has")
	}
	p.lose()
	if len(p.dir.wal) != flushed {
		t.Errorf("have %d records, want the %d flushed ones", len(p.dir.wal), flushed)
	}
}

func TestPromotionBeginsATimelineAtTheEnd(t *testing.T) {
	w := bench(t, 2)
	p := primaryOf(t, w)
	s := standbyOf(t, w, p, 1)
	p.server.crash()
	end := s.dir.end()
	if !s.server.promote() {
		t.Fatal("it cannot be promoted")
	}
	w.pass(5 * time.Second)
	if s.dir.tli != 2 || len(s.dir.history) != 1 || s.dir.history[0].at != end || !s.writes {
		t.Errorf("have timeline %d, history %v, writable %v; want timeline 2 from %s", s.dir.tli, s.dir.history, s.writes, end)
	}
	if tli := s.dir.control.CheckpointTLI; tli != 1 {
		t.Errorf("the control file says timeline %d before the first checkpoint, want 1", tli)
	}
}

// diverge makes a former primary that has rows of its own beside a promoted standby.
func diverge(t *testing.T, w *World) (former, leader *Member) {
	t.Helper()
	p := primaryOf(t, w)
	s := standbyOf(t, w, p, 1)
	w.net.sever(p.place, s.place)
	w.net.sever(s.place, p.place)
	w.pass(20 * time.Second)
	s.server.promote()
	w.pass(5 * time.Second)
	p.server.stop()
	w.pass(2 * time.Minute)
	w.net.mend(p.place, s.place)
	w.net.mend(s.place, p.place)
	if p.server != nil || !s.writes || p.dir.continues(&s.dir) {
		t.Fatalf("have %s and %s, not diverged", p.state(), s.state())
	}
	return p, s
}

func TestDivergedStandbyCannotStream(t *testing.T) {
	w := bench(t, 2)
	former, leader := diverge(t, w)
	if v, why, _ := former.divergence(leader); v != diverged {
		t.Errorf("compared: have %d, %s, want diverged", v, why)
	}
	former.launch(false, leader.upstream(), nil)
	w.pass(time.Minute)
	if former.server == nil || former.server.receiver != nil {
		t.Errorf("have %s, want a standby that does not stream", former.state())
	}
	if former.dir.known != 2 {
		t.Errorf("it knows timeline %d, want the history file of 2", former.dir.known)
	}
	former.server.stop()
	w.pass(time.Minute)
	var failed error
	former.launch(false, leader.upstream(), func(err error) { failed = err })
	w.pass(time.Minute)
	if failed == nil {
		t.Error("it starts although the history file that it has fetched does not contain its checkpoint")
	}
}

func TestRewindMakesItFit(t *testing.T) {
	w := bench(t, 2)
	former, leader := diverge(t, w)
	var failed error
	former.rewind(leader.upstream(), func(err error) { failed = err })
	w.pass(20 * time.Second)
	if failed != nil || !former.dir.continues(&leader.dir) {
		t.Fatalf("rewind: %v", failed)
	}
	if leader.dir.control.CheckpointTLI != 2 {
		t.Error("the leader made no checkpoint on its timeline first")
	}
	former.launch(false, leader.upstream(), nil)
	w.pass(time.Minute)
	if !streams(former, leader) || former.dir.tli != 2 {
		t.Errorf("have %s on timeline %d, want it to stream on 2", former.state(), former.dir.tli)
	}
}

func TestRewoundStandbyNeedsTheLeadersWAL(t *testing.T) {
	w := bench(t, 2)
	former, leader := diverge(t, w)
	former.rewind(leader.upstream(), func(error) {})
	w.pass(20 * time.Second)
	former.dir.cut(len(former.dir.wal) - 1)
	former.launch(false, cluster.Upstream{}, nil)
	w.pass(time.Minute)
	if former.server == nil || former.server.accepting {
		t.Errorf("have %s, want a standby that is not consistent yet", former.state())
	}
	former.server.follow(leader.upstream())
	w.pass(time.Minute)
	if !former.server.accepting {
		t.Error("with the leader's WAL it is not consistent either")
	}
}

// PostgreSQL: "unexpected timeline ID in checkpoint record, before reaching minimum recovery point".
func TestStandbyDiesOfATimelineThatPassesItsMinimumRecoveryPointBy(t *testing.T) {
	w := bench(t, 2)
	former, leader := diverge(t, w)
	former.dir.cut(common(&former.dir, &leader.dir))
	former.dir.control.State, former.dir.control.MinRecovery, former.dir.control.MinRecoveryTLI = cluster.ControlArchiveRecovery, former.dir.end()+1, 1
	former.launch(false, leader.upstream(), nil)
	w.pass(time.Minute)
	if former.server != nil || former.dir.tli != 1 {
		t.Errorf("have %s on timeline %d, want it dead on 1", former.state(), former.dir.tli)
	}
}

func TestCrashedPrimaryKeepsItsTimeline(t *testing.T) {
	w := bench(t, 1)
	p := primaryOf(t, w)
	p.server.crash()
	rows := len(p.dir.wal)
	if p.dir.control.State != cluster.ControlInProduction {
		t.Errorf("have %s, want in production", p.dir.control.State)
	}
	p.launch(true, cluster.Upstream{}, nil)
	w.pass(10 * time.Second)
	if !p.writes || p.dir.tli != 1 || len(p.dir.wal) < rows {
		t.Errorf("have writable %v on timeline %d", p.writes, p.dir.tli)
	}
}

func TestFrozenServerIsNotWritableAndComesBack(t *testing.T) {
	w := bench(t, 2)
	p := primaryOf(t, w)
	s := standbyOf(t, w, p, 1)
	server := p.server
	p.freezeServer()
	before := len(p.dir.wal)
	w.pass(30 * time.Second)
	if p.writes || len(p.dir.wal) != before {
		t.Error("a frozen server writes")
	}
	p.thawServer(server)
	w.pass(time.Minute)
	if !p.writes || s.dir.end() < p.dir.wal[before].end {
		t.Error("after that nothing is written or sent")
	}
}

func TestSlotFollowsItsConsumer(t *testing.T) {
	w := bench(t, 2)
	p := primaryOf(t, w)
	p.server.syncSlots([]slotWant{{name: "pg1"}}, nil)
	s := standbyOf(t, w, p, 1)
	up := p.upstream()
	up.Slot = "pg1"
	s.server.follow(up)
	w.pass(time.Minute)
	if slot := p.dir.slot("pg1"); slot.user == nil || slot.restart < s.dir.wal[len(s.dir.wal)-3].end {
		t.Errorf("have %+v, the standby is at %s", slot, s.dir.end())
	}
	s.server.stop()
	w.pass(5 * time.Second)
	at := p.dir.slot("pg1").restart
	w.pass(time.Minute)
	if slot := p.dir.slot("pg1"); slot.user != nil || slot.restart != at {
		t.Errorf("without its consumer the slot is %+v, want it at %s", slot, at)
	}
}
