package rest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// fake is an agent that stands still: it publishes one status and remembers what was asked for.
type fake struct {
	mu       sync.Mutex
	status   *agent.Status
	snapshot *cluster.Snapshot // what the store holds; nil: it is down
	peers    map[string]agent.PeerStatus
	calls    []string
	restart  func(agent.RestartRequest) error
	requests func(*fake, cluster.Failover) // what the cluster does about a failover key
	waives   bool
	told     chan struct{} // closed: PostgreSQL is about to stop; nil: it is stopping
	conflict int           // so many writes of the configuration come too late
}

func (f *fake) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fake) called() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.calls, "; ")
}

func (f *fake) Status() *agent.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

func (f *fake) Route() (told <-chan struct{}, leave func(), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told, func() { f.note("left") }, f.told != nil
}

func (f *fake) Observed(context.Context, time.Duration) *agent.Status { return f.Status() }

// publish replaces the status while the server runs.
func (f *fake) publish(change func(*agent.Status)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := *f.status
	change(&next)
	f.status = &next
}

func (f *fake) Snapshot(context.Context) (*cluster.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.snapshot == nil {
		return nil, fmt.Errorf("read everything: %w", dcs.ErrUnavailable)
	}
	return f.snapshot, nil
}

func (f *fake) PutConfig(_ context.Context, doc []byte, prev cluster.Revision) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conflict > 0 {
		f.conflict--
		return dcs.ErrConflict
	}
	if f.snapshot == nil {
		return dcs.ErrUnavailable
	}
	if prev != f.snapshot.Config.Revision {
		return dcs.ErrConflict
	}
	next := *f.snapshot
	next.Config, _ = cluster.DecodeConfig(doc, prev+1)
	f.snapshot = &next
	f.calls = append(f.calls, "put config")
	return nil
}

func (f *fake) RequestFailover(_ context.Context, want cluster.Failover) error {
	f.note("failover %s", want.Encode())
	if _, err := f.Snapshot(context.Background()); err != nil {
		return err
	}
	want.Revision = 77
	f.edit(func(s *cluster.Snapshot) { s.Failover = want })
	if f.requests != nil {
		f.requests(f, want)
	}
	return nil
}

func (f *fake) edit(change func(*cluster.Snapshot)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := *f.snapshot
	change(&next)
	f.snapshot = &next
}

func (f *fake) CancelFailover(_ context.Context, prev cluster.Revision) error {
	if s, err := f.Snapshot(context.Background()); err != nil || prev != s.Failover.Revision {
		return dcs.ErrConflict
	}
	f.edit(func(s *cluster.Snapshot) { s.Failover = cluster.Failover{} })
	f.note("cancel failover")
	return nil
}

func (f *fake) Restart(_ context.Context, r agent.RestartRequest) error {
	f.note("restart role=%s version=%s pending=%t timeout=%s scheduled=%t", r.Role, r.PostgresVersion, r.RestartPending, r.Timeout, !r.Schedule.IsZero())
	if !r.Schedule.IsZero() && f.Status().ScheduledRestart != nil {
		return agent.ErrScheduled
	}
	if f.restart != nil {
		return f.restart(r)
	}
	return nil
}

func (f *fake) CancelRestart(context.Context) (bool, error) {
	f.note("cancel restart")
	return f.Status().ScheduledRestart != nil, nil
}

func (f *fake) Reinitialize(_ context.Context, force, fromLeader bool) error {
	f.note("reinitialize force=%t from_leader=%t", force, fromLeader)
	return nil
}

func (f *fake) Waives() bool { return f.waives }

func (f *fake) AcceptFailsafe(h agent.Heartbeat) (agent.Promise, error) {
	s := f.Status()
	f.note("failsafe of %s at %s for %q %v", h.Name, h.APIURL, h.To, h.Slots)
	if s.Role == cluster.Primary {
		return agent.Promise{}, agent.ErrMayLead
	}
	return agent.Promise{For: s.Timing.TTL, At: s.Postgres.Position()}, nil
}

func (f *fake) Reload() { f.note("reload") }

func (f *fake) Peers(_ context.Context, members []cluster.Member) map[string]agent.PeerStatus {
	answers := map[string]agent.PeerStatus{}
	for _, m := range members {
		if p, ok := f.peers[m.Name]; ok {
			answers[m.Name] = p
		} else {
			answers[m.Name] = agent.PeerStatus{Reachable: true, NoFailover: m.Tags.NoFailover()}
		}
	}
	return answers
}

func (f *fake) Why(_ context.Context, at time.Time, limit int) (agent.WhyReport, error) {
	if limit == 13 {
		return agent.WhyReport{}, errors.New("the journal is not readable")
	}
	return agent.WhyReport{Member: f.status.Name, At: at, Verdict: fmt.Sprintf("%d asked", limit)}, nil
}

// bootTime is the boot-time clock of every test.
var bootTime = time.Unix(1000, 0)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serve starts a server for the agent on a free port of this machine and returns its address.
// The changes are made before it serves.
func serve(t testing.TB, ctl agent.Control, cfg Config, changes ...func(*Server)) (s *Server, address string) {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s, err := New(cfg, ctl, quiet())
	if err != nil {
		t.Fatal(err)
	}
	status := ctl.Status()
	s.clock = func() time.Time { return bootTime }
	s.wall = func() time.Time { return status.Wall }
	for _, change := range changes {
		change(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, s.Addr().String()
}

// body returns the body of a recorded reply, nil when the connection was closed.
func recordedBody(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return nil
	}
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(text))), nil)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func recordedValue(t testing.TB, file string) cluster.Value {
	t.Helper()
	body := recordedBody(t, file)
	if body == nil {
		return cluster.Value{}
	}
	v, err := cluster.ParseValue(body)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

func field(v cluster.Value, path ...string) cluster.Value {
	v, _ = v.Get(path...)
	return v
}

func integer(v cluster.Value) int64 {
	n, _ := cluster.ParseInt(v.Text, "")
	return n
}

// recorded builds the agent that would have given the recorded answers of that member in that state.
func recorded(t testing.TB, state, member string) *fake {
	t.Helper()
	doc := recordedValue(t, state+"/"+member+".patroni.http")
	down := strings.HasPrefix(state, "dcs-down")
	// While the store is down the last snapshot is that of the state before.
	topology := cluster.Value{}
	if down {
		topology = recordedValue(t, "failsafe-enabled/"+member+".cluster.http")
	} else if _, err := os.Stat("testdata/" + state + "/" + member + ".cluster.http"); err == nil {
		topology = recordedValue(t, state+"/"+member+".cluster.http")
	} else {
		topology = recordedValue(t, "idle/node1.cluster.http")
	}
	snapshot := recordedSnapshot(t, topology)
	if path := filepath.Join("testdata", state, member+".failsafe.http"); fileExists(path) {
		if body := recordedBody(t, state+"/"+member+".failsafe.http"); strings.HasPrefix(string(body), "{") {
			urls, order, err := cluster.DecodeFailsafe(body)
			if err != nil {
				t.Fatal(err)
			}
			snapshot.Failsafe, snapshot.FailsafeOrder = urls, order
		}
	}
	seen := time.Unix(integer(field(doc, "dcs_last_seen")), 0)
	s := &agent.Status{
		At: bootTime, Wall: seen.Add(time.Second), Version: field(doc, "patroni", "version").Text, Regent: "0.1",
		Scope: field(doc, "patroni", "scope").Text, Name: member,
		State: cluster.State(field(doc, "state").Text), Role: cluster.Role(field(doc, "role").Text),
		SystemID: field(doc, "database_system_identifier").Text,
		Snapshot: snapshot, SnapshotWall: seen, Config: snapshot.Config,
		Timing:         cluster.Timing{TTL: 20 * time.Second, LoopWait: 3 * time.Second, RetryTimeout: 5 * time.Second},
		Tags:           cluster.Tags(field(doc, "tags").Fields),
		NextCycle:      bootTime.Add(3 * time.Second),
		Pause:          field(doc, "pause").Truthy(),
		FailsafeActive: field(doc, "failsafe_mode_is_active").Truthy(),
		Leader:         !down && snapshot.Leader.Name == member,
		LockDeadline:   bootTime.Add(18 * time.Second),
		Reason:         "test",
	}
	if down {
		s.StoreError = "the store is unavailable"
		s.Leader = s.FailsafeActive && s.Role == cluster.Primary // failsafe goes on with the lock
		snapshot = nil
	}
	s.Postgres = recordedPostgres(doc)
	if r := field(doc, "scheduled_restart"); r.Kind == cluster.Object {
		s.ScheduledRestart = &cluster.ScheduledRestart{Schedule: field(r, "schedule").Text, Role: cluster.Role(field(r, "role").Text),
			PostgresVersion: field(r, "postgres_version").Text, Timeout: int(integer(field(r, "timeout"))), PostmasterStart: "then"}
	}
	return &fake{status: s, snapshot: snapshot}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func recordedPostgres(doc cluster.Value) cluster.Postgres {
	x := field(doc, "xlog")
	p := cluster.Postgres{
		Queried:     x.Kind == cluster.Object,
		StartedText: field(doc, "postmaster_start_time").Text,
		Version:     int(integer(field(doc, "server_version"))),
		Timeline:    cluster.Timeline(integer(field(doc, "timeline"))),
		Pid:         1,
	}
	if at, ok := x.Get("location"); ok {
		p.Flush, p.Write = cluster.LSN(integer(at)), cluster.LSN(integer(at))+8
	} else if p.Queried {
		p.InRecovery = true
		p.Received = cluster.LSN(integer(field(x, "received_location")))
		p.Replayed = cluster.LSN(integer(field(x, "replayed_location")))
		p.ReplayedAt = field(x, "replayed_timestamp").Text
		p.ReplayPaused = field(x, "paused").Truthy()
	}
	switch field(doc, "replication_state").Text {
	case cluster.StateStreaming:
		p.Receiver = &cluster.Receiver{Status: "streaming", LatestEnd: p.Received}
	case cluster.StateArchiveRecovery:
		p.RestoreCommand = true
	}
	for _, w := range field(doc, "replication").Items {
		p.Walsenders = append(p.Walsenders, cluster.Walsender{User: field(w, "usename").Text, Application: field(w, "application_name").Text,
			Address: field(w, "client_addr").Text, State: field(w, "state").Text, SyncState: field(w, "sync_state").Text,
			SyncPriority: int(integer(field(w, "sync_priority")))})
	}
	p.Pending = recordedPending(field(doc, "pending_restart_reason"))
	return p
}

func recordedPending(v cluster.Value) (pending []cluster.PendingParameter) {
	for _, f := range v.Fields {
		pending = append(pending, cluster.PendingParameter{Name: f.Name, Old: field(f.Value, "old_value").Text, New: field(f.Value, "new_value").Text})
	}
	return pending
}

// recordedSnapshot reads GET /cluster backwards.
func recordedSnapshot(t testing.TB, topology cluster.Value) *cluster.Snapshot {
	t.Helper()
	config := `{"ttl": 20, "loop_wait": 3, "retry_timeout": 5, "maximum_lag_on_failover": 1048576, "postgresql": {"use_pg_rewind": true, ` +
		`"parameters": {"max_connections": 50, "shared_buffers": "16MB", "max_wal_senders": 10}}}`
	s := &cluster.Snapshot{Revision: 9, History: cluster.History{Present: true}}
	var err error
	if s.Config, err = cluster.DecodeConfig([]byte(config), 7); err != nil {
		t.Fatal(err)
	}
	set := func(v cluster.Value, path ...string) { s.Config.Document = s.Config.Document.Set(v, path...) }
	if field(topology, "pause").Truthy() {
		set(cluster.Flag(true), "pause")
	}
	for _, v := range field(topology, "members").Items {
		m := cluster.Member{
			Name: field(v, "name").Text, APIURL: field(v, "api_url").Text,
			ConnURL: fmt.Sprintf("postgres://%s:%s/postgres", field(v, "host").Text, field(v, "port").Text),
			State:   cluster.Running, Timeline: cluster.Timeline(integer(field(v, "timeline"))),
			PendingRestart:       field(v, "pending_restart").Truthy(),
			PendingRestartReason: recordedPending(field(v, "pending_restart_reason")),
			Tags:                 cluster.Tags(field(v, "tags").Fields),
		}
		switch state := field(v, "state").Text; state {
		case cluster.StateStreaming, cluster.StateArchiveRecovery:
			m.ReplicationState = state
		default:
			m.State = cluster.State(state)
		}
		switch field(v, "role").Text {
		case "standby_leader":
			set(cluster.Text("far"), "standby_cluster", "host")
			s.Leader.Name = m.Name
		case "leader":
			s.Leader.Name = m.Name
		case "sync_standby":
			set(cluster.Flag(true), "synchronous_mode")
			s.Sync.Standbys = append(s.Sync.Standbys, m.Name)
		case "quorum_standby":
			set(cluster.Text("quorum"), "synchronous_mode")
			s.Sync.Standbys = append(s.Sync.Standbys, m.Name)
		}
		for _, at := range []struct {
			name string
			into *cluster.LSN
		}{{"receive_", &m.ReceiveLSN}, {"replay_", &m.ReplayLSN}, {"", &m.XlogLocation}} {
			if lsn, err := cluster.ParseLSN(field(v, at.name+"lsn").Text); err == nil {
				*at.into = lsn
				s.Status.Optime = max(s.Status.Optime, lsn+cluster.LSN(integer(field(v, at.name+"lag"))))
			}
		}
		if r := field(v, "scheduled_restart"); r.Kind == cluster.Object {
			m.ScheduledRestart = &cluster.ScheduledRestart{Schedule: field(r, "schedule").Text, Role: cluster.Role(field(r, "role").Text),
				PostgresVersion: field(r, "postgres_version").Text, Timeout: int(integer(field(r, "timeout"))),
				PostmasterStart: field(r, "postmaster_start_time").Text}
		}
		s.Members = append(s.Members, m)
	}
	s.Sync.Leader = s.Leader.Name
	return s
}
