package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// generate draws a schedule: one to eight faults within a few minutes, half of them at whoever leads.
func (w *World) generate() []Fault {
	source := newRandom(w.options.Seed ^ 0x5eed) // of its own, so that a shortened schedule meets the same chances
	r := &source
	names := slices.Sorted(maps.Keys(kinds))
	total := 0
	for _, name := range names {
		total += kinds[name].weight
	}
	list := make([]Fault, 1+r.below(8))
	span := r.between(30*time.Second, 4*time.Minute)
	for i := range list {
		roll := r.below(total)
		name := ""
		for _, name = range names {
			if roll -= kinds[name].weight; roll < 0 {
				break
			}
		}
		k := kinds[name]
		at := r.between(0, span)
		if i > 0 && r.chance(50) { // troubles do not come alone: while the last one lasts, or soon after
			at = list[i-1].At + r.between(0, max(list[i-1].For, 10*time.Second))
		}
		list[i] = Fault{At: at.Truncate(time.Millisecond), Kind: name, Member: r.below(len(w.Members)), Other: r.below(len(w.Members)), Value: r.below(10000)}
		if r.chance(50) {
			list[i].Member = Leader
		}
		if k.top > 0 {
			list[i].For = r.between(k.low, k.top).Truncate(time.Millisecond)
		}
	}
	if r.chance(30) {
		list = append(list[:min(len(list), 3)], w.themed(r, span, themes)...)
	}
	if r.chance(6) {
		list = append(list[:min(len(list), 3)], w.themed(r, span, rarer)...)
	}
	if w.failsafeRun {
		// A store of yesterday lists members of yesterday, whom a leader that does not see it does not ask.
		list = slices.DeleteFunc(list, func(f Fault) bool { return f.Kind == "store-restored" })
		list = append(list[:min(len(list), 3)], w.failsafeFaults(r, span)...)
	}
	if w.standbyRun { // a store or a disk of yesterday belongs to no standby cluster's rules
		list = slices.DeleteFunc(list, func(f Fault) bool { return f.Kind == "store-restored" || f.Kind == "disk-swapped" })
	}
	if w.sites != nil {
		list = append(list[:min(len(list), 3)], w.siteFaults(r, span)...)
	} else if w.syncRun {
		list = append(list, w.syncFaults(r, span)...)
	}
	slices.SortStableFunc(list, func(a, b Fault) int { return int(a.At - b.At) })
	return list
}

// heal ends what a schedule leaves behind.
func (w *World) heal() {
	if w.peek().Config.Paused() {
		w.setConfig(cluster.Flag(false), "pause")
	}
	for _, m := range w.Members {
		m.silent = false
		m.clock.wall = epoch.UnixNano()
		if m.down == 0 && m.agent == nil {
			m.startAgent(0)
		}
	}
}
