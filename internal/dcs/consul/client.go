package consul

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
)

// client speaks HTTP with one agent. It never repeats a request.
type client struct {
	config *Config
	reads  *http.Client
	writes *http.Client // each on a connection of its own: on one that was kept, a request may get lost with it

	mu       sync.Mutex
	requests map[string]uint64
}

// answer is one that has arrived as a whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func newClient(c *Config) *client {
	transport := func() *http.Transport {
		dialer := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 5 * time.Second}
		return &http.Transport{
			DialContext: dialer.DialContext,
			DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				secure, err := c.secure()
				if err != nil {
					return nil, err
				}
				return (&tls.Dialer{NetDialer: &dialer, Config: secure}).DialContext(ctx, network, address)
			},
			DisableCompression: true,
		}
	}
	writes := transport()
	writes.DisableKeepAlives = true
	by := func(t *http.Transport) *http.Client {
		return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &client{config: c, reads: by(transport()), writes: by(writes), requests: map[string]uint64{}}
}

func (c *client) close() { c.reads.CloseIdleConnections() }

func (c *client) count(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[kind]++
}

// errRefused: the servers looked at the request and did nothing.
var errRefused = errors.New("refused")

// errNoSession: the session that the request is about is gone, so nothing was done.
var errNoSession = errors.New("the session has ended")

func unavailable(what string, err error) error {
	return fmt.Errorf("consul %s: %w: %w", what, dcs.ErrUnavailable, err)
}

// do sends one request. Its answer is 200, 404 or 409; everything else is an error of the class that it means.
func (c *client) do(ctx context.Context, kind, method, path string, query url.Values, body any) (*answer, error) {
	if kind != "query" { // as many as there are changes, not as we ask
		c.count(kind)
	}
	live := c.config.Live()
	if query == nil {
		query = url.Values{}
	}
	if live.Datacenter != "" && !strings.HasPrefix(path, "/v1/agent/") && !strings.HasPrefix(path, "/v1/catalog/") { // the agent and what it registers
		query.Set("dc", live.Datacenter)
	}
	u := url.URL{Scheme: "http", Host: c.config.Address, Path: path, RawQuery: query.Encode()}
	if c.config.TLS {
		u.Scheme = "https"
	}
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("consul %s: %w; nothing was done", kind, err)
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return nil, fmt.Errorf("consul %s: %w; nothing was done", kind, err)
	}
	request.Header.Set("User-Agent", "regent")
	if live.Token != "" {
		request.Header.Set("X-Consul-Token", live.Token)
	}
	by := c.writes
	if method == http.MethodGet {
		by = c.reads
	}
	response, err := by.Do(request)
	if err != nil {
		return nil, unavailable(kind, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, unavailable(kind, err)
	}
	a := &answer{response.StatusCode, response.Header, text}
	switch said := strings.TrimSpace(string(text)); {
	case a.status == http.StatusOK, a.status == http.StatusNotFound, a.status == http.StatusConflict:
		return a, nil
	case a.status == http.StatusForbidden, a.status == http.StatusUnauthorized, denied(said):
		return nil, fmt.Errorf("consul %s: %w: %s", kind, dcs.ErrDenied, said)
	case noSession(said):
		return nil, fmt.Errorf("consul %s: %w: %s", kind, errNoSession, said)
	case strings.Contains(said, "Invalid Session TTL"):
		return nil, fmt.Errorf("consul %s: %w: %s", kind, errRefused, said)
	default:
		return nil, unavailable(kind, fmt.Errorf("%s: %s", response.Status, said))
	}
}

func denied(said string) bool {
	return strings.Contains(said, "Permission denied") || strings.Contains(said, "ACL not found")
}

func noSession(said string) bool { return strings.Contains(said, "invalid session") }

// pair is a key as Consul shows it.
type pair struct {
	Key         string
	Value       []byte
	Flags       uint64 // a number beside the value
	Session     string
	CreateIndex uint64
	ModifyIndex uint64
}

// op is one step of a transaction, which happens as a whole or not at all.
type op struct {
	Verb    string
	Key     string
	Value   []byte
	Flags   uint64 `json:",omitempty"`
	Index   uint64 `json:",omitempty"`
	Session string `json:",omitempty"`
}

// transact sends a transaction and returns what its steps left behind. errRefused, errNoSession: nothing was done.
func (c *client) transact(ctx context.Context, kind string, ops ...op) ([]pair, error) {
	type step struct{ KV op }
	steps := make([]step, 0, len(ops))
	for _, o := range ops {
		if o.Value == nil {
			o.Value = []byte{}
		}
		steps = append(steps, step{o})
	}
	a, err := c.do(ctx, kind, http.MethodPut, "/v1/txn", nil, steps)
	if err != nil {
		return nil, err
	}
	var out struct {
		Results []struct{ KV pair }
		Errors  []struct{ What string }
	}
	if err := json.Unmarshal(a.body, &out); err != nil {
		return nil, unavailable(kind, fmt.Errorf("have %d and no JSON: %w", a.status, err))
	}
	if len(out.Errors) > 0 {
		what := out.Errors[0].What
		class := errRefused
		if denied(what) {
			class = dcs.ErrDenied
		} else if noSession(what) {
			class = errNoSession
		}
		return nil, fmt.Errorf("consul %s: %w: %s", kind, class, what)
	}
	if a.status != http.StatusOK {
		return nil, unavailable(kind, fmt.Errorf("have status %d without a reason", a.status))
	}
	var pairs []pair
	for _, r := range out.Results {
		pairs = append(pairs, r.KV)
	}
	return pairs, nil
}

// get reads one key, consistently; nil: there is none.
func (c *client) get(ctx context.Context, key string) (*pair, error) {
	a, err := c.do(ctx, "get", http.MethodGet, "/v1/kv/"+key, url.Values{"consistent": {""}}, nil)
	if err != nil || a.status == http.StatusNotFound {
		return nil, err
	}
	var pairs []pair
	if err := json.Unmarshal(a.body, &pairs); err != nil {
		return nil, unavailable("get", err)
	}
	if len(pairs) != 1 {
		return nil, unavailable("get", fmt.Errorf("have %d keys, want 1", len(pairs)))
	}
	return &pairs[0], nil
}

// session is a session and the time by which it certainly lives.
type session struct {
	id      string // empty: none
	ttl     time.Duration
	lasts   time.Duration // Consul ends it this long after it was created or renewed, at the earliest; ttl at least
	touched time.Time     // before the request left that created or renewed it
}

// shortest is what Consul says when a session's TTL is too short for it.
var shortest = "must be between ["

// create makes a session that lives for ttl at least. Repeating it is harmless, but is left to callers: what nothing lives by ends unnoticed.
func (c *client) create(ctx context.Context, ttl time.Duration, checks []string) (session, error) {
	half := (ttl + 1) / 2
	if checks == nil {
		checks = []string{} // none at all, and not the default, which ends the session with the agent's node
	}
	for try := 0; ; try++ {
		s := session{ttl: ttl, lasts: 2 * half, touched: c.config.Clock()}
		a, err := c.do(ctx, "session", http.MethodPut, "/v1/session/create", nil, map[string]any{
			"Name": c.config.Scope + "-" + c.config.Name, "TTL": seconds(half), "Behavior": "delete", "LockDelay": "0.001s", "Checks": checks, "NodeChecks": checks,
		})
		if errors.Is(err, errRefused) && try == 0 {
			_, bounds, _ := strings.Cut(err.Error(), shortest)
			least, _, _ := strings.Cut(bounds, "=")
			if half, err = time.ParseDuration(least); err != nil {
				half = 10 * time.Second // Consul's default
			}
			continue
		}
		if err != nil {
			return session{}, err
		}
		var out struct{ ID string }
		if err := json.Unmarshal(a.body, &out); a.status != http.StatusOK || err != nil || out.ID == "" {
			return session{}, unavailable("session", fmt.Errorf("have status %d and %q, want the new session's ID", a.status, a.body))
		}
		s.id = out.ID
		return s, nil
	}
}

// seconds is a TTL as Patroni writes it: 15.0s.
func seconds(d time.Duration) string {
	text := strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text + "s"
}

// renew prolongs a session as far as the server knows that answers. errNoSession: it is gone.
func (c *client) renew(ctx context.Context, s session) (session, error) {
	s.touched = c.config.Clock()
	a, err := c.do(ctx, "renew", http.MethodPut, "/v1/session/renew/"+s.id, nil, nil)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("consul renew: %w", errNoSession)
	}
	return s, err
}

// destroy ends a session.
func (c *client) destroy(ctx context.Context, id string) error {
	_, err := c.do(ctx, "destroy", http.MethodPut, "/v1/session/destroy/"+id, nil, nil)
	return err
}
