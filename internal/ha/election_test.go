package ha

import (
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
)

// Election also answers `regent why`, for a member in any state: which gate is the first that is shut?
func TestElection(t *testing.T) {
	for _, test := range []struct {
		name  string
		bend  func(*View)
		want  Reason
		last  Reason // of the last gate that was looked at
		count int
	}{
		{"down", func(v *View) { v.Postgres = cluster.Postgres{Dir: cluster.DirPresent} }, NotReadyToRace, LockFree, 9},
		{"store away", func(v *View) { v.Store = nil }, StoreAway, StoreAway, 1},
		{"not asked yet", func(v *View) {}, LockFree, LockFree, 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := builder{v: healthyView(epoch, "pg2")}
			v := b.build("store leader=")
			test.bend(&v)
			gates := v.Election()
			if len(gates) != test.count || gates[len(gates)-1].Reason != test.last {
				t.Fatalf("have gates %v, want %d that end in %s", gates, test.count, test.last)
			}
			for _, g := range gates {
				if !g.Passed {
					if g.Reason != test.want {
						t.Errorf("have %s as the first shut gate, want %s", g.Reason, test.want)
					}
					return
				}
			}
			t.Error("have every gate open, want one shut")
		})
	}
}
