package sim

import "time"

// link is the way from one place to another.
type link struct {
	cut    int           // by how many faults; what is sent now is lost, or held up until the link is back
	delay  time.Duration // more than usual
	loss   int           // percent of messages that have to be sent again
	parked []event       // held up
	since  moment        // of the cut, or of the end of what was wrong
}

// network connects the hosts, the store and the clients. Places are numbered: members first, then the store, then operators.
type network struct {
	w     *World
	size  int
	links []link
}

func (n *network) link(from, to int) *link { return &n.links[from*n.size+to] }

func (n *network) open(a, b int) bool { return n.link(a, b).cut == 0 && n.link(b, a).cut == 0 }

// latency is how long a message takes now.
func (n *network) latency(l *link) time.Duration {
	r := &n.w.rand
	d := 100*time.Microsecond + time.Duration(r.next()%uint64(800*time.Microsecond))
	if l.delay > 0 {
		d += r.between(l.delay/2, l.delay)
	}
	if l.loss > 0 {
		for again := 200 * time.Millisecond; again < 7*time.Second && r.chance(l.loss); again *= 2 {
			d += again // TCP sends it again, later and later
		}
	}
	return d
}

// send makes fn happen in p at the other end. It tells when; ok is false when the message is lost, or held up for
// nobody knows how long.
func (n *network) send(from, to int, p *process, fn func()) (at moment, ok bool) {
	l := n.link(from, to)
	if l.cut > 0 {
		if n.w.rand.chance(70) && len(l.parked) < 64 {
			l.parked = append(l.parked, event{proc: p, fn: fn})
		}
		return 0, false
	}
	at = n.w.now + int64(n.latency(l))
	n.w.at(at, p, fn)
	return at, true
}

func (n *network) sever(from, to int) {
	l := n.link(from, to)
	if l.cut == 0 {
		l.since = n.w.now
		n.w.linkDown(from, to)
	}
	l.cut++
}

func (n *network) mend(from, to int) {
	l := n.link(from, to)
	l.cut--
	if l.cut > 0 {
		return
	}
	again := time.Duration(min(n.w.now-l.since, int64(15*time.Second))) // TCP waits longer and longer before it sends again
	l.since = n.w.now
	parked := l.parked
	l.parked = nil
	for _, e := range parked {
		n.w.after(n.latency(l)+n.w.rand.between(0, again), e.proc, e.fn)
	}
	n.w.linkUp(from, to)
}

// steady says whether both ways have been good for that long.
func (n *network) steady(a, b int, d time.Duration) bool {
	for _, l := range []*link{n.link(a, b), n.link(b, a)} {
		if l.cut > 0 || l.delay > 0 || l.loss > 0 || l.since > 0 && n.w.now-l.since < int64(d) {
			return false
		}
	}
	return true
}
