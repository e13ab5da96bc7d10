package main

import (
	"fmt"
	"syscall"
	"time"

	"github.com/regent-ha/regent/test/chaos/machine"
)

// signal sends a signal to processes of the struck member, which must exist.
func (k *strike) signal(s syscall.Signal, wanted func(machine.Entry) bool) error {
	m := k.members[0]
	n, err := m.host.Signal(s, wanted)
	if err == nil && n == 0 {
		return fmt.Errorf("signal %s on %s: there is no such process", s, m.name)
	}
	return err
}

// freeze stops processes for a while.
func (k *strike) freeze(wanted func(machine.Entry) bool) (func() error, error) {
	m := k.members[0]
	return func() error {
		_, err := m.host.Signal(syscall.SIGCONT, wanted)
		return err
	}, k.signal(syscall.SIGSTOP, wanted)
}

func killAgent(_ *play, _ *round, k *strike) (func() error, error) {
	m := k.members[0]
	m.expect(true)
	return m.start, k.signal(syscall.SIGKILL, m.isAgent)
}

// stopAgent asks the agent to leave: a leader hands over, and its PostgreSQL stops.
func stopAgent(_ *play, _ *round, k *strike) (func() error, error) {
	m := k.members[0]
	return m.start, m.stopAgent(60 * time.Second)
}

func freezeAgent(_ *play, _ *round, k *strike) (func() error, error) {
	return k.freeze(k.members[0].isAgent)
}

func killPostmaster(_ *play, _ *round, k *strike) (func() error, error) {
	return nil, k.signal(syscall.SIGKILL, k.members[0].isPostmaster)
}

func killPostgres(_ *play, _ *round, k *strike) (func() error, error) {
	return nil, k.signal(syscall.SIGKILL, k.members[0].isPostgres)
}

// killBackend kills one session's process, upon which PostgreSQL ends all others and recovers.
func killBackend(_ *play, _ *round, k *strike) (func() error, error) {
	m, done := k.members[0], false
	return nil, k.signal(syscall.SIGKILL, func(e machine.Entry) bool {
		wanted := !done && m.isBackend(e)
		done = done || wanted
		return wanted
	})
}

// freezePostmaster leaves sessions that are open alone.
func freezePostmaster(_ *play, _ *round, k *strike) (func() error, error) {
	return k.freeze(k.members[0].isPostmaster)
}

func freezePostgres(_ *play, _ *round, k *strike) (func() error, error) {
	return k.freeze(k.members[0].isPostgres)
}

// killBoth kills every process of a host, which stays on.
func killBoth(_ *play, _ *round, k *strike) (func() error, error) {
	m := k.members[0]
	m.expect(true)
	return m.start, k.signal(syscall.SIGKILL, machine.Everything)
}

func freezeHost(_ *play, _ *round, k *strike) (func() error, error) {
	return k.freeze(machine.Everything)
}

func powerOff(_ *play, _ *round, k *strike) (func() error, error) {
	m := k.members[0]
	m.expect(true)
	m.host.PowerOff()
	return m.start, nil
}

// powerOffAll switches all members off at once; they come back one after the other, in an order by chance.
func powerOffAll(p *play, x *round, k *strike) (func() error, error) {
	for _, m := range k.members {
		m.expect(true)
		go m.host.PowerOff()
	}
	for _, m := range k.members {
		m.host.PowerOff() // waits for the one above
	}
	n := int(k.Dice % uint64(len(k.members)))
	order := append(k.members[n:], k.members[:n]...)
	return func() error {
		for i, m := range order {
			if i > 0 {
				sleep(x.ctx, time.Duration(k.Dice>>16%4000)*time.Millisecond)
			}
			if err := m.start(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
