package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/regent-ha/regent/internal/guard"
	"github.com/regent-ha/regent/internal/porttest"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

// Member is one agent with its PostgreSQL. Its configuration can be changed in Config between starts.
type Member struct {
	Name    string
	Dir     string // everything of this member
	Data    string // its data directory
	PGPort  int
	API     string // host:port of its REST API
	Config  string // the configuration file's text
	Command []string

	run *process
}

type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// NewMember prepares a member of the cluster in that etcd; "" leaves the store's section out of its configuration.
func NewMember(t testing.TB, name, etcd string) *Member {
	t.Helper()
	m := &Member{Name: name, Dir: pgtest.Dir(t), PGPort: porttest.Free(t), API: fmt.Sprintf("127.0.0.1:%d", porttest.Free(t))}
	m.Data = filepath.Join(m.Dir, "data")
	store := ""
	if etcd != "" {
		store = "etcd3: {hosts: '" + etcd + "'}\n"
	}
	m.Config = strings.NewReplacer("{name}", name, "{dir}", m.Dir, "{api}", m.API, "{port}", fmt.Sprint(m.PGPort),
		"{bin}", pgtest.Installed(t).BinDir, "{scope}", Scope, "{store}", store).Replace(configuration)
	m.Command = []string{Program(), "agent", m.File()}
	t.Cleanup(func() {
		m.Kill()
		guard.Remove(m.Data)
		if t.Failed() {
			t.Logf("log of %s:\n%s", m.Name, tail(m.Log(), 12000))
		}
	})
	return m
}

// The rhythm is the fastest one that Patroni peers accept, so that mixed clusters can use it as well.
const configuration = `scope: {scope}
name: {name}
restapi: {listen: '{api}', connect_address: '{api}'}
{store}bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 3
    postgresql:
      use_pg_rewind: true
      parameters: {max_connections: 40, wal_keep_size: 128MB}
  initdb: [{encoding: UTF8}, {locale: C}, data-checksums]
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {dir}/data
  bin_dir: {bin}
  pgpass: {dir}/pgpass
  authentication:
    superuser: {username: postgres, password: secret}
    replication: {username: replicator, password: rep}
  pg_hba:
  - local all all trust
  - host all postgres 127.0.0.1/32 md5
  - host replication replicator 127.0.0.1/32 md5
  parameters: {unix_socket_directories: '{dir}', shared_buffers: 16MB, fsync: 'off', dynamic_shared_memory_type: mmap}
`

// File is the path of the configuration file.
func (m *Member) File() string { return filepath.Join(m.Dir, m.Name+".yml") }

// Edit replaces text of the configuration, which must be there.
func (m *Member) Edit(t testing.TB, old, new string) {
	t.Helper()
	if !strings.Contains(m.Config, old) {
		t.Fatalf("edit configuration: there is no %q in\n%s", old, m.Config)
	}
	m.Config = strings.Replace(m.Config, old, new, 1)
}

// Start writes the configuration and starts the agent.
func (m *Member) Start(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(m.File(), []byte(m.Config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(m.Command[0], m.Command[1:]...), ended: make(chan struct{})}
	p.cmd.Dir = m.Dir
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), foreign), "HOME="+m.Dir, "LC_ALL=C.UTF-8")
	log, err := os.OpenFile(m.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log // no pipe: what an agent has printed is there, also right after its end
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.run = p
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
}

// foreign variables would change how the program or PostgreSQL works.
func foreign(e string) bool {
	name, _, _ := strings.Cut(e, "=")
	return strings.HasPrefix(name, "PATRONI") || strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") || name == "LANG" || name == "HOME"
}

func (m *Member) logFile() string { return filepath.Join(m.Dir, "agent.log") }

// Log is what the agent has printed so far, over all starts.
func (m *Member) Log() string {
	text, _ := os.ReadFile(m.logFile())
	return string(text)
}

// Signal sends a signal to the agent.
func (m *Member) Signal(s syscall.Signal) { _ = m.run.cmd.Process.Signal(s) }

// WaitExit waits until the agent ends by itself, and returns its exit code.
func (m *Member) WaitExit(t testing.TB) int {
	t.Helper()
	select {
	case <-m.run.ended:
		return m.run.cmd.ProcessState.ExitCode()
	case <-time.After(Patience):
		t.Fatalf("%s: have waited %s, want the agent to end", m.Name, Patience)
		return 0
	}
}

// Running says whether the agent runs.
func (m *Member) Running() bool {
	if m.run == nil {
		return false
	}
	select {
	case <-m.run.ended:
		return false
	default:
		return true
	}
}

// Stop ends the agent in order, and its PostgreSQL with it.
func (m *Member) Stop(t testing.TB) {
	t.Helper()
	m.Signal(syscall.SIGTERM)
	if code := m.WaitExit(t); code != 0 {
		t.Errorf("%s: stopped with code %d, want 0", m.Name, code)
	}
}

// Kill ends the agent at once; its PostgreSQL goes on.
func (m *Member) Kill() {
	if m.Running() {
		_ = m.run.cmd.Process.Kill()
		<-m.run.ended
	}
}

// Crash ends the agent and its PostgreSQL at once, as the end of their machine would.
func (m *Member) Crash(t testing.TB) {
	t.Helper()
	m.Kill()
	file, err := os.ReadFile(filepath.Join(m.Data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(file), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	Wait(t, "the postmaster has ended", func() bool { return syscall.Kill(pid, 0) != nil })
}

// Call sends a request to the REST API and returns status and body; 0 when nobody answers.
func (m *Member) Call(method, path, body string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+m.API+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

// Status is what GET /patroni says; nil when nobody answers.
func (m *Member) Status() map[string]any {
	_, body := m.Call("GET", "/patroni", "")
	var s map[string]any
	_ = json.Unmarshal([]byte(body), &s)
	return s
}

// SQL runs one statement as the superuser and returns the first column of its rows, one a line.
func (m *Member) SQL(sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, m.dsn())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	var lines []string
	for _, r := range results {
		for _, row := range r.Rows {
			lines = append(lines, string(row[0]))
		}
	}
	return strings.Join(lines, "\n"), nil
}

// Connect opens a session as the superuser, within an application's patience.
func (m *Member) Connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, m.dsn()+" connect_timeout=3")
}

func (m *Member) dsn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=secret dbname=postgres sslmode=disable", m.PGPort)
}

// IsPrimary says whether the member leads with a PostgreSQL that accepts writes.
func (m *Member) IsPrimary() bool {
	code, _ := m.Call("GET", "/primary", "")
	return code == http.StatusOK
}

// IsStreaming says whether the member is a replica that streams, by its own word and by its PostgreSQL's.
func (m *Member) IsStreaming() bool {
	s := m.Status()
	if s["state"] != "running" || s["role"] != "replica" {
		return false
	}
	streams, err := m.SQL("select status = 'streaming' from pg_stat_wal_receiver")
	return err == nil && streams == "t"
}

// WaitPrimary waits until the member leads.
func (m *Member) WaitPrimary(t testing.TB) { t.Helper(); Wait(t, m.Name+" leads", m.IsPrimary) }

// WaitStreaming waits until the member is a replica that streams.
func (m *Member) WaitStreaming(t testing.TB) { t.Helper(); Wait(t, m.Name+" streams", m.IsStreaming) }

// WaitStreamsFrom waits until both sides say that the member streams from that leader. One that is connected to a leader of before
// streams as well, and has nothing of what is written now.
func (m *Member) WaitStreamsFrom(t testing.TB, leader *Member) {
	t.Helper()
	Wait(t, m.Name+" streams from "+leader.Name, func() bool {
		sends, err := leader.SQL("select bool_or(state = 'streaming') from pg_stat_replication where application_name = '" + m.Name + "'")
		return err == nil && sends == "t" && m.IsStreaming()
	})
}

// WaitLog waits until the agent has printed all of these texts.
func (m *Member) WaitLog(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		Wait(t, m.Name+" says "+text, func() bool { return strings.Contains(m.Log(), text) })
	}
}

// Patience bounds every wait for something that is to happen, also on a machine that is slow or stands still for a while.
const Patience = 3 * time.Minute

// Wait waits until something outside this process holds.
func Wait(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("have waited %s, want: %s", Patience, what)
		}
	}
}

// Tree describes every file below dir: its mode, size, time of change and, of files, their content; two are equal when nothing was
// touched. A directory that is missing has an empty description.
func Tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				fmt.Fprintf(&b, "%s: %v\n", path, errors.Unwrap(err))
				return nil
			}
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s %d %s", path, info.Mode(), info.Size(), info.ModTime().Format(time.RFC3339Nano))
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sum(content))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Difference shows the lines that only one of two descriptions has; empty: they are equal.
func Difference(before, after string) string {
	old, new := strings.Split(before, "\n"), strings.Split(after, "\n")
	var b strings.Builder
	for _, l := range old {
		if !slices.Contains(new, l) {
			b.WriteString("- " + l + "\n")
		}
	}
	for _, l := range new {
		if !slices.Contains(old, l) {
			b.WriteString("+ " + l + "\n")
		}
	}
	return b.String()
}

func tail(s string, n int) string {
	if len(s) > n {
		return "...\n" + s[len(s)-n:]
	}
	return s
}
