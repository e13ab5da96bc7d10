package main

import (
	"reflect"
	"testing"

	"github.com/regent-ha/regent/test/chaos/history"
)

func drawn(o options, rounds int) (volleys []volley) {
	p := newPlanner(o)
	for i := range rounds {
		volleys = append(volleys, p.next(i+1))
	}
	return volleys
}

func TestSameSeedSamePlan(t *testing.T) {
	one, two, other := drawn(options{seed: 5}, 60), drawn(options{seed: 5}, 60), drawn(options{seed: 6}, 60)
	if !reflect.DeepEqual(one, two) {
		t.Error("one seed has drawn two plans")
	}
	if reflect.DeepEqual(one, other) {
		t.Error("two seeds have drawn one plan")
	}
}

func TestEverythingIsDrawn(t *testing.T) {
	seen, pairs := map[string]int{}, 0
	const rounds = 120
	for i, v := range drawn(options{seed: 1}, rounds) {
		for _, s := range v {
			seen[s.Name]++
			if s.Hold > lasting.to || s.Hold < 0 {
				t.Errorf("round %d: %s lasts %s", i+1, s.Name, s.Hold)
			}
		}
		if len(v) == 2 {
			pairs++
		}
	}
	for _, f := range catalogue {
		if seen[f.name] == 0 {
			t.Errorf("%s was not drawn in %d rounds", f.name, rounds)
		}
	}
	if pairs < rounds/4 || pairs > rounds/3 {
		t.Errorf("have %d rounds of %d with two faults, want almost a third", pairs, rounds)
	}
}

// Without the guard's faults no agent is kept from its work for longer than the lock lives, or while something else happens.
func TestWithoutGuardFaults(t *testing.T) {
	stopping := map[string]bool{}
	for _, f := range catalogue {
		stopping[f.name] = f.stopsAgent
	}
	long := 0
	for i, v := range drawn(options{seed: 2, withoutGuard: true}, 200) {
		for _, s := range v {
			if stopping[s.Name] && (len(v) > 1 || s.Hold > brief.to) {
				t.Errorf("round %d: %s", i+1, v)
			}
		}
	}
	for _, v := range drawn(options{seed: 2}, 200) {
		for _, s := range v {
			if stopping[s.Name] && s.Hold >= lasting.from {
				long++
				if s.Name == pauseHost {
					t.Errorf("a host is paused for %s although nobody asked for long pauses", s.Hold)
				}
			}
		}
	}
	if long == 0 {
		t.Error("with the guard's faults, no agent was stopped for longer than the lock lives")
	}
}

// In failsafe mode more of what is played concerns the store.
func TestFailsafeDrawsTheStore(t *testing.T) {
	count := func(mode string) (n int) {
		for _, v := range drawn(options{seed: 3, mode: mode}, 120) {
			for _, s := range v {
				if s.Aim == store {
					n++
				}
			}
		}
		return n
	}
	if async, failsafe := count(history.Async), count(history.Failsafe); failsafe < 3*async/2 {
		t.Errorf("have %d faults of the store in failsafe mode and %d otherwise, want clearly more", failsafe, async)
	}
}

func TestSwitches(t *testing.T) {
	have := switches("1\t0/3000148\tno recovery target specified\n\n2\t1A/50001C0\tno recovery target specified\n")
	if len(have) != 2 || have[0].Timeline != 1 || have[0].LSN != 0x3000148 || have[1].LSN != 0x1A050001C0 {
		t.Errorf("have %+v", have)
	}
}
