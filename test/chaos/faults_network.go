package main

import (
	"fmt"
	"time"

	"github.com/regent-ha/regent/test/chaos/network"
)

// both disturbs the links between two groups in both directions.
func (p *play) both(l network.Link, a, b []string) (lift func() error) {
	there, back := p.site.wires.Disturb(l, a, b), p.site.wires.Disturb(l, b, a)
	return func() error { there(); back(); return nil }
}

var cut = network.Link{Cut: true}

// isolate cuts a member from everybody, in every other case but the applications.
func isolate(p *play, _ *round, k *strike) (func() error, error) {
	m := k.members[0]
	rest := append(p.site.others(m), p.site.serverNames()...)
	if k.Dice%2 == 0 {
		rest = append(rest, apps)
		k.detail = "also from the applications"
	}
	return p.both(cut, []string{m.name}, rest), nil
}

func cutStore(p *play, _ *round, k *strike) (func() error, error) {
	return p.both(cut, []string{k.members[0].name}, p.site.serverNames()), nil
}

func cutMembers(p *play, _ *round, k *strike) (func() error, error) {
	return p.both(cut, []string{k.members[0].name}, p.site.others(k.members[0])), nil
}

// peersOf are those that a one-way fault separates from a member: the store, the members, or both.
func (p *play) peersOf(k *strike) []string {
	switch k.Dice % 3 {
	case 0:
		k.detail = "for the store"
		return p.site.serverNames()
	case 1:
		k.detail = "for the members"
		return p.site.others(k.members[0])
	default:
		k.detail = "for store and members"
		return append(p.site.others(k.members[0]), p.site.serverNames()...)
	}
}

// deaf drops what is sent to a member.
func deaf(p *play, _ *round, k *strike) (func() error, error) {
	lift := p.site.wires.Disturb(cut, p.peersOf(k), []string{k.members[0].name})
	return func() error { lift(); return nil }, nil
}

// mute drops what a member sends.
func mute(p *play, _ *round, k *strike) (func() error, error) {
	lift := p.site.wires.Disturb(cut, []string{k.members[0].name}, p.peersOf(k))
	return func() error { lift(); return nil }, nil
}

// lossy loses 5 to 30 percent of the packets.
func lossy(p *play, _ *round, k *strike) (func() error, error) {
	l := network.Link{Loss: 0.05 + float64(k.Dice>>8%26)/100}
	peers := p.peersOf(k)
	k.detail += fmt.Sprintf(" loss %.2f", l.Loss)
	return p.both(l, []string{k.members[0].name}, peers), nil
}

// slow delays packets by 50 to 450 ms each way, and up to as much again.
func slow(p *play, _ *round, k *strike) (func() error, error) {
	d := time.Duration(50+k.Dice>>8%401) * time.Millisecond
	peers := p.peersOf(k)
	k.detail += fmt.Sprintf(" delay %s to %s", d, 2*d)
	return p.both(network.Link{Delay: d, Jitter: d}, []string{k.members[0].name}, peers), nil
}
