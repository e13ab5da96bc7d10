package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// permitted hands the lease what holds now, as the keeper does.
func (a *agent) permitted() {
	l := &a.lease
	l.Retry, l.TTL, l.Interval = a.timing.RetryTimeout, a.timing.TTL, min(a.timing.LoopWait, a.timing.TTL/3)
	l.Permit(a.permit, a.circle)
	a.lock = l.State()
}

// heartbeat drives what the lease asks of the other members while the store does not confirm the lock.
func (a *agent) heartbeat() {
	if a.polling {
		return
	}
	a.permitted()
	sent, trueSent := a.now(), a.w.now
	r, wait := a.lease.Poll(sent)
	a.pollSeq++
	if a.lease.Circle == nil {
		return // the next permission looks again
	}
	if r == nil {
		seq := a.pollSeq
		a.after(wait, func() {
			if a.pollSeq == seq {
				a.heartbeat()
			}
		})
		return
	}
	a.polling = true
	a.askCircle(r, func(promise time.Duration) {
		a.polling = false
		before := a.lock.Agreed
		a.permitted()
		moved := a.lease.Agreed(r, sent, a.now(), promise)
		a.lock = a.lease.State()
		if moved {
			a.w.agreed(a, trueSent, min(promise, a.lease.TTL))
			a.renewed()
			if !before {
				a.tell(loop.Wake{})
			}
		}
		a.heartbeat()
	})
}

// askCircle asks all members side by side; done gets the shortest promise, 0 when one of them gave none in time.
func (a *agent) askCircle(r *loop.Round, done func(promise time.Duration)) {
	w := a.w
	promise, waiting, over := a.timing.TTL, len(r.Members), false
	w.toldSlots(r.Circle.Slots)
	finish := func(p time.Duration) {
		if !over {
			over = true
			done(p)
		}
	}
	if waiting == 0 {
		finish(promise)
		return
	}
	refused := false
	answer := func(p time.Duration) {
		refused = refused || p == 0
		promise = min(promise, p)
		if waiting--; waiting == 0 && !refused {
			finish(promise)
		}
	}
	until := a.now().Add(r.Limit)
	for _, m := range r.Members {
		peer := w.byAPI(m.APIURL)
		if peer == nil || peer.down > 0 || peer.agent == nil {
			continue
		}
		w.net.send(a.m.place, peer.place, &peer.agent.process, func() {
			b := peer.agent
			if b == nil {
				return
			}
			p := b.acceptFailsafe(a.m.name, m.Name, r.Circle.Slots)
			w.net.send(peer.place, a.m.place, &a.process, func() {
				if a.now().Before(until) || w.rand.chance(50) { // frozen past the limit: which of both is seen first is chance
					answer(p)
				}
			})
		})
	}
	a.after(r.Limit, func() { finish(0) })
}

// acceptFailsafe is internal/agent's.
func (a *agent) acceptFailsafe(from, to string, slots map[string]cluster.LSN) time.Duration {
	a.permitted()
	h := ha.Heartbeat{
		From: from, To: to, Slots: slots, Now: a.now(), Self: a.m.name, Failsafe: a.limits.Failsafe,
		Postgres: a.loop.Postgres, Fenced: a.fenced, Promotion: a.promotion,
	}
	if a.loop.Readable {
		h.Store = a.loop.Store
	}
	if refusal, _ := a.lease.Accept(h, a.timing.TTL); refusal != "" {
		return 0
	}
	a.lock = a.lease.State()
	a.w.oracle.promised[a.m.place] = a.w.now
	return a.timing.TTL
}

// remindOfPromises is internal/agent's.
func (a *agent) remindOfPromises() {
	if a.loop.Limits.Failsafe && !a.began.IsZero() {
		if until := a.began.Add(a.timing.TTL); until.After(a.loop.Fresh) {
			a.loop.Fresh = until
		}
	}
}

// agreed notes that a leader goes on by what the others have promised: everybody who may lead by the store has promised that since the
// questions left.
func (w *World) agreed(a *agent, sent moment, promise time.Duration) {
	o, s := &w.oracle, w.peek()
	o.leaseEnd[a.m.place] = max(o.leaseEnd[a.m.place], sent+int64(promise))
	w.failsafes++
	for _, m := range w.Members {
		if _, listed := s.Failsafe[m.name]; listed && m != a.m && o.promised[m.place] < sent && !w.restored {
			w.violate("failsafe", "%s goes on without the store, and %s, who may lead, has promised nothing since", a.m.name, m.name)
		}
	}
	w.watchLease(a.m)
}

// givesUp looks at a leader that stops because the store is away: it must not where everybody could have agreed.
func (w *World) givesUp(a *agent, d *ha.Decision) {
	v := &a.loop.View
	stop := false
	for _, action := range d.Actions {
		demote, ok := action.(ha.Demote)
		stop = stop || ok && demote.Mode == ha.Offline
	}
	if !stop || d.Reason != ha.LockExpiring || !v.Limits.Failsafe || !v.Memory.Failsafe.Mine || !v.Lock.Held || a.pausedLately() || w.restored || w.now < w.oracle.waived {
		return
	}
	if leader := w.peek().Leader.Name; leader != "" && leader != a.m.name {
		return // by a request that came late: who sees that makes no promise to another one
	}
	if a.lasted < a.timing.TTL {
		return // PostgreSQL was down, or the list has changed
	}
	long := 2 * a.timing.TTL
	if w.now-w.configured < int64(long) || w.now-a.since < int64(long) {
		return
	}
	circle := map[string]string{}
	for _, list := range append(slices.Clone(v.Memory.Failsafe.Tried), v.Memory.Failsafe.Known) { // who may be listed by now has to agree, too
		maps.Copy(circle, list)
	}
	for name, url := range circle {
		m := w.member(name)
		switch {
		case m == nil, m == a.m:
			continue
		case m.agent == nil || m.agent.frozen > 0 || w.now-m.agent.since < int64(long) || m.apiURL() != url || !w.net.steady(a.m.place, m.place, long):
			return
		case m.agent.stuck > 0 || m.server == nil || m.server.phase != standingBy || w.now-m.server.since < int64(long) || m.server.frozen > 0 || !m.dir.standbySignal:
			return
		case m.agent.lease.State().Held || m.agent.timing != a.timing || !m.agent.limits.Failsafe:
			return
		}
	}
	w.violate("failsafe", "%s stops although every member could have agreed that it goes on: %s", a.m.name, d.Detail)
}

func (a *agent) pausedLately() bool {
	return a.limits.Paused || a.w.now-a.w.configured < int64(a.timing.TTL)
}

// failsafeFaults are outages of the store, which are what this mode is for, alone and with one more trouble.
func (w *World) failsafeFaults(r *random, span time.Duration) (list []Fault) {
	for range 1 + r.below(2) {
		at := r.between(0, span).Truncate(time.Millisecond)
		lasts := r.between(20*time.Second, 3*time.Minute).Truncate(time.Millisecond)
		kind := choose(r, "store-down", "store-down", "cut-store")
		list = append(list, Fault{At: at, For: lasts, Kind: kind, Member: Leader, Value: r.below(10000)})
		if r.chance(60) {
			second := choose(r, "agent-killed", "agent-frozen", "cut-pair", "cut-peers", "agent-ambushed", "cut-store", "cut-store-way", "postgres-killed", "both-frozen", "host-lost", "switchover", "failover", "agent-killed")
			f := Fault{At: (at + r.between(0, lasts)).Truncate(time.Millisecond), Kind: second, Member: r.below(len(w.Members)), Other: r.below(len(w.Members)), Value: r.below(10000)}
			if r.chance(40) {
				f.Member = Leader
			}
			if k := kinds[second]; k.top > 0 {
				f.For = r.between(k.low, k.top).Truncate(time.Millisecond)
			}
			list = append(list, f)
		}
	}
	switch { // drawn last, so that all else about a seed stays
	case r.chance(15):
		list = append(list, w.joining(r, span)...)
	case r.chance(15):
		list = append(list, w.slowly(r, span)...)
	}
	return list
}

// joining lets a member come back that was away for longer than ttl, so that it is listed no more, while the leader's lines are slow; then the
// store goes, or the leader. Who has to agree changes in the midst of a question, or by a write that nobody hears of.
func (w *World) joining(r *random, span time.Duration) []Fault {
	back := r.between(time.Minute, span+time.Minute)
	away := r.between(45*time.Second, time.Minute)
	slow, last := back-r.between(0, 3*time.Second), back+r.between(0, 8*time.Second)
	return []Fault{
		during("agent-killed", back-away, away, r.below(len(w.Members)), 0),
		during("slow-links", slow, r.between(3*time.Second, 15*time.Second), Leader, 300+r.below(1700)),
		during(choose(r, "cut-store", "cut-store-way", "store-down"), last, r.between(20*time.Second, time.Minute), Leader, r.below(2)),
	}
}

// slowly lets answers take long while the store is away, and then ends the leader's agent: only the guard knows until when it may lead.
func (w *World) slowly(r *random, span time.Duration) []Fault {
	at := r.between(0, span)
	return []Fault{
		during(choose(r, "store-down", "cut-store"), at, r.between(40*time.Second, 90*time.Second), Leader, r.below(2)),
		during("slow-links", at+r.between(0, 5*time.Second), r.between(20*time.Second, time.Minute), Leader, 300+r.below(1000)),
		during(choose(r, "agent-killed", "agent-frozen"), at+r.between(8*time.Second, 30*time.Second), r.between(30*time.Second, time.Minute), Leader, 0),
	}
}

func during(kind string, at, lasts time.Duration, member, value int) Fault {
	return Fault{At: at.Truncate(time.Millisecond), For: lasts.Truncate(time.Millisecond), Kind: kind, Member: member, Value: value}
}

// letGoOn says whether the member leads by what the others have promised, as the store has let its lock go.
func (w *World) letGoOn(m *Member) bool {
	o := &w.oracle
	return w.now < o.leaseEnd[m.place] && o.stored[m.place] < o.leaseEnd[m.place]
}

func sameMember(a, b cluster.Member) bool { return a.Name == b.Name && a.APIURL == b.APIURL }
