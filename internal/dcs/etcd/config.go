// Package etcd is a store in an etcd v3 cluster, reached over gRPC, with Patroni's layout (dcs.md section 3.1).
//
// One lease per process carries the leader lock and the member key. Nothing renews it in the background: a
// hung loop must lose its lock. Reads come from a view fed by one linearizable range and a watch. A store talks to one
// endpoint at a time, so that the watch and the requests tell one story, and moves on when that one does not answer.
//
// Sources: etcd, "KV API guarantees" and "How to create lease"; etcd's LeaseKeepAlive and watch sources.
package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Config says which etcd, and which part of it (config.md section 2.10).
type Config struct {
	Endpoints          []string // "host:port" or "https://host:port"; port 2379 when there is none
	HTTPS              bool     // for endpoints without a scheme
	SRV, SRVSuffix     string   // a domain whose name service has the endpoints, instead of those above
	Learn              bool     // use the addresses of all members of the cluster, too: not for a proxy
	Username, Password string   // empty: no authentication
	CACert             string   // file; empty: the system's authorities
	Cert, Key          string   // files of the client certificate; an empty Key is looked for in Cert
	Namespace, Scope   string   // the root is /<namespace>/<scope>
	Name               string   // our member name; empty for a store that only reads and writes plain keys

	// Account returns the user name and password of this moment, so that they can be reloaded; nil: Username and Password.
	Account func() (username, password string)
	// Timing returns the current settings; nil: Patroni's defaults 30 s, 10 s, 10 s. retryTimeout bounds a call whose
	// context has no deadline.
	Timing func() (ttl, loopWait, retryTimeout time.Duration)
	// LookupSRV asks the name service; nil: that of the machine.
	LookupSRV func(ctx context.Context, name string) ([]*net.SRV, error)
	Clock     dcs.Clock    // nil: boottime.Now
	Log       *slog.Logger // nil: slog.Default()
}

const defaultPort = "2379"

func (c *Config) complete() {
	if c.Timing == nil {
		c.Timing = func() (ttl, loopWait, retryTimeout time.Duration) {
			return 30 * time.Second, 10 * time.Second, 10 * time.Second
		}
	}
	if c.LookupSRV == nil {
		c.LookupSRV = func(ctx context.Context, name string) ([]*net.SRV, error) {
			_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", name)
			return records, err
		}
	}
	if c.Account == nil {
		c.Account = func() (username, password string) { return c.Username, c.Password }
	}
	if c.Clock == nil {
		c.Clock = boottime.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

func (c *Config) account() account {
	username, password := c.Account()
	return account{username, password}
}

func (c *Config) root() string { return cluster.Root(c.Namespace, c.Scope) }

// address splits an endpoint.
func (c *Config) address(endpoint string) (hostport string, https bool, err error) {
	hostport, https = endpoint, c.HTTPS
	if scheme, rest, ok := strings.Cut(endpoint, "://"); ok {
		if scheme != "http" && scheme != "https" {
			return "", false, fmt.Errorf("read etcd endpoint %s: have scheme %s, want http or https", endpoint, scheme)
		}
		hostport, https = strings.TrimRight(rest, "/"), scheme == "https"
	}
	if _, _, err := net.SplitHostPort(hostport); err != nil {
		hostport = net.JoinHostPort(strings.Trim(hostport, "[]"), defaultPort)
		if _, _, err := net.SplitHostPort(hostport); err != nil {
			return "", false, fmt.Errorf("read etcd endpoint %s: want host:port: %w", endpoint, err)
		}
	}
	return hostport, https, nil
}

// tls reads the authorities and the client certificate.
func (c *Config) tls() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CACert != "" {
		text, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("read etcd cacert: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read etcd cacert %s: want at least one PEM certificate", c.CACert)
		}
	}
	if c.Cert != "" {
		key := c.Key
		if key == "" {
			key = c.Cert
		}
		pair, err := tls.LoadX509KeyPair(c.Cert, key)
		if err != nil {
			return nil, fmt.Errorf("read etcd client certificate %s: %w", c.Cert, err)
		}
		out.Certificates = []tls.Certificate{pair}
	} else if c.Key != "" {
		return nil, errors.New("read etcd client certificate: have key without cert")
	}
	return out, nil
}
