package verdict

import "slices"

// kind is why one transaction comes before another.
type kind uint8

const (
	ww     kind = 1 << iota // the other's value follows its value in a list
	wr                      // the other has read its value
	rw                      // the other has appended what it had not read
	inTime                  // it was acknowledged before the other was sent
)

func (k kind) String() string {
	return map[kind]string{ww: "appended before", wr: "was read by", rw: "did not see", inTime: "ended before"}[k]
}

// edge leads to a transaction that comes later.
type edge struct {
	to   int
	kind kind
	key  int // the list by which we know
}

// graph is what comes before what; nodes are numbers.
type graph [][]edge

func (g graph) add(from, to int, k kind, key int) {
	if from != to && !slices.Contains(g[from], edge{to, k, key}) {
		g[from] = append(g[from], edge{to, k, key})
	}
}

// cycle is transactions each of which comes before the next one, and the last one before the first.
type cycle struct {
	name  string
	nodes []int
	edges []edge // from each node to the next one
}

// phenomena are the cycles that no serial order allows, as Adya calls them, the worst first. Each has the kinds of edges before it, and more.
var phenomena = []struct {
	name string
	free kind // edges that it may have as many of as it likes
	once kind // it has one of these
}{
	{"G0", ww, 0},
	{"G1c", ww | wr, 0},
	{"G-single", ww | wr, rw},
	{"G2", ww | wr | rw, 0},
	{"G0 in true time", ww | inTime, 0},
	{"G1c in true time", ww | wr | inTime, 0},
	{"G-single in true time", ww | wr | inTime, rw},
	{"G2 in true time", ww | wr | rw | inTime, 0},
}

// tries bounds how many edges are looked at for a cycle with just one of them. In a knot without one that is found by then the next phenomenon is told.
const tries = 200

// cycles returns one cycle, of the worst kind, of each knot of transactions that has no order.
func (g graph) cycles() (found []cycle) {
	all := make([]int, len(g))
	for n := range all {
		all[n] = n
	}
	for _, knot := range g.knots(all, ^kind(0)) {
		for _, p := range phenomena {
			if c, ok := g.find(knot, p.free, p.once); ok {
				c.name = p.name
				found = append(found, c)
				break
			}
		}
	}
	return found
}

// find looks for a cycle in a knot: from a node over an edge and back to it. Nodes are in the order in which they were sent, so of each cycle some edge leads
// backwards, and the one that leads back furthest shows most.
func (g graph) find(knot []int, free, once kind) (c cycle, ok bool) {
	first := once
	if once == 0 {
		first = free
	}
	type start struct {
		from int
		edge edge
	}
	for _, part := range g.knots(knot, free|once) {
		in := map[int]bool{}
		for _, n := range part {
			in[n] = true
		}
		var starts []start
		for _, n := range part {
			for _, e := range g[n] {
				if e.kind&first != 0 && in[e.to] {
					starts = append(starts, start{n, e})
				}
			}
		}
		slices.SortStableFunc(starts, func(a, b start) int { return (b.from - b.edge.to) - (a.from - a.edge.to) })
		for _, s := range starts[:min(tries, len(starts))] {
			if back, ok := g.path(s.edge.to, s.from, in, free); ok {
				return cycle{nodes: append([]int{s.from}, back.nodes...), edges: append([]edge{s.edge}, back.edges...)}, true
			}
		}
	}
	return c, false
}

// path is a shortest way over edges of the given kinds; its nodes do not include the last one.
func (g graph) path(from, to int, in map[int]bool, kinds kind) (c cycle, ok bool) {
	type step struct {
		from int
		edge edge
	}
	came := map[int]step{from: {from: -1}}
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		n := queue[0]
		if n == to {
			for at := to; at != from; at = came[at].from {
				c.nodes, c.edges = append(c.nodes, came[at].from), append(c.edges, came[at].edge)
			}
			slices.Reverse(c.nodes)
			slices.Reverse(c.edges)
			return c, true
		}
		for _, e := range g[n] {
			if _, seen := came[e.to]; !seen && in[e.to] && e.kind&kinds != 0 {
				came[e.to] = step{n, e}
				queue = append(queue, e.to)
			}
		}
	}
	return c, false
}

// knots are the strongly connected components of more than one node (Tarjan), among some nodes and over edges of the given kinds.
func (g graph) knots(among []int, kinds kind) (found [][]int) {
	in := make([]bool, len(g))
	for _, n := range among {
		in[n] = true
	}
	index, low := make([]int, len(g)), make([]int, len(g))
	onStack := make([]bool, len(g))
	var stack []int
	place := make([]int, len(g)) // in the stack
	next := 1
	var visit func(n int)
	visit = func(n int) {
		index[n], low[n] = next, next
		next++
		place[n], onStack[n] = len(stack), true
		stack = append(stack, n)
		for _, e := range g[n] {
			switch {
			case !in[e.to] || e.kind&kinds == 0:
			case index[e.to] == 0:
				visit(e.to)
				low[n] = min(low[n], low[e.to])
			case onStack[e.to]:
				low[n] = min(low[n], index[e.to])
			}
		}
		if low[n] != index[n] {
			return
		}
		knot := slices.Clone(stack[place[n]:])
		stack = stack[:place[n]]
		for _, m := range knot {
			onStack[m] = false
		}
		if len(knot) > 1 {
			slices.Sort(knot)
			found = append(found, knot)
		}
	}
	for _, n := range among {
		if index[n] == 0 {
			visit(n)
		}
	}
	return found
}
