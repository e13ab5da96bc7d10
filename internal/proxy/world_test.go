package proxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs/memory"
	"github.com/regent-ha/regent/internal/porttest"
)

// patience bounds waits for what comes at once on an idle machine.
const patience = time.Minute

// world is a cluster of fake members and a proxy in front of it.
type world struct {
	t     *testing.T
	store *memory.Server
	proxy *Proxy
	stop  func()
	clock clock
}

// clock stands still unless it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

const root = "/service/demo/"

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, store: memory.NewServer(boottime.Now), clock: clock{now: boottime.Now()}}
	c := Config{
		Listen: "127.0.0.1:0", Hold: patience, MaxHeld: 100, Store: w.store.Store(root, ""), Clock: w.clock.Now,
		Client: func(api string) (*client.Client, error) { return client.New(api, client.Options{Timeout: patience}) },
		Log:    slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	var err error
	if w.proxy, err = New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.proxy.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(w.stop)
	return w
}

// member is a PostgreSQL of a few bytes, and the agent that answers for it.
type member struct {
	w    *world
	name string
	pg   net.Listener
	api  *httptest.Server

	mu      sync.Mutex
	conns   []net.Conn
	says    int           // of GET /routing: a code; 404 as Patroni, whose /primary says 200
	told    chan struct{} // closed: it is about to stop
	silence bool          // PostgreSQL takes connections and says nothing
	hungUp  chan struct{} // gets one for each proxy that hangs up
}

func (w *world) member(name string, says int) *member {
	w.t.Helper()
	m := &member{w: w, name: name, says: says, told: make(chan struct{}), hungUp: make(chan struct{}, 100)}
	m.listen(free(w.t))
	m.api = httptest.NewServer(http.HandlerFunc(m.answer))
	w.t.Cleanup(func() { w.stop(); m.crash(); m.api.Close() })
	m.publish(cluster.Primary)
	return m
}

// free is an address that nobody takes while it is not listened on, and that no outgoing connection comes from.
func free(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", porttest.Free(t)) }

func (m *member) publish(role cluster.Role) {
	_, port, _ := net.SplitHostPort(m.pg.Addr().String())
	streams := ""
	if role == cluster.Replica {
		streams = cluster.StateStreaming
	}
	doc := cluster.Member{ReplicationState: streams, Name: m.name, ConnURL: "postgres://127.0.0.1:" + port + "/postgres", APIURL: m.api.URL + "/patroni", State: cluster.Running, Role: role}
	m.w.store.Write(root+cluster.KeyMembers+m.name, doc.Encode())
}

// leads gives it the lock.
func (m *member) leads() { m.w.store.Write(root+cluster.KeyLeader, []byte(m.name)) }

func (m *member) say(code int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.says = code
}

func (m *member) answer(rw http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	says, told := m.says, m.told
	m.mu.Unlock()
	switch {
	case r.URL.Path == "/primary" && says == http.StatusNotFound:
		fmt.Fprint(rw, "{}")
	case r.URL.Path != "/routing" || says != http.StatusOK:
		rw.WriteHeader(says)
	default:
		rw.WriteHeader(says)
		flush := http.NewResponseController(rw).Flush
		_ = flush()
		select {
		case <-r.Context().Done():
			return
		case <-told:
		}
		fmt.Fprintln(rw, "stopping")
		_ = flush()
		<-r.Context().Done()
		m.hungUp <- struct{}{}
	}
}

// stopping tells proxies that its PostgreSQL is about to stop.
func (m *member) stopping() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.says = http.StatusServiceUnavailable
	close(m.told)
}

func (m *member) listen(address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		m.w.t.Fatal(err)
	}
	m.pg = l
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.conns = append(m.conns, c)
			m.mu.Unlock()
			go m.serve(c)
		}
	}()
}

// serve says who it is, is ready, and echoes lines.
func (m *member) serve(c net.Conn) {
	m.mu.Lock()
	silence := m.silence
	m.mu.Unlock()
	lines := bufio.NewReader(c)
	if _, err := lines.ReadString('\n'); err != nil || silence {
		return
	}
	message := func(kind byte, text string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(text))), text...)
	}
	for _, part := range [][]byte{message('R', "\x00\x00\x00\x00"), message('S', "name\x00"+m.name+"\x00"), message('Z', "I")} {
		if _, err := c.Write(part); err != nil {
			return
		}
	}
	_, _ = io.Copy(c, lines)
	c.Close()
}

// crash ends its PostgreSQL.
func (m *member) crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pg.Close()
	for _, c := range m.conns {
		c.Close()
	}
	m.conns = nil
}

// connection is one of an application.
type connection struct {
	net.Conn
	lines  *bufio.Reader
	member string // who answered
}

var errRefused = errors.New("refused")

// connect opens one, as an application does, and returns when the server is ready for queries.
func (w *world) connect() (*connection, error) { return w.connectTo(primaryPort) }

func (w *world) connectTo(port string) (*connection, error) {
	conn, err := net.Dial("tcp", w.proxy.ports[port].listener.Addr().String())
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := &connection{Conn: conn, lines: bufio.NewReader(conn)}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return nil, err
	}
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(c.lines, head); err != nil {
			return nil, err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(c.lines, body); err != nil {
			return nil, err
		}
		switch head[0] {
		case 'S':
			c.member = string(body[5 : len(body)-1])
		case 'E':
			return nil, fmt.Errorf("%w: %q", errRefused, body)
		case 'Z':
			return c, nil
		}
	}
}

// echo sends a line there and back.
func (c *connection) echo(text string) error {
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		return err
	}
	have, err := c.lines.ReadString('\n')
	if err == nil && have != text+"\n" {
		return fmt.Errorf("have echo %q, want %q", have, text)
	}
	return err
}

// ends waits for the end of the connection.
func (c *connection) ends(t *testing.T) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	var late net.Error
	if _, err := c.lines.ReadByte(); err == nil || errors.As(err, &late) && late.Timeout() {
		t.Errorf("have %v of a session that should have been cut", err)
	}
}

func (w *world) must() *connection {
	w.t.Helper()
	c, err := w.connect()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// later connects beside.
func (w *world) later() <-chan string {
	got := make(chan string, 1)
	go func() {
		c, err := w.connect()
		if err != nil {
			got <- err.Error()
			return
		}
		defer c.Close()
		got <- c.member
	}()
	return got
}

// eventually waits for what the proxy knows.
func (w *world) eventually(what string, ok func(state) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for {
		s, changed := w.proxy.primary.watch()
		if ok(s) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			w.t.Fatalf("have %+v, want %s", s, what)
		}
	}
}

func (w *world) held(port string, n int64) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); w.proxy.ports[port].held.Load() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("have %d clients that wait, want %d", w.proxy.ports[port].held.Load(), n)
		}
	}
}

// look waits until the proxy has that many replicas.
func (w *world) look(replicas int) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		w.proxy.nudge()
		list, _ := w.proxy.replicas.state()
		if len(list) == replicas {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("have replicas %v, want %d", list, replicas)
		}
	}
}

func (w *world) config(text string) { w.store.Write(root+cluster.KeyConfig, []byte(text)) }

// storeAway takes the store away, or gives it back.
func (w *world) storeAway(away bool) {
	if !away {
		w.store.Inject(nil)
		return
	}
	w.store.Inject(func(memory.Call) memory.Fault { return memory.Fault{Lose: memory.Refuse} })
}
