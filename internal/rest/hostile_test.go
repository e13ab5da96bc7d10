package rest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestTooLarge(t *testing.T) {
	f := recorded(t, "idle", "node1")
	_, address := serve(t, f, Config{})
	body := `{"a":"` + strings.Repeat("x", maxBody) + `"}`
	if code, _, _ := ask(t, "PATCH", "http://"+address+"/config", body); code != 413 {
		t.Errorf("a body of more than 1 MiB: have %d, want 413", code)
	}
	req, _ := http.NewRequest("GET", "http://"+address+"/leader", nil)
	req.Header.Set("X", strings.Repeat("x", 64<<10))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 431 {
		t.Errorf("a head of 64 KiB: have %d, want 431", resp.StatusCode)
	}
	if f.called() != "" {
		t.Errorf("the agent was asked: %s", f.called())
	}
}

// dropped fails the test unless the server closes the connection by itself.
func dropped(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	_, err := io.Copy(io.Discard, conn)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the connection stays open")
	}
}

func dial(t *testing.T, address, first string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, first); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Clients whose head or body never ends are dropped; meanwhile others are served.
func TestSlowClients(t *testing.T) {
	const bodyTime = 2 * time.Second // our own request must come within it
	for name, first := range map[string]string{
		"a head that never ends":                    "GET /leader HTTP/1.1\r\nX-Slow: ",
		"a body that never comes":                   "PATCH /config HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
		"a body that nobody reads":                  "GET /leader HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"a chunked body that nobody reads":          "GET /patroni HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n",
		"a body of an action that does not need it": "POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"a body to nowhere":                         "POST /nosuch HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, address := serve(t, recorded(t, "idle", "node1"), Config{}, func(s *Server) {
				s.http.ReadHeaderTimeout = bodyTime
				s.bodyTime = bodyTime
			})
			var slow []net.Conn
			for range 50 {
				slow = append(slow, dial(t, address, first))
			}
			if code, _, _ := ask(t, "GET", "http://"+address+"/leader", ""); code != 200 {
				t.Errorf("beside slow clients: have %d", code)
			}
			for _, conn := range slow {
				dropped(t, conn)
			}
		})
	}
}

// A body that comes slowly, but in time, is read; the next request on that connection has its own time.
func TestBodyInTime(t *testing.T) {
	_, address := serve(t, recorded(t, "idle", "node1"), Config{})
	conn := dial(t, address, "PATCH /config HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{\"ttl\"")
	in := bufio.NewReader(conn)
	if _, err := io.WriteString(conn, ":31"+"}GET /leader HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 || resp.Close {
			t.Errorf("have %d, closing %t, want 200 and an open connection", resp.StatusCode, resp.Close)
		}
		io.Copy(io.Discard, resp.Body)
	}
}

// Thousands of connections that say nothing, or are kept open after a request, cost a bounded amount of memory and
// keep no health check out.
func TestIdleConnections(t *testing.T) {
	const idle = 3 * maxConns
	s, address := serve(t, recorded(t, "idle", "node1"), Config{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range idle {
		first := ""
		if i%2 == 0 {
			first = "GET /leader HTTP/1.1\r\nHost: x\r\n\r\n"
		}
		dial(t, address, first)
	}
	begin := time.Now()
	for range 20 {
		conn := dial(t, address, "GET /leader HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("a health check beside %d idle connections: %v", idle, err)
		}
	}
	runtime.ReadMemStats(&after)
	l := s.listener.(*listener)
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	grown := int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)
	t.Logf("20 health checks beside %d idle connections took %s; %d are open, %d KiB more memory", idle, time.Since(begin), open, grown>>10)
	if open > maxConns {
		t.Errorf("have %d open connections, want %d at most", open, maxConns)
	}
	if most := int64(128 << 20); grown > most {
		t.Errorf("have %d bytes more memory, want %d at most", grown, most)
	}
}

// With every place taken by a request under way a newcomer waits for one of them.
func TestConnectionCap(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Listen: "127.0.0.1:0"}, recorded(t, "idle", "node1"), quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	l := &listener{Listener: inner, server: s, max: 1, changed: make(chan struct{}, 1), done: make(chan struct{})}
	accept := func() <-chan net.Conn {
		accepted := make(chan net.Conn, 1)
		dial(t, inner.Addr().String(), "")
		go func() {
			defer close(accepted)
			if c, err := l.Accept(); err == nil {
				accepted <- c
			} else if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}()
		return accepted
	}
	waits := func(c <-chan net.Conn) {
		t.Helper()
		select {
		case <-c:
			t.Fatal("more connections than allowed")
		case <-time.After(50 * time.Millisecond):
		}
	}
	first := <-accept()
	connState(first, http.StateActive)
	second := accept()
	waits(second)
	first.Close()
	first.Close() // twice must free one place only
	kept := <-second
	third := accept() // the second has no request under way: it makes room
	newest := <-third
	if _, err := kept.Write([]byte("x")); err == nil {
		t.Error("the connection that waited longest is still open")
	}
	connState(newest, http.StateActive)
	fourth := accept()
	waits(fourth)
	connState(newest, http.StateIdle) // its answer has left
	last := <-fourth
	connState(last, http.StateActive)
	fifth := accept()
	waits(fifth)
	l.Close()
	if c, ok := <-fifth; ok {
		t.Errorf("have %v, want a closed listener", fmt.Sprint(c.RemoteAddr()))
	}
	last.Close()
	if l.open != 0 || l.waiting.Len() != 0 {
		t.Errorf("have %d open and %d waiting, want none", l.open, l.waiting.Len())
	}
}
