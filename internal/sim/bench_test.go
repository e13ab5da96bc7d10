package sim

import "testing"

// BenchmarkDecisions plays schedules; the figure that counts is decisions per second.
func BenchmarkDecisions(b *testing.B) {
	var decisions uint64
	for i := range b.N {
		r := Run(Options{Seed: uint64(i)})
		decisions += r.Decisions
	}
	b.ReportMetric(float64(decisions)/b.Elapsed().Seconds(), "decisions/s")
}
