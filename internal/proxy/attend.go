package proxy

import (
	"context"
	"net/http"
	"time"

	"github.com/regent-ha/regent/client"
)

const (
	askAgain  = 50 * time.Millisecond  // while the leader says that it cannot be written to
	askSilent = time.Second            // while the leader's agent does not answer, or the store
	calmTime  = 700 * time.Millisecond // for clients that are connecting when the leader says that it is about to stop; it waits a second
)

// attend asks the leader whether it can be written to, as long as it leads: until it can, then when there is a doubt.
func (p *Proxy) attend(ctx context.Context, t target) {
	var stream *client.Routing // open: it tells before it stops
	defer func() { stream.Close() }()
	for ctx.Err() == nil {
		asked := p.Clock()
		fresh, v := p.ask(ctx, t)
		if ctx.Err() != nil {
			fresh.Close()
			return
		}
		stream.Close()
		stream = fresh
		p.primary.answer(t, v, asked)
		if !p.attentive(ctx, t, stream, v) {
			stream.Close()
			stream = nil
		}
	}
}

// attentive waits for the next time to ask. It returns false when the stream has served.
func (p *Proxy) attentive(ctx context.Context, t target, stream *client.Routing, v verdict) bool {
	var again <-chan time.Time
	switch {
	case v == no || v == claims && !p.primary.state().usable:
		again = time.After(askAgain)
		p.nudge() // its member key may say more
	case v == silent:
		again = time.After(askSilent)
		p.nudge()
	}
	for {
		s, changed := p.primary.watch()
		if s.away && again == nil {
			again = time.After(askSilent)
		}
		select {
		case <-ctx.Done():
			return false
		case <-again:
			return true
		case <-p.primary.doubts:
			p.nudge() // it may have another address
			pause(ctx, askAgain)
			return true
		case <-stream.Stopping():
			p.primary.shut(t)
			limited, cancel := context.WithTimeout(ctx, calmTime)
			left := p.primary.calm(limited)
			cancel()
			p.Log.Info("the leader is about to stop: new clients wait", "member", t.member)
			if left > 0 && ctx.Err() == nil {
				p.Log.Warn("clients are still connecting to a leader that stops: they may see an error", "clients", left)
			}
			return false
		case <-stream.Broken():
			pause(ctx, askAgain)
			return false
		case <-changed:
		}
	}
}

// ask asks the leader once.
func (p *Proxy) ask(ctx context.Context, t target) (*client.Routing, verdict) {
	c, err := p.Client(t.api)
	if err != nil {
		return nil, silent
	}
	stream, err := c.Routing(ctx)
	switch client.Code(err) {
	case http.StatusNotFound: // a Patroni
	case http.StatusServiceUnavailable:
		return nil, no
	default:
		if err != nil {
			return nil, silent
		}
		return stream, ready
	}
	code, _, err := c.Health(ctx, "/primary")
	switch {
	case err != nil:
		return nil, silent
	case code == http.StatusOK:
		return nil, claims
	default:
		return nil, no
	}
}
