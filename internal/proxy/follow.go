package proxy

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

const (
	lookTime   = time.Second            // for one look at the store
	returnTime = 500 * time.Millisecond // between two looks at a store that is away
)

// follow keeps the route true to the store until ctx ends. It alone says who leads.
func (p *Proxy) follow(ctx context.Context) {
	ttl, left := cluster.DefaultTiming.TTL, lookTime
	for ctx.Err() == nil {
		s, err := p.look(ctx, min(lookTime, left))
		if err == nil {
			left = lookTime
			if d := s.Config.WrittenTiming().TTL; d > 0 {
				ttl = d
			}
			if err = p.watch(ctx, ttl/4, s.Revision); err == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		var first bool
		if left, first = p.primary.lose(ttl); first {
			p.Log.Warn("the store is away: sessions go on, new clients wait", "for", max(left, 0).Round(time.Millisecond), "error", err)
		}
		if left <= 0 {
			left = lookTime
			p.lead(ctx, target{}) // somebody else may hold the lock by now
			pause(ctx, returnTime)
			continue
		}
		pause(ctx, min(returnTime, left))
	}
}

// watch returns nil when it is time to look at the store again: something has changed, a doubt has come up, or within so long nothing was confirmed.
func (p *Proxy) watch(ctx context.Context, within time.Duration, after cluster.Revision) error {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	p.tasks.Go(func() {
		select {
		case <-limited.Done():
		case <-p.nudged:
			cancel()
		}
	})
	err := p.Store.Watch(limited, after)
	if limited.Err() != nil {
		return nil
	}
	return err
}

// nudge makes follow look: what members say of themselves wakes no watch.
func (p *Proxy) nudge() {
	select {
	case p.nudged <- struct{}{}:
	default:
	}
}

// look reads the store and leads clients where that says.
func (p *Proxy) look(ctx context.Context, limit time.Duration) (*cluster.Snapshot, error) {
	asked := p.Clock()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := p.Store.Snapshot(limited)
	if err != nil {
		return nil, err
	}
	p.looked.Store(asked.UnixNano())
	p.primary.confirm(asked)
	p.replicas.set(readable(s, p.MaxLag))
	if t := leader(s); t.member != "" || !s.Config.Paused() { // in pause nobody takes over: a primary whose agent is away goes on
		p.lead(ctx, t)
	}
	return s, nil
}

// leader is who holds the lock, as far as clients can be sent there.
func leader(s *cluster.Snapshot) target {
	m, ok := s.Member(s.Leader.Name)
	host, port, usable := m.HostPort()
	if !ok || !usable {
		return target{}
	}
	hold := s.Leader.Session
	if hold == "" { // written by hand, or by a store that has no sessions
		hold = strconv.FormatInt(int64(s.Leader.Revision), 10)
	}
	return target{
		member: m.Name, address: net.JoinHostPort(host, strconv.Itoa(port)), api: m.APIURL, hold: hold,
		writes: m.Role == cluster.Primary && m.State == cluster.Running,
	}
}

// lead makes t the leader, whom from now on a goroutine of its own asks.
func (p *Proxy) lead(ctx context.Context, t target) {
	was := p.primary.state().to
	if was.is(t) {
		p.primary.update(t)
		return
	}
	p.unattend()
	if t.member == "" {
		p.primary.lead(t, nil)
		p.Log.Info("nobody leads: new clients wait", "before", was.member)
		return
	}
	life, end := context.WithCancel(ctx)
	p.unattend = end
	p.primary.lead(t, life)
	p.Log.Info("another leader, or another hold on the lock", "member", t.member, "address", t.address, "before", was.member)
	p.tasks.Go(func() { p.attend(life, t) })
}
