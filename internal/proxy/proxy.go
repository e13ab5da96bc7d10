// Package proxy sends TCP connections to the primary of a cluster, and others to its replicas.
//
// Bytes go through untouched, TLS and SCRAM with them. A connection goes to the holder of the leader lock, once that says that it can be
// written to, and stays bound to that member: when another one holds the lock, or nobody does, it is closed at once, and what is still on
// its way to the old primary is thrown away. A new connection waits while there is nobody to send it to, for a time at most, instead of being refused.
//
// When the store is away, sessions go on for a ttl, counted from when the view of the store was confirmed last: for so long nobody
// else can have taken the lock. New ones wait, unless the leader itself says that its lock is alive, which prolongs that time as well.
//
// Terms. Hold: what a client waits for at most. Held: a client that waits. Session: a client that is connected to a member.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Store is what the proxy needs of the cluster's store.
type Store interface {
	Snapshot(ctx context.Context) (*cluster.Snapshot, error)
	Watch(ctx context.Context, after cluster.Revision) error
}

// Config is how clients and members are reached.
type Config struct {
	Listen   string                                   // host:port of the primary's port; empty: none
	Replicas string                                   // host:port that leads to the replicas; empty: none
	MaxLag   int64                                    // bytes that a replica may be behind; negative: any
	VIP      VIP                                      // zero: none
	Status   string                                   // host:port of the status; empty: none
	Hold     time.Duration                            // how long a client waits for somebody to be sent to
	MaxHeld  int                                      // how many wait at once; the next one is refused. Each costs a file and some kilobytes
	Store    Store                                    //
	Client   func(api string) (*client.Client, error) // of a member's REST API, by its URL
	Clock    dcs.Clock                                // boot-time
	Log      *slog.Logger
}

// Validate reports every problem.
func (c Config) Validate() error {
	var errs []error
	if c.Listen == "" && c.Replicas == "" && c.VIP == (VIP{}) {
		errs = append(errs, errors.New("proxy.listen and proxy.replicas are not defined, nor proxy.vip: want host:port of one at least"))
	}
	if c.VIP != (VIP{}) {
		errs = append(errs, c.VIP.validate())
	}
	if c.Hold < 0 {
		errs = append(errs, fmt.Errorf("proxy.hold: have %s, want 0 or more", c.Hold))
	}
	if c.MaxHeld < 1 {
		errs = append(errs, fmt.Errorf("proxy.max_held: have %d, want at least 1", c.MaxHeld))
	}
	return errors.Join(errs...)
}

// Proxy is one process's routes into one cluster.
type Proxy struct {
	Config
	primary  *route
	replicas *replicas
	ports    map[string]*port
	web      net.Listener // of the status; nil: none
	tasks    sync.WaitGroup
	looked   atomic.Int64 // when the store was read last, on the clock

	nudged   chan struct{}
	unattend context.CancelFunc // ends the goroutine that asks the leader; follow's
}

// The names of the ports.
const (
	primaryPort = "primary"
	replicaPort = "replicas"
)

// port is one that clients connect to.
type port struct {
	whom     string // what its clients want, for messages
	listener net.Listener
	way      way

	held, sessions, total, refused, up, down atomic.Int64
}

// way leads clients of a port to members.
type way interface {
	// await waits for a member that clients may go to. life ends when they may not go there any more.
	await(ctx context.Context) (t target, life context.Context, ok bool)
	// doubt notes that t did not take a connection.
	doubt(t target)
	// join counts a session in; false: clients do not go there any more.
	join(t target, s *session) bool
	part(s *session)
}

// New opens the ports; nobody is served before Run.
func New(c Config) (*Proxy, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := &Proxy{Config: c, primary: newRoute(c.Clock), ports: map[string]*port{}, nudged: make(chan struct{}, 1), unattend: func() {}}
	p.replicas = newReplicas(c.Clock, p.nudge)
	var errs []error
	open := func(address, what string) net.Listener {
		if address == "" {
			return nil
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			errs = append(errs, fmt.Errorf("listen for %s: %w", what, err))
			return nil
		}
		return l
	}
	if l := open(c.Listen, "clients of the primary"); l != nil {
		p.ports[primaryPort] = &port{whom: "primary", listener: l, way: p.primary}
	}
	if l := open(c.Replicas, "clients of the replicas"); l != nil {
		p.ports[replicaPort] = &port{whom: "replica", listener: l, way: p.replicas}
	}
	p.web = open(c.Status, "requests for the status")
	if len(errs) > 0 {
		p.close()
		return nil, errors.Join(errs...)
	}
	return p, nil
}

func (p *Proxy) close() {
	for _, port := range p.ports {
		port.listener.Close()
	}
	if p.web != nil {
		p.web.Close()
	}
}

// Run serves until ctx ends, then closes every session.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for _, port := range p.ports {
		p.tasks.Go(func() { p.accept(ctx, port) })
	}
	if p.web != nil {
		p.tasks.Go(func() { p.serveStatus(ctx, p.web) })
	}
	if p.VIP != (VIP{}) {
		p.tasks.Go(func() { p.VIP.keep(ctx, p) })
	}
	p.follow(ctx)
	p.close()
	p.primary.lead(target{}, nil)
	p.replicas.end()
	p.tasks.Wait()
	return nil
}

// accept takes clients in until the port is closed.
func (p *Proxy) accept(ctx context.Context, port *port) {
	for ctx.Err() == nil {
		conn, err := port.listener.Accept()
		switch {
		case err == nil:
			p.tasks.Go(func() { p.serve(ctx, port, conn.(*net.TCPConn)) })
		case errors.Is(err, net.ErrClosed):
			return
		default: // no file descriptor is left, most likely; one session's end frees two
			p.Log.Error("accept a client", "error", err)
			pause(ctx, 100*time.Millisecond)
		}
	}
}

// serve finds somebody for a client and copies until one of the two ends.
func (p *Proxy) serve(ctx context.Context, port *port, client *net.TCPConn) {
	defer client.Close()
	if port.way == p.replicas && p.Clock().UnixNano()-p.looked.Load() > int64(time.Second) {
		p.nudge() // what members say of themselves wakes no watch; the next client has it
	}
	if port.held.Add(1) > int64(p.MaxHeld) {
		port.held.Add(-1)
		port.refused.Add(1)
		refuse(client, "too many clients wait for a "+port.whom)
		return
	}
	s, err := p.connect(ctx, port, client)
	port.held.Add(-1)
	if err != nil {
		port.refused.Add(1)
		p.Log.Warn("refuse a client", "client", client.RemoteAddr(), "error", err)
		refuse(client, err.Error())
		return
	}
	port.sessions.Add(1)
	port.total.Add(1)
	defer port.sessions.Add(-1)
	defer port.way.part(s)
	up, down := s.relay()
	port.up.Add(up)
	port.down.Add(down)
}

// redial is how long to wait before a member that refused a connection gets the next one, if nothing happens before.
const redial = 100 * time.Millisecond

// connect makes a session with a member. It waits for one as long as a client waits.
func (p *Proxy) connect(ctx context.Context, port *port, client *net.TCPConn) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Hold)
	defer cancel()
	var last error
	for {
		t, life, ok := port.way.await(ctx)
		if !ok {
			if last != nil {
				return nil, fmt.Errorf("no %s could be reached within %s: %w", port.whom, p.Hold, last)
			}
			return nil, fmt.Errorf("there was no %s within %s", port.whom, p.Hold)
		}
		server, err := dial(ctx, life, t.address)
		if err != nil {
			last = err
			port.way.doubt(t)
			pause(ctx, redial)
			continue
		}
		s := &session{client: client, server: server}
		if port.way.join(t, s) {
			return s, nil
		}
		s.cut() // the leader changed meanwhile
	}
}

// dial connects to a member, as long as ctx and the member's leadership last.
func dial(ctx, life context.Context, address string) (*net.TCPConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
