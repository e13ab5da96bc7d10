// Package packages checks what the packages bring along: each example runs in the program that it is for.
package packages

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/porttest"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const examples = "../../packaging/examples/"

// example writes an example with some of its text replaced; each replaced text must be in it.
func example(t *testing.T, name string, replace ...string) (path string) {
	t.Helper()
	text, err := os.ReadFile(examples + name)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(string(text), replace[i]) {
			t.Fatalf("%s has no %q", name, replace[i])
		}
	}
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// program finds a program of the distribution; scripts/deps installs it.
func program(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("/usr/sbin", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not installed: scripts/deps %s", name, name)
	}
	return path
}

// run starts a program that goes on until the end of the test.
func run(t *testing.T, path string, args ...string) {
	t.Helper()
	cmd := exec.Command(path, args...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", path, &said)
		}
	})
}

// member answers the health checks of a primary or a replica, and each connection with its name.
type member struct {
	primary       atomic.Bool
	address, rest string
}

func newMember(t *testing.T, name string) *member {
	t.Helper()
	m := &member{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.URL.Path == "/primary") != m.primary.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, name)
				_, _ = io.Copy(io.Discard, c) // until the other side ends
			}()
		}
	}()
	m.address, m.rest = l.Addr().String(), server.Listener.Addr().String()
	return m
}

// whoAnswers is the name of the member behind a port, "" if there is none; the session stays open.
func whoAnswers(t *testing.T, port int) (string, net.Conn) {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return "", nil
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	name := make([]byte, 3)
	if _, err := io.ReadFull(c, name); err != nil {
		return "", nil
	}
	return string(name), c
}

func TestHAProxyFollowsThePrimary(t *testing.T) {
	haproxy := program(t, "haproxy")
	a, b := newMember(t, "pg1"), newMember(t, "pg2")
	a.primary.Store(true)
	_, restA, _ := net.SplitHostPort(a.rest)
	_, restB, _ := net.SplitHostPort(b.rest)
	primary, replicas := porttest.Free(t), porttest.Free(t)
	run(t, haproxy, "-db", "-f", example(t, "haproxy.cfg",
		"*:5000", fmt.Sprintf("127.0.0.1:%d", primary), "*:5001", fmt.Sprintf("127.0.0.1:%d", replicas), "inter 2s", "inter 50ms",
		"10.0.0.1:5432 maxconn 300 check port 8008", a.address+" check port "+restA,
		"10.0.0.2:5432 maxconn 300 check port 8008", b.address+" check port "+restB,
		"10.0.0.3:5432 maxconn 300 check port 8008", "127.0.0.1:1 check port 1"))
	var session net.Conn
	pgtest.Eventually(t, "port of the primary leads to pg1, that of the replicas to pg2", func() bool {
		name, c := whoAnswers(t, primary)
		other, _ := whoAnswers(t, replicas)
		session = c
		return name == "pg1" && other == "pg2"
	})
	a.primary.Store(false)
	b.primary.Store(true)
	pgtest.Eventually(t, "both ports have changed sides", func() bool {
		name, _ := whoAnswers(t, primary)
		other, _ := whoAnswers(t, replicas)
		return name == "pg2" && other == "pg1"
	})
	_ = session.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := session.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("a session of the old primary: have %v, want its end", err)
	}
}

func TestPgBouncerPoolsSessions(t *testing.T) {
	bouncer := program(t, "pgbouncer")
	s := pgtest.New(t)
	s.Start(t)
	users := filepath.Join(t.TempDir(), "userlist.txt")
	if err := os.WriteFile(users, []byte(`"postgres" "secret"`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := porttest.Free(t)
	run(t, bouncer, example(t, "pgbouncer.ini", "port=5000", "port="+strconv.Itoa(s.Port), "listen_addr = *", "listen_addr = 127.0.0.1",
		"listen_port = 6432", "listen_port = "+strconv.Itoa(port), "/etc/pgbouncer/userlist.txt", users))
	backend := func() (pid int) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=secret dbname=postgres sslmode=disable default_query_exec_mode=simple_protocol", port))
		if err != nil {
			return 0
		}
		defer c.Close(ctx)
		if c.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid) != nil {
			return 0
		}
		return pid
	}
	first := 0
	pgtest.Eventually(t, "a query goes through", func() bool { first = backend(); return first != 0 })
	// The pooler may still reset the one that the session before has left, and give another one meanwhile.
	pgtest.Eventually(t, "a later session has the backend of the first one: they are pooled", func() bool { return backend() == first })
	s.Stop(t, "immediate")
	s.Start(t)
	pgtest.Eventually(t, "a query goes through after a restart", func() bool { next := backend(); return next != 0 && next != first })
}

func TestKeepalivedAcceptsTheExample(t *testing.T) {
	keepalived := program(t, "keepalived")
	check := func(path string) (string, error) {
		out, err := exec.Command(keepalived, "--config-test", "--use-file", path).CombinedOutput()
		return string(out), err
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	here := []string{"eth0", wire(t), "script_user root", "script_user " + me.Username} // the test does not run as root
	if out, err := check(example(t, "keepalived.conf", here...)); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := check(example(t, "keepalived.conf", append(here, "virtual_router_id 51", "virtual_router_id 256")...)); err == nil {
		t.Errorf("a wrong file passes, too: the check is worth nothing\n%s", out)
	}
}

// wire is a network interface of this machine on which keepalived can speak.
func wire(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			return i.Name
		}
	}
	t.Skip("this machine has no network interface but the loopback, which keepalived refuses")
	return ""
}

func TestExampleConfigurationIsValid(t *testing.T) {
	file, err := config.Load(examples+"regent.yml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if problems := config.Validate(file, config.Options{DocumentOnly: true, RequireDCS: true}); len(problems) > 0 {
		t.Errorf("have %v, want no problems", problems)
	}
	if _, err := file.Settings(); err != nil {
		t.Error(err)
	}
}
