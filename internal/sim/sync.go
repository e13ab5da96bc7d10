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
		if soon := 30 * time.Millisecond; wait > soon { // it is told, and before it answers anybody it reads (WalSndLoop)
			w.after(soon, &s.process, func() { t.told++ })
			w.after(wait, &s.process, func() { t.told-- })
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
	if t.unheard && t.told == 0 {
		t.unheard = false
		t.durable = max(t.durable, min(t.sent, t.to.dir.flushed))
	}
	t.confirm()
}

// syncMode is the mode that a run in synchronous mode is in.
func (w *World) syncMode() cluster.SyncMode {
	if w.quorumRun {
		return cluster.SyncQuorum
	}
	return cluster.SyncOn
}

// priority is this sender's place among the standbys that it knows of; 0: none. Of any of them all have the first.
func (t *stream) priority() int {
	place := 1 + slices.IndexFunc(t.names.List, func(n string) bool { return n == t.to.m.name || n == "*" })
	if t.names.Any {
		return min(place, 1)
	}
	return place
}

// synchronous are the senders that count by those names, best first.
func (s *server) synchronous(names quorum.Names) []*stream {
	list := slices.DeleteFunc(slices.Clone(s.senders), func(t *stream) bool { return t.priority() == 0 })
	slices.SortStableFunc(list, func(a, b *stream) int { return a.priority() - b.priority() })
	if len(list) < names.Count {
		return nil
	}
	if names.Any {
		return list
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
	if t.unheard = t.told > 0; t.unheard {
		return
	}
	t.durable = max(t.durable, min(t.sent, s.dir.flushed))
	if t.from.frozen == 0 {
		t.confirm()
	}
}

// confirm ends the wait of commits that everybody has, by the names that this sender has read (SyncRepReleaseWaiters).
func (t *stream) confirm() {
	s := t.from
	if s.m.server != s || s.recovery || len(t.names.List) == 0 || t.told > 0 {
		return
	}
	list := s.synchronous(t.names)
	if !slices.Contains(list, t) {
		return
	}
	var at []int
	for _, o := range list {
		at = append(at, o.durable)
	}
	slices.Sort(at)
	s.release(at[len(at)-t.names.Count]) // so many have this, or more
}

// row of pg_stat_replication.
func (t *stream) row() cluster.Walsender {
	s := t.from
	state := "async"
	switch {
	case s.waits.names.Any && t.priority() > 0: // for that, too few are enough
		state = "quorum"
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
	return s.Config.SynchronousMode().Active() && s.Sync.Leader == m.name
}

// lacking is how many of the voters at most lack a commit that is acknowledged under these names.
func lacking(voters []string, names quorum.Names) int {
	among := 0
	for _, name := range names.List {
		if slices.Contains(voters, name) {
			among++
		}
	}
	have := max(names.Count-(len(names.List)-among), 0)
	if slices.Contains(names.List, quorum.Placeholder) {
		have = len(voters)
	}
	return max(len(voters)-have, 0)
}

// checkVoters is V6: of the voters in /sync at most as many as its quorum lack a commit that was acknowledged, or that will be.
func (w *World) checkVoters(m *Member, key *cluster.Sync) {
	s := m.server
	for _, names := range []quorum.Names{s.waits.names, s.dir.standbys()} {
		if n := lacking(key.Standbys, names); len(key.Standbys) > key.Quorum && (n > key.Quorum || !s.waits.on) {
			w.violate("V6", "/sync names %s and quorum %d, and on %s commits wait for %q (they wait at all: %v)", key.Standbys, key.Quorum, m.name, names, s.waits.on)
		}
	}
	rows := w.oracle.rows
	for _, r := range rows[max(len(rows)-200, 0):] {
		w.checkRow(&r, key)
	}
}

func (w *World) checkRow(r *row, key *cluster.Sync) {
	if !r.sync || w.oracle.explained[r.id] || w.wiped || w.restored {
		return
	}
	without := 0
	for _, name := range key.Standbys {
		// Who is being rebuilt cannot vote; it will have what the leader has.
		if m := w.member(name); m == nil || m.dir.present() && m.dir.problem == "" && !holds(&m.dir, *r) {
			without++
		}
	}
	if without > key.Quorum {
		w.violate("V6", "/sync names %s and quorum %d, and %d of them lack row %d, which %s acknowledged", key.Standbys, key.Quorum, without, r.id, r.by.name)
	}
}

// checkSync is V5: commits wait for everybody who is in /sync.
func (w *World) checkSync() {
	key := w.peek().Sync
	m := w.member(key.Leader)
	if m == nil || !m.writes || m.server == nil || w.restored || !w.peek().Config.SynchronousMode().Active() {
		return
	}
	if w.quorumRun {
		w.checkVoters(m, &key)
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
	case !mode.Active() && s.Sync.Leader != "":
		return "/sync is left"
	case !mode.Active():
		return ""
	case s.Sync.Leader != leader.name:
		return "/sync is of " + s.Sync.Leader
	case leader.server == nil: // only a backend that outlived it writes
		return ""
	}
	if w.sites != nil {
		return w.siteTrouble(leader)
	}
	wanted, barred, count := 0, 0, s.Config.SynchronousNodeCount()
	for _, t := range leader.server.senders {
		_, known := s.Member(t.to.m.name)
		if known && (t.to.m.tags.ReplicateFrom == "" || t.to.m.tags.ReplicateFrom == leader.name) {
			wanted++
			if t.to.m.tags.NoFailover {
				barred++
			}
		}
	}
	want := min(wanted, count)
	if mode == cluster.SyncQuorum {
		want = max(wanted-barred, want)
	}
	have := len(s.Sync.Standbys)
	switch {
	case have < want:
		return "too few are in /sync"
	case mode == cluster.SyncQuorum && s.Sync.Quorum > max(have-count, 0):
		return "too many must agree by /sync"
	}
	return ""
}

// setSync is an operator who changes the mode.
func setSync(w *World, _ *Member, f *Fault) func() {
	mode := w.syncMode()
	switch {
	case f.Value%4 == 0:
		mode = cluster.SyncOff
	case w.quorumRun && f.Value%5 == 0:
		mode = cluster.SyncOn
	}
	if w.quorumRun && mode == cluster.SyncOff { // from now on any member may lead, whatever was acknowledged before
		for i := range w.oracle.rows {
			w.oracle.rows[i].sync = false
		}
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
