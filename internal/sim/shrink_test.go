package sim

import "testing"

// Without the guard a frozen agent leaves a second primary; that one fault remains of a schedule of many.
func TestShrink(t *testing.T) {
	var o Options
	var r Result
	for seed := uint64(0); ; seed++ {
		if seed == 2000 {
			t.Fatal("no schedule of 2000 shows two primaries without the guard")
		}
		o = Options{Seed: seed, NoGuard: true, Ignore: []string{"V3", "V11"}}
		if r = Run(o); r.Violation != nil && r.Violation.Oracle == "V1" && len(r.Schedule) > 3 {
			break
		}
	}
	small, shown := Shrink(o, r, 300)
	if shown.Violation == nil || shown.Violation.Oracle != "V1" {
		t.Fatalf("have %v, want the same oracle", shown.Violation)
	}
	if have := len(*small.Schedule); have >= len(r.Schedule) {
		t.Errorf("have %d faults, want fewer than %d: %v", have, len(r.Schedule), *small.Schedule)
	}
	if again := Run(small); again.Violation == nil || *again.Violation != *shown.Violation {
		t.Errorf("played again: have %v, want %v", again.Violation, shown.Violation)
	}
}
