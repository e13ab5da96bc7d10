package sim

import "time"

// moment is true time: nanoseconds since the begin of the run. No member sees it; oracles and the schedule use it.
type moment = int64

// event is something that happens at a moment, in a process if proc is set.
type event struct {
	at   moment
	seq  uint64
	proc *process
	fn   func()
}

// process is something that can be frozen and killed: an agent, a PostgreSQL, a guard. What happens to it while it is
// frozen happens, in order, when it goes on.
type process struct {
	dead   bool   // for ever: who starts again is another process
	frozen int    // by how many faults
	since  moment // when it began to run, or went on
	queue  []func()
}

// kernel is the heart of the simulator: a heap of events ordered by time, then by the order in which they were made.
type kernel struct {
	now    moment
	seq    uint64
	heap   []event
	rand   random
	events uint64 // that happened
}

// after makes fn happen that much later, in p unless that is nil.
func (k *kernel) after(d time.Duration, p *process, fn func()) { k.at(k.now+int64(d), p, fn) }

func (k *kernel) at(t moment, p *process, fn func()) {
	if p != nil && p.dead {
		return
	}
	k.push(event{at: max(t, k.now), seq: k.seq, proc: p, fn: fn})
	k.seq++
}

// step lets the next event happen; false when there is none until then.
func (k *kernel) step(until moment) bool {
	if len(k.heap) == 0 || k.heap[0].at > until {
		k.now = max(k.now, until)
		return false
	}
	e := k.pop()
	k.now = e.at
	k.events++
	switch p := e.proc; {
	case p == nil:
		e.fn()
	case p.dead:
	case p.frozen > 0:
		p.queue = append(p.queue, e.fn)
	default:
		e.fn()
	}
	return true
}

// kill ends the process: nothing that was on its way to it happens.
func (p *process) kill() { p.dead, p.frozen, p.queue = true, 0, nil }

// freeze stops the process, as SIGSTOP does.
func (p *process) freeze() { p.frozen++ }

// thaw lets it go on.
func (k *kernel) thaw(p *process) {
	if p.frozen == 0 {
		return
	}
	p.frozen--
	if p.frozen > 0 {
		return
	}
	p.since = k.now
	queue := p.queue
	p.queue = nil
	for _, fn := range queue {
		k.at(k.now, p, fn)
	}
}

func before(a, b *event) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

// The heap has four children per node: fewer levels, and the children share a cache line or two.

func (k *kernel) push(e event) {
	k.heap = append(k.heap, e)
	h, i := k.heap, len(k.heap)-1
	for i > 0 {
		parent := (i - 1) / 4
		if !before(&e, &h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
}

func (k *kernel) pop() event {
	h := k.heap
	first, last := h[0], h[len(h)-1]
	h[len(h)-1] = event{}
	k.heap = h[:len(h)-1]
	h = k.heap
	if len(h) == 0 {
		return first
	}
	i := 0
	for {
		child := 4*i + 1
		if child >= len(h) {
			break
		}
		best := child
		for c := child + 1; c < min(child+4, len(h)); c++ {
			if before(&h[c], &h[best]) {
				best = c
			}
		}
		if !before(&h[best], &last) {
			break
		}
		h[i] = h[best]
		i = best
	}
	h[i] = last
	return first
}
