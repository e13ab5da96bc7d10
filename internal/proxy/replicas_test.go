package proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Who serves reads.
func TestReadable(t *testing.T) {
	text := func(s string) cluster.Value { return cluster.Text(s) }
	good := cluster.Member{ConnURL: "postgres://10.0.0.1:5432/postgres", Role: cluster.Replica, State: cluster.Running, ReplicationState: "streaming", Regent: "1", ReplayLSN: 900, XlogLocation: 950}
	with := func(name string, change func(*cluster.Member)) cluster.Member {
		m := good
		m.Name = name
		change(&m)
		return m
	}
	s := &cluster.Snapshot{Leader: cluster.Leader{Name: "leader"}, Status: cluster.Status{Optime: 1000}, Members: []cluster.Member{
		with("good", func(*cluster.Member) {}),
		with("leader", func(*cluster.Member) {}), // of a standby cluster
		with("primary", func(m *cluster.Member) { m.Role = cluster.Primary }),
		with("starting", func(m *cluster.Member) { m.State = cluster.Starting }),
		with("archive", func(m *cluster.Member) { m.ReplicationState = "in archive recovery" }),
		with("alone", func(m *cluster.Member) { m.ReplicationState = "" }),
		with("old-patroni", func(m *cluster.Member) { m.ReplicationState, m.Regent = "", "" }),
		with("spared", func(m *cluster.Member) { m.Tags = m.Tags.With("noloadbalance", cluster.Flag(true)) }),
		with("nowhere", func(m *cluster.Member) { m.ConnURL = "" }),
		with("behind", func(m *cluster.Member) { m.ReplayLSN = 500 }),
		with("no-replay", func(m *cluster.Member) { m.ReplayLSN = 0 }),
		with("unknown", func(m *cluster.Member) { m.ReplayLSN, m.XlogLocation = 0, 0 }),
		with("tagged", func(m *cluster.Member) { m.Tags = m.Tags.With("noloadbalance", text("")) }),
	}}
	for _, c := range []struct {
		lag  int64
		want string
	}{
		{-1, "good old-patroni behind no-replay unknown tagged"},
		{500, "good old-patroni behind no-replay tagged"},
		{499, "good old-patroni no-replay tagged"},
		{99, "no-replay"},
	} {
		var have []string
		for _, r := range readable(s, c.lag) {
			have = append(have, r.member)
		}
		if strings.Join(have, " ") != c.want {
			t.Errorf("with a lag of %d at most: have %v, want %s", c.lag, have, c.want)
		}
	}
}

// Clients that only read are spread over the replicas; one that does not answer is left out, and when there is none they wait.
func TestReplicas(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Replicas, c.Status, c.MaxLag = "127.0.0.1:0", "127.0.0.1:0", -1 })
	w.member("a", http.StatusOK).leads()
	w.must()
	waiting := make(chan string, 1)
	go func() {
		c, err := w.connectTo(replicaPort)
		if err != nil {
			waiting <- err.Error()
			return
		}
		c.Close()
		waiting <- c.member
	}()
	w.held(replicaPort, 1)
	b := w.member("b", http.StatusServiceUnavailable)
	b.publish(cluster.Replica)
	if have := <-waiting; have != "b" {
		t.Errorf("have %q, want b", have)
	}
	c := w.member("c", http.StatusServiceUnavailable)
	c.publish(cluster.Replica)
	w.look(2)
	count := map[string]int{}
	var last *connection
	for range 10 {
		conn, err := w.connectTo(replicaPort)
		if err != nil {
			t.Fatal(err)
		}
		count[conn.member]++
		last = conn
	}
	if count["b"] != 5 || count["c"] != 5 {
		t.Errorf("have %v, want five each", count)
	}
	if err := last.echo("through"); err != nil {
		t.Error(err)
	}
	b.crash()
	for range 4 {
		conn, err := w.connectTo(replicaPort)
		if err != nil || conn.member != "c" {
			t.Fatalf("have %v, want c while b is down", err)
		}
		conn.Close()
	}
	checkStatus(t, w)
}

// checkStatus asks the proxy of TestReplicas about itself.
func checkStatus(t *testing.T, w *world) {
	for path, want := range map[string][]string{
		"/":          {`"primary":{"name":"a","address":"127.0.0.1:`, `"ready":true}`, `"replicas":[{"name":"b"`, `{"name":"c"`, `"store":"read"`, `"held":0`},
		"/liveness":  {""},
		"/readiness": {""},
		"/metrics": {"regent_proxy_primary_ready 1", "regent_proxy_store_away 0", "regent_proxy_replicas 2", `regent_proxy_sessions_total{port="primary"} 1`,
			`regent_proxy_sessions_total{port="replicas"} 15`, `regent_proxy_refused_total{port="replicas"} 0`, "regent_proxy_cut_total 0"},
	} {
		client := http.Client{Timeout: patience}
		resp, err := client.Get("http://" + w.proxy.web.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("GET %s: have %d, %v", path, resp.StatusCode, err)
		}
		for _, part := range want {
			if !strings.Contains(string(text), part) {
				t.Errorf("GET %s: have\n%s\nwant %s in it", path, text, part)
			}
		}
	}
}

// Nobody to lead to is not ready, and still alive.
func TestNotReady(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Status = "127.0.0.1:0" })
	client := http.Client{Timeout: patience}
	for path, want := range map[string]int{"/readiness": http.StatusServiceUnavailable, "/liveness": http.StatusOK, "/": http.StatusOK, "/else": http.StatusNotFound} {
		resp, err := client.Get("http://" + w.proxy.web.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: have %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// All ports or none.
func TestPortsInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	_, err = New(Config{Listen: taken, Replicas: taken, Status: taken, Hold: time.Second, MaxHeld: 1})
	for _, want := range []string{"clients of the primary", "clients of the replicas", "requests for the status"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("have %v, want %q told", err, want)
		}
	}
	if _, err := New(Config{Hold: -1}); err == nil || !strings.Contains(err.Error(), "proxy.listen") || !strings.Contains(err.Error(), "proxy.hold") || !strings.Contains(err.Error(), "proxy.max_held") {
		t.Errorf("have %v, want each mistake told", err)
	}
}
