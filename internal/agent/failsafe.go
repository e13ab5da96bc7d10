package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// Heartbeat is what a leader that has lost the store tells a member (rest-api.md section 10). The last two are Regent's: an address may have
// become somebody else's, and what a stranger promises is worth nothing.
type Heartbeat struct {
	Name, ConnURL, APIURL string
	Slots                 map[string]cluster.LSN
	Scope, To             string // who is meant; empty: a Patroni leader does not say
}

// Promise is what a member answers.
type Promise struct {
	For time.Duration // so long it does not take the lock
	At  cluster.LSN   // what it has received or replayed
}

// Agree asks one member to let us lead on.
type Agree func(ctx context.Context, m cluster.Member, h Heartbeat) (Promise, error)

var (
	// ErrNoFailsafe: failsafe mode is off here.
	ErrNoFailsafe = errors.New("failsafe mode is off")
	// ErrMayLead: we lead, are about to, or cannot rule it out.
	ErrMayLead = errors.New("Running as a leader") //lint:ignore ST1005 Patroni's text, which clients compare
)

// AcceptFailsafe promises a leader that has lost the store not to take the lock for a ttl.
func (a *Agent) AcceptFailsafe(h Heartbeat) (Promise, error) {
	s := a.Status()
	facts := ha.Heartbeat{
		From: h.Name, To: h.To, Scope: h.Scope, Slots: h.Slots, Self: a.name, Cluster: s.Scope, Failsafe: s.Config.FailsafeMode(),
		Postgres: s.Postgres, Fenced: a.fencing.armed(), Promotion: a.promotion.Load(),
	}
	if s.HasView(time.Now()) {
		facts.Store = s.Snapshot
	}
	before := a.keeper.lock().Bound
	switch refusal, detail := a.keeper.accept(facts, s.Timing.TTL); refusal {
	case "":
	case ha.FailsafeOff:
		return Promise{}, ErrNoFailsafe
	case ha.MayLead:
		return Promise{}, fmt.Errorf("%w: %s", ErrMayLead, detail)
	default:
		return Promise{}, errors.New(detail)
	}
	if !a.clock().Before(before) {
		a.wake() // what we answer about failsafe mode is another one now
	}
	return Promise{For: s.Timing.TTL, At: s.Postgres.Position()}, nil
}

// Waives says whether this member counts on no promise that was given before now.
func (a *Agent) Waives() bool { return a.keeper.waives() }

// askCircle asks all members side by side. A leader whose members are all gone is not let go on: each one listed must agree.
func (a *Agent) askCircle(ask Agree) func(context.Context, *loop.Round) time.Duration {
	return func(ctx context.Context, r *loop.Round) time.Duration {
		s := a.Status()
		h := Heartbeat{Name: a.name, Slots: r.Circle.Slots, Scope: s.Scope}
		h.ConnURL, h.APIURL = a.ownAddresses()
		type answer struct {
			member string
			Promise
			err error
		}
		answers := make(chan answer, len(r.Members))
		for _, m := range r.Members {
			to := h
			to.To = m.Name
			go func() {
				p, err := Promise{}, errors.New("no address")
				if ask != nil && m.APIURL != "" {
					p, err = ask(ctx, m, to)
				}
				answers <- answer{m.Name, p, err}
			}()
		}
		promise := s.Timing.TTL
		for range r.Members {
			switch got := <-answers; {
			case got.err != nil:
				a.log.Warn("a member does not agree that we lead on without the store", "member", got.member, "error", got.err)
				promise = 0
			case got.For > 0: // Patroni does not say; it keeps to the ttl of the dynamic configuration
				promise = min(promise, got.For)
			}
		}
		return promise
	}
}

func (a *Agent) ownAddresses() (conn, api string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	conn, api, _ = addresses(&a.settings)
	return conn, api
}

// remindOfPromises keeps a fresh agent from taking the lock until what the one before it may have promised is over.
func (a *Agent) remindOfPromises() {
	if a.loop.Limits.Failsafe && !a.began.IsZero() {
		if until := a.began.Add(a.loop.Limits.TTL); until.After(a.loop.Fresh) {
			a.loop.Fresh = until
		}
	}
}

// memberOrder is how the members stand in the store.
func memberOrder(s *cluster.Snapshot) (names []string) {
	for _, m := range s.Members {
		names = append(names, m.Name)
	}
	return names
}
