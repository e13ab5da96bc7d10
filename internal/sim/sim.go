// Package sim is a deterministic simulator: the real loop, the real decisions and the real lease keeper of one to seven
// members, over a store in memory and a model of PostgreSQL, in virtual time. A seed makes a schedule of faults; oracles
// watch, in true time, what ha.md 4.4 demands (V1 to V22).
//
// There is one goroutine and no clock: a run depends on its options and on the source alone, and replays bit for bit.
// ORACLES.md in this folder says what is checked how, and what is not yet.
package sim

import (
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs/memory"
)

// Options are what a run depends on.
type Options struct {
	Seed     uint64
	Members  int       // 1 to 7; 0: by the seed
	Sync     bool      // in synchronous mode; else an eighth of the seeds are
	Quorum   bool      // in quorum mode; else another eighth
	Failsafe bool      // in failsafe mode
	Sites    bool      // in synchronous or quorum mode, and the loss of a site is to be survived
	Standby  bool      // a standby cluster, in no synchronous mode
	NoGuard  bool      // without the process that kills PostgreSQL at the lock's end
	Schedule *[]Fault  // instead of the seed's
	Trace    io.Writer // nil: none
	Hash     bool      // compute Result.Hash
	Ignore   []string  // oracles that say nothing, so that what comes after them is seen

	plan *Plan // instead of a cluster by the seed
}

func (o *Options) ignores(name string) bool { return slices.Contains(o.Ignore, name) }

// Result is how a run went.
type Result struct {
	Seed       uint64
	Members    int
	Schedule   []Fault
	Violation  *Violation // the first; nil: none
	Decisions  uint64
	Events     uint64
	Simulated  time.Duration
	Rows       int // acknowledged
	Lost       int // of them, in failovers that may lose
	Failovers  int
	GuardKills int
	Failsafes  int    // how often a leader was let go on without the store
	Hash       uint64 // of the trace
}

// Violation is an invariant that did not hold.
type Violation struct {
	Oracle string // "V1" ...
	At     time.Duration
	Detail string
}

func (v *Violation) String() string {
	return fmt.Sprintf("%s at %s: %s", v.Oracle, v.At.Round(time.Millisecond), v.Detail)
}

// World is one run.
type World struct {
	kernel
	options Options
	Members []*Member
	net     network
	server  *memory.Server

	storePlace, clients int
	storeBack           moment // when it answered again
	storeDown           int
	storeLost           int64 // time that passed for nobody's lease
	storeSince          moment
	standing            bool // leases stand still meanwhile
	truth               *memory.Store
	expiry              moment // when a lease ends next; 0: none
	told                cluster.Revision
	cachedViews         bool
	restored            bool
	syncRun, quorumRun  bool
	failsafeRun         bool
	standbyRun          bool
	sites               *sites  // what is known of them; nil: there are none
	remote              *Member // whom a standby cluster follows
	wiped               bool    // a disk was lost: the lag limit may leave the cluster without a leader

	bootstrapConfig cluster.DynamicConfig
	addresses       map[string]*Member
	pids, records   int
	systems         int
	slotRun         bool // with a permanent slot
	writeEvery      time.Duration

	schedule []Fault
	active   int // faults that last

	struck     moment // when the first fault struck; 0: not yet
	crowd      int    // events at this very moment
	decisions  uint64
	guardKills int
	failsafes  int    // how often a leader was let go on without the store
	configured moment // when the dynamic configuration was changed last
	trace      io.Writer
	oracle     oracle
}

// Run plays one schedule to its end.
func Run(o Options) Result {
	w := newWorld(o)
	w.play()
	r := Result{Seed: o.Seed, Members: len(w.Members), Schedule: w.schedule, Violation: w.oracle.violation, Decisions: w.decisions, Events: w.events,
		Simulated: time.Duration(w.now), Rows: w.oracle.acknowledged, Lost: w.oracle.lost, Failovers: w.oracle.promotions, GuardKills: w.guardKills, Failsafes: w.failsafes}
	if h, ok := w.trace.(*hashing); ok {
		r.Hash = h.Sum64()
	}
	return r
}

type hashing struct{ sum }
type sum = interface {
	io.Writer
	Sum64() uint64
}

// epoch is the wall clock at the begin of a run.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(o Options) *World {
	w := &World{options: o, trace: o.Trace, addresses: map[string]*Member{}}
	w.rand = newRandom(o.Seed)
	if o.Hash {
		w.trace = &hashing{fnv.New64a()}
	}
	r := &w.rand
	n := choose(r, 3, 3, 3, 3, 2, 2, 4, 5, 1, 3, 2, 7)
	if o.Members > 0 {
		n = o.Members
	}
	w.server = memory.NewServer(w.storeNow)
	w.truth = w.server.Store(root, "")
	w.cachedViews = r.chance(60)
	w.storePlace, w.clients = n, n+1
	w.net = network{w: w, size: n + 2}
	if w.standbyRun = o.Standby; w.standbyRun {
		w.net.size++
	}
	w.net.links = make([]link, w.net.size*w.net.size)
	w.writeEvery = choose(r, time.Second, 3*time.Second, 3*time.Second, 8*time.Second)
	s := settings{
		TTL: choose(r, 20, 20, 30), LoopWait: choose(r, 1, 2, 5, 10), RetryTimeout: choose(r, 3, 3, 5, 10),
		MaxLag: choose[int64](r, 1<<20, 1<<20, 16<<20, 100_000), PrimaryStart: choose(r, 300, 300, 30, 0),
		CheckTimeline: r.chance(30), Slots: r.chance(85),
	}
	w.bootstrapConfig = s.document()
	w.quorumRun = o.Quorum || o.Sites && o.Seed%2 == 1 || !o.Sync && !o.Sites && o.plan == nil && o.Seed%8 == 6
	w.quorumRun = w.quorumRun && !w.standbyRun
	if w.syncRun = !w.standbyRun && (o.Sync || o.Sites || w.quorumRun || o.plan == nil && o.Seed%8 == 2); w.syncRun {
		w.bootstrapConfig.Document = synchronous(w.bootstrapConfig.Document, o.Seed, w.syncMode())
	}
	if w.failsafeRun = o.Failsafe; w.failsafeRun {
		w.bootstrapConfig.Document = w.bootstrapConfig.Document.Set(cluster.Flag(true), "failsafe_mode")
	}
	if w.slotRun = o.plan == nil && o.Seed%8 == 4; w.slotRun {
		w.bootstrapConfig.Document = w.bootstrapConfig.Document.Set(cluster.Text(cluster.PhysicalSlot), "slots", permanentSlot, "type")
	}
	rewind := r.chance(80)
	for i := range n {
		m := &Member{w: w, place: i, name: fmt.Sprintf("pg%d", i)}
		m.clock = clock{k: &w.kernel, boot: int64(r.between(time.Minute, 1000*time.Hour)), wall: epoch.UnixNano() + int64(r.between(0, 200*time.Millisecond)), ppm: int64(r.below(401) - 200)}
		m.tags = ha0(r, i)
		m.keyTags = keyTags(m.tags)
		m.local = Local{UseRewind: rewind, RemoveOnRewindFailure: r.chance(30), RemoveOnDivergence: r.chance(30)}
		m.dir = directory{state: cluster.DirEmpty}
		m.guard = guard{m: m}
		m.move()
		w.Members = append(w.Members, m)
	}
	if o.plan != nil {
		o.plan.put(w)
	}
	if o.Sites && !w.standbyRun {
		w.placeSites()
	}
	if w.standbyRun {
		w.addRemote(n + 2)
	}
	w.oracle.init(w)
	if o.Schedule != nil {
		w.schedule = slices.Clone(*o.Schedule)
	} else {
		w.schedule = w.generate()
	}
	return w
}
