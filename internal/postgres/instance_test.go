package postgres

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/porttest"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

// testLog writes to the test's log; with -v only, not after its end.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// within is a context for a step that is to succeed, and needs a fraction of d on an idle machine. One that is slow, or stands still for
// a while, gets more.
func within(t *testing.T, d time.Duration) context.Context { return brief(t, max(3*d, time.Minute)) }

// brief is a context whose end is part of what is tested.
func brief(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// testSettings are for an instance in its own directory, on its own port, reachable by socket and loopback.
func testSettings(t *testing.T, name string) Settings {
	v := pgtest.Installed(t)
	root := pgtest.Dir(t)
	return Settings{
		Scope: "batman", Name: name, BinDir: v.BinDir, DataDir: filepath.Join(root, "data"),
		ListenHosts: "127.0.0.1", Port: porttest.Free(t), ConnectHost: "127.0.0.1", Database: "postgres",
		PgPass:      filepath.Join(root, "pgpass"),
		Superuser:   Account{Username: "postgres", Password: "zalando"},
		Replication: Account{Username: "replicator", Password: "rep-pass"},
		Rewind:      Account{Username: "rewinder", Password: "rewind-pass"},
		Parameters: map[string]string{
			"unix_socket_directories": root, "fsync": "off", "dynamic_shared_memory_type": "mmap", "shared_buffers": "16MB", "cluster_name": "batman", "listen_addresses": "127.0.0.1",
			"wal_log_hints": "on", "max_connections": "30", "max_wal_senders": "5", "wal_keep_size": "64MB", "hot_standby": "on", "wal_level": "replica",
			"wal_retrieve_retry_interval": "100ms",
		},
		HBA:         []string{"local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"},
		UsePgRewind: true, StartTimeout: time.Minute,
		Initdb: initdbOptions(t),
	}
}

func newInstance(t *testing.T, s Settings) *Instance {
	t.Helper()
	p, err := New(s, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := p.Kill(ctx); err != nil {
			t.Errorf("clean up: %v", err)
		}
		p.Close()
	})
	return p
}

// initdbOptions make the same cluster with every version: from 18 data checksums are on unless told otherwise.
func initdbOptions(t *testing.T) []string {
	options := []string{"--encoding=UTF8", "--locale=C", "--auth=trust"}
	if pgtest.Installed(t).Major >= 18 {
		options = append(options, "--no-data-checksums")
	}
	return options
}

// bootstrapped returns a running primary. All of them are copies of one, so they have the same system identifier.
func bootstrapped(t *testing.T) *Instance {
	t.Helper()
	template := pgtest.Template(t, "primary", func(dir string) {
		p := newInstance(t, testSettings(t, "pg1"))
		must(t, p.Bootstrap(within(t, 30*time.Second), nil))
		stopFast(t, p)
		pgtest.Copy(t, p.Settings().DataDir, dir)
	})
	p := newInstance(t, testSettings(t, "pg1"))
	pgtest.Copy(t, template, p.Settings().DataDir)
	startPrimary(t, p)
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *Instance) sql(t *testing.T, sql string) string {
	t.Helper()
	return pgtest.SQL(t, p.Settings().Port, sql)
}

func startPrimary(t *testing.T, p *Instance) {
	t.Helper()
	must(t, p.Start(within(t, 20*time.Second), StartOptions{Mode: AsPrimary}))
}

func stopFast(t *testing.T, p *Instance) {
	t.Helper()
	must(t, p.Stop(within(t, 20*time.Second), StopOptions{Mode: Fast}))
}

// timed logs how long a step took. A limit other than 0 is for what a mistake would make longer whatever the machine.
func timed(t *testing.T, what string, limit time.Duration, f func()) {
	t.Helper()
	begun := time.Now()
	f()
	took := time.Since(begun)
	t.Logf("%s: %s", what, took.Round(time.Millisecond))
	if limit != 0 && took > 4*limit { // the limit is an idle machine's; what must show here is a wait without bound
		t.Errorf("%s took %s, want about %s at most", what, took, limit)
	}
}

func TestBootstrapStopStart(t *testing.T) {
	t.Parallel()
	p := newInstance(t, testSettings(t, "pg1"))
	timed(t, "bootstrap", 0, func() { must(t, p.Bootstrap(within(t, 30*time.Second), nil)) })
	if have := p.sql(t, "SELECT pg_is_in_recovery()"); have != "f" {
		t.Errorf("in recovery: have %s, want f", have)
	}
	if have := p.sql(t, "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'"); have != "postgres,replicator,rewinder" {
		t.Errorf("roles: have %s", have)
	}
	if state, problem := p.directory(); state != cluster.DirPresent || problem != "" {
		t.Errorf("directory after bootstrap: have %s, %q", state, problem)
	}
	exited := p.Exited()
	var checkpoint, previous cluster.LSN
	safe := 0
	timed(t, "fast stop", 0, func() {
		must(t, p.Stop(within(t, 20*time.Second), StopOptions{
			Mode: Fast, OnSafe: func() { safe++ },
			OnShutdownCheckpoint: func(c, x cluster.LSN) { checkpoint, previous = c, x },
		}))
	})
	select {
	case <-exited:
	case <-time.After(time.Minute):
		t.Error("Exited: channel is open though the postmaster is gone")
	}
	c, err := p.Control(t.Context())
	must(t, err)
	if c.State != cluster.ControlShutDown || checkpoint != c.Checkpoint || previous != checkpoint || safe != 1 {
		t.Errorf("after stop: have state %q, checkpoint %s, previous %s, safe %d; want shut down, %s twice, 1", c.State, checkpoint, previous, safe, c.Checkpoint)
	}
	if again, none := p.Exited(), p.Exited(); again != exited || none != nil {
		t.Errorf("Exited: have %v and %v, want the closed channel %v once, and then nil", again, none, exited)
	}
	timed(t, "start", 0, func() { startPrimary(t, p) })
	p.sql(t, "SELECT 1")
	if err := p.Start(t.Context(), StartOptions{Mode: AsPrimary}); err == nil || !strings.Contains(err.Error(), "lives in") {
		t.Errorf("second start: have %v, want ErrRunning", err)
	}
}

// A bootstrap that fails leaves nothing that runs or looks like data, and can be repeated.
func TestBootstrapFails(t *testing.T) {
	t.Parallel()
	s := testSettings(t, "pg1")
	seen := filepath.Join(filepath.Dir(s.DataDir), "seen")
	s.PostBootstrap = "sh -c 'echo $1 $PGOPTIONS > " + seen + "; cat $PGPASSFILE >> " + seen + "; echo no thanks; exit 3' hook"
	p := newInstance(t, s)
	var phases []string
	err := p.Bootstrap(within(t, 30*time.Second), func(r Report) { phases = append(phases, r.Phase) })
	if err == nil || !strings.Contains(err.Error(), "post_bootstrap") || !strings.Contains(err.Error(), "no thanks") {
		t.Errorf("have %v, want post_bootstrap's exit status and words", err)
	}
	if have := strings.Join(phases, ", "); have != "initdb, starting, creating accounts, running post_bootstrap" {
		t.Errorf("progress: have %s", have)
	}
	text, err := os.ReadFile(seen)
	must(t, err)
	if want := " -c synchronous_commit=local -c statement_timeout=0\n"; !strings.Contains(string(text), want) || !strings.Contains(string(text), ":*:postgres:zalando\n") || !strings.HasPrefix(string(text), "user=postgres host=") {
		t.Errorf("post_bootstrap saw %q, want a connection string, PGOPTIONS and a password file", text)
	}
	if state, problem := p.directory(); state != cluster.DirEmpty || !strings.Contains(problem, "a bootstrap of batman") || p.postmaster() != nil {
		t.Errorf("after a failed bootstrap: have %s, %q, running %v; want empty, marked, stopped", state, problem, p.postmaster() != nil)
	}
	if err := p.Start(t.Context(), StartOptions{Mode: AsPrimary}); !errors.Is(err, ErrDirectory) {
		t.Errorf("start of a half-made cluster: have %v, want ErrDirectory", err)
	}
	s.PostBootstrap, s.Initdb = "", append(s.Initdb, "--pgdata=/elsewhere")
	p.Configure(s)
	if err := p.Bootstrap(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "--pgdata=/elsewhere") {
		t.Errorf("initdb option that is ours: have %v, want it named", err)
	}
	s.Initdb = s.Initdb[:len(s.Initdb)-1]
	p.Configure(s)
	must(t, p.Bootstrap(within(t, 30*time.Second), nil))
	if state, problem := p.directory(); state != cluster.DirPresent || problem != "" {
		t.Errorf("after the second bootstrap: have %s, %q; want present", state, problem)
	}
}

// A postmaster that was killed leaves backends behind; one of them is even stopped and cannot notice.
func TestKilledPostmaster(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	conn, err := pgtest.Connect(t.Context(), p.Settings().Port)
	must(t, err)
	defer conn.Close(context.Background())
	backend := int(conn.PgConn().PID())
	must(t, syscall.Kill(backend, syscall.SIGSTOP))
	pm := p.postmaster()
	exited := p.Exited()
	must(t, syscall.Kill(pm.pid, syscall.SIGKILL))
	<-exited
	if p.postmaster() != nil {
		t.Fatal("a killed postmaster still counts as running")
	}
	timed(t, "start after a crash", 0, func() { startPrimary(t, p) })
	if !isZombie(backend) {
		t.Errorf("backend %d outlived its postmaster and the next start", backend)
	}
	if now := p.postmaster(); now == nil || now.pid == pm.pid {
		t.Errorf("postmaster after start: have %v", now)
	}
}

func TestStopWithOpenTransaction(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	p.sql(t, "CREATE TABLE t (i int)")
	conn, err := pgtest.Connect(t.Context(), p.Settings().Port)
	must(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "BEGIN; INSERT INTO t VALUES (1)")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx, StopOptions{Mode: Smart}); err == nil {
		t.Fatal("smart stop: have no error, want the end of its context, since a client is connected")
	}
	if !p.clientsLeft(p.postmaster().pid) {
		t.Error("clients left: have none, want one")
	}
	timed(t, "smart stop with escalation", 0, func() {
		must(t, p.Stop(within(t, 20*time.Second), StopOptions{Mode: Smart, ImmediateAfter: 200 * time.Millisecond}))
	})
	if c, err := p.Control(t.Context()); err != nil || c.State != cluster.ControlInProduction {
		t.Errorf("after an immediate stop: have %q, %v; want in production", c.State, err)
	}
	startPrimary(t, p)
	timed(t, "fast stop", 0, func() { stopFast(t, p) })
}

// Neither a stopped backend nor a stopped postmaster holds up a stop past its limit.
func TestStopHung(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	for _, what := range []string{"backend", "postmaster"} {
		conn, err := pgtest.Connect(t.Context(), p.Settings().Port)
		must(t, err)
		pid := int(conn.PgConn().PID())
		if what == "postmaster" {
			pid = p.postmaster().pid
		}
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
		begun := time.Now()
		safe := 0
		must(t, p.Stop(within(t, 20*time.Second), StopOptions{Mode: Fast, Checkpoint: true, CheckpointTimeout: 100 * time.Millisecond,
			ImmediateAfter: 300 * time.Millisecond, KillAfter: 600 * time.Millisecond, OnSafe: func() { safe++ }}))
		if took := time.Since(begun); took < 600*time.Millisecond {
			t.Errorf("stopped %s: stop took %s, want at least 600ms: nothing else can end it", what, took)
		}
		if left := p.processes(p.realDir()); len(left) != 0 || safe != 1 {
			t.Errorf("stopped %s: have processes %v and %d calls of OnSafe, want none and 1", what, left, safe)
		}
		_ = conn.Close(t.Context())
		startPrimary(t, p)
	}
}

// The control file itself says what pg_controldata says, in every state that can be had here.
func TestGlance(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	compare := func(want cluster.ControlState) {
		t.Helper()
		g, err := p.glance()
		must(t, err)
		c, err := p.Control(t.Context())
		must(t, err)
		if g.state != c.State || g.state != want || g.systemID != c.SystemID || g.checkpoint != c.Checkpoint || g.timeline != c.CheckpointTLI {
			t.Errorf("have %+v, want as pg_controldata %+v and state %q", g, c, want)
		}
	}
	compare(cluster.ControlInProduction)
	stopFast(t, p)
	compare(cluster.ControlShutDown)
	c, err := p.Control(t.Context())
	must(t, err)
	if c.Settings["max_connections"] != 30 || c.Settings["max_locks_per_transaction"] != 64 || c.Settings["max_prepared_transactions"] != 0 || !c.WALLogHints || c.Checksums {
		t.Errorf("control data: have %+v", c)
	}
	name := filepath.Join(p.Settings().DataDir, "global", "pg_control")
	b, err := os.ReadFile(name)
	must(t, err)
	b[100] ^= 1
	must(t, os.WriteFile(name, b, 0o600))
	if g, err := p.glance(); err == nil {
		t.Errorf("damaged control file: have %+v, want an error", g)
	}
	if c, err := p.Control(t.Context()); err == nil {
		t.Errorf("pg_controldata of a damaged control file: have %+v, want an error", c)
	}
}
