package main

import (
	"context"
	"fmt"
	"time"

	"github.com/regent-ha/regent/test/chaos/machine"
)

// fullDisk leaves a member's file system no room, and has the leader write WAL until something refuses it.
func fullDisk(p *play, x *round, k *strike) (func() error, error) {
	m := k.members[0]
	used, err := machine.Used(m.disk)
	if err != nil {
		return nil, err
	}
	if err := machine.Resize(m.disk, used+64<<10); err != nil {
		return nil, err
	}
	lift := func() error { return machine.Resize(m.disk, diskSize) }
	ctx, cancel := context.WithTimeout(x.ctx, 20*time.Second)
	defer cancel()
	written := 0
	for ; written < 256; written += 4 {
		l := p.leader(ctx)
		if l == nil {
			break
		}
		// WAL and nothing else.
		if _, err := l.query(ctx, "select pg_logical_emit_message(true, 'ballast', repeat('x', 4000000))"); err != nil {
			k.detail = fmt.Sprintf("after %d MB of WAL: %v", written, err)
			break
		}
	}
	return lift, nil
}
