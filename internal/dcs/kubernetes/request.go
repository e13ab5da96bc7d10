package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
)

// refusal is an answer of the API server other than success.
type refusal struct {
	code    int
	message string
	after   time.Duration // of Retry-After; 0: not given
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the API server answers %d: %s", r.code, r.message)
}

var (
	errLost   = errors.New("no answer from the API server")
	errClosed = errors.New("the store has been closed")
)

// says is whether err is that answer.
func says(err error, code int) bool {
	var r *refusal
	return errors.As(err, &r) && r.code == code
}

// definite is whether err is an answer that means "nothing was done". With 5xx nobody knows: the API server may have lost
// the answer of its own store.
func definite(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.code < 500
}

// client sends requests.
type client struct {
	*transport
	config *Config
	lost   func() // called when a request got no answer
	closed context.Context

	mu       sync.Mutex
	requests map[string]uint64
}

// again is whether the same request may be sent once more, and how long to wait before.
func (c *client) again(err error, try int) (wait time.Duration, ok bool) {
	var r *refusal
	if errors.As(err, &r) && r.after > 0 {
		return r.after, true
	}
	wait = min(time.Second, 100*time.Millisecond<<min(try, 4)) + rand.N(100*time.Millisecond)
	switch {
	case r == nil:
		return wait, true
	case r.code == http.StatusUnauthorized:
		return wait, try == 0 // the token was replaced, and is read again now
	default:
		return wait, slices.Contains([]int{429, 500, 503, 504}, r.code) || slices.Contains(c.config.RetriableCodes, r.code)
	}
}

// limited is ctx with a deadline.
func (c *client) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Deadline(); bounded {
		return context.WithCancel(ctx)
	}
	_, _, retryTimeout := c.config.Timing()
	return context.WithTimeout(ctx, retryTimeout)
}

// read sends a request that may be repeated, until it is answered or ctx ends. Half of retryTimeout is for one attempt.
func (c *client) read(ctx context.Context, path string, query url.Values, into any) error {
	_, _, retryTimeout := c.config.Timing()
	var last error
	for try := 0; ; try++ {
		attempt, cancel := context.WithTimeout(ctx, max(time.Second, retryTimeout/2))
		err := c.send(attempt, http.MethodGet, path, query, nil, into)
		cancel()
		if err == nil {
			return nil
		}
		wait, ok := c.again(err, try)
		if last = err; !ok || !c.pause(ctx, wait) {
			return last
		}
	}
}

// write sends a request whose answer matters: again only when nothing was sent, or when it was refused in a way that
// passes. also names one more code that passes.
func (c *client) write(ctx context.Context, method, path string, body []byte, into any, also ...int) error {
	for try := 0; ; try++ {
		sent := false
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent = true }})
		err := c.send(traced, method, path, nil, body, into)
		if err == nil {
			return nil
		}
		wait, ok := c.again(err, try)
		var r *refusal
		if errors.As(err, &r) && slices.Contains(also, r.code) {
			ok = true
		}
		if !ok || !definite(err) && sent || !c.pause(ctx, wait) {
			return err
		}
	}
}

// pause waits, unless that would outlast ctx.
func (c *client) pause(ctx context.Context, wait time.Duration) bool {
	if until, ok := ctx.Deadline(); ok && time.Until(until) <= wait {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-c.closed.Done():
		return false
	case <-time.After(wait):
		return true
	}
}

// send sends one request once and decodes its answer.
func (c *client) send(ctx context.Context, method, path string, query url.Values, body []byte, into any) error {
	answer, err := c.open(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		return c.noAnswer(ctx, method, path, fmt.Errorf("read the answer: %w", err))
	}
	_, _ = io.Copy(io.Discard, answer.Body) // the connection is used again
	return nil
}

// open sends a request and returns a successful answer with its body unread.
func (c *client) open(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	if c.closed.Err() != nil {
		return nil, fmt.Errorf("%w: %w", errLost, errClosed)
	}
	to := *c.base
	to.Path, to.RawQuery = strings.TrimRight(to.Path, "/")+path, query.Encode()
	request, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Accept", "application/json")
	switch method {
	case http.MethodPatch:
		request.Header.Set("Content-Type", "application/strategic-merge-patch+json")
	case http.MethodPost:
		request.Header.Set("Content-Type", "application/json")
	}
	c.count(method, path, query)
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, c.noAnswer(ctx, method, path, err)
	}
	if answer.StatusCode/100 == 2 {
		return answer, nil
	}
	defer answer.Body.Close()
	r := &refusal{code: answer.StatusCode, message: answer.Status}
	var status struct {
		Message string `json:"message"`
	}
	if text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10)); err == nil && json.Unmarshal(text, &status) == nil && status.Message != "" {
		r.message = status.Message
	}
	if n, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && n >= 0 {
		r.after = max(time.Duration(n)*time.Second, time.Millisecond)
	}
	return nil, r
}

// noAnswer is the end of a request that nobody knows about. What the view is fed from comes from the same place, and is not
// to be trusted before it has been read again. A caller that only went away says nothing about the store.
func (c *client) noAnswer(ctx context.Context, method, path string, err error) error {
	if !errors.Is(ctx.Err(), context.Canceled) {
		c.lost()
		c.pooled.CloseIdleConnections() // they lead to the same place
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Errorf("%s %s: %w: %w", method, path, errLost, err)
}

func (c *client) count(method, path string, query url.Values) {
	what := strings.ToLower(method)
	if query.Has("watch") {
		what = "watch"
	} else if query.Has("labelSelector") && method == http.MethodGet {
		what = "list"
	}
	for _, resource := range []string{"pods", "endpoints", "configmaps", "leases", "services"} {
		if strings.Contains(path, "/"+resource) {
			what += " " + resource
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[what]++
}

// class turns the error of a write into one of the store's.
func class(err error) error {
	switch {
	case says(err, http.StatusForbidden), says(err, http.StatusUnauthorized):
		return fmt.Errorf("%w: %w", dcs.ErrDenied, err)
	default:
		return fmt.Errorf("%w: %w", dcs.ErrUnavailable, err)
	}
}

// remove deletes one object by a selection, which needs the same permission as Patroni's way of removing a cluster.
func (c *client) remove(ctx context.Context, where id, selector string) error {
	query := url.Values{"labelSelector": {selector}, "fieldSelector": {"metadata.name=" + where.name}}
	var deleted struct{}
	for try := 0; ; try++ {
		err := c.send(ctx, http.MethodDelete, c.config.path(where.kind), query, nil, &deleted)
		wait, ok := c.again(err, try)
		if err == nil || !ok || !c.pause(ctx, wait) {
			return err
		}
	}
}
