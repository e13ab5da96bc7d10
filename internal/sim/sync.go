package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/quorum"
)

// Synchronous commit as PostgreSQL does it (syncrep.c). synchronous_standby_names is read by each process by itself: the session of the
// agent, the checkpointer, which says whether commits wait at all, and each WAL sender, which ends the wait of commits by what it has read.

// waits are the commits that wait for standbys.
type waits struct {
	names   quorum.Names // as a session sees it
	on      bool         // as the checkpointer has said
	busy    int          // the checkpointer is in the midst of something
	commits []int        // of whom, by number of records up to the commit
}

// standbys is the file's value.
func (d *directory) standbys() quorum.Names {
	n, _ := quorum.ParseNames(d.syncNames)
	return n
}

// readNames is what every process does when it starts.
func (s *server) readNames() {
	s.waits.names = s.dir.standbys()
	s.waits.on = len(s.waits.names.List) > 0
}

// requireSync writes the file and lets everybody read it: most of them soon.
func (s *server) requireSync(names string, done func(error)) {
	w, r := s.w, &s.w.rand
	s.dir.syncNames = names
	for _, t := range s.senders {
		wait := r.between(0, 30*time.Millisecond)
		if r.chance(5) {
			wait = r.between(0, 3*time.Second)
		}
		w.after(wait, &s.process, t.readNames)
	}
	wait := r.between(0, 30*time.Millisecond)
	if r.chance(15) { // a checkpoint
		wait = r.between(0, 20*time.Second)
		s.waits.busy++
		w.after(wait, &s.process, func() { s.waits.busy-- })
	}
	w.after(wait, &s.process, func() {
		s.waits.on = len(s.dir.standbys().List) > 0
		if !s.waits.on {
			s.release(len(s.dir.wal))
		}
		w.checkSync()
	})
	w.after(r.between(0, 100*time.Millisecond), &s.process, func() {
		s.waits.names = s.dir.standbys()
		w.checkSync()
		done(nil)
	})
}

func (a *agent) requireSync(names string, done func(error)) {
	s := a.m.server
	if s == nil || !s.accepting || s.frozen > 0 {
		done(errors.New("PostgreSQL does not answer"))
		return
	}
	over := false
	once := func(err error) {
		if !over {
			over = true
			a.w.after(0, &a.process, func() { done(err) })
		}
	}
	s.requireSync(names, once)
	a.after(5*time.Second, func() { once(errors.New("PostgreSQL does not answer")) })
}

// unsync gives synchronous_standby_names back to people, who have none, when the mode is off and nobody is named in /sync any more.
func (a *agent) unsync(store *cluster.Snapshot) {
	d, s := &a.m.dir, a.m.server
	switch {
	case a.dynamic.SynchronousMode().Active() || store.Sync.Leader != "" || d.syncNames == "":
	case s == nil || s.frozen > 0:
		d.syncNames = ""
	default:
		s.requireSync("", func(error) {})
	}
}

// commit acknowledges a commit, or lets it wait; n is the number of records up to it.
func (s *server) commit(n int) {
	if !s.waits.on {
		s.w.acknowledged(s.m, n-1)
		return
	}
	s.waits.commits = append(s.waits.commits, n)
	for _, t := range s.senders {
		t.confirm()
	}
}

// release ends the wait of all commits up to there.
func (s *server) release(n int) {
	list := s.waits.commits
	s.waits.commits = slices.DeleteFunc(slices.Clone(list), func(c int) bool { return c <= n })
	for _, c := range list {
		if c <= n && s.phase == primary {
			s.w.acknowledged(s.m, c-1)
		}
	}
}

// readNames is a WAL sender that reads the file.
func (t *stream) readNames() {
	t.names = t.from.dir.standbys()
	t.confirm()
}

// priority is this sender's place among the standbys that it knows of; 0: none.
func (t *stream) priority() int {
	return 1 + slices.IndexFunc(t.names.List, func(n string) bool { return n == t.to.m.name || n == "*" })
}

// synchronous are the senders that count by those names, best first.
func (s *server) synchronous(names quorum.Names) []*stream {
	list := slices.DeleteFunc(slices.Clone(s.senders), func(t *stream) bool { return t.priority() == 0 })
	slices.SortStableFunc(list, func(a, b *stream) int { return a.priority() - b.priority() })
	if len(list) < names.Count {
		return nil
	}
	return list[:names.Count]
}

// hardened is a standby that tells how much is durable there: some time after it has come.
func (t *stream) hardened() {
	s := t.to
	link := s.w.net.link(t.from.m.place, s.m.place)
	if s.receiver != t || t.from.m.server != t.from || link.cut > 0 {
		return
	}
	s.dir.harden(s.w.now)
	t.durable = max(t.durable, min(t.sent, s.dir.flushed))
	if t.from.frozen == 0 {
		t.confirm()
	}
}

// confirm ends the wait of commits that everybody has, by the names that this sender has read (SyncRepReleaseWaiters).
func (t *stream) confirm() {
	s := t.from
	if s.m.server != s || s.recovery || len(t.names.List) == 0 {
		return
	}
	list := s.synchronous(t.names)
	if !slices.Contains(list, t) {
		return
	}
	n := t.durable
	for _, o := range list {
		n = min(n, o.durable)
	}
	s.release(n)
}

// row of pg_stat_replication.
func (t *stream) row() cluster.Walsender {
	s := t.from
	state := "async"
	switch {
	case slices.Contains(s.synchronous(s.waits.names), t):
		state = "sync"
	case t.priority() > 0:
		state = "potential"
	}
	at := func(n int) cluster.LSN { return endOf(t.to.dir.wal[:min(n, len(t.to.dir.wal))]) }
	return cluster.Walsender{Application: t.to.m.name, State: cluster.StateStreaming, SyncState: state, SyncPriority: t.priority(),
		Sent: at(t.sent), Write: at(t.sent), Flush: at(t.durable), Replay: at(t.durable)}
}

// syncIsOn says whether a commit of this primary is promised to outlive it: the mode is set, and /sync is its own.
func (w *World) syncIsOn(m *Member) bool {
	s := w.peek()
	return s.Config.SynchronousMode() == cluster.SyncOn && s.Sync.Leader == m.name
}

// checkSync is V5: commits wait for everybody who is in /sync.
func (w *World) checkSync() {
	key := w.peek().Sync
	m := w.member(key.Leader)
	if m == nil || !m.writes || m.server == nil || w.restored || w.peek().Config.SynchronousMode() != cluster.SyncOn {
		return
	}
	s := m.server
	for _, name := range key.Standbys {
		all := func(n quorum.Names) bool { return n.Count == len(n.List) && slices.Contains(n.List, name) }
		if !s.waits.on || !all(s.waits.names) || !all(s.dir.standbys()) {
			w.violate("V5", "/sync names %s, and on %s commits wait for %q (the file has %q, they wait at all: %v)", name, m.name, s.waits.names, s.dir.syncNames, s.waits.on)
		}
	}
}

// syncTrouble is what is not well with synchronous replication in the end.
func (w *World) syncTrouble(leader *Member) string {
	s := w.peek()
	mode := s.Config.SynchronousMode()
	switch {
	case mode != cluster.SyncOn && s.Sync.Leader != "":
		return "/sync is left"
	case mode != cluster.SyncOn:
		return ""
	case s.Sync.Leader != leader.name:
		return "/sync is of " + s.Sync.Leader
	case leader.server == nil: // only a backend that outlived it writes
		return ""
	}
	wanted := 0
	for _, t := range leader.server.senders {
		_, known := s.Member(t.to.m.name)
		if known && (t.to.m.tags.ReplicateFrom == "" || t.to.m.tags.ReplicateFrom == leader.name) {
			wanted++
		}
	}
	if have, want := len(s.Sync.Standbys), min(wanted, s.Config.SynchronousNodeCount()); have < want {
		return "too few are in /sync"
	}
	return ""
}

// setSync is an operator who changes the mode.
func setSync(w *World, _ *Member, f *Fault) func() {
	mode := cluster.SyncOn
	if f.Value%4 == 0 {
		mode = cluster.SyncOff
	}
	w.setConfig(cluster.Text(string(mode)), "synchronous_mode")
	w.setConfig(cluster.Flag(f.Value%3 == 0), "synchronous_mode_strict")
	w.setConfig(cluster.Int(int64(1+f.Value%2)), "synchronous_node_count")
	return nil
}

// syncFaults are such operators in a run in synchronous mode.
func (w *World) syncFaults(r *random, span time.Duration) (list []Fault) {
	for range r.below(3) {
		list = append(list, Fault{At: r.between(0, span).Truncate(time.Millisecond), Kind: "set-sync", Value: r.below(10000)})
	}
	return list
}
