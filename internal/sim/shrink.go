package sim

import (
	"slices"
	"time"
)

// Shrink looks for a shorter schedule that breaks the same invariant: fewer faults, then shorter ones, with fewer
// members. It plays at most limit runs and returns the smallest that it found, with what it showed.
func Shrink(o Options, first Result, limit int) (Options, Result) {
	best, shown := o, first
	if first.Violation == nil {
		return o, first
	}
	best.Members = first.Members
	list := slices.Clone(first.Schedule)
	best.Schedule = &list
	try := func(candidate Options) bool {
		if limit <= 0 {
			return false
		}
		limit--
		r := Run(candidate)
		if r.Violation == nil || r.Violation.Oracle != first.Violation.Oracle {
			return false
		}
		best, shown = candidate, r
		return true
	}
	if !try(best) { // the seed's own members: nothing may have changed
		return o, first
	}
	for again := true; again; {
		again = false
		for size := max(len(*best.Schedule)/2, 1); size >= 1; size /= 2 {
			for at := 0; at+size <= len(*best.Schedule); {
				fewer := slices.Delete(slices.Clone(*best.Schedule), at, at+size)
				candidate := best
				candidate.Schedule = &fewer
				if try(candidate) {
					again = true
				} else {
					at++
				}
			}
		}
	}
	for members := 1; members < best.Members; members++ {
		candidate := best
		candidate.Members = members
		if try(candidate) {
			break
		}
	}
	for i := range *best.Schedule {
		for _, change := range []func(*Fault){
			func(f *Fault) { f.For /= 2 },
			func(f *Fault) { f.For /= 2 },
			func(f *Fault) { f.For = f.For.Truncate(time.Second) },
			func(f *Fault) { f.At = f.At.Truncate(time.Second) },
		} {
			changed := slices.Clone(*best.Schedule)
			change(&changed[i])
			if changed[i] != (*best.Schedule)[i] {
				candidate := best
				candidate.Schedule = &changed
				try(candidate)
			}
		}
	}
	return best, shown
}
