// Package client talks to the REST API of one member, Regent's or Patroni's.
//
// It is lenient with what it reads: Patroni answers with HTTP/1.0 and without a length, members
// before 4.0 call a primary "master", very old ones say "wal" for "xlog". Methods may be called from any
// goroutine. Reading ends after Options.Timeout or with its context; what acts ends with its context
// alone, since a restart or a switchover may take long.
//
// An answer that is no success is an *Error with its code and text. Any other error means that no
// usable answer came: then nobody knows whether an action happened.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Auth is a user of the API. The zero value sends none.
type Auth struct{ Username, Password string }

// Options say how to reach a member.
type Options struct {
	Auth    Auth
	TLS     *tls.Config   // for https; nil: the authorities of the system
	Timeout time.Duration // of one reading request; 0: ten seconds
}

// maxAnswer bounds what a member may make us hold, in bytes.
const maxAnswer = 16 << 20

// Client talks to one member.
type Client struct {
	base    string
	auth    Auth
	timeout time.Duration
	http    *http.Client
}

// New makes a client of the member at that URL, for example its api_url, http://10.0.0.1:8008/patroni. It connects to nobody yet.
func New(address string, o Options) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("read the URL %q of a member: want http://host:port or https://host:port", address)
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	return &Client{
		base:    u.Scheme + "://" + u.Host + strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/patroni"),
		auth:    o.Auth,
		timeout: o.Timeout,
		http: &http.Client{
			Transport: &http.Transport{TLSClientConfig: o.TLS, MaxIdleConns: 2, IdleConnTimeout: 20 * time.Second},
			// A member never redirects; whoever does is somebody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close lets go of connections that are kept open for the next request.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is an answer that is no success.
type Error struct {
	Method, URL string
	Code        int
	Body        string // what the member said; an HTML page for some codes of Patroni
}

func (e *Error) Error() string {
	said := strings.TrimSpace(e.Body)
	if said == "" || strings.HasPrefix(said, "<") {
		said = http.StatusText(e.Code)
	}
	return fmt.Sprintf("%s %s: the member answered %d: %s", e.Method, e.URL, e.Code, said)
}

// Code returns the HTTP status in err, 0 when no answer came.
func Code(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// answer is what came back.
type answer struct {
	method, url string
	code        int
	header      http.Header
	body        []byte
}

func (a answer) err() error {
	return &Error{Method: a.method, URL: a.url, Code: a.code, Body: string(a.body)}
}

// do sends one request. It never repeats one.
func (c *Client) do(ctx context.Context, method, path string, body any) (answer, error) {
	a := answer{method: method, url: c.base + path}
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return a, fmt.Errorf("encode the body of %s %s: %w", method, path, err)
		}
		payload = bytes.NewReader(text)
	} else if method != http.MethodGet {
		payload = http.NoBody // Patroni wants a length
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url, payload)
	if err != nil {
		return a, err
	}
	req.Header.Set("User-Agent", "Regent")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.auth != (Auth{}) {
		req.SetBasicAuth(c.auth.Username, c.auth.Password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.code, a.header = resp.StatusCode, resp.Header
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return a, fmt.Errorf("%s %s: read the answer: %w", method, a.url, err)
	}
	return a, nil
}

// get reads a path within the time of one request.
func (c *Client) get(ctx context.Context, path string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.do(ctx, http.MethodGet, path, nil)
}

// read gets a document with status 200.
func (c *Client) read(ctx context.Context, path string, into any) error {
	a, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	if a.code != http.StatusOK {
		return a.err()
	}
	return a.decode(into)
}

func (a answer) decode(into any) error {
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("%s %s: read the JSON of the answer: %w", a.method, a.url, err)
	}
	return nil
}

// Status reads GET /patroni. The HTTP status of the answer does not matter, its content does.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	_, s, err := c.Health(ctx, "/patroni")
	return s, err
}

// Health asks a health check, such as "/primary" or "/replica?lag=1MB": code 200 means yes, 503 no. The status document
// that comes along is there also when the answer is no.
func (c *Client) Health(ctx context.Context, path string) (code int, s *Status, err error) {
	a, err := c.get(ctx, path)
	if err != nil {
		return 0, nil, err
	}
	s = &Status{Waives: a.header.Get("Regent-Counts-On") == "nobody"}
	if err := a.decode(s); err != nil {
		if a.code != http.StatusOK && a.code != http.StatusServiceUnavailable {
			return a.code, nil, a.err()
		}
		return a.code, nil, err
	}
	return a.code, s, nil
}

// Liveness asks GET /liveness. Any answer, also false, means that an agent runs there.
func (c *Client) Liveness(ctx context.Context) (alive bool, err error) {
	return c.probe(ctx, "/liveness")
}

// Readiness asks GET /readiness.
func (c *Client) Readiness(ctx context.Context) (ready bool, err error) {
	return c.probe(ctx, "/readiness")
}

func (c *Client) probe(ctx context.Context, path string) (bool, error) {
	a, err := c.get(ctx, path)
	return a.code == http.StatusOK, err
}

// Cluster reads GET /cluster.
func (c *Client) Cluster(ctx context.Context) (*Cluster, error) {
	v := &Cluster{}
	return v, c.read(ctx, "/cluster", v)
}

// History reads GET /history, oldest first.
func (c *Client) History(ctx context.Context) ([]HistoryEntry, error) {
	var v []HistoryEntry
	return v, c.read(ctx, "/history", &v)
}

// Config reads the dynamic configuration as it is stored.
func (c *Client) Config(ctx context.Context) (json.RawMessage, error) {
	var v json.RawMessage
	return v, c.read(ctx, "/config", &v)
}

// PatchConfig merges a JSON object into the dynamic configuration, null removes, and returns the result. Code 409: somebody
// else changed it meanwhile, nothing was written.
func (c *Client) PatchConfig(ctx context.Context, patch any) (json.RawMessage, error) {
	return c.write(ctx, http.MethodPatch, patch)
}

// PutConfig replaces the dynamic configuration.
func (c *Client) PutConfig(ctx context.Context, doc any) (json.RawMessage, error) {
	return c.write(ctx, http.MethodPut, doc)
}

func (c *Client) write(ctx context.Context, method string, doc any) (json.RawMessage, error) {
	a, err := c.do(ctx, method, "/config", doc)
	if err != nil {
		return nil, err
	}
	if a.code != http.StatusOK {
		return nil, a.err()
	}
	var v json.RawMessage
	return v, a.decode(&v)
}

// act sends a request that acts and returns what the member said.
func (c *Client) act(ctx context.Context, method, path string, body any) (said string, err error) {
	a, err := c.do(ctx, method, path, body)
	switch {
	case err != nil:
		return "", err
	case a.code/100 != 2:
		return "", a.err()
	default:
		return string(a.body), nil
	}
}

// Switchover asks for a planned change of the leader. It waits for the outcome unless it is scheduled.
func (c *Client) Switchover(ctx context.Context, r SwitchoverRequest) (said string, err error) {
	return c.act(ctx, http.MethodPost, "/switchover", r)
}

// CancelSwitchover drops the scheduled switchover; code 404: there is none.
func (c *Client) CancelSwitchover(ctx context.Context) (said string, err error) {
	return c.act(ctx, http.MethodDelete, "/switchover", nil)
}

// Failover makes the candidate the leader and waits for the outcome.
func (c *Client) Failover(ctx context.Context, candidate string) (said string, err error) {
	return c.act(ctx, http.MethodPost, "/failover", SwitchoverRequest{Candidate: candidate})
}

// Restart restarts PostgreSQL, now or later; now it waits for the end.
func (c *Client) Restart(ctx context.Context, r RestartRequest) (said string, err error) {
	return c.act(ctx, http.MethodPost, "/restart", r)
}

// CancelRestart drops the scheduled restart; code 404: there is none.
func (c *Client) CancelRestart(ctx context.Context) (said string, err error) {
	return c.act(ctx, http.MethodDelete, "/restart", nil)
}

// Reload makes the member read its local configuration again, soon.
func (c *Client) Reload(ctx context.Context) (said string, err error) {
	return c.act(ctx, http.MethodPost, "/reload", nil)
}

// Reinitialize rebuilds a replica. force cancels what the member is doing; fromLeader copies from the leader.
func (c *Client) Reinitialize(ctx context.Context, force, fromLeader bool) (said string, err error) {
	return c.act(ctx, http.MethodPost, "/reinitialize", map[string]bool{"force": force, "from_leader": fromLeader})
}

// Failsafe asks a member to let a leader that has lost the store lead on. bound is how long it has promised not to take the lock; 0: it
// does not say, as Patroni, which keeps to the cluster's ttl. An error: it has not agreed.
func (c *Client) Failsafe(ctx context.Context, r FailsafeRequest) (bound time.Duration, err error) {
	a, err := c.do(ctx, http.MethodPost, "/failsafe", r)
	switch {
	case err != nil:
		return 0, err
	case a.code != http.StatusOK || string(a.body) != "Accepted":
		return 0, a.err()
	}
	text := a.header.Get("Regent-Promise")
	if text == "" {
		return 0, nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds <= 0 {
		return 0, fmt.Errorf("%s %s: have a promise of %q seconds, want a number above 0", a.method, a.url, text)
	}
	return time.Duration(seconds) * time.Second, nil
}

// Why asks a Regent member to explain the election and its last decisions, now or at a past moment (zero: now). limit 0: as
// many as the member sees fit.
func (c *Client) Why(ctx context.Context, at time.Time, limit int) (*Why, error) {
	q := url.Values{}
	if !at.IsZero() {
		q.Set("at", at.Format(time.RFC3339Nano))
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	path := "/why"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	v := &Why{}
	return v, c.read(ctx, path, v)
}
