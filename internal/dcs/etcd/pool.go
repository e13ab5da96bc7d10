package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/regent-ha/regent/internal/dcs"
)

// pool chooses the endpoint. All requests go to the current one until it fails.
type pool struct {
	config *Config
	left   func(*endpoint) // called when an endpoint is given up
	alive  func(*endpoint) // called when one has answered
	lost   chan struct{}   // has one when no endpoint answers

	mu        sync.Mutex
	endpoints []*endpoint // none, until the name service has told one
	none      error       // why there is none
	current   int
	closed    bool
	cluster   uint64
	term      uint64
	requests  map[string]uint64
}

// now is the endpoint in use, and how many there are; nil: none.
func (p *pool) now() (e *endpoint, of int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.endpoints) == 0 {
		return nil, 0
	}
	return p.endpoints[p.current], len(p.endpoints)
}

// close hangs up.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, e := range p.endpoints {
		e.conn.Close()
	}
}

// leave makes the next endpoint the current one, unless somebody already did.
func (p *pool) leave(e *endpoint, cause error) {
	p.mu.Lock()
	if len(p.endpoints) > 0 && p.endpoints[p.current] == e {
		p.current = (p.current + 1) % len(p.endpoints)
		p.config.Log.Debug("etcd endpoint does not answer", "endpoint", e.address, "error", cause, "next", p.endpoints[p.current].address)
	}
	p.mu.Unlock()
	p.left(e)
}

func (p *pool) count(kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[kind]++
}

// observe is the guard against a server that answers although the others have elected a new leader without it
// (dcs.md section 3.1, "Staleness guard").
func (p *pool) observe(h *pb.ResponseHeader) error {
	if h == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.ClusterId != p.cluster {
		if p.cluster != 0 {
			p.config.Log.Warn("etcd is another cluster now", "old", p.cluster, "new", h.ClusterId)
		}
		p.cluster, p.term = h.ClusterId, 0
	}
	if h.RaftTerm < p.term {
		return errStaleTerm
	}
	p.term = h.RaftTerm
	return nil
}

type request func(context.Context, *endpoint) (*pb.ResponseHeader, error)

// read sends a request that may be repeated. Each endpoint gets a share of the time that is left, so that a dead one
// does not eat it; after a round it starts again until ctx ends.
func (p *pool) read(ctx context.Context, kind string, send request) error {
	return p.do(ctx, kind, send, false)
}

// write sends a request at most once: to the first endpoint that we are connected to. After that, an answer that does
// not come is ErrUnavailable.
func (p *pool) write(ctx context.Context, kind string, send request) error {
	return p.do(ctx, kind, send, true)
}

func (p *pool) do(ctx context.Context, kind string, send request, once bool) error {
	if _, bounded := ctx.Deadline(); !bounded {
		_, _, retryTimeout := p.config.Timing()
		limited, cancel := context.WithTimeout(ctx, retryTimeout)
		defer cancel()
		ctx = limited
	}
	var last error
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		_, size := p.now()
		for tried := range size {
			if err := ctx.Err(); err != nil {
				return unavailable(kind, errors.Join(last, err))
			}
			e, _ := p.now()
			sent, err := p.attempt(ctx, e, size-tried, kind, send, once)
			if err == nil {
				return nil
			}
			if class := definite(err); class != nil {
				return class
			}
			last = fmt.Errorf("%s: %w", e.address, err)
			if p.ended() {
				return unavailable(kind, errors.Join(errClosed, last))
			}
			if !errors.Is(ctx.Err(), context.Canceled) { // else it is the caller who gave up
				p.leave(e, err)
			}
			if sent && once {
				return unavailable(kind, last)
			}
		}
		select {
		case p.lost <- struct{}{}:
		default: // it is known already
		}
		select {
		case <-ctx.Done():
			return unavailable(kind, errors.Join(p.why(last), ctx.Err()))
		case <-time.After(pause + rand.N(pause)):
		}
	}
}

func (p *pool) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// why is the error of the last attempt, or why there was none.
func (p *pool) why(last error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last == nil && p.none != nil {
		return p.none
	}
	return last
}

// attempt tries one endpoint, with 1/share of the time; sent says whether the request may have reached it.
func (p *pool) attempt(ctx context.Context, e *endpoint, share int, kind string, send request, once bool) (sent bool, err error) {
	deadline, _ := ctx.Deadline()
	attempt, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(share))
	defer cancel()
	if err := e.ready(attempt); err != nil {
		return false, err
	}
	if once {
		attempt = ctx // there is no second try to save time for
	}
	err = e.authorized(attempt, p.config.account(), func(ctx context.Context) error {
		sent = true
		p.count(kind)
		header, err := send(ctx, e)
		if err == nil && !once { // a write has been agreed on by a majority, whatever the term
			err = p.observe(header)
		}
		return err
	})
	if err == nil {
		p.alive(e)
	}
	return sent, err
}

func unavailable(what string, cause error) error {
	return fmt.Errorf("etcd %s: %w: %w", what, dcs.ErrUnavailable, cause)
}
