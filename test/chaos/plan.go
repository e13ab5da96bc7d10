package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/test/chaos/history"
)

// aim is at whom a fault is thrown; who that is shows when it is.
type aim string

const (
	leader  aim = "leader"
	replica aim = "replica"
	store   aim = "store"
	all     aim = "all"
)

// shot is one fault of a plan. The same seed makes the same ones.
type shot struct {
	Name  string
	Aim   aim
	After time.Duration // since the round began
	Hold  time.Duration // until it is lifted
	Dice  uint64        // for whatever else has to be chosen
}

// volley is the shots of one round: one, or two at once.
type volley []shot

func (v volley) String() string {
	var parts []string
	for _, s := range v {
		parts = append(parts, fmt.Sprintf("%s(%s, after %s, for %s)", s.Name, s.Aim, s.After.Round(100*time.Millisecond), s.Hold.Round(100*time.Millisecond)))
	}
	return strings.Join(parts, " + ")
}

// planner draws volleys from a seed.
type planner struct {
	chance *rand.Rand
	faults []fault
	deck   []int // what is still to come before anything comes again
	o      options
}

func newPlanner(o options) *planner {
	p := &planner{chance: rand.New(rand.NewPCG(o.seed, 2)), o: o}
	for _, f := range catalogue {
		if len(o.only) == 0 || slices.Contains(o.only, f.name) {
			p.faults = append(p.faults, f)
		}
	}
	return p
}

// next draws a round; every third one has two faults.
func (p *planner) next(number int) volley {
	first := p.draw()
	v := volley{p.load(first)}
	if number%3 != 0 || first.alone || len(p.faults) < 2 {
		return v
	}
	for range 20 {
		second := p.draw()
		if second.alone || second.name == first.name || p.o.withoutGuard && (second.stopsAgent || first.stopsAgent) {
			continue
		}
		s := p.load(second)
		s.After = time.Duration(p.chance.Int64N(int64(6 * time.Second)))
		return append(v, s)
	}
	return v
}

// draw takes the next card: all come once before any comes twice, in an order by chance.
func (p *planner) draw() fault {
	if len(p.deck) == 0 {
		for i, f := range p.faults {
			weight := max(1, f.weight)
			if p.o.mode == history.Failsafe && slices.Contains(f.aims, store) {
				weight *= 3 // what the mode is for
			}
			for range weight {
				p.deck = append(p.deck, i)
			}
		}
		p.chance.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
	}
	f := p.faults[p.deck[0]]
	p.deck = p.deck[1:]
	return f
}

// load chooses at whom and for how long.
func (p *planner) load(f fault) shot {
	s := shot{Name: f.name, Aim: f.aims[p.chance.IntN(len(f.aims))], Dice: p.chance.Uint64()}
	lasts := f.short
	allowed := f.long != (span{}) && (!f.stopsAgent || !p.o.withoutGuard) && (f.name != pauseHost || p.o.longPauses)
	if p.chance.IntN(2) == 0 && allowed {
		lasts = f.long
	}
	s.Hold = lasts.from + time.Duration(p.chance.Int64N(int64(lasts.to-lasts.from)+1))
	return s
}
