package rest

import (
	queue "container/list"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
)

// open listens on host:port. The host may be empty or * for all addresses, and an IPv6 address without brackets.
func (s *Server) open(address string) (net.Listener, error) {
	host, port := "", ""
	if i := strings.LastIndex(address, ":"); i >= 0 {
		host, port = address[:i], address[i+1:]
	}
	if port == "" {
		return nil, fmt.Errorf("listen on %q: want host:port in restapi.listen, for example 127.0.0.1:8008", address)
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "*" {
		host = ""
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("listen on %s for the REST API: %w; is another agent running here, or restapi.listen wrong?", address, err)
	}
	return &listener{Listener: l, server: s, max: maxConns, changed: make(chan struct{}, 1), done: make(chan struct{})}, nil
}

// listener bounds the number of connections and speaks TLS when the rules of the moment say so. When all places are
// taken, a newcomer gets that of whoever has waited longest without a request under way. So strangers that
// connect and say nothing, or keep their connections, cannot keep a health check out.
type listener struct {
	net.Listener
	server  *Server
	max     int
	changed chan struct{} // a place became free, or its holder waits
	done    chan struct{} // closed with the listener
	once    sync.Once

	mu      sync.Mutex
	open    int
	waiting queue.List // of *conn: those without a request under way, the longest first
}

// Accept waits while every place has a request under way. Those are bounded in time, so the wait is too.
func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, listener: l}
	if !l.admit(c) {
		accepted.Close()
		return nil, net.ErrClosed
	}
	if cfg := l.server.rules.Load().tls; cfg != nil {
		return tls.Server(c, cfg), nil // the handshake happens in the connection's own goroutine
	}
	return c, nil
}

// admit gives the connection a place; false: the listener closed first.
func (l *listener) admit(c *conn) bool {
	for {
		l.mu.Lock()
		if l.open < l.max {
			l.open++
			c.wait = l.waiting.PushBack(c)
			l.mu.Unlock()
			return true
		}
		longest := l.waiting.Front()
		l.mu.Unlock()
		if longest != nil {
			longest.Value.(*conn).Close()
			continue
		}
		select {
		case <-l.changed:
		case <-l.done:
			return false
		}
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

func (l *listener) tell() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

type conn struct {
	net.Conn
	listener *listener
	once     sync.Once
	wait     *queue.Element // guarded by the listener's mutex; nil: a request is under way
}

// connState is told by the HTTP server when a request has begun, and when its answer has left.
func connState(of net.Conn, state http.ConnState) {
	if t, ok := of.(*tls.Conn); ok {
		of = t.NetConn()
	}
	c, ok := of.(*conn)
	if !ok {
		return
	}
	l := c.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case state == http.StateActive && c.wait != nil:
		l.waiting.Remove(c.wait)
		c.wait = nil
	case state == http.StateIdle && c.wait == nil:
		c.wait = l.waiting.PushBack(c)
		l.tell()
	}
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		l := c.listener
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
		if c.wait != nil {
			l.waiting.Remove(c.wait)
		}
		l.tell()
	})
	return err
}
