package dcstest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy that breaks connections on demand.
type Proxy struct {
	target   string
	listener net.Listener

	mu    sync.Mutex
	conns map[net.Conn]bool
	cut   bool
	lose  bool
	delay time.Duration
}

// NewProxy forwards to target until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listener: listener, conns: map[net.Conn]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.Cut() // also what was accepted and is not served yet
		serving.Wait()
	})
	return p
}

// Address is where clients connect.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Cut closes all connections, and new ones at once, until heal.
func (p *Proxy) Cut() (heal func()) {
	p.set(func() { p.cut = true })
	p.drop()
	return func() { p.set(func() { p.cut = false }) }
}

// LoseAnswers forwards only what clients send. What got lost breaks the stream, so heal closes the connections.
func (p *Proxy) LoseAnswers() (heal func()) {
	p.set(func() { p.lose = true })
	return func() {
		p.set(func() { p.lose = false })
		p.drop()
	}
}

// DelayAnswers holds back what the server sends for d.
func (p *Proxy) DelayAnswers(d time.Duration) (heal func()) {
	p.set(func() { p.delay = d })
	return func() { p.set(func() { p.delay = 0 }) }
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *Proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
}

// hold notes a connection, unless it must not live.
func (p *Proxy) hold(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		conn.Close()
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *Proxy) release(conn net.Conn) {
	conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

func (p *Proxy) serve(client net.Conn) {
	if !p.hold(client) {
		return
	}
	defer p.release(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.hold(server) {
		return
	}
	defer p.release(server)
	there := make(chan struct{})
	go func() {
		defer close(there)
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	p.answers(client, server)
	client.Close()
	<-there
}

func (p *Proxy) answers(client, server net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := server.Read(buffer)
		p.mu.Lock()
		lose, delay := p.lose, p.delay
		p.mu.Unlock()
		time.Sleep(delay)
		if n > 0 && !lose {
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Proxies give each member a proxy of its own.
type Proxies struct {
	target string

	mu  sync.Mutex
	all map[string]*Proxy
}

// NewProxies forward to target.
func NewProxies(target string) *Proxies { return &Proxies{target: target, all: map[string]*Proxy{}} }

// Of is the proxy of that member.
func (p *Proxies) Of(t testing.TB, name string) *Proxy {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all[name] == nil {
		p.all[name] = NewProxy(t, p.target)
	}
	return p.all[name]
}

// Break adds to a harness the faults that proxies can make.
func (p *Proxies) Break(h Harness) Harness {
	h.Cut = func(t testing.TB, name string) func() { return p.Of(t, name).Cut() }
	h.LoseAnswers = func(t testing.TB, name string) func() { return p.Of(t, name).LoseAnswers() }
	h.DelayAnswers = func(t testing.TB, name string, d time.Duration) func() { return p.Of(t, name).DelayAnswers(d) }
	return h
}
