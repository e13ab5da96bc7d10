package sim

import (
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/quorum"
)

// stream is a replication connection: a WAL sender and a WAL receiver.
type stream struct {
	from, to *server
	slot     string
	sent     int  // records that the standby has and has confirmed
	busy     bool // something is on its way
	held     bool // ... or would be, but the link is cut or the standby frozen
	begun    moment

	names   quorum.Names // synchronous_standby_names as this sender has read it
	told    int          // it is to read the names again, and does nothing before it has ...
	unheard bool         // ... not even take what the standby tells
	durable int          // records that the standby has told are flushed
}

const (
	retryInterval   = 5 * time.Second // wal_retrieve_retry_interval
	receiverTimeout = time.Minute     // wal_receiver_timeout, wal_sender_timeout
)

// connect tries to stream from the configured upstream, after that long.
func (s *server) connect(wait time.Duration) {
	s.retry++
	retry := s.retry
	s.w.after(wait, &s.process, func() {
		if s.retry == retry && s.phase == standingBy && !s.promoting && s.receiver == nil {
			s.reach()
		}
	})
}

// follow changes the upstream as a reload does.
func (s *server) follow(up cluster.Upstream) {
	s.upstream = up
	if s.phase != standingBy || s.promoting {
		return
	}
	s.disconnect()
	s.connect(s.w.rand.between(5*time.Millisecond, 100*time.Millisecond))
}

// disconnect ends the WAL receiver.
func (s *server) disconnect() {
	s.retry++
	if s.receiver != nil {
		s.receiver.close()
	}
}

// reach asks the upstream for WAL.
func (s *server) reach() {
	if s.upstream.Host == "" {
		return
	}
	w := s.w
	up := w.byAddress(s.upstream.Host)
	if up == nil || !w.net.open(s.m.place, up.place) || up.down > 0 {
		s.connect(retryInterval + w.rand.between(0, 2*time.Second)) // it times out
		return
	}
	from := up.server
	if from == nil || !from.accepting || from.frozen > 0 || from == s {
		s.connect(retryInterval)
		return
	}
	retry := s.retry
	w.after(w.net.latency(w.net.link(s.m.place, up.place))*4+w.rand.between(time.Millisecond, 20*time.Millisecond), &s.process, func() {
		if s.retry == retry && s.phase == standingBy && !s.promoting && s.receiver == nil {
			s.open(from)
		}
	})
}

// open begins to stream, if both histories allow it.
func (s *server) open(from *server) {
	w, mine, theirs := s.w, s.dir, from.dir
	if from.m.server != from || !from.accepting || !w.net.open(s.m.place, from.m.place) || mine.system != theirs.system {
		s.connect(retryInterval)
		return
	}
	if theirs.tli > mine.known { // the history file comes first, whether we can follow it or not
		mine.known, mine.knownHistory = theirs.tli, theirs.history
	}
	slot := theirs.slot(s.upstream.Slot)
	if !follows(mine, theirs) || s.upstream.Slot != "" && (slot == nil || slot.user != nil && slot.user.to.m != s.m) {
		s.connect(retryInterval)
		return
	}
	t := &stream{from: from, to: s, slot: s.upstream.Slot, sent: len(mine.wal), begun: w.now, names: theirs.standbys()}
	if slot != nil {
		if slot.user != nil {
			slot.user.lost() // the old connection of the same standby
		}
		slot.user = t
	}
	s.receiver = t
	from.senders = append(from.senders, t)
	t.reply()
	t.hardened()
	t.kick()
}

// follows says whether a server with theirs sends what comes after ours, as PostgreSQL finds out, and whether that fits.
func follows(mine, theirs *directory) bool {
	at := mine.end()
	if mine.tli != theirs.tli {
		left, ok := leftAt(theirs.history, mine.tli)
		if !ok || at > left {
			return false
		}
	}
	if len(mine.wal) > len(theirs.wal) || at > theirs.end() {
		return false // ahead of the WAL flush position
	}
	return mine.continues(theirs) // else the next record does not fit, and replay ends it
}

// kick sends to everybody.
func (s *server) kick() {
	for _, t := range s.senders {
		t.kick()
	}
}

// sendable is how many records go out: a primary sends what is durable.
func (s *server) sendable() int {
	if s.recovery {
		return len(s.dir.wal)
	}
	return s.dir.flushed
}

// kick sends what is there, unless something is on its way.
func (t *stream) kick() {
	if t.from.m.server != t.from {
		t.stick() // the other end has vanished without a word
		return
	}
	n := t.from.sendable()
	if t.busy || t.sent >= n || t.from.frozen > 0 {
		return
	}
	w := t.from.w
	l := w.net.link(t.from.m.place, t.to.m.place)
	if l.cut > 0 || t.to.frozen > 0 || t.to.m.streamStalls > 0 {
		t.stick()
		return
	}
	size := t.from.dir.wal[n-1].end - t.from.dir.wal[t.sent].start
	took := w.net.latency(l) + time.Duration(size)*10*time.Nanosecond // 100 MB/s
	t.busy = true
	w.after(took, &t.to.process, func() { t.arrive(n) })
}

// stick notes that nothing gets through. Both ends give up in the end.
func (t *stream) stick() {
	if t.held {
		return
	}
	t.held = true
	w := t.from.w
	w.after(receiverTimeout, nil, func() {
		if t.held && t.to.receiver == t {
			t.lost()
		}
	})
}

// arrive is where the standby writes what came.
func (t *stream) arrive(n int) {
	t.busy = false
	s := t.to
	if s.receiver != t || s.phase != standingBy || t.from.m.server != t.from {
		return
	}
	w := s.w
	if t.from.m.place != s.m.place && w.net.link(t.from.m.place, s.m.place).cut > 0 && w.rand.chance(50) {
		t.stick() // it was on its way when the link was cut
		return
	}
	d := s.dir
	if n > len(d.wal) {
		d.harden(w.now)
		if stop := s.strays(t.from.dir, n); stop < n {
			if stop > len(d.wal) {
				d.extend(t.from.dir, stop, w.now)
			}
			s.die("unexpected timeline ID before reaching the minimum recovery point")
			return
		}
		d.extend(t.from.dir, n, w.now)
		s.m.moved = w.now
		s.consistent()
		s.kick()
	}
	t.sent = n
	t.reply()
	if w.syncRun {
		w.after(time.Duration(flushDelay)+w.net.latency(w.net.link(s.m.place, t.from.m.place)), &s.process, t.hardened)
	}
	t.kick()
}

// strays is how many of the first n records of source a standby replays: it panics where a later timeline begins before the point from which it is
// consistent, since it could never come there (checkTimeLineSwitch).
func (s *server) strays(source *directory, n int) int {
	c := &s.dir.control
	if s.accepting || c.MinRecovery == 0 {
		return n
	}
	for i := len(s.dir.wal); i < n; i++ {
		if r := &source.wal[i]; r.tli > c.MinRecoveryTLI && r.start < c.MinRecovery {
			return i
		}
	}
	return n
}

// reply tells the sender how far we are: the slot moves on.
func (t *stream) reply() {
	if slot := t.from.dir.slot(t.slot); slot != nil && slot.user == t {
		t.to.dir.harden(t.to.w.now)
		slot.restart = max(slot.restart, endOf(t.to.dir.wal[:min(t.sent, t.to.dir.flushed)]))
	}
}

// lost is a connection that broke: the receiver tries again.
func (t *stream) lost() {
	s := t.to
	if s.receiver != t {
		t.drop()
		return
	}
	t.close()
	if s.phase == standingBy && !s.promoting {
		s.connect(s.w.rand.between(time.Millisecond, retryInterval))
	}
}

// close ends the connection from the standby's side.
func (t *stream) close() {
	t.to.receiver = nil
	t.drop()
}

func (t *stream) drop() {
	t.held = false
	list := t.from.senders
	for i, o := range list {
		if o == t {
			t.from.senders = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if slot := t.from.dir.slot(t.slot); slot != nil && slot.user == t {
		slot.user = nil
	}
}

// free lets a stream go on that was held.
func (t *stream) free() {
	if t.held {
		t.held = false
		t.hardened()
		t.kick()
	}
}
