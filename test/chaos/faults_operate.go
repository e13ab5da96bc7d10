package main

import (
	"context"
	"fmt"
	"time"

	"github.com/regent-ha/regent/client"
)

// operatorLimit bounds what an operator waits for.
const operatorLimit = 60 * time.Second

// told notes what a member answered. Under another fault a refusal is a fine answer.
func (k *strike) told(said string, err error) {
	if err != nil {
		said = err.Error()
	}
	k.detail += fmt.Sprintf(" %.160q", said)
}

// asked is who gets the request: any member will do.
func (p *play) asked(k *strike) *member { return p.site.members[k.Dice>>8%uint64(len(p.site.members))] }

// switchover hands over to a named member or to anybody.
func switchover(p *play, x *round, k *strike) (func() error, error) {
	ctx, cancel := context.WithTimeout(x.ctx, operatorLimit)
	defer cancel()
	r := client.SwitchoverRequest{Leader: k.members[0].name}
	if k.Dice%2 == 0 {
		others := p.site.others(k.members[0])
		r.Candidate = others[k.Dice>>16%uint64(len(others))]
	}
	k.detail = fmt.Sprintf("to %q, asked %s:", r.Candidate, p.asked(k).name)
	k.told(p.asked(k).api.Switchover(ctx, r))
	return nil, nil
}

func restart(_ *play, x *round, k *strike) (func() error, error) {
	ctx, cancel := context.WithTimeout(x.ctx, operatorLimit)
	defer cancel()
	k.told(k.members[0].api.Restart(ctx, client.RestartRequest{}))
	return nil, nil
}

func reinitialize(_ *play, x *round, k *strike) (func() error, error) {
	ctx, cancel := context.WithTimeout(x.ctx, operatorLimit)
	defer cancel()
	k.told(k.members[0].api.Reinitialize(ctx, true, k.Dice%2 == 0))
	return nil, nil
}

// pause lets nobody act for a while; in every other case an agent is restarted meanwhile.
func pause(p *play, x *round, k *strike) (func() error, error) {
	if err := p.patch(x.ctx, k, object{"pause": true}); err != nil {
		return nil, err
	}
	if k.Dice%2 == 0 {
		m := p.asked(k)
		k.detail += " and the agent of " + m.name + " restarts"
		if !sleep(x.ctx, 2*time.Second) {
			return nil, x.ctx.Err()
		}
		if err := m.stopAgent(operatorLimit); err == nil {
			if err := m.start(); err != nil {
				return nil, err
			}
		}
	}
	// An operator who resumes does so until it has worked.
	return func() error {
		return p.insist(x.ctx, func() error { return p.patch(x.ctx, k, object{"pause": nil}) })
	}, nil
}

// settings changes what a reload takes in, what waits for a restart, or the cluster's rhythm.
func settings(p *play, x *round, k *strike) (func() error, error) {
	changes := []object{
		{"postgresql": object{"parameters": object{"work_mem": fmt.Sprintf("%dMB", 4+k.Dice%60)}}},
		{"postgresql": object{"parameters": object{"max_connections": 60 + k.Dice%40}}},
		{"ttl": seconds(ttl) + int(k.Dice%11)},
		{"loop_wait": 1 + k.Dice%3},
	}
	change := changes[k.Dice>>8%uint64(len(changes))]
	k.detail = fmt.Sprint(change)
	return nil, p.patch(x.ctx, k, change)
}

// patch changes the settings through the first member that does it.
func (p *play) patch(ctx context.Context, k *strike, change object) (err error) {
	ctx, cancel := context.WithTimeout(ctx, operatorLimit)
	defer cancel()
	for i := range p.site.members {
		m := p.site.members[(int(k.Dice>>8&0xff)+i)%len(p.site.members)]
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err = m.api.PatchConfig(limited, change)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

// insist repeats until it works.
func (p *play) insist(ctx context.Context, try func() error) (err error) {
	for range 60 {
		if err = try(); err == nil {
			return nil
		}
		if !sleep(ctx, time.Second) {
			break
		}
	}
	return err
}
