package sim

import (
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// status is what GET /patroni answers.
func (a *agent) status(at time.Time) ha.Answer {
	p := a.m.observe()
	return ha.Answer{
		Reachable: p.Queried && p.Position() != 0, Primary: p.Queried && !p.InRecovery, Position: p.Position(), Timeline: p.Timeline,
		NoFailover: a.m.tags.NoFailover, Priority: a.m.tags.Priority,
		Isolated: !a.lastSeen.IsZero() && at.Sub(a.lastSeen.Truncate(time.Second)) > a.timing.TTL,
	}
}

// poll asks members side by side, two seconds at most.
func (a *agent) poll(limit time.Duration, members []cluster.Member, done func()) {
	w := a.w
	limit = min(limit, 2*time.Second)
	poll := ha.Poll{At: a.now(), Asked: members, Answers: make(map[string]ha.Answer, len(members))}
	ttl := a.timing.TTL
	waiting, over := len(members), false
	until := w.now + int64(limit)
	finish := func() {
		if !over {
			over = true
			a.tell(loop.PeersAnswered{Poll: poll})
			done()
		}
	}
	if waiting == 0 {
		finish()
		return
	}
	for _, m := range members {
		poll.Answers[m.Name] = ha.Answer{}
		peer := w.byAPI(m.APIURL)
		if peer == nil || peer.down > 0 {
			continue
		}
		if peer.agent == nil { // refused
			w.after(time.Millisecond, &a.process, func() {
				if waiting--; waiting == 0 {
					finish()
				}
			})
			continue
		}
		answer := func() {
			b := peer.agent
			if b == nil {
				return
			}
			reply := func() {
				s := b.status(b.m.clock.date())
				b.permitted()
				s.Waives = b.lease.Waives(b.now())
				s.Isolated = !b.lastSeen.IsZero() && a.m.clock.date().Sub(b.lastSeen.Truncate(time.Second)) > ttl
				w.net.send(peer.place, a.m.place, &a.process, func() {
					if over || w.now > until && w.rand.chance(50) {
						return
					}
					poll.Answers[m.Name] = s
					if waiting--; waiting == 0 {
						finish()
					}
				})
			}
			if s := peer.server; s != nil && s.frozen > 0 {
				b.after(1400*time.Millisecond, reply)
				return
			}
			reply()
		}
		w.net.send(a.m.place, peer.place, &peer.agent.process, answer)
	}
	w.at(until, &a.process, finish)
}

// byAPI finds the member that answers there.
func (w *World) byAPI(url string) *Member {
	const prefix, suffix = len("http://"), len(":8008/patroni")
	if len(url) < prefix+suffix {
		return nil
	}
	return w.byAddress(url[prefix : len(url)-suffix])
}

func (w *World) member(name string) *Member {
	i := slices.IndexFunc(w.Members, func(m *Member) bool { return m.name == name })
	if i < 0 {
		return nil
	}
	return w.Members[i]
}
