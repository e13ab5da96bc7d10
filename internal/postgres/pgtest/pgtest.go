// Package pgtest runs tests against real PostgreSQL servers of this machine: it finds the installed versions, makes
// the tests run as a user that PostgreSQL accepts, and gives each test its own directory and port.
//
// It does not import package postgres, so that the tests inside that package can use it.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/regent-ha/regent/internal/porttest"
)

// Main is the TestMain of a package that starts PostgreSQL, which refuses to run as root: as root it runs the
// test binary again as user postgres (else nobody) and exits with its result. Flags and output pass through; files
// that the go command asks for (-coverprofile, -cpuprofile) must be writable for that user.
func Main(m *testing.M) {
	if os.Geteuid() == 0 {
		os.Exit(asPostgres())
	}
	if dir := os.Getenv(holdVariable); dir != "" {
		hold(dir)
		os.Exit(0)
	}
	code := m.Run()
	shared.remove()
	os.Exit(code)
}

// place is where test directories are made: in memory where there is room, since the programs make what they write durable.
var place = sync.OnceValue(func() string {
	var fs syscall.Statfs_t
	const shm, enough = "/dev/shm", 4 << 30
	if syscall.Statfs(shm, &fs) == nil && fs.Bavail*uint64(fs.Bsize) >= enough && syscall.Access(shm, 2) == nil {
		return shm
	}
	return os.TempDir()
})

// templates are directories that tests copy instead of making their like again.
type templates struct {
	mu    sync.Mutex
	roots []string
	made  map[string]string
}

var shared = templates{made: map[string]string{}}

func (s *templates) remove() {
	for _, root := range s.roots {
		_ = os.RemoveAll(root)
	}
}

// Template returns the directory "data" that make has filled for this name, once per test binary; the first test that asks waits
// for make, and nobody may change the result. Copy copies it.
func Template(t testing.TB, name string, make func(dir string)) string {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if dir := shared.made[name]; dir != "" {
		return dir
	}
	root, err := os.MkdirTemp(place(), "pg")
	if err != nil {
		t.Fatal(err)
	}
	shared.roots = append(shared.roots, root)
	dir := filepath.Join(root, "data")
	make(dir)
	shared.made[name] = dir
	return dir
}

// WriteProgram writes a file to be run. While one of ours is open for writing, no other test may start a process: that would inherit it, and
// the kernel runs no program that somebody has open for writing.
func WriteProgram(t testing.TB, name, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(name, []byte(text), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}

// Copy copies a directory tree with its modes and links.
func Copy(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--reflink=auto", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
}

func asPostgres() int {
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: no user postgres or nobody to run PostgreSQL as:", err)
			return 1
		}
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool {
		return strings.HasPrefix(a, "-test.testlogfile=") // lies in a directory closed to other users; without it the result is not cached
	})
	cmd := exec.Command("/proc/self/exe", args...) // the go command's directories are closed to other users, its open file is not
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "HOME="+os.TempDir(), "USER="+u.Username, "LOGNAME="+u.Username)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		Pdeathsig:  syscall.SIGTERM,
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest: run the tests as", u.Username+":", err)
		return 1
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	var exit *exec.ExitError
	switch err := cmd.Wait(); {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "pgtest: tests as", u.Username+":", err)
		return 1
	}
}

// Version is one installed PostgreSQL.
type Version struct {
	Major  int
	BinDir string
}

var number = regexp.MustCompile(`\d+`)

// Versions lists the installed versions from 13, newest first. REGENT_TEST_PG ("15" or "13,17") chooses among them.
func Versions() []Version {
	var found []Version
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/postgres", "/usr/pgsql-*/bin/postgres", "/usr/local/pgsql/bin/postgres"} {
		servers, _ := filepath.Glob(pattern)
		for _, server := range servers {
			out, err := exec.Command(server, "--version").Output()
			if err != nil {
				continue
			}
			if major, err := strconv.Atoi(number.FindString(string(out))); err == nil && major >= 13 {
				found = append(found, Version{Major: major, BinDir: filepath.Dir(server)})
			}
		}
	}
	slices.SortFunc(found, func(a, b Version) int { return b.Major - a.Major })
	if want := os.Getenv("REGENT_TEST_PG"); want != "" {
		found = slices.DeleteFunc(found, func(v Version) bool {
			return !slices.Contains(strings.Split(want, ","), strconv.Itoa(v.Major))
		})
	}
	return found
}

// Installed returns the newest installed version. Without one the test is skipped.
func Installed(t testing.TB) Version {
	t.Helper()
	found := Versions()
	if len(found) == 0 {
		t.Skip("no PostgreSQL 13 or later is installed (looked in /usr/lib/postgresql, /usr/pgsql-*, /usr/local/pgsql): nothing of a real server is tested")
	}
	return found[0]
}

// Dir returns an empty directory of a path short enough for sockets. It is removed after the test, when everything that
// still has its working directory below it has been killed.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(place(), "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		killBelow(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove test directory: %v", err)
		}
	})
	return dir
}

// killBelow ends the servers that a test left in its own directory.
func killBelow(t testing.TB, dir string) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		pids := below(dir)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("processes in %s do not end: %v", dir, below(dir))
}

func below(dir string) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(cwd, dir+"/") {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Server is one PostgreSQL, run directly: what tests use as the other side.
type Server struct {
	Version
	Dir       string // the data directory
	Port      int    // on 127.0.0.1
	SocketDir string
}

// New makes a data directory with trust for everybody from this machine, superuser postgres, data checksums as asked by
// initdb options ("--data-checksums"). It is not started.
func New(t testing.TB, initdb ...string) *Server {
	t.Helper()
	v := Installed(t)
	root := Dir(t)
	s := &Server{Version: v, Dir: filepath.Join(root, "data"), Port: porttest.Free(t), SocketDir: root}
	args := append([]string{"-D", s.Dir, "-U", "postgres", "-A", "trust", "--no-sync", "--encoding=UTF8", "--locale=C"}, initdb...)
	s.run(t, "initdb", args...)
	s.Configure(t, fmt.Sprintf("port = %d\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\nfsync = off\nwal_log_hints = on\ndynamic_shared_memory_type = mmap\n"+
		"max_connections = 30\nshared_buffers = 16MB\nmax_wal_senders = 10\nwal_keep_size = 64MB\n", s.Port, s.SocketDir))
	return s
}

// Configure appends to postgresql.conf.
func (s *Server) Configure(t testing.TB, lines string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.Dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("\n" + lines + "\n"); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) run(t testing.TB, program string, args ...string) {
	t.Helper()
	out, err := exec.Command(filepath.Join(s.BinDir, program), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// Start starts the server and waits until it accepts connections. It is stopped at the end of the test.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	log := filepath.Join(s.SocketDir, "server.log")
	if out, err := exec.Command(filepath.Join(s.BinDir, "pg_ctl"), "start", "-w", "-s", "-D", s.Dir, "-l", log).CombinedOutput(); err != nil {
		text, _ := os.ReadFile(log)
		t.Fatalf("start server: %v\n%s\n%s", err, out, text)
	}
}

// Stop stops the server: "fast", "immediate".
func (s *Server) Stop(t testing.TB, mode string) {
	t.Helper()
	s.run(t, "pg_ctl", "stop", "-w", "-s", "-D", s.Dir, "-m", mode)
}

// Promote promotes the server and waits for it.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.run(t, "pg_ctl", "promote", "-w", "-s", "-D", s.Dir)
}

// SQL runs one statement and returns its rows, columns separated by "|", rows by newlines.
func (s *Server) SQL(t testing.TB, sql string) string {
	t.Helper()
	return SQL(t, s.Port, sql)
}

// SQL runs one statement as postgres on a port of the loopback address.
func SQL(t testing.TB, port int, sql string) string {
	t.Helper()
	out, err := TrySQL(port, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// TrySQL is SQL for statements that may fail.
func TrySQL(port int, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := Connect(ctx, port)
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
			var columns []string
			for _, c := range row {
				columns = append(columns, string(c))
			}
			lines = append(lines, strings.Join(columns, "|"))
		}
	}
	return strings.Join(lines, "\n"), nil
}

// Connect opens a connection as postgres on a port of the loopback address.
func Connect(ctx context.Context, port int) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", port))
}

// Eventually waits until a condition on something outside this process holds: a standby streams, a process is gone. It fails after
// a minute and a half, which only a machine that is slow needs.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	const patience = 90 * time.Second
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("have waited %s, want: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
