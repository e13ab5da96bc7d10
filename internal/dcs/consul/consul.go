// Package consul is a store in Consul, with Patroni's keys and values (dcs.md section 3.3).
//
// Deadlines. A renewal of a session is known to one server alone, the one that believes to be the leader: it commits nothing, so a
// deposed leader answers it just as well, and its successor counts from its own election. The creation of a session is committed, and every later
// leader counts its whole life anew. So each renewal of the lock is a new session, to which one transaction moves the key; the deadline counts from before
// the request for the session left (ADR 20). Consul ends a session after twice its TTL at the earliest, which is why ours have half of ttl.
//
// The member's key lives by another session, which is renewed as usual: nothing believes in that one.
//
// Reading. One blocking query on all our keys feeds the view; each answer is the whole of it, as of one index.
//
// Sources: Consul, "Sessions", "Blocking queries", "Transaction HTTP API", "Consistency modes"; its sources of session_ttl.go, txn_endpoint.go and
// the state store's kvs.go.
package consul

import (
	"context"
	"crypto/tls"
	"log/slog"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Config says which Consul, and which part of it (config.md section 2.11).
type Config struct {
	Address    string // host:port of the agent
	TLS        bool
	Unverified bool                             // take any certificate of the agent
	CACert     string                           // file; empty: the system's authorities
	Cert       func() (*tls.Certificate, error) // ours, read at each connection; nil: none
	Checks     []string                         // health checks that the member's session depends on; the lock's depends on none

	Namespace, Scope string // the root is <namespace>/<scope>
	Name             string // our member name; empty for a store that only reads and writes plain keys

	ServiceCheckInterval      string // default 5s
	ServiceCheckTLSServerName string

	// Live returns what a reload may change; nil: nothing is set.
	Live func() Live
	// Timing returns the current settings; nil: Patroni's defaults 30 s, 10 s, 10 s. retryTimeout bounds a call whose
	// context has no deadline.
	Timing func() (ttl, loopWait, retryTimeout time.Duration)
	Clock  dcs.Clock    // nil: boottime.Now
	Log    *slog.Logger // nil: slog.Default()
}

// Live is the part of the settings that may change while the store is open.
type Live struct {
	Token           string
	Datacenter      string // empty: the agent's
	Consistency     Consistency
	RegisterService bool
	ServiceTags     []string
}

// Consistency is how the view is read. What decides about the lock is always read consistently.
type Consistency string

// The modes of reading.
const (
	Default    Consistency = "default"    // from whoever believes to be the leader of the servers
	Consistent Consistency = "consistent" // from a leader that has made sure
	Stale      Consistency = "stale"      // from any server
)

func (c *Config) complete() {
	if c.Live == nil {
		c.Live = func() Live { return Live{} }
	}
	if c.Timing == nil {
		c.Timing = func() (ttl, loopWait, retryTimeout time.Duration) {
			return 30 * time.Second, 10 * time.Second, 10 * time.Second
		}
	}
	if c.Clock == nil {
		c.Clock = boottime.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.ServiceCheckInterval == "" {
		c.ServiceCheckInterval = "5s"
	}
}

// root is what all our keys begin with; it ends with a slash.
func (c *Config) root() string { return strings.TrimPrefix(cluster.Root(c.Namespace, c.Scope), "/") }

// secure is how a server is reached by TLS.
func (c *Config) secure() (*tls.Config, error) {
	return dcs.TLS{Section: "consul", CACert: c.CACert, Unverified: c.Unverified, Cert: c.Cert}.Config(c.Address)
}

// bounded limits a call that its caller did not.
func (c *Config) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	_, _, retryTimeout := c.Timing()
	return dcs.Bounded(ctx, retryTimeout)
}
