package sim

import (
	"time"
)

// cuts severs ways and mends them at the end.
func (w *World) cuts(ways ...[2]int) func() {
	for _, c := range ways {
		w.net.sever(c[0], c[1])
	}
	return func() {
		for _, c := range ways {
			w.net.mend(c[0], c[1])
		}
	}
}

func (w *World) peerWays(m *Member) (ways [][2]int) {
	for _, o := range w.Members {
		if o != m {
			ways = append(ways, [2]int{m.place, o.place}, [2]int{o.place, m.place})
		}
	}
	return ways
}

func (w *World) storeWays(m *Member) [][2]int {
	return [][2]int{{m.place, w.storePlace}, {w.storePlace, m.place}}
}

func cutOff(w *World, m *Member, f *Fault) func() {
	return w.cuts(append(w.peerWays(m), w.storeWays(m)...)...)
}

func cutStore(w *World, m *Member, f *Fault) func() { return w.cuts(w.storeWays(m)...) }

func cutStoreWay(w *World, m *Member, f *Fault) func() { return w.cuts(w.storeWays(m)[f.Value&1]) }

func cutPeers(w *World, m *Member, f *Fault) func() { return w.cuts(w.peerWays(m)...) }

func cutPair(w *World, m *Member, f *Fault) func() {
	o := w.Members[f.Other%len(w.Members)]
	if o == m {
		return nil
	}
	if f.Value&1 == 0 {
		return w.cuts([2]int{m.place, o.place})
	}
	return w.cuts([2]int{m.place, o.place}, [2]int{o.place, m.place})
}

// links of one member to all and back.
func (w *World) linksOf(m *Member) (list []*link) {
	for i := range w.net.size {
		if i != m.place {
			list = append(list, w.net.link(m.place, i), w.net.link(i, m.place))
		}
	}
	return list
}

func slowLinks(w *World, m *Member, f *Fault) func() {
	d := time.Duration(f.Value) * time.Millisecond
	list := w.linksOf(m)
	for _, l := range list {
		l.delay += d
	}
	return func() {
		for _, l := range list {
			l.delay -= d
			l.since = w.now
		}
	}
}

func lossyLinks(w *World, m *Member, f *Fault) func() {
	list := w.linksOf(m)
	percent := 1 + f.Value%60
	for _, l := range list {
		l.loss += percent
	}
	return func() {
		for _, l := range list {
			l.loss -= percent
			l.since = w.now
		}
	}
}

func storeDown(w *World, _ *Member, f *Fault) func() {
	w.storeDown++
	if w.storeDown == 1 {
		w.storeSince = w.now
		for _, m := range w.Members {
			if m.agent != nil {
				m.agent.hush()
			}
		}
	}
	stand := f.Value&1 == 1
	w.standing = w.standing || stand
	return func() {
		w.storeDown--
		if w.storeDown > 0 {
			return
		}
		w.storeBack = w.now
		if w.standing { // a new leader of the store gives every lease its whole time again, or at least this
			w.storeLost += w.now - w.storeSince
		}
		w.standing = false
		w.expiry = 0
		w.server.Tick()
		w.storeChanged()
	}
}

func leaseLost(w *World, m *Member, f *Fault) func() {
	if w.storeDown > 0 {
		return nil
	}
	w.server.Expire(m.name)
	w.oracle.waived = w.now + int64(45*time.Second) // the store broke its word
	w.storeChanged()
	return nil
}

// storeRestored replaces the store's content with what it was when the fault began.
func storeRestored(w *World, _ *Member, f *Fault) func() {
	if w.storeDown > 0 {
		return nil
	}
	restore := w.server.Backup()
	return func() {
		if w.storeDown > 0 {
			return
		}
		restore()
		w.restored = true
		w.oracle.waived = w.now + int64(45*time.Second) // the store broke its word
		w.expiry = 0
		w.storeChanged()
	}
}
