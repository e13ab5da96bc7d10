package sim

import (
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/loop"
)

const root = "/service/sim"

// ask puts one request to the store. apply is what happens when it arrives, also when nobody waits for its answer any
// more; done gets the outcome, dcs.ErrUnavailable at the latest when the limit is over.
func (a *agent) ask(limit time.Duration, apply func() error, done func(error)) {
	w := a.w
	until := a.now().Add(limit)
	deadline := a.m.clock.when(until)
	over := false
	end := func(err error) {
		if !over {
			over = true
			done(err)
		}
	}
	giveUp := func() { end(dcs.ErrUnavailable) }
	at, ok := w.net.send(a.m.place, w.storePlace, nil, func() {
		if w.storeDown > 0 {
			if !a.dead && !over {
				w.at(deadline, &a.process, giveUp)
			}
			return
		}
		w.server.Tick()
		err := apply()
		if a.dead {
			return
		}
		back, ok := w.net.send(w.storePlace, a.m.place, &a.process, func() {
			if over {
				return
			}
			if !a.now().Before(until) && w.rand.chance(50) {
				giveUp() // frozen past the limit: both are there, and which one is seen first is chance
				return
			}
			a.answered()
			end(err)
		})
		if !ok || back > deadline {
			w.at(deadline, &a.process, giveUp)
		}
	})
	if !ok || at > deadline {
		w.at(deadline, &a.process, giveUp)
	}
}

// answered notes that the store speaks to us.
func (a *agent) answered() { a.proven = a.now() }

// readStore reads the store, as of some moment on the way.
func (a *agent) readStore(limit time.Duration) {
	w := a.w
	if w.cachedViews {
		// The view is fed by a watch. While nothing comes back it looks as if nothing happened, for 3/4 of ttl.
		heard := w.net.link(w.storePlace, a.m.place).cut == 0 && w.storeDown == 0
		switch {
		case heard && !a.silent:
			s := w.snapshot(a)
			w.after(w.rand.between(200*time.Microsecond, 3*time.Millisecond), &a.process, func() { a.tell(loop.StoreRead{Snapshot: s}) })
			a.frozenView = nil
			return
		case a.frozenView != nil && a.now().Sub(a.proven) < a.timing.TTL*3/4:
			s := a.frozenView
			w.after(200*time.Microsecond, &a.process, func() { a.tell(loop.StoreRead{Snapshot: s}) })
			return
		}
	}
	var s *cluster.Snapshot
	a.ask(limit, func() error { s = w.snapshot(a); return nil }, func(err error) {
		if err != nil || s.Revision < a.snapshot && !w.restored { // a view never goes back
			a.tell(loop.StoreRead{})
			return
		}
		a.snapshot = s.Revision
		a.frozenView = nil
		a.tell(loop.StoreRead{Snapshot: s})
	})
}

// snapshot reads the server.
func (w *World) snapshot(a *agent) *cluster.Snapshot {
	s, err := a.store.Snapshot(background)
	if err != nil {
		panic("the store inside the process does not answer: " + err.Error())
	}
	return s
}

// put writes a key at the revision that the decision was based on.
func (a *agent) put(limit time.Duration, key string, value []byte, prev cluster.Revision, done func(error)) {
	a.ask(limit, func() error {
		_, err := a.store.Put(background, key, value, prev)
		a.w.wrote(a, key, value, err)
		a.w.storeChanged()
		return err
	}, done)
}

func (a *agent) remove(limit time.Duration, key string, prev cluster.Revision, done func(error)) {
	a.ask(limit, func() error {
		err := a.store.Delete(background, key, prev)
		a.w.storeChanged()
		return err
	}, done)
}

// watch wakes the loop when the store has changed, and every now and then while the watch is broken.
func (a *agent) watch() {
	w := a.w
	if !a.silent && w.net.link(w.storePlace, a.m.place).cut == 0 && w.storeDown == 0 {
		if news := w.news(); news > a.woken {
			a.wakeUp(news)
		}
	}
}

func (a *agent) wakeUp(news cluster.Revision) {
	if a.waking {
		return
	}
	a.waking = true
	w := a.w
	d := w.net.latency(w.net.link(w.storePlace, a.m.place)) + w.rand.between(0, 10*time.Millisecond)
	w.after(d, &a.process, func() {
		a.waking = false
		if w.net.link(w.storePlace, a.m.place).cut > 0 || a.silent {
			return // linkUp looks again
		}
		a.woken = max(news, w.news())
		a.tell(loop.Wake{})
	})
}

// hush is the moment in which nothing comes from the store any more.
func (a *agent) hush() {
	if a.silent {
		return
	}
	a.silent = true
	a.frozenView = a.w.snapshot(a)
	a.unsilence()
}

// unsilence looks twice a second whether the store is back, and wakes the loop, as the driver does.
func (a *agent) unsilence() {
	a.after(500*time.Millisecond+a.w.rand.between(0, 200*time.Millisecond), func() {
		w := a.w
		if w.net.open(a.m.place, w.storePlace) && w.storeDown == 0 {
			a.silent, a.woken, a.frozenView = false, w.news(), nil
			a.answered()
			a.tell(loop.Wake{})
			return
		}
		if a.now().Sub(a.proven) >= a.timing.TTL*3/4 || !w.cachedViews {
			a.tell(loop.Wake{})
		}
		a.unsilence()
	})
}

func (w *World) news() cluster.Revision { return w.server.News(root) }

// storeChanged looks after a request whether there is news, and whether a lease ends earlier than was known.
func (w *World) storeChanged() {
	if news := w.news(); news > w.told {
		w.told = news
		w.storeNews()
		if w.syncRun {
			w.checkSync()
		}
		for _, m := range w.Members {
			if m.agent != nil && !m.agent.silent {
				m.agent.watch()
			}
		}
	}
	if at, ok := w.server.Next(); ok && !w.standing {
		if t := moment(at.UnixNano()) + w.storeLost; w.expiry == 0 || t < w.expiry {
			w.expiry = t
			w.at(t, nil, w.expire)
		}
	}
}

// expire lets leases end that are due.
func (w *World) expire() {
	if w.expiry > w.now {
		return
	}
	w.expiry = 0
	if !w.standing {
		w.server.Tick()
	}
	w.storeChanged()
}

// storeNow is the time that leases are counted in. It stands still during an outage that ends with every lease prolonged.
func (w *World) storeNow() time.Time {
	now := w.now
	if w.standing {
		now = w.storeSince
	}
	return time.Unix(0, now-w.storeLost)
}

// linkDown is called when a way is cut.
func (w *World) linkDown(from, to int) {
	if from == w.storePlace && to < len(w.Members) {
		if a := w.Members[to].agent; a != nil {
			a.hush()
		}
	}
}

// linkUp is called when a way is free again.
func (w *World) linkUp(from, to int) {
	if from == w.storePlace && to < len(w.Members) {
		if a := w.Members[to].agent; a != nil {
			a.watch()
		}
	}
	if from >= len(w.Members) || to >= len(w.Members) {
		return
	}
	for _, t := range streamsBetween(w.Members[from], w.Members[to]) {
		t.free()
	}
}

func streamsBetween(from, to *Member) (list []*stream) {
	if from.server != nil {
		for _, t := range from.server.senders {
			if t.to.m == to {
				list = append(list, t)
			}
		}
	}
	return list
}
