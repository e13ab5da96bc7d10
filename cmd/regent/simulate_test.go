package main

import (
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/sim"
)

func TestSimulateIsAForecastThatRepeats(t *testing.T) {
	o := forecast{faults: []string{"switchover", "node-loss"}, runs: 6, members: 3, writes: 10, seed: 1}
	print := func() string {
		var out strings.Builder
		if err := o.run(&out, &config.Effective{}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	text := print()
	for _, want := range []string{"3 members, ttl 30s", "switchover", "node-loss", "with ttl 20 the outage is"} {
		if !strings.Contains(text, want) {
			t.Errorf("have\n%s\nwant %q in it", text, want)
		}
	}
	if again := print(); again != text {
		t.Errorf("have another forecast the second time:\n%s\n%s", text, again)
	}
}

// A lost node costs about the lease's time, a switchover does not; what is planned loses nothing.
func TestForecastFits(t *testing.T) {
	p := sim.Plan{Members: 3, Config: cluster.DynamicConfig{Usable: true, Document: cluster.Value{Kind: cluster.Object}}, WriteEvery: 100 * time.Millisecond}
	for seed := uint64(1); seed <= 5; seed++ {
		if o := sim.Forecast(p, sim.Scenarios["node-loss"], seed); o.Violation != nil || o.Outage < 15*time.Second || o.Outage > 35*time.Second {
			t.Errorf("node-loss, seed %d: have %+v, want an outage of about ttl", seed, o)
		}
		if o := sim.Forecast(p, sim.Scenarios["switchover"], seed); o.Violation != nil || o.Outage <= 0 || o.Outage > 5*time.Second || o.Lost != 0 {
			t.Errorf("switchover, seed %d: have %+v, want a short outage and nothing lost", seed, o)
		}
	}
}

func TestSimulateRefuses(t *testing.T) {
	for want, o := range map[string]forecast{
		"--members":            {members: 8, runs: 1, writes: 1},
		"--runs":               {members: 3, writes: 1},
		"--writes":             {members: 3, runs: 1, writes: 1000},
		"want some of agent-f": {members: 3, runs: 1, writes: 1, faults: []string{"earthquake"}},
	} {
		if err := o.run(&strings.Builder{}, &config.Effective{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("have %v, want an error about %s", err, want)
		}
	}
}

// In synchronous mode a lost node costs the same time, and nothing that was acknowledged.
func TestForecastOfSynchronousModes(t *testing.T) {
	for _, mode := range []cluster.SyncMode{cluster.SyncOn, cluster.SyncQuorum} {
		document := cluster.Value{Kind: cluster.Object}.Set(cluster.Text(string(mode)), "synchronous_mode")
		p := sim.Plan{Members: 3, Config: cluster.DynamicConfig{Usable: true, Document: document}, WriteEvery: 100 * time.Millisecond}
		for seed := uint64(1); seed <= 5; seed++ {
			if o := sim.Forecast(p, sim.Scenarios["node-loss"], seed); o.Violation != nil || o.Outage < 15*time.Second || o.Outage > 45*time.Second || o.Lost != 0 {
				t.Errorf("%s, seed %d: have %+v, want an outage of about ttl and nothing lost", mode, seed, o)
			}
		}
	}
}
