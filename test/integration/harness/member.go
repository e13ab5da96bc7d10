package harness

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/test/rig/rows"
)

// Member is one agent with its PostgreSQL.
type Member struct {
	Name  string
	Dir   string // configuration, logs, sockets; the data directory is below it unless a test moves it
	Data  string
	Host  string // PostgreSQL's address
	Port  int    // ... and port
	Store *dcstest.Proxy
	API   *client.Client

	api     string
	cluster *Cluster

	mu    sync.Mutex
	agent *process
}

// process is one run of an agent.
type process struct {
	pid   int
	ended chan struct{}
	code  int // its exit code, -1 after a signal; valid when ended is closed
}

func (m *Member) file() string { return filepath.Join(m.Dir, "agent.yml") }
func (m *Member) log() string  { return filepath.Join(m.Dir, "agent.log") }

// Start starts the agent.
func (m *Member) Start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(m.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(os.Getenv(envAgent), "agent", m.file())
	cmd.Args[0] = "regent"
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = m.Dir, log, log, m.environment()
	// Should the tests be killed, the agent leaves in order; Main ends what does not.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", m.Name, err)
	}
	p := &process{pid: cmd.Process.Pid, ended: make(chan struct{})}
	m.mu.Lock()
	m.agent = p
	m.mu.Unlock()
	go func() {
		_ = cmd.Wait()
		p.code = cmd.ProcessState.ExitCode()
		close(p.ended)
	}()
}

func (m *Member) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return strings.HasPrefix(name, "PATRONI") || strings.HasPrefix(name, "REGENT_") || strings.HasPrefix(name, "PG") ||
			strings.HasPrefix(name, "LC_") || name == "LANG" || name == "TZ" || name == "NOTIFY_SOCKET"
	})
	return append(env, "LC_ALL=C", "HOME="+m.Dir)
}

func (m *Member) process() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agent
}

// SignalAgent sends a signal to the agent.
func (m *Member) SignalAgent(t testing.TB, s syscall.Signal) {
	t.Helper()
	p := m.process()
	select {
	case <-p.ended:
		t.Fatalf("the agent of %s has ended with code %d", m.Name, p.code)
	default:
	}
	if err := syscall.Kill(p.pid, s); err != nil {
		t.Fatalf("signal the agent of %s: %v", m.Name, err)
	}
}

// AwaitExit waits until the agent has ended and returns its exit code.
func (m *Member) AwaitExit(t testing.TB, limit time.Duration) int {
	t.Helper()
	p := m.process()
	select {
	case <-p.ended:
	case <-time.After(limit):
		t.Fatalf("the agent of %s has not ended after %s", m.Name, limit)
	}
	return p.code
}

// KillAgent kills the agent alone.
func (m *Member) KillAgent(t testing.TB) {
	t.Helper()
	m.SignalAgent(t, syscall.SIGKILL)
	m.AwaitExit(t, Patience)
}

// KillAll kills the agent and every process of its PostgreSQL, as a machine that loses power does.
func (m *Member) KillAll(t testing.TB) {
	t.Helper()
	if p := m.process(); p != nil {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	if left := m.end(); len(left) > 0 {
		t.Fatalf("processes %v of %s do not end", left, m.Name)
	}
	m.AwaitExit(t, Patience)
}

func (m *Member) end() []int { return append(End(m.Dir), End(filepath.Dir(m.Data))...) }

// Alive says whether a process runs; one that only waits for its parent to notice its end does not.
func Alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, ok := strings.Cut(string(stat), ") ")
	return err == nil && ok && !strings.HasPrefix(state, "Z")
}

// Postmaster is the process of PostgreSQL's main server; 0: none.
func (m *Member) Postmaster() int {
	text, err := os.ReadFile(filepath.Join(m.Data, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || !Alive(pid) {
		return 0
	}
	return pid
}

// SignalPostmaster sends a signal to PostgreSQL's main process.
func (m *Member) SignalPostmaster(t testing.TB, s syscall.Signal) {
	t.Helper()
	pid := m.Postmaster()
	if pid == 0 {
		t.Fatalf("no PostgreSQL of %s to signal", m.Name)
	}
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatalf("signal the postmaster of %s: %v", m.Name, err)
	}
}

// CrashPostmaster kills PostgreSQL's main process and waits until the agent has seen another one answer. Before that, nothing says that the
// crash has been seen: the sessions outlive their postmaster for a moment and acknowledge rows, the agent's status is of before, and
// to the agent a PostgreSQL that has not answered yet is one that starts, not one that can crash.
func (m *Member) CrashPostmaster(t testing.TB) {
	t.Helper()
	killed := m.Now(t).PostmasterStartTime
	m.SignalPostmaster(t, syscall.SIGKILL)
	Eventually(t, Patience, m.Name+" leads with PostgreSQL started again", func() bool {
		s := m.Status()
		return s != nil && s.State == "running" && s.PostmasterStartTime != "" && s.PostmasterStartTime != killed &&
			s.Regent != nil && s.Regent.Job == nil && s.Regent.Reason == "healthy-primary"
	})
}

// Status asks the agent; nil when it does not answer.
func (m *Member) Status() *client.Status {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s, err := m.API.Status(ctx)
	if err != nil {
		return nil
	}
	return s
}

// Now is what the agent says once it answers.
func (m *Member) Now(t testing.TB) (s *client.Status) {
	t.Helper()
	Eventually(t, Patience, m.Name+" answers", func() bool { s = m.Status(); return s != nil })
	return s
}

// Answers is the code of a health check, once the agent answers.
func (m *Member) Answers(t testing.TB, path string) (code int) {
	t.Helper()
	Eventually(t, Patience, m.Name+" answers", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		var err error
		code, _, err = m.API.Health(ctx, path)
		return err == nil
	})
	return code
}

// Ready says whether the agent says that its PostgreSQL runs in that role, "primary" or "replica".
func (m *Member) Ready(role string) bool {
	s := m.Status()
	return s != nil && s.State == "running" && s.Role == role
}

// LeaseLeft is how long the leader lock is certainly the member's, as it says itself; 0: it is not, or the agent does not answer.
func (m *Member) LeaseLeft() time.Duration {
	left, _ := m.leaseLeft()
	return left
}

// leaseLeft is LeaseLeft; ok is false when the agent does not answer.
func (m *Member) leaseLeft() (left time.Duration, ok bool) {
	ask := http.Client{Timeout: 2 * time.Second}
	resp, err := ask.Get("http://" + m.api + "/metrics")
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "regent_lease_remaining_seconds{"); ok {
			_, number, _ := strings.Cut(rest, "} ")
			seconds, err := strconv.ParseFloat(number, 64)
			return time.Duration(seconds * float64(time.Second)), err == nil
		}
	}
	return 0, false
}

// LeaseEnd is when the lock of a member ends that cannot renew it any more: between two moments, as the answer took time. An answer of the store
// that was on its way when the store was cut off may still have moved it, so it is asked for until less is left than a renewal would leave.
func (m *Member) LeaseEnd(t testing.TB, less time.Duration) (end Span) {
	t.Helper()
	Eventually(t, Patience, m.Name+" does not renew its lock any more", func() bool {
		asked := time.Now()
		left, ok := m.leaseLeft()
		switch {
		case !ok:
			return false
		case left > 0:
			end = Span{asked.Add(left), time.Now().Add(left)}
			return left < less
		default: // it has ended, or was given up, since
			return !end.To.IsZero()
		}
	})
	return end
}

// Reason is that of the agent's last decision.
func (m *Member) Reason() string {
	if s := m.Status(); s != nil && s.Regent != nil {
		return s.Regent.Reason
	}
	return ""
}

func (m *Member) dsn() string {
	return fmt.Sprintf("host=%s port=%d user=postgres password=%s dbname=postgres sslmode=disable", m.Host, m.Port, password)
}

// SQL runs statements and returns the last result's rows, columns separated by "|", rows by newlines.
func (m *Member) SQL(t testing.TB, sql string) string {
	t.Helper()
	out, err := m.ask(sql, Patience)
	if err != nil {
		t.Fatalf("%s: %s: %v", m.Name, sql, err)
	}
	return out
}

// TrySQL is SQL for statements that may fail.
func (m *Member) TrySQL(sql string) (string, error) { return m.ask(sql, 10*time.Second) }

func (m *Member) ask(sql string, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := pgx.Connect(ctx, m.dsn())
	if err != nil {
		return "", err
	}
	defer rows.HangUp(conn)
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	var lines []string
	for _, row := range results[len(results)-1].Rows {
		lines = append(lines, string(bytes.Join(row, []byte("|"))))
	}
	return strings.Join(lines, "\n"), nil
}

// Open opens a session until the test ends; remark hears the server's notices.
func (m *Member) Open(t testing.TB, remark func(*pgconn.Notice)) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(m.dsn())
	if err != nil {
		t.Fatal(err)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { remark(n) }
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatalf("open a session on %s: %v", m.Name, err)
	}
	t.Cleanup(func() { rows.HangUp(conn) })
	return conn
}

// Logged says whether the agent's log has that text.
func (m *Member) Logged(text string) bool {
	log, _ := os.ReadFile(m.log())
	return bytes.Contains(log, []byte(text))
}
