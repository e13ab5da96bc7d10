// Package zookeeper is a store in ZooKeeper 3.6 or later, with Patroni's nodes and values (dcs.md section 3.4).
//
// Three sessions. The reader's has a connection that lasts, with pings: a recursive watch feeds the view, and plain keys are
// written over it. It owns nothing. The member's session owns the member's node, the lock's owns the leader node, and each hold of the
// lock is a session of its own. These two have no connection: attaching to them, with a handshake that goes to the leader of the servers, is what
// renews them, and nothing else does. So a hung loop loses its lock, and ending the session releases this hold and no later one.
//
// Deadlines. A server answers reads and pings from what it knows itself, and tells the leader, which alone counts sessions down,
// only with its next heartbeat; what it has not told dies with it. A handshake is different: the server asks the leader before it
// answers. A transaction that commits after it shows that this leader was still the one, so a later leader, who gives every
// session its whole timeout, began later. Hence: handshake, commit, look whose node it is; the deadline counts from before the handshake left (ADR 19).
//
// Sources: ZooKeeper, "Programmer's Guide", sections on sessions, watches and guarantees; its sources of Learner,
// LearnerHandler and SessionTrackerImpl.
package zookeeper

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

// Config says which ZooKeeper, and which part of it (config.md section 2.12).
type Config struct {
	Servers          []string // host:port
	TLS              bool
	CACert           string                           // file; empty: the system's authorities
	Unverified       bool                             // take any certificate of a server
	Certificate      func() (*tls.Certificate, error) // ours, read at each connection; nil: none
	Auth             []Credential                     // shown at each connection
	ACL              []ACL                            // of the nodes that we create; nil: anyone may do anything
	Namespace, Scope string                           // the root is /<namespace>/<scope>
	Name             string                           // our member name; empty for a store that only reads and writes plain keys

	// Timing returns the current settings; nil: Patroni's defaults 30 s, 10 s, 10 s. retryTimeout bounds a call whose
	// context has no deadline.
	Timing func() (ttl, loopWait, retryTimeout time.Duration)
	Clock  dcs.Clock    // nil: boottime.Now
	Log    *slog.Logger // nil: slog.Default()
}

// Credential is one entry of auth_data: digest and "user:password", for example.
type Credential struct{ Scheme, Secret string }

func (c *Config) complete() {
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
	if c.ACL == nil {
		c.ACL = []ACL{{All, "world", "anyone"}}
	}
}

// root is the cluster's node, without a slash at its end.
func (c *Config) root() string { return strings.TrimSuffix(cluster.Root(c.Namespace, c.Scope), "/") }

// secure is how a server is reached by TLS.
func (c *Config) secure(server string) (*tls.Config, error) {
	return dcs.TLS{Section: "zookeeper", CACert: c.CACert, Unverified: c.Unverified, Cert: c.Certificate}.Config(server)
}

// bounded limits a call that its caller did not.
func (c *Config) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	_, _, retryTimeout := c.Timing()
	return dcs.Bounded(ctx, retryTimeout)
}
