package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
	"github.com/regent-ha/regent/internal/postgres"
)

// Options are what an agent is made of. The caller opens and closes the store.
type Options struct {
	File  *config.File // the local configuration
	Store dcs.Store
	Peers PeerAsker // how other members are asked for their status
	Agree Agree     // how they are asked to let us lead on without the store; nil: nobody is
	Log   *slog.Logger
	// Reloaded is called with the settings after each change, from the loop's goroutine; it must not block.
	Reloaded func(*config.Effective)
	// Decided is called with the reason of each decision; nil: nobody counts.
	Decided func(reason string)
	// Journaled is called with each decision that goes into the journal, from the loop's goroutine; it must not block.
	Journaled func(Journaled)
}

// Journaled is a decision that acted or whose reason is new, after it was carried out.
type Journaled struct {
	Reason  ha.Reason
	Detail  string
	Actions []ha.Action
	Errors  []string // of the actions
}

// PeerAsker asks one member for its status.
type PeerAsker func(ctx context.Context, m cluster.Member) PeerStatus

// Agent is one running member. Its methods may be called from any goroutine.
type Agent struct {
	log   *slog.Logger
	store dcs.Store
	peers PeerAsker
	clock dcs.Clock
	name  string

	pg      *postgres.Instance
	keeper  *keeper
	fencing *fencing
	journal *journal

	facts chan loop.Fact
	asks  chan func(*ha.Asked)
	gone  chan struct{} // the loop has ended

	mu       sync.Mutex // guards what a reload changes
	file     *config.File
	settings config.Effective
	warned   map[config.Warning]bool

	status      atomic.Pointer[Status]
	fresh       atomic.Pointer[fresher]
	lastView    atomic.Pointer[ha.View]
	observation singleflight.Group
	jobs        *jobs
	scheduled   *schedule
	routers     routers

	// The driver's own, touched by its goroutine only.
	loop         loop.Loop
	dynamic      cluster.DynamicConfig // last known good
	unsynced     atomic.Bool           // the store was read, and /sync names nobody
	seen         *cluster.Snapshot     // the store as read last, a moment before the loop hears of it
	feedback     atomic.Bool           // hot_standby_feedback must be on, for logical slots
	tending      tending
	callbacks    callbackMemory
	exit         *ha.Exit
	storeError   string
	began        time.Time // boot-time clock; zero: not yet
	snapshotWall time.Time
	problems     []string                // of the keys, as told last
	durability   *Durability             // as told last
	reported     ha.Reason               // of the decision before
	heartbeat    time.Time               // when one was logged last
	reloaded     func(*config.Effective) // tells REST and the log
	decided      func(reason string)
	journaled    func(Journaled)

	announcing    chan struct{} // holds one while our key is being written
	checkpointing atomic.Bool   // a CHECKPOINT after promotion is under way
	promoting     atomic.Bool   // the promote command is out
	promotion     atomic.Bool   // a promotion was asked for that may still come true
	answersMu     sync.Mutex
	answers       map[int]chan error // of restart requests, by their number
	nextID        int
}

// ErrBusy: another long action is under way.
var ErrBusy = errors.New("another action is under way")

// New prepares an agent. It touches neither PostgreSQL nor the store.
func New(o Options) (*Agent, error) {
	a := &Agent{
		log: o.Log, store: o.Store, peers: o.Peers, clock: boottime.Now, file: o.File, reloaded: o.Reloaded, decided: o.Decided, journaled: o.Journaled,
		warned: map[config.Warning]bool{}, facts: make(chan loop.Fact, 16), asks: make(chan func(*ha.Asked), 4), announcing: make(chan struct{}, 1), gone: make(chan struct{}), answers: map[int]chan error{},
	}
	a.dynamic = a.cachedConfig()
	e, warnings, err := config.NewEffective(o.File, a.dynamic)
	if err != nil {
		return nil, err
	}
	warn(a.log, a.warned, warnings)
	a.settings, a.name = e, e.Name
	s, err := instanceSettings(&e, cluster.Replica, false, false)
	if err != nil {
		return nil, err
	}
	if a.pg, err = postgres.New(s, o.Log); err != nil {
		return nil, err
	}
	if err := a.pg.CheckVersion(); err != nil {
		return nil, err // before this member claims anything in the store
	}
	if a.journal, err = openJournal(e.Regent.JournalDir, o.Log); err != nil {
		return nil, err
	}
	a.fencing = newFencing(&e, o.Log)
	a.keeper = newKeeper(o.Store, e.Name, a.clock, o.Log, a.wake)
	a.keeper.confirmed = a.fencing.renewed
	a.keeper.timing.Store(&e.Timing)
	a.keeper.agree = a.askCircle(o.Agree)
	a.scheduled = newSchedule()
	a.jobs = &jobs{clock: a.clock, report: a.tell, log: o.Log}
	a.loop = loop.Loop{Self: e.Name}
	a.loop.Configure(limits(&e), tags(e.Tags))
	a.publish()
	return a, nil
}

// cachedConfig is the dynamic configuration to begin with: the last one seen by this member, else the bootstrap
// section's (config.md 1.7, 1.8).
func (a *Agent) cachedConfig() cluster.DynamicConfig {
	s, err := a.file.Settings()
	if err != nil {
		return cluster.DynamicConfig{}
	}
	if d, err := config.ReadCache(s.Postgres.DataDir); err == nil && len(d.Document.Fields) > 0 {
		return d
	} else if err != nil {
		a.log.Warn("read cached dynamic configuration", "error", err)
	}
	return s.Bootstrap.DCS
}

// Run runs the member until ctx ends, and then leaves in order: a leader hands over, PostgreSQL stops,
// unless the cluster is paused. A second, harder end is hard's.
func (a *Agent) Run(ctx, hard context.Context) error {
	work, stop := context.WithCancel(hard)
	defer stop()
	a.fencing.open(&a.settings, a.wake)
	defer a.fencing.close()
	// An agent before us may have told PostgreSQL to promote. If it did not, the first look shows that.
	a.loop.Memory.Promoting = a.fencing.inherited()
	a.began = a.clock()
	a.keeper.begin(a.began)
	a.remindOfPromises()
	g, work := errgroup.WithContext(work)
	g.Go(func() error { return a.fencing.guard.Run(work) })
	g.Go(func() error { return a.keeper.run(work) })
	g.Go(func() error { return a.keeper.heartbeat(work) })
	g.Go(func() error { return a.watchStore(work) })
	g.Go(func() error { return a.runSchedule(work) })
	g.Go(func() error {
		defer stop()
		return a.drive(ctx, work)
	})
	err := g.Wait()
	a.jobs.wait()
	a.tending.done.Wait()
	a.pg.Close()
	return errors.Join(err, a.journal.close())
}

// LeaseLeft is how long the leader lock is certainly ours; 0 when it is not.
func (a *Agent) LeaseLeft() time.Duration {
	l := a.keeper.lock()
	if !l.Held || l.Refused {
		return 0
	}
	return max(l.Deadline.Sub(a.clock()), 0)
}

// CheckName refuses to start beside another agent of our name (ha.md 2.29, L16). It waits for the store, unless a
// PostgreSQL runs that must be looked after. Call it before the REST server answers, or that will be the one it finds.
func (a *Agent) CheckName(ctx context.Context) error {
	for told := ""; ; {
		limit, cancel := context.WithTimeout(ctx, a.settings.Timing.RetryTimeout)
		s, err := a.store.Snapshot(limit)
		cancel()
		switch {
		case err == nil:
			return a.alone(ctx, s)
		case errors.Is(err, dcs.ErrDenied):
			return fmt.Errorf("read cluster: %w; check username and password in the store's section", err)
		case ctx.Err() != nil:
			return nil
		}
		// Once, and again when it is something else: the first attempt often does not know the cause yet.
		if text := strings.ReplaceAll(err.Error(), "\n", ": "); text != told {
			a.log.Warn("wait for the store and start nothing before it answers; does it run, and is its address right?",
				"section", string(a.settings.DCS.Kind), "hosts", slices.Concat(a.settings.DCS.Etcd.Hosts, a.settings.DCS.ZooKeeper.Hosts), "error", text)
			told = text
		}
		if p := a.pg.Observe(ctx, postgres.ObserveOptions{}); p.Running() {
			return nil // something runs that must be looked after, with or without the store
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second): // no event tells that a store came up; one try a second
		}
	}
}

// lateEnd is how long the container of a pod that had our name may still run: as long as the chart lets it.
const lateEnd = time.Minute

// alone returns an error when an agent of our name answers elsewhere. In Kubernetes that is the pod before us on its way out: its end is
// waited for, since who exits instead is started again later and later.
func (a *Agent) alone(ctx context.Context, s *cluster.Snapshot) error {
	m, ok := s.Member(a.name)
	// Who answers at our own address has our port, and that is told better when we want to listen there.
	if _, own, _ := addresses(&a.settings); !ok || m.APIURL == "" || m.APIURL == own {
		return nil
	}
	told := false
	for begun := a.clock(); ; {
		limit, cancel := context.WithTimeout(ctx, 3*time.Second)
		other := a.peers(limit, m)
		cancel()
		switch {
		case !other.Alive:
			return nil
		case a.settings.DCS.Kind != config.InKubernetes, a.clock().Sub(begun) >= lateEnd:
			return fmt.Errorf("start member %s: an agent of that name runs already and answers at %s; give each member a name of its own, or stop the other one", a.name, m.APIURL)
		}
		if !told {
			told = true
			a.log.Warn("an agent of our name still answers: wait for the end of the pod before us, and start nothing", "at", m.APIURL, "at_most", lateEnd)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond): // its end announces itself to nobody
		}
	}
}

// watchStore wakes the loop when the store has changed.
func (a *Agent) watchStore(ctx context.Context) error {
	after := cluster.Revision(0)
	for {
		if s := a.status.Load().Snapshot; s != nil {
			after = max(after, s.Revision)
		}
		err := a.store.Watch(ctx, after)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			a.wake()
			if s, err := a.store.Snapshot(ctx); err == nil {
				after = s.Revision
			}
		default:
			a.log.Debug("watch store", "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(500 * time.Millisecond): // the store is away; its return wakes nobody
			}
			a.wake()
		}
	}
}

// wake makes the loop look now; it never blocks, and one wake that waits is enough.
func (a *Agent) wake() {
	select {
	case a.facts <- loop.Wake{}:
	default:
	}
}

// tell hands a fact over, as long as there is a loop to take it.
func (a *Agent) tell(f loop.Fact) {
	select {
	case a.facts <- f:
	case <-a.gone:
	}
}

// drive is the thin shell around loop.step: facts in, effects out.
func (a *Agent) drive(leave, ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer close(a.gone)
	leaving := leave.Done()
	for {
		var f loop.Fact = loop.Wake{}
		var exited <-chan struct{}
		if a.loop.Resting() {
			exited = a.pg.Exited()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-leaving:
			leaving = nil
			asked := a.loop.Asked
			asked.Leave = true
			f = loop.Ask{Asked: asked}
		case f = <-a.facts:
		case ask := <-a.asks:
			asked := a.loop.Asked
			ask(&asked)
			f = loop.Ask{Asked: asked}
		case <-exited:
			if !a.loop.Postgres.Running() {
				exited = nil // known already
			}
		case <-timer.C:
		}
		a.take(ctx, f)
		a.loop.Unfenced = a.fencing.problem()
		for _, e := range a.loop.Step(a.clock(), time.Now(), a.lockInView(), f) {
			a.effect(ctx, e, timer)
		}
		if a.exit != nil {
			a.farewell(ctx)
			if a.exit.Failure != "" {
				return errors.New(a.exit.Failure)
			}
			return nil
		}
	}
}

// farewell tells the others that PostgreSQL is stopped. The key lives on until its lease ends.
func (a *Agent) farewell(ctx context.Context) {
	a.publish()
	if a.loop.Limits.Paused {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := a.writeKey(ctx, a.member(), a.settings.Timing.TTL); err != nil {
		a.log.Warn("announce the stop", "error", err)
	}
}

// effect carries out one effect of the loop; what takes time reports back as a fact.
func (a *Agent) effect(ctx context.Context, e loop.Effect, timer *time.Timer) {
	switch e := e.(type) {
	case loop.Observe:
		go a.readStore(ctx, e.Limit)
		go a.observe(ctx, e.Limit)
	case loop.Permit:
		a.keeper.permit(e.Until, e.Circle)
		a.fence()
	case loop.Act:
		a.act(ctx, e)
	case loop.Announce:
		a.announce(ctx, e.Limit)
	case loop.Report:
		a.report(e.News)
	case loop.Rest:
		timer.Reset(e.Until.Sub(a.clock()))
	}
}

func (a *Agent) readStore(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := a.store.Snapshot(ctx)
	if err != nil {
		a.log.Warn("read cluster", "error", err)
		a.tell(loop.StoreRead{})
		return
	}
	a.tell(loop.StoreRead{Snapshot: s})
}

// observe looks at PostgreSQL. Two seconds are enough for a server that can be used at all.
func (a *Agent) observe(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, min(limit, 2*time.Second))
	defer cancel()
	a.tell(loop.PostgresSeen{Postgres: a.pg.Observe(ctx, postgres.ObserveOptions{})})
}

// take notes what a fact means for the settings before the loop sees it.
func (a *Agent) take(ctx context.Context, f loop.Fact) {
	switch f := f.(type) {
	case loop.StoreRead:
		if f.Snapshot == nil {
			a.storeError = "the store does not answer"
			return
		}
		a.storeError, a.snapshotWall = "", time.Now()
		a.tellProblems(f.Snapshot.Problems)
		before := a.unsynced.Swap(f.Snapshot.Sync.Leader == "")
		a.seen = f.Snapshot
		feedback := a.feedback.Swap(a.wantsFeedback()) // takeSettings looks again
		if c := f.Snapshot.Config; c.Usable && c.Revision != a.dynamic.Revision {
			a.takeDynamic(ctx, c)
		} else if feedback != a.feedback.Load() || before != a.unsynced.Load() {
			if err := a.takeSettings(ctx, a.file, a.dynamic, false); err != nil {
				a.log.Error("apply configuration", "error", err)
			}
		}
		timing := a.settings.Timing // a copy: the keeper reads it while the settings change
		a.keeper.timing.Store(&timing)
	case reloadRequest:
		a.takeFile(ctx)
	}
}

// takeDynamic puts a new dynamic configuration into force. One that cannot be used is refused as a whole and
// not tried again until it changes (config.md 1.10).
func (a *Agent) takeDynamic(ctx context.Context, c cluster.DynamicConfig) {
	old := a.dynamic
	a.dynamic = c
	if err := a.takeSettings(ctx, a.file, c, false); err != nil {
		a.log.Error("refuse dynamic configuration", "error", err)
		old.Revision = c.Revision
		a.dynamic = old
		return
	}
	// Danger: in a directory that a clone is about to fill, the file alone would outlive a cancelled clone and look like
	// somebody else's data. A clone brings the file with it.
	if a.loop.Postgres.Dir != cluster.DirPresent {
		return
	}
	if err := config.WriteCache(a.settings.Postgres.DataDir, c); err != nil {
		a.log.Warn("write cached dynamic configuration", "error", err)
	}
}

// takeFile re-reads the local configuration; a bad one changes nothing.
func (a *Agent) takeFile(ctx context.Context) {
	next, changed, err := a.file.Reload()
	switch {
	case err != nil:
		a.log.Error("reload configuration: the old one stays in force", "error", err)
		return
	case !changed:
		a.log.Info("No local configuration items changed.")
	}
	// PostgreSQL reads its files again also when nothing changed: a certificate of its own may have (config.md 1.9).
	if err := a.takeSettings(ctx, next, a.dynamic, true); err != nil {
		a.log.Error("reload configuration: the old one stays in force", "error", err)
	}
}

// takeSettings computes what counts now and applies it to the loop, the keeper and PostgreSQL, which is reloaded when
// its settings differ or somebody asked for it.
func (a *Agent) takeSettings(ctx context.Context, file *config.File, d cluster.DynamicConfig, asked bool) error {
	e, warnings, err := config.NewEffective(file, d)
	if err != nil {
		return err
	}
	warn(a.log, a.warned, warnings)
	a.mu.Lock()
	a.file, a.settings = file, e
	a.mu.Unlock()
	a.fencing.configure(&e)
	a.configureLoop()
	a.remindOfPromises()
	a.feedback.Store(a.wantsFeedback())
	role := a.role()
	s, err := instanceSettings(&e, role, a.unsynced.Load(), a.feedback.Load())
	if err != nil {
		return err
	}
	old := a.pg.Settings()
	a.pg.Configure(s)
	if a.loop.Postgres.Running() && a.loop.Job == nil && (asked || !reflect.DeepEqual(old, s)) {
		go func() {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if _, err := a.pg.Reload(ctx); err != nil {
				a.log.Warn("reload PostgreSQL", "error", err)
				return
			}
			a.callback("on_reload", role)
			a.wake() // what waits for a restart now is news for the others
		}()
	}
	if a.reloaded != nil {
		a.reloaded(&e)
	}
	return nil
}
