package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/cluster"
)

// G10: the lock alone is not enough for /primary.
func TestPrimaryMeansWritable(t *testing.T) {
	tests := map[string]struct {
		change                   func(*agent.Status)
		leader, primary, replica bool
	}{
		"as recorded":        {func(*agent.Status) {}, true, true, false},
		"restarting":         {func(s *agent.Status) { s.State = cluster.Restarting; s.Postgres.Queried = false }, true, false, false},
		"promoting":          {func(s *agent.Status) { s.Postgres.InRecovery = true; s.Role = cluster.Promoted }, true, false, true},
		"read-only":          {func(s *agent.Status) { s.Postgres.ReadOnly = true }, true, false, false},
		"does not answer":    {func(s *agent.Status) { s.Postgres.Queried = false }, true, false, false},
		"lock ran out":       {func(s *agent.Status) { s.LockDeadline = bootTime }, false, false, false},
		"lock is somebody's": {func(s *agent.Status) { s.Leader = false }, false, false, false},
		"view ran out":       {func(s *agent.Status) { s.Wall = s.Wall.Add(time.Hour) }, true, true, false},
		"paused, no store":   {func(s *agent.Status) { s.StoreError = "x"; s.Leader = false; s.Pause = true }, true, true, false},
		"paused, no store, ro": {func(s *agent.Status) {
			s.StoreError = "x"
			s.Leader = false
			s.Pause = true
			s.Postgres.ReadOnly = true
		}, true, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := recorded(t, "idle", "node1")
			tt.change(f.status)
			_, address := serve(t, f, Config{})
			for path, want := range map[string]bool{"/leader": tt.leader, "/primary": tt.primary, "/": tt.primary, "/read-write": tt.primary,
				"/replica": tt.replica, "/read-only": tt.primary || tt.replica} {
				if code, _, _ := ask(t, "GET", "http://"+address+path, ""); (code == 200) != want {
					t.Errorf("%s: have %d, want success %t", path, code, want)
				}
			}
		})
	}
}

func TestLiveness(t *testing.T) {
	const ttl = 20 * time.Second
	for _, tt := range []struct {
		member string
		late   time.Duration
		paused bool
		code   int
	}{
		{"node1", ttl - 1, false, 200}, {"node1", ttl, false, 503}, {"node1", time.Hour, true, 200},
		{"node2", 2*ttl - 1, false, 200}, {"node2", 2 * ttl, false, 503},
	} {
		f := recorded(t, "idle", tt.member)
		f.status.NextCycle = bootTime.Add(-tt.late)
		f.status.Pause = tt.paused
		_, address := serve(t, f, Config{})
		if code, _, body := ask(t, "GET", "http://"+address+"/liveness", ""); code != tt.code {
			t.Errorf("%s, %s late: have %d %q, want %d", tt.member, tt.late, code, body, tt.code)
		}
	}
}

// PostgreSQL writes offsets without minutes and drops zeros; the document has Patroni's form.
func TestTimestamps(t *testing.T) {
	for _, tt := range []struct{ in, shown, epoch string }{
		{"2026-11-22 22:30:46.16907+00", "2026-11-22 22:30:46.169070+00:00", "1795386646.16907"},
		{"2026-11-22 22:30:46+01", "2026-11-22 22:30:46+01:00", "1795383046.0"},
		{"2026-11-22 22:30:46.5+05:30", "2026-11-22 22:30:46.500000+05:30", "1795366846.5"},
		{"yesterday", "yesterday", "0"},
		{"", "", "0"},
	} {
		if have := timestamp(tt.in); have != tt.shown {
			t.Errorf("timestamp(%q): have %q, want %q", tt.in, have, tt.shown)
		}
		if have := epoch(tt.in); have != tt.epoch {
			t.Errorf("epoch(%q): have %q, want %q", tt.in, have, tt.epoch)
		}
	}
}

func TestPaddedVersion(t *testing.T) {
	for in, want := range map[string]string{"4.1.4": "040104", "10.2.13": "100213"} {
		if have := paddedVersion(in); have != want {
			t.Errorf("%s: have %s, want %s", in, have, want)
		}
	}
}

func TestDocumentEscapes(t *testing.T) {
	v := object{{Name: "a", Value: cluster.Text("Zürich 😀 \"x\"\n")}, {Name: "b", Value: list(cluster.Int(1), cluster.Value{})}}.value()
	if have, want := string(v.EncodeSpaced()), `{"a": "Z\u00fcrich \ud83d\ude00 \"x\"\n", "b": [1, null]}`; have != want {
		t.Errorf("have %s, want %s", have, want)
	}
}

// slowAgent does not get an answer from PostgreSQL before the request's time is over.
type slowAgent struct{ *fake }

func (a slowAgent) Observed(ctx context.Context, _ time.Duration) *agent.Status {
	<-ctx.Done()
	return a.status
}

func TestHungPostgresDoesNotHangTheAnswer(t *testing.T) {
	f := recorded(t, "idle", "node1")
	f.status.Postgres.Queried = false
	_, address := serve(t, slowAgent{f}, Config{})
	begin := time.Now()
	code, _, body := ask(t, "GET", "http://"+address+"/patroni", "")
	if took := time.Since(begin); code != 200 || took > observeTime+30*time.Second || !strings.Contains(body, `"state": "unknown"`) {
		t.Errorf("have %d after %s: %s", code, took, body)
	}
}

func TestKeepAlive(t *testing.T) {
	_, address := serve(t, recorded(t, "idle", "node1"), Config{})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "GET"} {
		fmt.Fprintf(conn, "%s /leader HTTP/1.1\r\nHost: x\r\n\r\n", method)
		req, _ := http.NewRequest(method, "/", nil)
		resp, err := http.ReadResponse(in, req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 || resp.Close {
			t.Errorf("%s: have %d, closing %t", method, resp.StatusCode, resp.Close)
		}
		io.Copy(io.Discard, resp.Body)
	}
	// A client of HTTP/1.0 gets an answer that ends with the connection.
	conn2, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn2.Close()
	fmt.Fprint(conn2, "GET /leader HTTP/1.0\r\n\r\n")
	if text, err := io.ReadAll(conn2); err != nil || !strings.HasPrefix(string(text), "HTTP/1.0 200 OK\r\n") {
		t.Errorf("HTTP/1.0: have %q, %v", text, err)
	}
}

// What we serve, our client understands.
func TestOwnClient(t *testing.T) {
	f := recorded(t, "sync", "node2")
	f.requests = settle
	f.status.Job = &agent.JobStatus{Name: "clone", Phase: "copy", Done: 5, Total: 10}
	_, address := serve(t, f, secured)
	c, err := client.New("http://"+address+"/patroni", client.Options{Auth: client.Auth{Username: "admin", Password: "p@ss:w"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	s, err := c.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !s.SyncStandby || s.IsPrimary() || s.Position() != 100863696 || s.Patroni.Name != "node2" || s.Regent.Version != "0.1" || s.Regent.Job.Total != 10 {
		t.Errorf("have %+v", s)
	}
	if s.Waives {
		t.Error("it counts on nobody's promise, and does not say so")
	}
	f.waives = true // the status that was published last is the same
	if s, err := c.Status(ctx); err != nil || !s.Waives {
		t.Errorf("who counts on nobody's promise: have %+v, %v", s, err)
	}
	f.publish(func(s *agent.Status) { s.Config.Document = s.Config.Document.Set(cluster.Flag(true), "failsafe_mode") })
	ask := client.FailsafeRequest{Name: "node1", ConnURL: "x", APIURL: "y", To: "node2", Slots: map[string]uint64{"cdc": 1 << 60}}
	if bound, err := c.Failsafe(ctx, ask); err != nil || bound != f.Status().Timing.TTL || !strings.Contains(f.called(), `failsafe of node1 at y for "node2" map[cdc:`+cluster.LSN(1<<60).String()+"]") {
		t.Errorf("a leader without the store: have %s, %v after %s", bound, err, f.called())
	}
	if code, s, err := c.Health(ctx, "/primary"); code != 503 || s == nil || err != nil {
		t.Errorf("have %d, %v, %v", code, s, err)
	}
	if alive, err := c.Liveness(ctx); !alive || err != nil {
		t.Errorf("have %t, %v", alive, err)
	}
	top, err := c.Cluster(ctx)
	if err != nil || top.Leader().Name != "node1" || top.Members[1].Role != "sync_standby" || top.Members[2].Lag != 0 {
		t.Errorf("have %+v, %v", top, err)
	}
	if h, err := c.History(ctx); err != nil || len(h) != 0 {
		t.Errorf("have %v, %v", h, err)
	}
	doc, err := c.PatchConfig(ctx, map[string]any{"ttl": 33})
	if err != nil || !json.Valid(doc) || !strings.Contains(string(doc), `"ttl": 33`) {
		t.Errorf("have %s, %v", doc, err)
	}
	if said, err := c.Switchover(ctx, client.SwitchoverRequest{Leader: "node1", Candidate: "node2"}); err != nil || said != `Successfully switched over to "node2"` {
		t.Errorf("have %q, %v", said, err)
	}
	at := f.Status().Wall.Add(time.Hour)
	if said, err := c.Switchover(ctx, client.SwitchoverRequest{Leader: "node2", ScheduledAt: &at}); err != nil || said != "Switchover scheduled" {
		t.Errorf("have %q, %v", said, err)
	}
	if said, err := c.CancelSwitchover(ctx); err != nil || said != "scheduled switchover deleted" {
		t.Errorf("have %q, %v", said, err)
	}
	f.publish(func(s *agent.Status) { s.Job = nil })
	if said, err := c.Restart(ctx, client.RestartRequest{Role: "replica", Timeout: "5min"}); err != nil || said != "restarted successfully" {
		t.Errorf("have %q, %v", said, err)
	}
	if _, err := c.CancelRestart(ctx); client.Code(err) != 404 {
		t.Errorf("have %v, want 404", err)
	}
	f.edit(func(s *cluster.Snapshot) { s.Leader.Name = "node1" })
	if said, err := c.Reinitialize(ctx, true, true); err != nil || said != "reinitialize started" {
		t.Errorf("have %q, %v", said, err)
	}
	if !strings.Contains(f.called(), "reinitialize force=true from_leader=true") || !strings.Contains(f.called(), "restart role=replica version= pending=false timeout=5m0s scheduled=false") {
		t.Errorf("the agent was asked: %s", f.called())
	}
	w, err := c.Why(ctx, time.Time{}, 4)
	if err != nil || w.Member != "node2" || w.Verdict != "4 asked" {
		t.Errorf("have %+v, %v", w, err)
	}
}

func BenchmarkLeader(b *testing.B) {
	f := recorded(b, "idle", "node1")
	s, address := serve(b, f, Config{})
	b.Run("handler", func(b *testing.B) {
		req := httptest.NewRequest("GET", "/leader", nil)
		b.ReportAllocs()
		for b.Loop() {
			s.ServeHTTP(httptest.NewRecorder(), req)
		}
	})
	b.Run("keepalive", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for pb.Next() {
				io.WriteString(conn, "GET /leader HTTP/1.1\r\nHost: x\r\n\r\n")
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					b.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	})
	b.Run("connections", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					b.Error(err)
					return
				}
				io.WriteString(conn, "OPTIONS /leader HTTP/1.0\r\n\r\n")
				io.Copy(io.Discard, conn)
				conn.Close()
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	})
}
