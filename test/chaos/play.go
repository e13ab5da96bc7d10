package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/test/chaos/history"
	"github.com/regent-ha/regent/test/chaos/verdict"
	"github.com/regent-ha/regent/test/rig/pressure"
)

// looks is how often in a row the cluster must look whole, so that one that has not noticed yet what happened to it does not count.
const looks = 4

// healBound is how long a cluster may take to be whole again after the faults: a lock that has to end (ttl), an election, a rewind or a clone,
// replication that connects again; a half record that is cut off, 85 s in the longest case seen. A slow machine takes twice as long.
const healBound = 3 * time.Minute

// play is a run under way.
type play struct {
	o      options
	site   *site
	record *history.Recorder
	keys   *etcd.Store
	say    func(format string, args ...any)
	values atomic.Int64 // appended to lists so far

	mu   sync.Mutex
	acks map[string]history.Time // when each member last accepted a row, by when it was sent
	seen client.LSN              // where the leader was when it was last looked at
}

// round is one volley being played.
type round struct {
	number int
	leader *member // who led when it began
	store  bool    // two faults concern the store: together they may cost it its quorum
	ctx    context.Context
}

// strike is one shot that is being played.
type strike struct {
	shot
	members []*member // at whom it is aimed
	servers []*server
	detail  string
}

// round plays one volley, and waits until the cluster is whole again. It returns an error when it is not, so that to go on makes no sense.
func (p *play) round(ctx context.Context, number int, v volley) error {
	x := &round{number: number, ctx: ctx}
	for deadline := time.Now().Add(healBound); x.leader == nil; { // also on a machine that stood still for a moment
		if x.leader = p.leader(ctx); x.leader == nil && (time.Now().After(deadline) || !sleep(ctx, 250*time.Millisecond)) {
			return fmt.Errorf("begin round %d: nobody leads", number)
		}
	}
	x.store = len(v) == 2 && v[0].Aim == store && v[1].Aim == store
	standbys := p.awaitStandbys(ctx)
	if l := p.leader(ctx); l != nil {
		x.leader = l
	}
	r := history.Round{Number: number, Standbys: standbys, Begin: p.record.Now(), Bound: history.Time(healBound), Before: x.leader.name}
	p.say("round %d: %s; %s leads", number, v, x.leader.name)
	problems := make([]string, len(v))
	busy := pressure.CPU()
	var playing sync.WaitGroup
	for i, s := range v {
		playing.Go(func() {
			if err := p.strike(x, s); err != nil {
				problems[i] = err.Error()
			}
		})
	}
	playing.Wait()
	if err := p.repair(); err != nil {
		return fmt.Errorf("round %d: switch everything on again: %w", number, err)
	}
	r.Lifted = p.record.Now()
	r.Unplayed = strings.Join(slices.DeleteFunc(problems, func(s string) bool { return s == "" }), "; ")
	if r.Unplayed != "" {
		p.say("  not played as meant: %s", r.Unplayed)
	}
	err := p.heal(ctx, &r)
	r.Cut = ctx.Err() != nil
	if err != nil && !r.Cut {
		p.say("  %v; an operator looks after it", err)
		err = p.mend(ctx, r)
	}
	r.Busy = int(max(busy, pressure.CPU()))
	if l := p.leader(ctx); l != nil {
		r.After = l.name
	}
	p.record.Note(history.Event{Round: &r})
	p.record.Flush()
	gap := verdict.Outage(p.record.Seen().Rows, r.Begin, p.record.Now())
	p.say("  %s leads; outage %s, whole %s, busy %d %%", r.After, gap, whole(r), r.Busy)
	return err
}

// standbysWait is how long a round waits until commits wait for standbys. PostgreSQL may take minutes for it in the midst of a checkpoint, so then it is played without.
const standbysWait = 30 * time.Second

// awaitStandbys waits until commits wait for as many standbys as the mode can have, and returns how many /sync names.
func (p *play) awaitStandbys(ctx context.Context) (named int) {
	want := map[string]int{history.Sync: 1, history.Quorum: len(p.site.members) - 1}[p.o.mode]
	for deadline := time.Now().Add(standbysWait); named < want; {
		named = 0
		if s, err := p.keys.Snapshot(ctx); err == nil && s.Sync.Leader == s.Leader.Name {
			named = len(s.Sync.Standbys)
		}
		if named < want && (time.Now().After(deadline) || !sleep(ctx, look)) {
			break
		}
	}
	return named
}

// strike plays one shot from begin to end.
func (p *play) strike(x *round, s shot) error {
	if !sleep(x.ctx, s.After) {
		return x.ctx.Err()
	}
	i := slices.IndexFunc(catalogue, func(f fault) bool { return f.name == s.Name })
	f, k := catalogue[i], &strike{shot: s}
	p.aim(x, k)
	record := history.Fault{Round: x.number, Name: f.name, Begin: p.record.Now()}
	for _, m := range k.members {
		record.Targets = append(record.Targets, m.name)
		record.Led = record.Led || m == x.leader
	}
	switch {
	case s.Aim == store && (f.excuses || x.store):
		record.Hits = p.site.memberNames()
	case f.excuses && (!f.stopsAgent || s.Hold >= lasting.from): // a lock that has not ended is not lost
		record.Hits = slices.Clone(record.Targets)
	}
	lift, err := f.begin(p, x, k)
	for _, e := range k.servers {
		record.Targets = append(record.Targets, e.name)
	}
	p.say("  %s: %s %s %s", record.Begin, f.name, strings.Join(record.Targets, ", "), k.detail)
	if lift != nil {
		if err == nil {
			sleep(x.ctx, s.Hold)
		}
		if problem := lift(); err == nil {
			err = problem
		}
	}
	record.End, record.Detail = p.record.Now(), k.detail
	if err != nil {
		record.Detail = strings.TrimSpace(k.detail + " " + err.Error())
	}
	p.record.Note(history.Event{Fault: &record})
	return err
}

// aim finds out at whom the shot goes now.
func (p *play) aim(x *round, k *strike) {
	led := p.leader(x.ctx)
	if led == nil {
		led = x.leader
	}
	switch k.Aim {
	case leader:
		k.members = []*member{led}
	case replica:
		others := slices.DeleteFunc(slices.Clone(p.site.members), func(m *member) bool { return m == led })
		k.members = []*member{others[k.Dice%uint64(len(others))]}
	case all:
		k.members = slices.Clone(p.site.members)
	case store:
		k.servers = slices.Clone(p.site.servers)
		n := int(k.Dice % uint64(len(k.servers)))
		k.servers = append(k.servers[n:], k.servers[:n]...)
	}
}

// repair starts whatever is not running, as the service managers of the hosts would.
func (p *play) repair() error {
	for _, e := range p.site.servers {
		if err := e.start(); err != nil {
			return err
		}
	}
	for _, m := range p.site.members {
		if err := m.start(); err != nil {
			return err
		}
	}
	return nil
}

// heal waits until the cluster is whole, three times the bound at most, and notes how long it took.
func (p *play) heal(ctx context.Context, r *history.Round) error {
	limit := r.Lifted + 3*r.Bound
	said, whole := "", 0
	for {
		ill := p.ill(ctx, r.Lifted)
		now := p.record.Now()
		if whole++; ill != "" {
			r.Healed, whole = 0, 0
		} else if whole == 1 {
			r.Healed = now
		}
		switch {
		case whole == looks:
			return nil
		case ctx.Err() != nil:
			r.Healed, r.Ill = 0, ill
			return ctx.Err()
		case now > limit && ill != "":
			r.Ill = ill
			return fmt.Errorf("round %d: the cluster is not whole %s after the faults: %s", r.Number, now-r.Lifted, ill)
		case now > r.Lifted+r.Bound && ill != "" && ill != said:
			p.say("  %s: still not whole: %s", now, ill)
			said = ill
		}
		sleep(ctx, 250*time.Millisecond)
	}
}

// mend does what an operator would when the cluster does not heal by itself, so that the run goes on: it makes new copies of what does not
// stream. The round counts as not healed.
func (p *play) mend(ctx context.Context, r history.Round) error {
	l := p.leader(ctx)
	for _, m := range p.site.members {
		if s := m.status(ctx); l != nil && m != l && (s == nil || s.ReplicationState != "streaming") {
			limited, cancel := context.WithTimeout(ctx, operatorLimit)
			said, err := m.api.Reinitialize(limited, true, false)
			cancel()
			p.say("  reinitialize %s: %s %v", m.name, said, err)
		}
	}
	r.Lifted = p.record.Now()
	return p.heal(ctx, &r)
}

// leader is the member that holds the lock; nil: nobody, or the store does not answer.
func (p *play) leader(ctx context.Context) *member {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := p.keys.Snapshot(ctx)
	if err != nil {
		return nil
	}
	return find(p.site.members, s.Leader.Name)
}

// ill says what keeps the cluster from being whole; empty: the store is healthy, the leader has accepted a row that was sent after the
// faults, everybody else streams from it on its timeline and has what it had a look ago, and nobody has anything to do.
func (p *play) ill(ctx context.Context, since history.Time) string {
	for _, e := range p.site.servers {
		if !e.healthy(ctx) {
			return e.name + " of the store is not healthy"
		}
	}
	l := p.leader(ctx)
	if l == nil {
		return "nobody holds the lock"
	}
	s := l.status(ctx)
	if s == nil || s.State != "running" || s.Role != "primary" || s.Pause {
		return fmt.Sprintf("the leader %s is no running primary, or paused", l.name)
	}
	if p.accepted(l) < since {
		return fmt.Sprintf("the leader %s has not accepted a row yet", l.name)
	}
	due := p.seen
	if x := s.Positions(); x != nil {
		p.seen = x.Location
	}
	for _, m := range p.site.members {
		r := m.status(ctx)
		switch {
		case r == nil:
			return m.name + " does not answer"
		case r.Regent != nil && r.Regent.Job != nil:
			return m.name + " is busy: " + r.Regent.Job.Name
		case m == l:
		case r.Role != "replica" || r.ReplicationState != "streaming" || r.Timeline != s.Timeline:
			return fmt.Sprintf("%s is %s %s on timeline %d, replication %q; the leader %s is on %d", m.name, r.Role, r.State, r.Timeline, r.ReplicationState, l.name, s.Timeline)
		case r.Position() < due:
			return fmt.Sprintf("%s streams, and lacks %d bytes of what the leader had a look ago", m.name, due-r.Position())
		}
	}
	return ""
}

func (p *play) accepted(m *member) history.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acks[m.name]
}

// whole says when a round had healed.
func whole(r history.Round) string {
	switch {
	case r.Cut:
		return "not waited for"
	case r.Healed == 0:
		return "never"
	default:
		return (r.Healed - r.Lifted).String()
	}
}

// sleep waits, and says whether the run goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
