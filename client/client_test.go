package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// patroni answers each connection with one recorded reply and closes it, as Patroni does; it sends back what was asked.
func patroni(t *testing.T, reply string) (c *Client, asked <-chan *http.Request) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests := make(chan *http.Request, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			req, err := http.ReadRequest(bufio.NewReader(conn))
			if err == nil {
				fmt.Fprint(conn, strings.ReplaceAll(reply, "\n", "\r\n"))
				requests <- req
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	c, err = New("http://"+l.Addr().String()+"/patroni", Options{Auth: Auth{"admin", "secret"}, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, requests
}

const oldStyle = "HTTP/1.0 503 Service Unavailable\nServer: BaseHTTP/0.6 Python/3.11.2\nContent-Type: application/json\n\n"

func TestStatusOfPatroni(t *testing.T) {
	tests := map[string]struct {
		body      string
		reachable bool
		primary   bool
		position  LSN
	}{
		"primary":               {`{"state": "running", "role": "primary", "xlog": {"location": 67108960}, "timeline": 3}`, true, true, 0},
		"master":                {`{"state": "running", "role": "master", "xlog": {"location": 0}}`, true, true, 0},
		"promoted, role behind": {`{"role": "replica", "xlog": {"location": 5}}`, true, true, 0},
		"replica":               {`{"role": "replica", "xlog": {"received_location": 10, "replayed_location": 7, "replayed_timestamp": null, "paused": false}}`, true, false, 10},
		"archive, replay ahead": {`{"role": "replica", "xlog": {"received_location": 10, "replayed_location": 17}}`, true, false, 17},
		"wal":                   {`{"role": "replica", "wal": {"received_location": 10, "replayed_location": 7}}`, true, false, 10},
		"starting":              {`{"state": "starting", "role": "replica", "timeline": null}`, false, false, 0},
		"stopped primary":       {`{"state": "stopped", "role": "primary"}`, false, true, 0},
		"positions as text":     {`{"role": "replica", "xlog": {"received_location": "0/10", "replayed_location": "15"}}`, true, false, 16},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, asked := patroni(t, oldStyle+tt.body)
			s, err := c.Status(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if s.Reachable() != tt.reachable || s.IsPrimary() != tt.primary || s.Position() != tt.position {
				t.Errorf("have reachable %t, primary %t, position %d, want %t, %t, %d",
					s.Reachable(), s.IsPrimary(), s.Position(), tt.reachable, tt.primary, tt.position)
			}
			if r := <-asked; r.URL.Path != "/patroni" {
				t.Errorf("have a request for %s", r.URL.Path)
			}
		})
	}
}

func TestNoStatus(t *testing.T) {
	c, _ := patroni(t, "HTTP/1.0 200 OK\n\n<html>")
	if s, err := c.Status(context.Background()); err == nil {
		t.Errorf("have %+v of a page that is no JSON", s)
	}
	c, _ = patroni(t, "")
	if _, err := c.Status(context.Background()); err == nil || Code(err) != 0 {
		t.Errorf("have %v of a connection closed without an answer", err)
	}
}

func TestActions(t *testing.T) {
	c, asked := patroni(t, "HTTP/1.0 200 OK\nContent-Type: text/html\n\nSuccessfully switched over to \"pg2\"")
	said, err := c.Switchover(context.Background(), SwitchoverRequest{Leader: "pg1", Candidate: "pg2"})
	if err != nil || said != `Successfully switched over to "pg2"` {
		t.Errorf("have %q, %v", said, err)
	}
	r := <-asked
	if user, password, ok := r.BasicAuth(); !ok || user != "admin" || password != "secret" || r.Method != "POST" || r.URL.Path != "/switchover" {
		t.Errorf("have %s %s as %s:%s", r.Method, r.URL, user, password)
	}

	c, asked = patroni(t, "HTTP/1.0 412 Precondition Failed\n\nleader name does not match")
	_, err = c.Failover(context.Background(), "pg2")
	var e *Error
	if !errors.As(err, &e) || e.Code != 412 || e.Body != "leader name does not match" || Code(err) != 412 {
		t.Errorf("have %v, want an Error with 412", err)
	}
	if r := <-asked; r.ContentLength <= 0 {
		t.Error("the request has no Content-Length, which Patroni insists on")
	}

	c, asked = patroni(t, "HTTP/1.0 202 Accepted\n\nreload scheduled")
	if said, err := c.Reload(context.Background()); err != nil || said != "reload scheduled" {
		t.Errorf("have %q, %v", said, err)
	}
	if r := <-asked; r.Header.Get("Content-Length") != "0" {
		t.Errorf("have the header %v, want a Content-Length of 0", r.Header)
	}
}

func TestProbeWithoutHeaders(t *testing.T) {
	c, _ := patroni(t, "HTTP/1.0 200 OK\n\n")
	if alive, err := c.Liveness(context.Background()); !alive || err != nil {
		t.Errorf("have %t, %v", alive, err)
	}
	c, _ = patroni(t, "HTTP/1.0 503 Service Unavailable\n\n")
	if alive, err := c.Liveness(context.Background()); alive || err != nil {
		t.Errorf("have %t, %v: an answer is an answer", alive, err)
	}
}

func TestClusterAndHistory(t *testing.T) {
	c, _ := patroni(t, "HTTP/1.0 200 OK\n\n"+`{"members": [{"name": "pg1", "role": "leader", "state": "running", "port": 5432},
		{"name": "pg2", "role": "replica", "lag": "unknown", "lsn": "unknown"},
		{"name": "pg3", "role": "sync_standby", "lag": 0, "lsn": "1/4000060", "receive_lag": 5}], "scope": "demo"}`)
	v, err := c.Cluster(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if v.Leader().Name != "pg1" || v.Members[1].Lag != Unknown || v.Members[1].LSN != 0 {
		t.Errorf("have %+v", v)
	}
	if m := v.Members[2]; m.Lag != 0 || m.LSN != 0x104000060 || m.ReceiveLag != 5 || m.ReplayLag != Unknown {
		t.Errorf("have %+v", m)
	}

	c, _ = patroni(t, "HTTP/1.0 200 OK\n\n"+`[[1, 25623960, "no recovery target specified"], [2, 25624344, "x", "2026-11-22T22:35:08+00:00", "pg2"]]`)
	h, err := c.History(context.Background())
	if err != nil || len(h) != 2 || h[0].LSN != 25623960 || h[0].NewLeader != "" || h[1].NewLeader != "pg2" {
		t.Errorf("have %+v, %v", h, err)
	}
}

func TestTags(t *testing.T) {
	tests := []struct {
		tags     Tags
		never    bool
		priority int
	}{
		{nil, false, 1},
		{Tags{"nofailover": true}, true, 0},
		{Tags{"nofailover": false, "failover_priority": 0.0}, false, 0},
		{Tags{"failover_priority": 0.0}, true, 0},
		{Tags{"failover_priority": "3"}, false, 3},
	}
	for _, tt := range tests {
		if tt.tags.NoFailover() != tt.never || tt.tags.FailoverPriority() != tt.priority {
			t.Errorf("%v: have %t, %d, want %t, %d", tt.tags, tt.tags.NoFailover(), tt.tags.FailoverPriority(), tt.never, tt.priority)
		}
	}
}

func TestTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the kernel accepts, nobody answers
	c, err := New("http://"+l.Addr().String(), Options{Timeout: 30 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("have %v, want the deadline", err)
	}
}

func TestURL(t *testing.T) {
	for _, bad := range []string{"", "pg1:8008", "ftp://pg1", "http://"} {
		if _, err := New(bad, Options{}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Replies as Patroni 4.1.4 sent them, byte by byte.
func TestRecordedReplies(t *testing.T) {
	reply := func(file string) string {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(text), "\r\n", "\n")
	}
	ctx := context.Background()
	c, _ := patroni(t, reply("primary.patroni.http"))
	if s, err := c.Status(ctx); err != nil || !s.IsPrimary() || s.Xlog.Location != 100863792 || len(s.PendingRestartReason) != 2 ||
		s.PendingRestartReason["max_connections"] != (PendingParameter{"50", "60"}) || s.Replication[0].Application != "node2" {
		t.Errorf("have %+v, %v", s, err)
	}
	c, _ = patroni(t, reply("replica.patroni.http"))
	if s, err := c.Status(ctx); err != nil || s.IsPrimary() || s.Position() != 142074600 || s.Timeline != 8 || s.ReplicationState != "streaming" {
		t.Errorf("have %+v, %v", s, err)
	}
	c, _ = patroni(t, reply("creating.patroni.http"))
	if s, err := c.Status(ctx); err != nil || s.Reachable() || s.Tags["replicatefrom"] != "node2" {
		t.Errorf("have %+v, %v", s, err)
	}
	c, _ = patroni(t, reply("cluster.http"))
	v, err := c.Cluster(ctx)
	if err != nil || len(v.Members) != 3 || v.Leader().Name != "node1" || v.Members[2].Lag != Unknown || v.Members[1].LSN.String() != "0/877E3D0" {
		t.Errorf("have %+v, %v", v, err)
	}
	c, _ = patroni(t, reply("failsafe.http"))
	if _, err := c.Config(ctx); Code(err) != 502 || strings.Contains(err.Error(), "<") {
		t.Errorf("have %v, want 502 without the page", err)
	}
}
