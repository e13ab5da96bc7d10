package postgres

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

// standbyOf copies a running primary, without starting the copy.
func standbyOf(t *testing.T, primary *Instance, name string) *Instance {
	t.Helper()
	p := newInstance(t, testSettings(t, name))
	out, err := exec.Command(p.binaries.path("pg_basebackup"), "-D", p.settings.DataDir, "-h", "127.0.0.1", "-p", strconv.Itoa(primary.settings.Port),
		"-U", "postgres", "-c", "fast", "-X", "stream", "--no-sync").CombinedOutput()
	if err != nil {
		t.Fatalf("copy primary: %v\n%s", err, out)
	}
	return p
}

func (p *Instance) upstream(slot string) cluster.Upstream {
	return cluster.Upstream{Name: p.settings.Name, Host: "127.0.0.1", Port: p.settings.Port, Slot: slot}
}

func observed(t *testing.T, p *Instance) cluster.Postgres {
	t.Helper()
	return p.Observe(within(t, 3*time.Second), ObserveOptions{})
}

// A primary and its standby, from start to stop, as each sees itself.
func TestObserve(t *testing.T) {
	t.Parallel()
	primary := bootstrapped(t)
	must(t, primary.SyncSlots(within(t, 10*time.Second), []SlotWant{{Name: "pg2"}}, nil))
	standby := standbyOf(t, primary, "pg2")
	if v := observed(t, standby); v.Ready != cluster.NotRunning || v.Pid != 0 || v.Queried || v.Control == nil || v.SystemID == "" || v.Version/10000 != standby.binaries.major || v.Dir != cluster.DirPresent {
		t.Errorf("stopped: have %+v", v)
	}
	must(t, standby.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby, Upstream: primary.upstream("pg2")}))

	var s cluster.Postgres
	primary.sql(t, "CREATE TABLE t (i int)") // a receiver has no written position before the first WAL arrives
	pgtest.Eventually(t, "the standby streams", func() bool {
		s = observed(t, standby)
		return s.ReplicationState() == cluster.StateStreaming && s.Receiver.Written != 0
	})
	if !s.InRecovery || !s.Queried || s.Ready != cluster.Accepting || s.Timeline != 1 || s.Received == 0 || s.Replayed == 0 || !s.StandbySignal || s.Control != nil {
		t.Errorf("standby: have %+v", s)
	}
	if have, want := s.Upstream, (cluster.Upstream{Host: "127.0.0.1", Port: primary.settings.Port, Slot: "pg2"}); have != want {
		t.Errorf("upstream: have %+v, want %+v", have, want)
	}
	if r := s.Receiver; r.Slot != "pg2" || r.Port != primary.settings.Port || r.Timeline != 1 || r.Written == 0 {
		t.Errorf("receiver: have %+v", r)
	}
	v := primary.Observe(within(t, 3*time.Second), ObserveOptions{Control: true})
	if v.InRecovery || v.ReadOnly || v.Timeline != 1 || v.Write == 0 || v.Flush == 0 || v.Received != 0 || v.StandbySignal || v.SystemID != s.SystemID || len(v.Pending) != 0 {
		t.Errorf("primary: have %+v", v)
	}
	if v.Control == nil || v.Control.State != cluster.ControlInProduction {
		t.Errorf("control data of the primary: have %+v, %s", v.Control, v.ControlError)
	}
	if _, err := time.Parse("2006-01-02 15:04:05.999999-07:00", v.StartedText); err != nil {
		t.Errorf("start time: %v", err)
	}
	if len(v.Walsenders) != 1 || v.Walsenders[0].Application != "pg2" || v.Walsenders[0].State != "streaming" || v.Walsenders[0].User != "replicator" || v.Walsenders[0].Address != "127.0.0.1" || v.Walsenders[0].Flush == 0 {
		t.Errorf("walsenders: have %+v", v.Walsenders)
	}
	if len(v.Slots) != 1 || v.Slots[0].Name != "pg2" || !v.Slots[0].Active || v.Slots[0].Restart == 0 || v.Slots[0].WALStatus == "" {
		t.Errorf("slots: have %+v", v.Slots)
	}
	if have := primary.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'Patroni heartbeat'"); have != "1" {
		t.Errorf("connections of the agent: have %s, want 1", have)
	}

	stopFast(t, primary)
	pgtest.Eventually(t, "the standby has lost its upstream", func() bool { s = observed(t, standby); return s.Receiver == nil })
	if s.Timeline != 1 || !s.Queried || s.ReplicationState() != "" {
		t.Errorf("standby without upstream: have %+v", s)
	}
	must(t, standby.Promote(within(t, 10*time.Second), 0, nil))
	if v := observed(t, standby); v.InRecovery || v.Timeline != 2 {
		t.Errorf("promoted: have %+v", v)
	}
	startPrimary(t, primary) // the kept connection belongs to the former postmaster
	if v := observed(t, primary); !v.Queried {
		t.Errorf("restarted: have %+v", v)
	}
}

// The kept connection of a broken session is replaced within the same observation.
func TestObserveReplacesBrokenConnection(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	observed(t, p)
	p.sql(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'Patroni heartbeat'")
	if v := observed(t, p); !v.Queried || v.Ready != cluster.Accepting {
		t.Errorf("after the session was terminated: have %+v", v)
	}
	pid := p.db.heartbeat.conn.PID()
	must(t, syscall.Kill(int(pid), syscall.SIGSTOP))
	defer syscall.Kill(int(pid), syscall.SIGCONT)
	timed(t, "observation with a hung session", 4*time.Second, func() {
		if v := p.Observe(brief(t, 8*time.Second), ObserveOptions{}); !v.Queried {
			t.Errorf("with a hung session: have %+v", v)
		}
	})
}

// A server that lets us in and cannot begin the session serves nobody.
func TestObserveFailingSessions(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	observed(t, p)
	maps, err := filepath.Glob(filepath.Join(p.settings.DataDir, "base", "*", "pg_filenode.map"))
	must(t, err)
	for _, m := range maps {
		must(t, os.Rename(m, m+".lost"))
	}
	p.disconnect(t.Context())
	if v := observed(t, p); v.Queried || v.Ready != cluster.Failing {
		t.Errorf("sessions cannot begin: have readiness %q, queried %t (%s), want %q", v.Ready, v.Queried, v.QueryError, cluster.Failing)
	}
	for _, m := range maps {
		must(t, os.Rename(m+".lost", m))
	}
	if v := observed(t, p); !v.Queried || v.Ready != cluster.Accepting {
		t.Errorf("the files are back: have readiness %q (%s)", v.Ready, v.QueryError)
	}
}

// A stopped postmaster accepts connections in the kernel and never answers.
func TestObserveHungPostmaster(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	pid := p.postmaster().pid
	for _, kept := range []bool{false, true} {
		if kept {
			observed(t, p)
		} else {
			p.Close()
		}
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
		pgtest.Eventually(t, "the postmaster has stopped", func() bool { state, _ := stat(pid); return state == "T" })
		timed(t, "observation of a hung postmaster", 4*time.Second, func() {
			v := p.Observe(brief(t, 4*time.Second), ObserveOptions{})
			if v.Ready != cluster.NoResponse || v.Pid != pid || v.Queried != kept {
				t.Errorf("stopped postmaster, kept connection %t: have ready %q, queried %t, %s", kept, v.Ready, v.Queried, v.QueryError)
			}
		})
		must(t, syscall.Kill(pid, syscall.SIGCONT))
	}
	if v := observed(t, p); v.Ready != cluster.Accepting || !v.Queried {
		t.Errorf("continued: have ready %q, queried %t, %s", v.Ready, v.Queried, v.QueryError)
	}
}

// A standby that waits for WAL to become consistent rejects connections: it is starting.
func TestObserveStarting(t *testing.T) {
	t.Parallel()
	primary := bootstrapped(t)
	p := newInstance(t, testSettings(t, "pg2"))
	out, err := exec.Command(p.binaries.path("pg_basebackup"), "-D", p.settings.DataDir, "-h", "127.0.0.1", "-p", strconv.Itoa(primary.settings.Port),
		"-U", "postgres", "-c", "fast", "-X", "none", "--no-sync").CombinedOutput()
	if err != nil {
		t.Fatalf("copy primary: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := p.Start(ctx, StartOptions{Mode: AsStandby}); err == nil {
		t.Fatal("start without WAL: have no error, want ErrStarting")
	}
	var v cluster.Postgres
	pgtest.Eventually(t, "the server rejects connections", func() bool { v = observed(t, p); return v.Ready == cluster.Rejecting })
	if v.Pid == 0 || v.Queried || v.SystemID == "" || !v.BackupLabel || !v.StandbySignal {
		t.Errorf("starting: have %+v", v)
	}
	if restart, err := p.Follow(within(t, 5*time.Second), primary.upstream("")); restart || err != nil { // L38
		t.Errorf("follow while starting: have restart %t, %v; want a reload", restart, err)
	}
	pgtest.Eventually(t, "the standby accepts connections", func() bool { return observed(t, p).Queried })
}

// A smart shutdown waits for all sessions; ours must not be what it waits for.
func TestObserveStopping(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	conn, err := pgtest.Connect(t.Context(), p.settings.Port)
	must(t, err)
	defer conn.Close(context.Background())
	observed(t, p)
	exited := p.Exited()
	must(t, syscall.Kill(p.postmaster().pid, syscall.SIGTERM)) // smart, by somebody else
	pgtest.Eventually(t, "the server says that it stops", func() bool { return p.postmaster().status == "stopping" })
	if v := observed(t, p); v.Ready != cluster.Rejecting || v.Queried || v.Pid == 0 {
		t.Errorf("stopping: have %+v", v)
	}
	must(t, conn.Close(t.Context()))
	select {
	case <-exited:
	case <-time.After(time.Minute):
		t.Error("the server still waits for a session a minute after its only client left")
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	s := p.Settings()
	change := func(parameters map[string]string) {
		all := maps.Clone(s.Parameters)
		maps.Copy(all, parameters)
		changed := s
		changed.Parameters = all
		p.Configure(changed)
	}
	kept := map[string]string{} // over the steps
	for _, step := range []struct {
		name, value string
		now         string // what SHOW says after the reload
		pending     string
	}{
		{"work_mem", "8MB", "8MB", ""},
		{"work_mem", "1kB", "64kB", ""}, // below the bound
		{"wal_compression", "perhaps", "off", ""},
		{"no_such_parameter", "1", "", ""},
		{"fsync", "no", "off", ""},
		{"shared_buffers", "32768kB", "16MB", "shared_buffers 16MB 32MB"},
		{"max_connections", "40", "30", "max_connections 30 40; shared_buffers 16MB 32MB"},
		{"shared_buffers", "16MB", "16MB", "max_connections 30 40"},
		{"max_connections", "30", "30", ""},
	} {
		if step.pending != "" {
			kept[step.name] = step.value
		}
		now := maps.Clone(kept)
		now[step.name] = step.value
		change(now)
		pending, err := p.Reload(within(t, 5*time.Second))
		must(t, err)
		var text []string
		for _, c := range pending {
			text = append(text, c.Name+" "+c.Old+" "+c.New)
		}
		if have := strings.Join(text, "; "); have != step.pending {
			t.Errorf("%s = %s: pending: have %q, want %q", step.name, step.value, have, step.pending)
		}
		if v := observed(t, p); len(v.Pending) != len(pending) {
			t.Errorf("%s = %s: observed pending: have %+v, want %+v", step.name, step.value, v.Pending, pending)
		}
		if have := p.sql(t, "SELECT current_setting('"+step.name+"', true)"); have != step.now {
			t.Errorf("%s = %s: have %s, want %s", step.name, step.value, have, step.now)
		}
	}
	p.sql(t, "ALTER SYSTEM SET max_locks_per_transaction = 100") // by somebody else
	p.sql(t, "ALTER SYSTEM SET shared_buffers = '24MB'")
	p.sql(t, "SELECT pg_reload_conf()")
	pgtest.Eventually(t, "a change by ALTER SYSTEM waits for a restart", func() bool {
		v := observed(t, p)
		return len(v.Pending) == 1+1 && v.Pending[1] == cluster.PendingParameter{Name: "shared_buffers", Old: "16MB", New: "24MB"}
	})

	write(t, s.baseFile(), "work_mem = = 1\n")
	if _, err := p.Reload(within(t, 5*time.Second)); err == nil || !strings.Contains(err.Error(), "postgresql.base.conf line 1") {
		t.Errorf("reload of a broken file: have %v, want its name and line", err)
	}
}

func TestSyncNames(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	timed(t, "setting synchronous_standby_names", 5*time.Second, func() {
		must(t, p.SetSyncNames(within(t, 5*time.Second), `ANY 1 ("pg-2",pg3)`))
	})
	if v := observed(t, p); v.SyncNames != `ANY 1 ("pg-2",pg3)` {
		t.Errorf("have %q", v.SyncNames)
	}
	// An agent that restarts knows nothing of it, and must not turn it off.
	q := newInstance(t, p.Settings())
	if _, err := q.Reload(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	if v := observed(t, q); v.SyncNames != `ANY 1 ("pg-2",pg3)` {
		t.Errorf("after the agent's restart: have %q", v.SyncNames)
	}
	// Our own statements must not wait for a standby that is not there (L57).
	must(t, q.SetupAccounts(within(t, 5*time.Second)))
	must(t, q.SetSyncNames(within(t, 5*time.Second), ""))
	if v := observed(t, p); v.SyncNames != "" || v.Heeded {
		t.Errorf("cleared: have %q, heeded %v", v.SyncNames, v.Heeded)
	}
	// Commits wait as soon as the checkpointer has seen it, and the agent knows.
	must(t, q.SetSyncNames(within(t, 5*time.Second), "pg2"))
	pgtest.Eventually(t, "the checkpointer sleeps", func() bool { return observed(t, q).Heeded })
	// The mode ends: it is as people have it.
	s := q.Settings()
	s.UserSyncNames = true
	q.Configure(s)
	if _, err := q.Reload(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	if v := observed(t, q); v.SyncNames != "" {
		t.Errorf("after the mode has ended: have %q", v.SyncNames)
	}
}

// With passwords required, the accounts work for what they are for.
func TestAccounts(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	s := p.Settings()
	s.HBA = []string{"local all all trust", "host all,replication postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256", "host replication replicator 127.0.0.1/32 scram-sha-256"}
	s.Replication.Password, s.Rewind.Password = `it's \ new:`, Secret(`$1"2`)
	p.Configure(s)
	p.sql(t, "ALTER SYSTEM SET log_statement = 'all'")
	p.sql(t, "ALTER SYSTEM SET password_encryption = 'scram-sha-256'") // the default only from version 14
	if _, err := p.Reload(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	p.sql(t, "SELECT 'logged'")
	must(t, p.SetupAccounts(within(t, 5*time.Second)))
	log := read(t, filepath.Join(s.DataDir, startupLog))
	if !strings.Contains(log, "statement: SELECT 'logged'") {
		t.Error("the server logs no statements, so nothing is shown by their absence")
	}
	for _, secret := range []string{"it''s", `$1"2`, "SCRAM-SHA"} {
		if strings.Contains(log, secret) {
			t.Errorf("the server's log shows %s", secret)
		}
	}
	ctx := within(t, 10*time.Second)
	if tl, err := p.identify(ctx, p.postmaster()); err != nil || tl != 1 {
		t.Errorf("replication account: have timeline %d, %v; want 1", tl, err)
	}
	conn, err := p.connectTo(ctx, "127.0.0.1", s.Port, s.Rewind, nil)
	must(t, err)
	defer conn.Close(context.Background())
	if _, err := query(ctx, conn, "SELECT pg_ls_dir('.', true, false), pg_stat_file('global/pg_control', true), pg_read_binary_file('PG_VERSION'), pg_read_binary_file('PG_VERSION', 0, 1, true)"); err != nil {
		t.Errorf("rewind account: %v", err)
	}
	wrong := s.Rewind
	wrong.Password = "wr0ng-one"
	if _, err := p.connectTo(ctx, "127.0.0.1", s.Port, wrong, nil); err == nil || strings.Contains(err.Error(), "wr0ng-one") {
		t.Errorf("wrong password: have %v, want an error without it", err)
	}

	standby := standbyOf(t, p, "pg2")
	ss := standby.Settings()
	ss.Replication.Password = s.Replication.Password
	standby.Configure(ss)
	must(t, standby.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby, Upstream: p.upstream("")}))
	pgtest.Eventually(t, "the standby streams with a password file", func() bool { v := observed(t, standby); return v.ReplicationState() == cluster.StateStreaming })
}

func TestSyncSlots(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	ctx := within(t, 20*time.Second)
	list := func() string {
		return p.sql(t, "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots")
	}
	position := func(name string) cluster.LSN {
		for _, s := range observed(t, p).Slots {
			if s.Name == name {
				return s.Restart
			}
		}
		t.Fatalf("slot %s is missing", name)
		return 0
	}
	p.sql(t, "SELECT pg_create_physical_replication_slot('stray'), pg_create_physical_replication_slot('backup', true), pg_create_physical_replication_slot('unreserved')")
	must(t, p.SyncSlots(ctx, []SlotWant{{Name: "pg2"}, {Name: "unreserved", Anew: "it reserves no WAL"}}, []string{"stray", "gone"}))
	if have, want := list(), "backup pg2 unreserved"; have != want {
		t.Errorf("slots: have %s, want %s", have, want)
	}
	first := position("pg2")
	if first == 0 || position("unreserved") == 0 {
		t.Error("slots hold back no WAL, want some")
	}
	p.sql(t, "CREATE TABLE t AS SELECT generate_series(1, 1000)")
	now := observed(t, p).Flush
	must(t, p.SyncSlots(ctx, []SlotWant{{Name: "pg2", Advance: now}, {Name: "unreserved"}}, nil))
	if have := position("pg2"); have != now {
		t.Errorf("advanced: have %s, want %s", have, now)
	}
	must(t, p.SyncSlots(ctx, []SlotWant{{Name: "pg2", Advance: first}, {Name: "unreserved"}}, nil))
	if have := position("pg2"); have != now {
		t.Errorf("moved back: have %s, want %s as before", have, now)
	}

	// A slot in use is neither advanced nor dropped.
	standby := standbyOf(t, p, "pg2")
	must(t, standby.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby, Upstream: p.upstream("pg2")}))
	pgtest.Eventually(t, "the standby uses its slot", func() bool { return p.sql(t, "SELECT active FROM pg_replication_slots WHERE slot_name = 'pg2'") == "t" })
	must(t, p.SyncSlots(ctx, nil, []string{"pg2", "unreserved"}))
	if have, want := list(), "backup pg2"; have != want {
		t.Errorf("slots: have %s, want %s", have, want)
	}
	// On a standby, too; never past what it has replayed.
	must(t, standby.SyncSlots(ctx, []SlotWant{{Name: "pg1", Advance: now + 1<<30}}, nil))
	if v := observed(t, standby); len(v.Slots) != 1 || v.Slots[0].Restart > v.Replayed || v.Slots[0].Restart == 0 {
		t.Errorf("slots of the standby: have %+v, replayed %s", v.Slots, v.Replayed)
	}

	// Follow without slot: a reload is enough, and doing it again changes nothing.
	for range 2 {
		restart, err := standby.Follow(ctx, p.upstream(""))
		must(t, err)
		if restart {
			t.Error("follow: have restart, want a reload")
		}
	}
	timed(t, "streaming again after a reload", 0, func() {
		pgtest.Eventually(t, "the standby streams without slot", func() bool {
			v := observed(t, standby)
			return v.ReplicationState() == cluster.StateStreaming && v.Receiver.Slot == "" && v.Upstream.Slot == ""
		})
	})
	before := standby.sql(t, "SELECT pg_conf_load_time()")
	if _, err := standby.Follow(ctx, p.upstream("")); err != nil {
		t.Fatal(err)
	}
	if have := standby.sql(t, "SELECT pg_conf_load_time()"); have != before {
		t.Error("following the same upstream reloaded the server, want nothing to happen")
	}
}

func TestQueryAndTimeouts(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	r, err := p.Query(within(t, 5*time.Second), "SELECT $1::text, NULL, 1", "x")
	if err != nil || len(r) != 1 || r[0].At(0) != "x" || r[0][1] != nil || r[0].At(2) != "1" {
		t.Errorf("have %v, %v", r, err)
	}
	timed(t, "a statement that never ends", 5*time.Second, func() {
		_, err = p.Query(within(t, 10*time.Second), "SELECT pg_sleep(60)")
	})
	if !answered(err) {
		t.Errorf("statement timeout: have %v, want the server's answer", err)
	}
	must(t, p.withConnection(within(t, 5*time.Second), func(conn *pgconn.PgConn) error {
		r, err := query(t.Context(), conn, "SELECT current_setting('statement_timeout'), current_setting('synchronous_commit'), current_setting('search_path')")
		if err == nil && (r[0].At(0) != "0" || r[0].At(1) != "local" || r[0].At(2) != "pg_catalog") {
			t.Errorf("settings of our own commands: have %s %s %s", r[0].At(0), r[0].At(1), r[0].At(2))
		}
		return err
	}))
	must(t, p.Checkpoint(within(t, 10*time.Second)))
	must(t, p.ResumeReplay(within(t, 10*time.Second)))
}

// Observing an idle primary is cheap: it runs each second on machines that do something else.
func BenchmarkObserve(b *testing.B) {
	server := pgtest.New(b)
	server.Start(b)
	p, err := New(Settings{BinDir: server.BinDir, DataDir: server.Dir, ListenHosts: "127.0.0.1", Port: server.Port, Superuser: Account{Username: "postgres"}}, testLog(nil))
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	for b.Loop() {
		if v := p.Observe(b.Context(), ObserveOptions{}); !v.Queried {
			b.Fatal(v.QueryError)
		}
	}
	b.StopTimer()
	server.Stop(b, "fast")
}
