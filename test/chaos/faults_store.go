package main

import (
	"errors"
	"syscall"

	"github.com/regent-ha/regent/test/chaos/machine"
)

// begun is a fault's beginning.
type begun = func(p *play, x *round, k *strike) (lift func() error, err error)

// storeCut cuts so many servers from everybody.
func storeCut(count int) begun {
	return func(p *play, _ *round, k *strike) (func() error, error) {
		var out, rest []string
		for i, e := range k.servers {
			if i < count {
				out = append(out, e.name)
			} else {
				rest = append(rest, e.name)
			}
		}
		k.servers = k.servers[:count]
		rest = append(rest, p.site.memberNames()...)
		among := p.site.wires.Disturb(cut, out, out) // also from one another
		apart := p.both(cut, out, append(rest, apps))
		return func() error { among(); return apart() }, nil
	}
}

// storeKilled kills so many servers, which come back with their data.
func storeKilled(count int) begun {
	return func(_ *play, _ *round, k *strike) (func() error, error) {
		k.servers = k.servers[:count]
		for _, e := range k.servers {
			if err := e.kill(); err != nil {
				return nil, err
			}
		}
		return func() (err error) {
			for _, e := range k.servers {
				err = errors.Join(err, e.start())
			}
			return err
		}, nil
	}
}

// storeFrozen freezes so many servers.
func storeFrozen(count int) begun {
	return func(_ *play, _ *round, k *strike) (func() error, error) {
		k.servers = k.servers[:count]
		each := func(s syscall.Signal) (err error) {
			for _, e := range k.servers {
				_, problem := e.host.Signal(s, machine.Everything)
				err = errors.Join(err, problem)
			}
			return err
		}
		return func() error { return each(syscall.SIGCONT) }, each(syscall.SIGSTOP)
	}
}
