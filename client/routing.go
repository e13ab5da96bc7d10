package client

import (
	"bufio"
	"context"
	"net/http"
	"sync"
	"time"
)

// Routing is an open GET /routing: the member can be written to, and tells before it stops on purpose. A nil one tells nothing.
type Routing struct {
	stopping, broken chan struct{}
	cancel           context.CancelFunc
	reading          sync.WaitGroup
}

// Routing asks whether clients that write may be sent to the member, and goes on to listen until Close, or ctx ends. An *Error with code 503
// says no, and one with 404 that the member does not know the question: it is Patroni's.
func (c *Client) Routing(ctx context.Context) (*Routing, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(c.timeout, cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/routing", nil)
	if err != nil {
		cancel()
		return nil, err
	}
	req.Header.Set("User-Agent", "Regent")
	resp, err := c.http.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if !late.Stop() || resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		cancel()
		return nil, &Error{Method: http.MethodGet, URL: c.base + "/routing", Code: resp.StatusCode}
	}
	r := &Routing{stopping: make(chan struct{}), broken: make(chan struct{}), cancel: cancel}
	r.reading.Go(func() {
		defer close(r.broken)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if lines.Text() == "stopping" {
				close(r.stopping)
				<-ctx.Done() // it waits for us to hang up
				return
			}
		}
	})
	return r, nil
}

// Stopping is closed when the member is about to stop its PostgreSQL. It waits until Close, a second at most.
func (r *Routing) Stopping() <-chan struct{} {
	if r == nil {
		return nil
	}
	return r.stopping
}

// Broken is closed when the member does not talk to us any more. That says nothing about its PostgreSQL.
func (r *Routing) Broken() <-chan struct{} {
	if r == nil {
		return nil
	}
	return r.broken
}

// Close hangs up. It may be called again.
func (r *Routing) Close() {
	if r == nil {
		return
	}
	r.cancel()
	r.reading.Wait()
}
