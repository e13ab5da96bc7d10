package sim

import (
	"context"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/memory"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// agent is one agent process: the real loop and the real lease keeper, driven in virtual time. It mirrors internal/agent:
// agent.go and keeper.go here, act.go and work.go beside it.
type agent struct {
	process
	w     *World
	m     *Member
	store *memory.Store

	loop    loop.Loop
	lease   loop.Lease
	lock    ha.Lock   // what the keeper said last
	permit  time.Time // what the loop said last
	circle  *ha.Circle
	circled moment        // since when it is the same
	lasted  time.Duration // how long it was the same up to the last decision
	asking  bool          // a request for the lock is under way
	polling bool          // the members are being asked to let us lead on
	pollSeq uint32
	keepSeq uint32
	restSeq uint32

	stuck    int    // by how many faults the loop hangs, while the rest of the process lives
	due      moment // when the loop must have decided again
	inbox    []loop.Fact
	draining bool

	began   time.Time // zero: not yet
	timing  cluster.Timing
	dynamic cluster.DynamicConfig
	limits  ha.Limits

	jobs          int
	job           *job
	promoting     bool
	promotion     bool // asked for, and may still come true
	fenced        bool // something is to be fenced
	checkpointing bool
	onClean       func() // the shutdown checkpoint is there
	requests      int    // of operators, numbered

	seen       cluster.Postgres  // by the look under way
	announced  cluster.Member    // as written last
	lastWrite  moment            // of our key; 0: it is not certain what it says
	frozenView *cluster.Snapshot // what a cached view still shows while the store is silent
	proven     time.Time         // when the store answered last
	silent     bool              // the watch is broken
	woken      cluster.Revision
	waking     bool
	lastSeen   time.Time // wall clock of the last snapshot
	snapshot   cluster.Revision
	leaving    bool
	told       ha.Reason // in the trace
}

var background = context.Background()

// startAgent starts the agent's process after that long.
func (m *Member) startAgent(after time.Duration) {
	w := m.w
	if m.agent != nil {
		return
	}
	a := &agent{w: w, m: m, store: w.server.Store(root, m.name)}
	a.since = w.now
	m.agent = a
	m.guard.start()
	a.loop = loop.Loop{Self: m.name}
	a.dynamic = m.dir.document
	if len(a.dynamic.Document.Fields) == 0 {
		a.dynamic = w.bootstrapConfig
	}
	a.configure()
	w.after(after, &a.process, func() {
		a.proven = a.m.clock.now()
		a.checkName()
	})
}

// checkName starts nothing before the store has answered, unless something runs that must be looked after.
func (a *agent) checkName() {
	if a.m.server != nil {
		a.run()
		return
	}
	a.ask(a.timing.RetryTimeout, func() error { return nil }, func(err error) {
		if err == nil {
			a.run()
			return
		}
		a.after(time.Second, a.checkName)
	})
}

func (a *agent) run() {
	a.loop.Memory.Promoting = a.m.guard.armed // an agent before us may have told PostgreSQL to promote
	a.began = a.now()
	a.lease.Began = a.began
	a.remindOfPromises()
	a.keep()
	a.watch()
	a.tell(loop.Wake{})
}

// stopAgent ends the process at once.
func (m *Member) stopAgent() {
	a := m.agent
	if a == nil {
		return
	}
	m.agent = nil
	a.kill()
	if a.job != nil && a.job.tool != nil && m.busy == a.job.tool {
		a.job.tool.abort(true) // its parent's death ends it
	}
	m.w.traceEvent(m, "agent gone")
}

func (a *agent) now() time.Time { return a.m.clock.now() }

// after makes fn happen in the agent, by its own clock.
func (a *agent) after(d time.Duration, fn func()) {
	a.w.at(a.m.clock.when(a.now().Add(d)), &a.process, fn)
}

// tell hands a fact to the loop.
func (a *agent) tell(f loop.Fact) {
	a.inbox = append(a.inbox, f)
	a.drain()
}

// drain is the loop's goroutine.
func (a *agent) drain() {
	if a.draining || a.stuck > 0 {
		return
	}
	a.draining = true
	for len(a.inbox) > 0 && !a.dead {
		f := a.inbox[0]
		a.inbox = a.inbox[1:]
		a.take(f)
		for _, e := range a.loop.Step(a.now(), a.m.clock.date(), a.lock, f) {
			a.effect(e)
			if a.dead {
				return
			}
		}
	}
	a.inbox = a.inbox[:0]
	a.draining = false
}

// take notes what a fact means for the settings before the loop sees it.
func (a *agent) take(f loop.Fact) {
	if f, ok := f.(loop.StoreRead); ok && f.Snapshot != nil {
		defer a.unsync(f.Snapshot)
		a.lastSeen = a.m.clock.date()
		if c := &f.Snapshot.Config; c.Usable && c.Revision != a.dynamic.Revision {
			a.dynamic = *c
			if a.m.dir.present() {
				a.m.dir.document = *c
			}
			a.configure()
		}
	}
}

// effect carries out one effect of the loop.
func (a *agent) effect(e loop.Effect) {
	switch e := e.(type) {
	case loop.Observe:
		a.readStore(e.Limit)
		a.look(min(e.Limit, 2*time.Second), func(p cluster.Postgres) { a.tell(loop.PostgresSeen{Postgres: p}) })
	case loop.Permit:
		a.lasted = 0
		if a.circle != nil {
			a.lasted = time.Duration(a.w.now - a.circled)
		}
		if a.circle == nil || e.Circle != nil && !slices.EqualFunc(a.circle.Members, e.Circle.Members, sameMember) {
			a.circled = a.w.now
		}
		a.permit, a.circle = e.Until, e.Circle
		if e.Circle != nil {
			a.permitted()
			a.heartbeat()
		}
		a.decided()
	case loop.Act:
		a.act(e)
	case loop.Announce:
		a.announce(e.Limit)
	case loop.Report:
		if a.w.trace != nil && e.News {
			a.w.traceDecision(a)
		}
	case loop.Rest:
		a.restSeq++
		seq := a.restSeq
		a.w.at(a.m.clock.when(e.Until), &a.process, func() {
			if a.restSeq == seq {
				a.tell(loop.Wake{})
			}
		})
		if a.m.server == nil && a.loop.Postgres.Running() {
			a.tell(loop.Wake{})
		}
	}
}

// exited is the pidfd's event.
func (a *agent) exited() {
	if a.loop.Resting() {
		a.tell(loop.Wake{})
	}
}

// decided looks at every decision: the oracles, the guard, the trace.
func (a *agent) decided() {
	w := a.w
	w.decisions++
	w.checkDecision(a)
	w.starting(a)
	w.givesUp(a, &a.loop.Decision)
	w.idle(a)
	w.unfounded(a)
	a.due = w.now + int64(a.timing.LoopWait+2*a.timing.RetryTimeout+time.Second)
	if a.loop.View.Limits.Paused {
		a.since = w.now // only from the end of the pause is it to keep PostgreSQL from writing
	}
	switch a.loop.Decision.Reason {
	case ha.SystemIDForeign:
		if !w.early() && !w.restored && !a.m.strange {
			w.violate("V14", "%s has made a cluster of its own beside the one that there is", a.m.name)
		}
		a.m.gaveUp = w.now
	case ha.RewindGaveUp, ha.StartFailed:
		a.m.gaveUp = w.now
	}
	a.fence()
}

// keep drives the lease keeper.
func (a *agent) keep() {
	if a.asking {
		return
	}
	l := &a.lease
	a.permitted()
	before := l.State().Deadline
	request, limit, wait := l.Step(a.now())
	if a.lock = l.State(); a.lock.Deadline.Before(before) {
		a.renewed()
	}
	a.keepSeq++
	if request == loop.NoRequest {
		seq := a.keepSeq
		a.after(wait, func() {
			if a.keepSeq == seq {
				a.keep()
			}
		})
		return
	}
	a.asking = true
	sent := a.now()
	trueSent := a.w.now
	ttl := a.timing.TTL
	held := l.Lock() // as it is when the request leaves, however late that arrives
	var lock dcs.Lock
	a.ask(limit, func() error {
		var err error
		switch request {
		case loop.Acquire:
			lock, err = a.store.Acquire(background, a.m.name, ttl)
		case loop.Renew:
			lock, err = a.store.Renew(background, held)
			ttl = lock.Deadline.Sub(a.w.storeNow())
		case loop.Release:
			err = a.store.Release(background, held)
		}
		a.w.storeChanged()
		return err
	}, func(err error) {
		a.asking = false
		if err == nil && request != loop.Release {
			lock.Deadline = sent.Add(ttl) // on our clock, from before the request left
			a.w.confirmed(a, request, trueSent, ttl)
		}
		if err == nil && request == loop.Release {
			a.w.gave(a)
		}
		now := a.now()
		deliver, changed := l.Answered(request, sent, now, lock, err)
		a.lock = l.State()
		if err == nil && request != loop.Release {
			a.renewed()
		}
		a.heartbeat()
		deliver()
		if changed {
			a.tell(loop.Wake{})
		}
		a.keep()
	})
}

// order hands a request for the lock to the keeper and waits for its outcome.
func (a *agent) order(r loop.Request, until time.Time, done func(error)) {
	over := false
	once := func(err error) {
		if !over {
			over = true
			done(err)
		}
	}
	a.lease.Order(loop.Order{Request: r, Until: until, Done: once})
	if !until.IsZero() { // another request is under way
		a.after(until.Sub(a.now()), func() { once(dcs.ErrUnavailable) })
	}
	a.keep()
}

// announce writes our key, unless that would cost nothing and change nothing.
func (a *agent) announce(limit time.Duration) {
	if !a.loop.Readable {
		a.tell(loop.Announced{}) // no member write in a cycle in which the store failed
		return
	}
	a.writeKey(limit, func(error) { a.tell(loop.Announced{}) })
}

func (a *agent) writeKey(limit time.Duration, done func(error)) {
	m := a.loop.Describe(cluster.Member{Name: a.m.name, Version: "4.1.4", Regent: "sim", Tags: a.m.keyTags, ConnURL: a.m.connURL(), APIURL: a.m.apiURL()}, a.promoting)
	ttl := a.timing.TTL
	if a.lastWrite > 0 && a.w.now-a.lastWrite < int64(ttl)/2 && sameKey(&m, &a.announced) {
		done(nil)
		return
	}
	a.lastWrite = 0
	sent := a.w.now
	a.ask(limit, func() error {
		err := a.store.Announce(background, m, ttl)
		a.w.storeChanged()
		return err
	}, func(err error) {
		if err == nil {
			a.announced, a.lastWrite = m, sent
		}
		done(err)
	})
}

// sameKey compares what changes in a key.
func sameKey(a, b *cluster.Member) bool {
	return a.State == b.State && a.Role == b.Role && a.Timeline == b.Timeline && a.XlogLocation == b.XlogLocation && a.ReplayLSN == b.ReplayLSN &&
		a.ReceiveLSN == b.ReceiveLSN && a.ReplicationState == b.ReplicationState && a.Pause == b.Pause && a.CheckpointAfterPromote == b.CheckpointAfterPromote &&
		a.ConnURL == b.ConnURL && a.APIURL == b.APIURL
}

// exit ends the agent as it wants to: its supervisor starts it again after a failure.
func (a *agent) exit(failure string) {
	m := a.m
	end := func() {
		if m.agent != a {
			return
		}
		m.stopAgent()
		if failure != "" || a.leaving && !m.silent {
			m.startAgent(m.w.rand.between(2*time.Second, 10*time.Second))
		}
	}
	if a.loop.Limits.Paused {
		end()
		return
	}
	a.writeKey(2*time.Second, func(error) { end() })
}

// leave asks the agent to stop in order.
func (a *agent) leave() {
	asked := a.loop.Asked
	asked.Leave = true
	a.leaving = true
	a.tell(loop.Ask{Asked: asked})
}
