// Package explore visits every reachable state of a small cluster: two or three members with the real loop, the real
// decisions and the real lease, a store, logs of a few records, and any order of what can happen. Where the simulator
// draws one order of events from a seed, this walks through all of them, within bounds on time, rows and faults.
//
// Time passes in ticks of five seconds, so an agent that takes no step while the clock ticks is a frozen one, and a
// request that is answered late needs no fault of its own.
package explore

import (
	"fmt"
	"strings"
)

// Bounds are what makes the number of states finite.
type Bounds struct {
	Members  int // 2 or 3
	Ticks    int // of 5 s each; the ttl is four of them
	Rows     int // that clients write
	Faults   int // kills, lost answers, jobs that fail
	Requests int // switchovers asked for
	States   int // stop after so many; 0: when all are visited
	Endings  int // check for every n-th state that the cluster heals when nothing else happens; 0: for none
	NoGuard  bool
}

// Result is what was found.
type Result struct {
	States, Steps, Decisions, Endings int
	Complete                          bool // every state within the bounds was visited
	Violation                         *Violation
}

// Violation is a broken invariant and the shortest way to it.
type Violation struct {
	Oracle string // a number of ha.md 4.4
	Detail string
	Path   []string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s: %s, after\n  %s", v.Oracle, v.Detail, strings.Join(v.Path, "\n  "))
}

type node struct {
	parent int32
	step   string
}

// Explore visits states breadth first, so that a violation comes with a shortest path.
func Explore(b Bounds) Result {
	var r Result
	seen := map[uint64]struct{}{}
	nodes := []node{{-1, "a healthy cluster"}}
	path := func(i int32) (steps []string) {
		for ; i >= 0; i = nodes[i].parent {
			steps = append([]string{nodes[i].step}, steps...)
		}
		return steps
	}
	type entry struct {
		w  *world
		id int32
	}
	first := healthy(b)
	seen[first.hash()] = struct{}{}
	layer := []entry{{first, 0}}
	for len(layer) > 0 {
		var next []entry
		for i, e := range layer {
			layer[i].w = nil
			for _, s := range e.w.steps() {
				w := e.w.clone()
				s.do(w)
				r.Steps++
				if w.broken != nil {
					w.broken.Path = append(path(e.id), s.name)
					r.Violation, r.Decisions = w.broken, r.Decisions+w.decisions
					return r
				}
				h := w.hash()
				if _, ok := seen[h]; ok {
					continue
				}
				seen[h] = struct{}{}
				nodes = append(nodes, node{e.id, s.name})
				id := int32(len(nodes) - 1)
				r.States, r.Decisions = len(nodes), r.Decisions+w.decisions
				w.decisions = 0
				if b.Endings > 0 && len(nodes)%b.Endings == 0 {
					r.Endings++
					if v := w.clone().end(); v != nil {
						v.Path = append(path(id), v.Path...)
						r.Violation = v
						return r
					}
				}
				if b.States > 0 && len(nodes) >= b.States {
					return r
				}
				next = append(next, entry{w, id})
			}
		}
		layer = next
	}
	r.Complete = true
	return r
}
