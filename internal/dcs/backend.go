package dcs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"time"
)

// What follows is for backends: more than one needs it.

// Turn is a mutex whose wait can be given up. Make it with a capacity of 1.
type Turn chan struct{}

// Take waits until the turn is ours; ErrUnavailable when ctx ended before.
func (t Turn) Take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the call before: %w: %w", ErrUnavailable, ctx.Err())
	}
}

// Give ends the turn.
func (t Turn) Give() { <-t }

// Bounded limits a call that its caller did not.
func Bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}

// Repeat calls once until ctx ends. Before the next call it pauses, longer each time up to a second, unless the last one took more than 10 s or
// ended, which hears how each call ended, returns true.
func Repeat(ctx context.Context, clock func() time.Time, once func() error, ended func(error) (atOnce bool)) {
	for pause := time.Duration(0); ctx.Err() == nil; {
		began := clock()
		if atOnce := ended(once()); atOnce || clock().Sub(began) > 10*time.Second {
			pause = 0
		} else {
			pause = min(2*pause+50*time.Millisecond, time.Second)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// TLS is how a server is reached. Authorities and certificates are read anew at each call of Config, so that they may be replaced.
type TLS struct {
	Section    string // of the configuration, for messages
	CACert     string // PEM file of the authorities; empty: the system's
	Unverified bool
	Cert       func() (*tls.Certificate, error) // nil: none
}

// Config for a server, host:port.
func (t TLS) Config(server string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, InsecureSkipVerify: t.Unverified}
	if t.CACert != "" {
		text, err := os.ReadFile(t.CACert)
		if err != nil {
			return nil, fmt.Errorf("read %s.cacert: %w", t.Section, err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read %s.cacert %s: want at least one PEM certificate", t.Section, t.CACert)
		}
	}
	if t.Cert != nil {
		pair, err := t.Cert()
		if err != nil {
			return nil, err
		}
		out.Certificates = []tls.Certificate{*pair}
	}
	return out, nil
}
