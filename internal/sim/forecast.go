package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// Plan is a cluster as somebody means to run it.
type Plan struct {
	Members    int                   // 1 to 7
	Config     cluster.DynamicConfig // the dynamic configuration, adjusted
	Local      Local
	WriteEvery time.Duration // how often a client commits
}

// Scenario is one thing that goes wrong, or that somebody does.
type Scenario struct {
	Name, Text string
	Kind       string // of the fault
	Member     int
	For        time.Duration
}

// Scenarios are those that can be forecast, by name.
var Scenarios = func() map[string]Scenario {
	list := []Scenario{
		{"node-loss", "the leader's machine is gone for good", "host-lost", Leader, 10 * time.Minute},
		{"node-restart", "the leader's machine restarts and is back after 20 s", "host-lost", Leader, 20 * time.Second},
		{"agent-loss", "the leader's agent is killed and is not started again", "agent-killed", Leader, 10 * time.Minute},
		{"agent-frozen", "the leader's agent is frozen for 5 minutes", "agent-frozen", Leader, 5 * time.Minute},
		{"postgres-crash", "the leader's PostgreSQL is killed", "postgres-killed", Leader, 0},
		{"postgres-hangs", "the leader's PostgreSQL is frozen for 5 minutes", "postgres-frozen", Leader, 5 * time.Minute},
		{"partition", "the leader is cut off from everybody for 5 minutes", "cut-off", Leader, 5 * time.Minute},
		{"store-unreachable", "the leader cannot reach the store for 5 minutes", "cut-store", Leader, 5 * time.Minute},
		{"store-outage", "the store is away for a minute", "store-down", Leader, time.Minute},
		{"disk-stall", "the leader's disk stands still for a minute", "disk-stall", Leader, time.Minute},
		{"replica-loss", "a replica's machine is gone for good", "host-lost", replica, 10 * time.Minute},
		{"switchover", "a planned change of the leader", "switchover", Leader, 0},
		{"agent-stop", "the leader's agent is told to stop, for a minute", "leave", Leader, time.Minute},
	}
	byName := map[string]Scenario{}
	for _, s := range list {
		byName[s.Name] = s
	}
	return byName
}()

// ScenarioNames lists them in order.
func ScenarioNames() []string { return slices.Sorted(maps.Keys(Scenarios)) }

// Outcome is how one run of a scenario went for those who write.
type Outcome struct {
	Seed      uint64
	Outage    time.Duration // the longest time without a commit from the fault on
	Lost      time.Duration // commits of so long were acknowledged and are gone
	Violation *Violation
}

// Forecast plays a scenario once. Everything but the fault is chance: when it strikes, delays, how long what takes.
func Forecast(p Plan, s Scenario, seed uint64) Outcome {
	f := Fault{At: 30 * time.Second, For: s.For, Kind: s.Kind, Member: s.Member}
	w := newWorld(Options{Seed: seed, Members: p.Members, Schedule: &[]Fault{f}, plan: &p})
	(*w.options.Schedule)[0].At += w.rand.between(0, 30*time.Second)
	w.schedule = *w.options.Schedule
	w.play()
	o := Outcome{Seed: seed, Violation: w.oracle.violation, Lost: time.Duration(w.oracle.lost) * p.WriteEvery}
	begin := w.struck
	if begin == 0 {
		return o
	}
	last := begin
	for _, r := range w.oracle.rows {
		if r.at > begin {
			o.Outage = max(o.Outage, time.Duration(r.at-last))
			last = r.at
		}
	}
	return o
}

// put makes a world of the plan instead of by the seed.
func (p *Plan) put(w *World) {
	w.bootstrapConfig = p.Config
	mode := p.Config.SynchronousMode()
	w.syncRun, w.quorumRun = mode.Active(), mode == cluster.SyncQuorum
	w.writeEvery = p.WriteEvery
	for _, m := range w.Members {
		m.local, m.tags = p.Local, ha.Tags{Priority: 1}
		m.keyTags = keyTags(m.tags)
	}
}
