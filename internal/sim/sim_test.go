package sim

import (
	"testing"
	"time"
)

func TestSchedules(t *testing.T) {
	n := uint64(300)
	if testing.Short() {
		n = 50
	}
	var sum Result
	for seed := range n {
		r := Run(Options{Seed: seed})
		if r.Violation != nil {
			t.Errorf("seed %d: %s", seed, r.Violation)
		}
		sum.Decisions += r.Decisions
		sum.Failovers += r.Failovers
		sum.Rows += r.Rows
	}
	if sum.Decisions < 100*n || sum.Failovers < int(n)/4 || sum.Rows < int(20*n) {
		t.Errorf("have %d decisions, %d promotions and %d rows in %d schedules: they show next to nothing", sum.Decisions, sum.Failovers, sum.Rows, n)
	}
}

// A seed plays the same way each time, to the last byte of its trace.
func TestReplay(t *testing.T) {
	for seed := range uint64(20) {
		a, b := Run(Options{Seed: seed, Hash: true}), Run(Options{Seed: seed, Hash: true})
		if a.Hash != b.Hash || a.Events != b.Events {
			t.Errorf("seed %d: have hash %x after %d events, then %x after %d", seed, a.Hash, a.Events, b.Hash, b.Events)
		}
		if c := Run(Options{Seed: seed + 1000, Hash: true}); c.Hash == a.Hash {
			t.Errorf("seeds %d and %d have the same trace", seed, seed+1000)
		}
	}
}

// play runs members with these faults and nothing else.
func schedule(t *testing.T, o Options, faults ...Fault) Result {
	t.Helper()
	o.Schedule = &faults
	r := Run(o)
	if r.Violation != nil {
		t.Errorf("%v: %s", faults, r.Violation)
	}
	return r
}

func TestFailoverAfterHostLoss(t *testing.T) {
	for members := 2; members <= 4; members++ {
		r := schedule(t, Options{Seed: 1, Members: members}, Fault{At: 10 * time.Second, For: 2 * time.Minute, Kind: "host-lost", Member: Leader})
		if r.Failovers != 1 {
			t.Errorf("%d members: have %d promotions, want 1", members, r.Failovers)
		}
	}
}

func TestSwitchoverLosesNothing(t *testing.T) {
	for seed := range uint64(7) { // the eighth begins before there is a cluster
		r := schedule(t, Options{Seed: seed, Members: 3}, Fault{At: 10 * time.Second, Kind: "switchover", Member: Leader, Value: 2})
		if r.Failovers != 1 || r.Lost != 0 {
			t.Errorf("seed %d: have %d promotions, %d rows lost; want 1 and none", seed, r.Failovers, r.Lost)
		}
	}
}

func TestNothingHappensByItself(t *testing.T) {
	for seed := range uint64(10) {
		if r := schedule(t, Options{Seed: seed}); r.Failovers != 0 || r.GuardKills != 0 {
			t.Errorf("seed %d: have %d promotions, %d kills, want none", seed, r.Failovers, r.GuardKills)
		}
	}
}

// With an agent frozen for longer than its lease the guard is what keeps the old primary from writing on.
func TestGuard(t *testing.T) {
	freeze := Fault{At: 10 * time.Second, For: time.Minute, Kind: "agent-frozen", Member: Leader}
	if r := schedule(t, Options{Seed: 1, Members: 3}, freeze); r.GuardKills != 1 {
		t.Errorf("have %d kills, want 1", r.GuardKills)
	}
	list := []Fault{freeze}
	r := Run(Options{Seed: 1, Members: 3, NoGuard: true, Schedule: &list})
	if r.Violation == nil || r.Violation.Oracle != "V1" && r.Violation.Oracle != "V3" {
		t.Errorf("without the guard: have %v, want two primaries", r.Violation)
	}
}

// An operator lets somebody else lead in pause while the leader is cut off. When that one is lost, a request of the former leader comes late and puts its
// name into the key: the other must not be rewound to the older timeline.
func TestNothingIsGivenUpForALeaderOfThePast(t *testing.T) {
	schedule(t, Options{Seed: 12302, Members: 2},
		Fault{At: 61 * time.Second, For: 105753 * time.Millisecond, Kind: "pause", Member: Leader},
		Fault{At: 66921 * time.Millisecond, For: 61 * time.Second, Kind: "cut-store", Member: Leader},
		Fault{At: 68329 * time.Millisecond, Kind: "failover", Member: 0},
		Fault{At: 73 * time.Second, For: 19 * time.Second, Kind: "cut-peers", Member: Leader},
		Fault{At: 101736 * time.Millisecond, For: 63 * time.Second, Kind: "host-lost", Member: 0, Value: 1},
		Fault{At: 141 * time.Second, For: 43 * time.Second, Kind: "slow-links", Member: Leader, Value: 821},
	)
}

// The store is away for ten minutes under writes. Where everybody that is listed answers the primary goes on, also without a member that was away before;
// when one is lost meanwhile it stops, and nobody leads until the store is back.
func TestStoreAwayForTenMinutes(t *testing.T) {
	away := Fault{At: 3 * time.Minute, For: 10 * time.Minute, Kind: "store-down"}
	lost := func(at time.Duration) Fault {
		return Fault{At: at, For: 15 * time.Minute, Kind: "host-lost", Member: replica}
	}
	for name, c := range map[string]struct {
		faults []Fault
		stays  bool
	}{
		"everybody is there":      {[]Fault{away}, true},
		"a member was away":       {[]Fault{lost(30 * time.Second), away}, true},
		"a member goes meanwhile": {[]Fault{away, lost(6 * time.Minute)}, false},
	} {
		for seed := range uint64(5) {
			r := schedule(t, Options{Seed: seed, Members: 3, Failsafe: true}, c.faults...)
			least := int((away.For - 30*time.Second) / (8 * time.Second)) // the slowest writer's rows in that time
			switch {
			case c.stays && (r.Failovers != 0 || r.Lost != 0 || r.Failsafes < 100 || r.Rows < least):
				t.Errorf("%s, seed %d: have %d promotions, %d rows (%d lost), let go on %d times; want none, %d rows at least, 100 times", name, seed, r.Failovers, r.Rows, r.Lost, r.Failsafes, least)
			case !c.stays && (r.Failovers != 1 || r.Failsafes == 0):
				t.Errorf("%s, seed %d: have %d promotions, let go on %d times; want one, when the store is back", name, seed, r.Failovers, r.Failsafes)
			}
		}
	}
}
