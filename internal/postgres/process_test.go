package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

// The agent that started PostgreSQL is killed, with its whole process group. PostgreSQL does not notice, and the next
// agent adopts it: it sees it, notices its exit, and can stop it.
func TestAdoption(t *testing.T) {
	if dir := os.Getenv("PGTEST_START"); dir != "" {
		starter(t, dir)
		return
	}
	t.Parallel()
	p := bootstrapped(t)
	stopFast(t, p)
	s := p.Settings()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestAdoption$")
	cmd.Env = append(os.Environ(), "PGTEST_START="+s.DataDir, "PGTEST_PORT="+strconv.Itoa(s.Port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "started\n" {
		t.Fatalf("the first agent says %q, %v", line, err)
	}
	pm := p.postmaster()
	if pm == nil || parentOf(pm.pid) != cmd.Process.Pid {
		t.Fatalf("postmaster: have %+v, want a child of the first agent %d", pm, cmd.Process.Pid)
	}
	must(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	_ = cmd.Wait()
	if now := p.postmaster(); now == nil || now.pid != pm.pid || now.started.IsZero() || now.port != s.Port || now.status != "ready" {
		t.Fatalf("after the agent's death: have postmaster %+v, want pid %d, ready", now, pm.pid)
	}
	if have := p.Probe(t.Context()); have != cluster.Accepting {
		t.Errorf("after the agent's death: have %q, want accepting", have)
	}
	exited := p.Exited()
	timed(t, "stop of an adopted server", 0, func() { stopFast(t, p) })
	<-exited
}

// starter is the first agent.
func starter(t *testing.T, dir string) {
	s := testSettings(t, "pg1")
	must(t, os.Remove(filepath.Dir(s.DataDir))) // no cleanup comes: this process is killed
	s.DataDir, s.PgPass, s.Parameters["unix_socket_directories"] = dir, filepath.Join(filepath.Dir(dir), "pgpass"), filepath.Dir(dir)
	s.Port, _ = strconv.Atoi(os.Getenv("PGTEST_PORT"))
	p, err := New(s, testLog(t))
	must(t, err)
	startPrimary(t, p)
	fmt.Println("started")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A pid in postmaster.pid that belongs to something else is no server, and prevents no start.
func TestStalePidFile(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	name := filepath.Join(p.Settings().DataDir, "postmaster.pid")
	text, err := os.ReadFile(name)
	must(t, err)
	stopFast(t, p)
	other := exec.Command("sleep", "1000")
	must(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	_, rest, _ := strings.Cut(string(text), "\n")
	must(t, os.WriteFile(name, []byte(strconv.Itoa(other.Process.Pid)+"\n"+rest), 0o600))
	if pm := p.postmaster(); pm != nil {
		t.Errorf("a sleep counts as postmaster %+v", pm)
	}
	startPrimary(t, p)

	// a server whose pid file is gone is found all the same, and whoever asks cannot start another
	text, err = os.ReadFile(name)
	must(t, err)
	must(t, os.Rename(name, name+".away"))
	pm := p.postmaster()
	if pm == nil || !strings.HasPrefix(string(text), strconv.Itoa(pm.pid)+"\n") || pm.single {
		t.Errorf("without pid file: have %+v, want the postmaster of %q", pm, text)
	}
	if err := p.Start(t.Context(), StartOptions{}); !errors.Is(err, ErrRunning) {
		t.Errorf("start without pid file: have %v, want ErrRunning", err)
	}
	must(t, p.Stop(within(t, 20*time.Second), StopOptions{Mode: Fast}))
}

// An agent's tool that outlived it is ended before its data directory is touched.
func TestOrphans(t *testing.T) {
	t.Parallel()
	p := newInstance(t, testSettings(t, "pg1"))
	orphan := exec.Command("sleep", "1000")
	orphan.Env = []string{jobMark + p.realDir()}
	must(t, orphan.Start())
	other := exec.Command("sleep", "1000")
	other.Env = []string{jobMark + p.realDir() + "2"}
	must(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	must(t, p.killOrphans(within(t, 5*time.Second)))
	if !isZombie(orphan.Process.Pid) || isZombie(other.Process.Pid) {
		t.Errorf("orphan gone: %v, want true; another directory's gone: %v, want false", isZombie(orphan.Process.Pid), isZombie(other.Process.Pid))
	}
}

func TestRole(t *testing.T) {
	p := &Instance{settings: Settings{Scope: "batman"}}
	for title, want := range map[string]string{
		"batman: checkpointer": "checkpointer", "checkpointer": "checkpointer", "batman: walsender replicator 127.0.0.1(5) streaming 0/3": "walsender",
		"batman: startup recovering 000000010000000000000003": "startup", "batman: logical replication launcher": "logical replication launcher",
		"batman: alice shop [local] idle in transaction": "", "batman: logical replication worker for subscription 16384": "",
		"batman: autovacuum worker postgres": "", "batman: io worker 1": "io worker", "batman: parallel worker for PID 4": "",
	} {
		if have := p.role(title); have != want {
			t.Errorf("%s: have %q, want %q", title, have, want)
		}
	}
}

// What is wrong with a start is said, and nothing is started.
func TestStartRefused(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	dir := p.Settings().DataDir
	stopFast(t, p)
	refused := func(what, want string) {
		t.Helper()
		err := p.Start(within(t, 10*time.Second), StartOptions{Mode: AsPrimary})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: have %v, want %q in it", what, err, want)
		}
		if p.postmaster() != nil {
			t.Fatalf("%s: something was started", what)
		}
	}
	version, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("9\n"), 0o600))
	refused("another version", "the programs in")
	must(t, os.Remove(filepath.Join(dir, "PG_VERSION")))
	refused("no version", "is the volume mounted?")
	must(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), version, 0o600))

	s := p.Settings()
	blocked := s
	blocked.Parameters = map[string]string{"shared_buffers": "16MB", "listen_addresses": "127.0.0.1", "unix_socket_directories": "/nonexistent"}
	p.Configure(blocked)
	refused("no socket directory", "/nonexistent")
	p.Configure(s)

	must(t, os.Chmod(dir, 0o755))
	startPrimary(t, p)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode after a start: have %v, %v; want 0700", info.Mode(), err)
	}

	// ctx ends while it recovers: it goes on, and Stop ends it
	must(t, p.Kill(within(t, 10*time.Second)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Start(context.WithoutCancel(ctx), StartOptions{Mode: AsPrimary}); err != nil {
		t.Fatal(err)
	}
	stopFast(t, p)
	c, err := p.Control(t.Context())
	must(t, err)
	<-ctx.Done()
	if err := p.Start(ctx, StartOptions{Mode: AsPrimary, Control: &c}); !errors.Is(err, ErrStarting) {
		t.Errorf("start without time: have %v, want ErrStarting", err)
	}
	pgtest.Eventually(t, "the start that nobody waited for succeeds", func() bool { return p.Probe(t.Context()) == cluster.Accepting })
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	root := pgtest.Dir(t)
	p := &Instance{settings: Settings{DataDir: filepath.Join(root, "data")}, log: testLog(t)}
	dir := p.settings.DataDir
	check := func(what string, want cluster.DirState, problem string) {
		t.Helper()
		if have, why := p.directory(); have != want || !strings.Contains(why, problem) || (problem == "") != (why == "") {
			t.Errorf("%s: have %s, %q; want %s, %q", what, have, why, want, problem)
		}
	}
	check("nothing", cluster.DirMissing, "")
	must(t, os.Symlink(filepath.Join(root, "volume"), dir))
	check("a link into nowhere", cluster.DirUnreadable, "is the volume mounted?")
	must(t, os.Remove(dir))
	must(t, os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, ".snapshot"), nil, 0o600))
	check("a fresh volume", cluster.DirEmpty, "")
	must(t, os.WriteFile(filepath.Join(dir, "thesis.doc"), nil, 0o600))
	check("somebody's file", cluster.DirForeign, "thesis.doc")
	if err := p.Clone(t.Context(), Source{Host: "127.0.0.1", Port: 1}, nil); !errors.Is(err, ErrDirectory) {
		t.Errorf("clone over somebody's file: have %v, want ErrDirectory", err)
	}
	must(t, os.MkdirAll(filepath.Join(dir, "global"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "global", "pg_control"), nil, 0o600))
	check("no version", cluster.DirUnreadable, "PG_VERSION")
	must(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("15\n"), 0o600))
	check("data", cluster.DirPresent, "")
	must(t, os.WriteFile(filepath.Join(dir, markRewinding), []byte("to pg2"), 0o600))
	check("rewind broke off", cluster.DirPresent, "to pg2")
	must(t, os.Remove(filepath.Join(dir, markRewinding)))
	must(t, os.Chmod(dir, 0))
	check("closed", cluster.DirUnreadable, "permission denied")
	must(t, os.Chmod(dir, 0o700))
}

// WAL and tablespaces outside go along, and nobody else's files are touched.
func TestOutsideMovesAndGoes(t *testing.T) {
	t.Parallel()
	root := pgtest.Dir(t)
	dir, wal, space := filepath.Join(root, "data"), filepath.Join(root, "wal"), filepath.Join(root, "space")
	p := &Instance{settings: Settings{DataDir: dir + "/", RemoveOnDivergence: true}, log: testLog(t)}
	fill := func() {
		t.Helper()
		for _, d := range []string{filepath.Join(dir, "global"), filepath.Join(dir, "pg_tblspc"), wal, filepath.Join(space, "PG_15_1")} {
			must(t, os.MkdirAll(d, 0o700))
		}
		for _, f := range []string{filepath.Join(dir, "global", "pg_control"), filepath.Join(dir, "PG_VERSION"), filepath.Join(wal, "segment"), filepath.Join(space, "theirs")} {
			must(t, os.WriteFile(f, []byte("15"), 0o600))
		}
		must(t, os.Symlink(wal, filepath.Join(dir, "pg_wal")))
		must(t, os.Symlink(space, filepath.Join(dir, "pg_tblspc", "16384")))
	}
	fill()
	aside, err := p.MoveAside("failed")
	must(t, err)
	for _, name := range []string{"global/pg_control", "pg_wal/segment", "pg_tblspc/16384/PG_15_1"} {
		if !exists(filepath.Join(aside, name)) {
			t.Errorf("moved aside: %s is not in %s", name, aside)
		}
	}
	if !strings.HasPrefix(aside, dir+".failed.") || exists(filepath.Join(wal, "segment")) || !exists(wal) {
		t.Errorf("have moved to %s; want %s.failed.<time>, and an empty %s", aside, dir, wal)
	}
	fill()
	must(t, p.Remove())
	if state, _ := p.directory(); state != cluster.DirEmpty || exists(filepath.Join(wal, "segment")) || exists(filepath.Join(space, "PG_15_1")) {
		t.Errorf("removed: have %s, want empty, also outside", state)
	}
	// a volume's root cannot be renamed, here for want of permission: its content moves into it, and no later removal takes it
	fill()
	must(t, os.Remove(filepath.Join(dir, "pg_wal")))
	must(t, os.Remove(filepath.Join(dir, "pg_tblspc", "16384")))
	must(t, os.Chmod(root, 0o500))
	inside, err := p.MoveAside("failed")
	must(t, os.Chmod(root, 0o700))
	must(t, err)
	if state, _ := p.directory(); state != cluster.DirEmpty || filepath.Dir(inside) != dir {
		t.Errorf("moved aside to %s, directory is %s; want a place in %s, empty", inside, state, dir)
	}
	must(t, os.Mkdir(filepath.Join(dir, "global"), 0o700))
	must(t, p.Erase())
	if !exists(filepath.Join(inside, "global", "pg_control")) || exists(filepath.Join(dir, "global")) {
		t.Error("a removal has to leave what was moved aside in the same directory, and nothing else")
	}
	if !exists(filepath.Join(space, "theirs")) || !exists(filepath.Join(aside, "pg_wal", "segment")) {
		t.Error("a removal took what was not the data directory's")
	}
}

// A shutdown with archiving on: the control file reports its end while the archiver is still busy, and the
// position to reach is that of the WAL switch before the checkpoint.
func TestShutdownWithArchiving(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	stopFast(t, p)
	s := p.Settings()
	gate := filepath.Join(filepath.Dir(s.DataDir), "gate")
	s.Parameters["archive_mode"], s.Parameters["archive_command"] = "on", "until test -e "+gate+"; do sleep 0.01; done"
	p.Configure(s)
	startPrimary(t, p)
	p.sql(t, "CREATE TABLE t AS SELECT generate_series(1, 20000) i; CHECKPOINT; SELECT pg_switch_wal(); INSERT INTO t SELECT generate_series(1, 20000)")
	records(t, p)
	early, safe := false, false
	var checkpoint, previous cluster.LSN
	must(t, p.Stop(within(t, 20*time.Second), StopOptions{
		Mode: Fast,
		OnShutdownCheckpoint: func(c, x cluster.LSN) {
			early = p.postmaster() != nil
			checkpoint, previous = c, x
			must(t, os.WriteFile(gate, nil, 0o600))
		},
		OnSafe: func() { safe = true },
	}))
	if !early || !safe {
		t.Errorf("reported while the postmaster lived: %v, safe point reported: %v; want both", early, safe)
	}
	if out := waldump(t, p, previous, 1); previous >= checkpoint || !strings.Contains(out, "SWITCH") {
		t.Errorf("previous: have %s before %s, want the switch: %s", previous, checkpoint, out)
	}
	if out := waldump(t, p, checkpoint, 1); !strings.Contains(out, "CHECKPOINT_SHUTDOWN") {
		t.Errorf("checkpoint %s: %s", checkpoint, out)
	}
}

func waldump(t *testing.T, p *Instance, from cluster.LSN, n int) string {
	t.Helper()
	out, err := exec.Command(p.binaries.path("pg_waldump"), "-p", filepath.Join(p.Settings().DataDir, "pg_wal"), "-s", from.String(), "-n", strconv.Itoa(n)).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_waldump: %v\n%s", err, out)
	}
	return string(out)
}

var dumped = regexp.MustCompile(`len \(rec/tot\): +\d+/ *(\d+),.*lsn: (\S+), prev (\S+), desc`)

// records compares our reading of WAL records with pg_waldump's, over page and segment borders.
func records(t *testing.T, p *Instance) {
	t.Helper()
	at, err := cluster.ParseLSN(p.sql(t, "SELECT redo_lsn FROM pg_control_checkpoint()"))
	must(t, err)
	pages, n := map[cluster.LSN]bool{}, 0
	var last record
	for _, m := range dumped.FindAllStringSubmatch(waldump(t, p, at, 20000), -1) {
		at, err := cluster.ParseLSN(m[2])
		must(t, err)
		previous, err := cluster.ParseLSN(m[3])
		must(t, err)
		r, err := p.readRecord(at, 1)
		if err != nil {
			t.Fatalf("%s: %v", m[0], err)
		}
		gap := at - last.end
		if r.previous != previous || last.rmgr+last.info != 0x40 && n > 0 && gap != 0 && gap != shortHeader && gap != longHeader {
			t.Fatalf("%s: have previous %s, after a record that ends at %s", m[0], r.previous, last.end)
		}
		last, pages[at/walPage], n = r, true, n+1
	}
	if n < 10000 || len(pages) < 50 {
		t.Errorf("compared %d records on %d pages, want many", n, len(pages))
	}
	if r, err := p.readRecord(at+8, 1); err == nil {
		t.Errorf("between two records: have %+v, want an error", r)
	}
}

// The segment with the shutdown checkpoint goes to the archive, too; nothing does after a crash.
func TestArchiveShutdown(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	must(t, p.ArchiveShutdown(t.Context())) // archiving is off
	stopFast(t, p)
	must(t, p.ArchiveShutdown(t.Context()))
	s := p.Settings()
	archive := filepath.Join(filepath.Dir(s.DataDir), "archive")
	must(t, os.Mkdir(archive, 0o700))
	s.Parameters["archive_mode"], s.Parameters["archive_command"] = "on", "cp %p "+archive+"/%f"
	p.Configure(s)
	startPrimary(t, p)
	p.sql(t, "CREATE TABLE t (i int)")
	must(t, p.Kill(within(t, 10*time.Second)))
	if err := p.ArchiveShutdown(t.Context()); err == nil {
		t.Error("after a crash: have no error, want one")
	}
	startPrimary(t, p)
	stopFast(t, p)
	c, err := p.Control(t.Context())
	must(t, err)
	size, err := segmentSize(filepath.Join(s.DataDir, "pg_wal"))
	must(t, err)
	segment := filepath.Join(archive, segmentName(c.CheckpointTLI, c.Checkpoint/size, size))
	if exists(segment) {
		t.Fatalf("PostgreSQL has archived %s itself: this test shows nothing", segment)
	}
	must(t, p.ArchiveShutdown(t.Context()))
	if !exists(segment) {
		t.Errorf("have no %s in the archive", segment)
	}
}

// Crash recovery keeps all WAL, archives what waited, and leaves a clean shutdown.
func TestCrashRecover(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	stopFast(t, p)
	s := p.Settings()
	archive := filepath.Join(filepath.Dir(s.DataDir), "archive")
	must(t, os.Mkdir(archive, 0o700))
	s.Parameters["archive_mode"], s.Parameters["archive_command"] = "on", "false"
	p.Configure(s)
	startPrimary(t, p)
	p.sql(t, "CREATE TABLE t (i int)")
	segment := p.sql(t, "SELECT pg_walfile_name(pg_switch_wal())")
	p.sql(t, "INSERT INTO t VALUES (1)")
	if err := p.CrashRecover(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("recovery of a running server: have %v, want ErrRunning", err)
	}
	must(t, p.Kill(within(t, 10*time.Second)))
	s.Parameters["archive_command"] = "cp %p " + archive + "/%f"
	p.Configure(s)
	c, err := p.Control(t.Context())
	must(t, err)
	must(t, p.WriteConfiguration(AsPrimary, cluster.Upstream{}, &c))
	timed(t, "crash recovery", 0, func() { must(t, p.CrashRecover(within(t, 20*time.Second))) })
	if g, err := p.glance(); err != nil || g.state != cluster.ControlShutDown {
		t.Errorf("after recovery: have %q, %v; want shut down", g.state, err)
	}
	if !exists(filepath.Join(archive, segment)) || !exists(filepath.Join(s.DataDir, "pg_wal", segment)) {
		t.Errorf("segment %s: want it in the archive and in pg_wal", segment)
	}
	must(t, p.CrashRecover(within(t, time.Second))) // nothing to do
	startPrimary(t, p)
	if have := p.sql(t, "SELECT count(*) FROM t"); have != "1" {
		t.Errorf("rows after recovery: have %s, want 1", have)
	}
}
