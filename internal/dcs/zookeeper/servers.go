package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
)

// servers are those of one ZooKeeper. All connections go to the one that answered last, while it does.
type servers struct {
	config *Config

	mu       sync.Mutex
	list     []string
	at       int
	seen     int64         // the newest transaction that any answer told of: no server that is behind takes us
	refused  time.Time     // since when nobody does; zero: somebody did
	patience time.Duration // how long that may last before we forget what we have seen
	requests map[string]uint64
}

func newServers(c *Config) *servers {
	p := &servers{config: c, list: append([]string(nil), c.Servers...), requests: map[string]uint64{}, patience: time.Minute}
	rand.Shuffle(len(p.list), func(i, j int) { p.list[i], p.list[j] = p.list[j], p.list[i] })
	return p
}

func (p *servers) now() (server string, n int, seen int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list[p.at], len(p.list), p.seen
}

// leave makes another one the next, if it is still that one.
func (p *servers) leave(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.list[p.at] == server {
		p.at = (p.at + 1) % len(p.list)
	}
}

func (p *servers) heard(zxid int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen, p.refused = max(p.seen, zxid), time.Time{}
}

func (p *servers) count(kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if kind != "ping" { // by the clock, not by what is asked
		p.requests[kind]++
	}
}

// attach attaches to a session at any server, until ctx ends. It may be repeated: attaching prolongs a session and does nothing else.
// errExpired: the session is gone.
func (p *servers) attach(ctx context.Context, s session, ready func(*conn)) (*conn, error) {
	var last error
	for try := 0; ; try++ {
		server, n, seen := p.now()
		if try > 0 && try%n == 0 {
			select {
			case <-ctx.Done():
			case <-time.After(min(time.Duration(try/n)*100*time.Millisecond, time.Second)):
			}
		}
		if ctx.Err() != nil {
			return nil, unavailable("connect", errors.Join(last, ctx.Err()))
		}
		c, err := p.attachTo(ctx, server, n-try%n, s, seen, ready)
		if err == nil || errors.Is(err, errExpired) || errors.Is(err, dcs.ErrDenied) {
			return c, err
		}
		last = fmt.Errorf("%s: %w", server, err)
		if errors.Is(err, errRefused) {
			p.forget()
		}
		p.leave(server)
	}
}

// forget gives up insisting on what was seen when no server has taken us for a minute: their data was replaced by an older copy.
func (p *servers) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.config.Clock()
	if p.refused.IsZero() {
		p.refused = now
	}
	if p.seen > 0 && now.Sub(p.refused) > p.patience {
		p.config.Log.Warn("all servers of ZooKeeper have refused us for a minute; if their data was restored from a copy or lost, this is why: going on with what they have", "seen", fmt.Sprintf("%x", p.seen))
		p.seen = 0
	}
}

// attachTo shares the time that is left with the others that are left, a second at least.
func (p *servers) attachTo(ctx context.Context, server string, left int, s session, seen int64, ready func(*conn)) (*conn, error) {
	if end, ok := ctx.Deadline(); ok && left > 1 {
		limited, cancel := context.WithTimeout(ctx, max(time.Until(end)/time.Duration(left), time.Second))
		defer cancel()
		ctx = limited
	}
	kind := "attach"
	if s.id == 0 {
		kind = "session"
	}
	p.count(kind)
	c, err := attach(ctx, p.config, server, s, seen)
	if err != nil {
		return nil, err
	}
	c.heard, c.count = p.heard, p.count
	silence := time.Duration(0)
	if ready != nil {
		ready(c)
		silence = p.silence(c.session)
	}
	go c.serve(silence)
	if err := c.greet(ctx, p.config.Auth); err != nil {
		c.close(err)
		return nil, err
	}
	return c, nil
}

// silence is how long the reader's connection may say nothing: as at Patroni, so that what is dead is noticed within a loop.
func (p *servers) silence(s session) time.Duration {
	_, loopWait, _ := p.config.Timing()
	return min(max(loopWait-2*time.Second, 2*time.Second), s.timeout*2/3)
}
