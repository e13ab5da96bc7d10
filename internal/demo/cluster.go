package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/dcs/embedded"
	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/internal/guard"
)

// Scope is the name of the cluster; its members are cluster-0 and cluster-1.
const Scope = "cluster"

// members is how many there are.
const members = 2

// demoCluster is the running thing: the store in this process, and the members in processes of their own.
type demoCluster struct {
	site
	dir     string
	made    bool // dir was made by us
	account account
	program string // the agent's

	server *embedded.Server
	store  *etcd.Store
	etcd   *os.File // its log

	members []*member
}

// member is one agent with its PostgreSQL.
type member struct {
	place
	client *client.Client

	mu    sync.Mutex
	agent *agentProcess // nil before the first start
}

// agentProcess is one run of an agent.
type agentProcess struct {
	pid   int
	ended chan struct{} // closed at its end
	err   error         // how it ended; valid afterwards
	mu    sync.Mutex
	meant bool // we ended it
}

// options are what the command line chooses.
type options struct {
	dir      string
	program  string
	pgBin    string
	ttl      time.Duration
	loopWait time.Duration
}

// open prepares a place and starts the store. Whatever it returns, close tidies up.
func open(ctx context.Context, o options) (c *demoCluster, err error) {
	c = &demoCluster{program: o.program}
	c.scope, c.ttl, c.loopWait, c.retry = Scope, o.ttl, o.loopWait, 5*time.Second
	if c.account, err = unprivileged(); err != nil {
		return c, err
	}
	if c.binDir, err = binDir(o.pgBin); err != nil {
		return c, err
	}
	secret := make([]byte, 8)
	_, _ = rand.Read(secret) // never fails
	c.password = hex.EncodeToString(secret)
	if err := c.makeDir(o.dir); err != nil {
		return c, err
	}
	if err := c.startStore(ctx); err != nil {
		return c, err
	}
	for i := range members {
		m, err := c.newMember(i)
		if err != nil {
			return c, err
		}
		c.members = append(c.members, m)
	}
	return c, nil
}

// makeDir makes the demo's directory, or takes an empty one. c.dir is set only if what is in it is ours to delete.
func (c *demoCluster) makeDir(dir string) (err error) {
	if dir == "" {
		if c.dir, err = os.MkdirTemp("", "regent-demo-"); err != nil {
			return fmt.Errorf("make the demo's directory: %w", err)
		}
		c.made = true
	} else {
		if dir, err = filepath.Abs(dir); err != nil {
			return fmt.Errorf("use directory %s: %w", dir, err)
		}
		err := os.Mkdir(dir, 0o755)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make the demo's directory: %w", err)
		}
		c.made = err == nil
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("use directory %s: %w", dir, err)
		}
		if len(entries) > 0 {
			return fmt.Errorf("use directory %s: it holds %d files, want an empty or a new directory", dir, len(entries))
		}
		c.dir = dir
	}
	if real, err := filepath.EvalSymlinks(c.dir); err == nil {
		c.dir = real // processes are found by where they work
	}
	if err := os.Chmod(c.dir, 0o755); err != nil { // the account passes through
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	c.sockets = filepath.Join(c.dir, "s")
	if len(c.sockets) > 80 {
		return fmt.Errorf("use directory %s: its name has %d characters, want at most 78, or PostgreSQL's sockets have no room; choose another with --dir", c.dir, len(c.dir))
	}
	if err := c.account.reaches(c.dir); err != nil {
		return err
	}
	return c.account.mkdir(c.sockets, 0o700)
}

// startStore runs etcd in this process, so that killing a member does not take the store away.
func (c *demoCluster) startStore(ctx context.Context) (err error) {
	if c.etcd, err = os.Create(filepath.Join(c.dir, "etcd.log")); err != nil {
		return fmt.Errorf("open etcd's log: %w", err)
	}
	log := slog.New(slog.NewTextHandler(c.etcd, &slog.HandlerOptions{Level: slog.LevelWarn}))
	// It ends with close, not with ctx: the members are stopped before it.
	c.server, err = embedded.Start(context.WithoutCancel(ctx), embedded.Config{DataDir: c.dir, ClientAddr: "127.0.0.1:0", Log: log})
	if err != nil {
		return fmt.Errorf("start the store: %w", err)
	}
	select {
	case <-c.server.Ready():
	case err := <-c.server.Err():
		return fmt.Errorf("start the store: it ended: %w; its log is %s", err, c.etcd.Name())
	case <-time.After(2 * time.Minute):
		return fmt.Errorf("start the store: it is not ready after 2 min; its log is %s", c.etcd.Name())
	case <-ctx.Done():
		return ctx.Err()
	}
	endpoints := c.server.Endpoints()
	c.site.etcd = endpoints[0]
	c.store, err = etcd.Open(ctx, etcd.Config{Endpoints: endpoints, Namespace: "service", Scope: Scope, Log: log})
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	return nil
}

func (c *demoCluster) newMember(i int) (*member, error) {
	p := place{name: fmt.Sprintf("%s-%d", Scope, i), host: loopback(i)}
	p.dir = filepath.Join(c.dir, p.name)
	var err error
	if p.pgPort, err = freePort(p.host); err != nil {
		return nil, err
	}
	if p.restPort, err = freePort(p.host); err != nil {
		return nil, err
	}
	text, err := memberFile(c.site, p)
	if err != nil {
		return nil, fmt.Errorf("write the configuration of %s: %w", p.name, err)
	}
	if err := errors.Join(c.account.mkdir(p.dir, 0o700), c.account.write(p.file(), text)); err != nil {
		return nil, fmt.Errorf("make the directory of %s: %w", p.name, err)
	}
	api, err := client.New(p.api(), client.Options{Auth: client.Auth{Username: "regent", Password: c.password}, Timeout: 2 * time.Second})
	if err != nil {
		return nil, err
	}
	return &member{place: p, client: api}, nil
}

// start starts a member's agent.
func (c *demoCluster) start(m *member) error {
	log, err := os.OpenFile(m.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start the agent of %s: open its log: %w", m.name, err)
	}
	defer log.Close()
	if err := c.account.own(m.log()); err != nil {
		return fmt.Errorf("start the agent of %s: %w", m.name, err)
	}
	cmd := exec.Command(c.program, "agent", m.file())
	cmd.Args[0] = "regent" // the program looks at the name it is called by
	cmd.Dir = m.dir
	cmd.Env = c.environment(m)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: the interrupt key is for the demo, which ends its members itself. If the demo is killed, its
	// agents get SIGTERM and stop their PostgreSQL.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if c.account.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.account.uid, Gid: c.account.gid}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the agent of %s as user %s: %w", m.name, c.account.name, err)
	}
	a := &agentProcess{pid: cmd.Process.Pid, ended: make(chan struct{})}
	m.mu.Lock()
	m.agent = a
	m.mu.Unlock()
	go func() {
		a.err = cmd.Wait()
		close(a.ended)
	}()
	return nil
}

// environment is the agent's: ours, without what would change how it or PostgreSQL works.
func (c *demoCluster) environment(m *member) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return strings.HasPrefix(name, "PATRONI") || strings.HasPrefix(name, "REGENT_") || strings.HasPrefix(name, "PG") ||
			strings.HasPrefix(name, "LC_") || slices.Contains([]string{"LANG", "LANGUAGE", "HOME", "USER", "LOGNAME", "TZ", "NOTIFY_SOCKET"}, name)
	})
	return append(env, "HOME="+m.dir, "USER="+c.account.name, "LOGNAME="+c.account.name, "LC_ALL=C")
}

// started says whether there was ever an agent.
func (m *member) started() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agent != nil
}

// running is the agent's process, nil when it does not run.
func (m *member) running() *agentProcess {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.agent == nil {
		return nil
	}
	select {
	case <-m.agent.ended:
		return nil
	default:
		return m.agent
	}
}

// died says how an agent ended that nobody had told to.
func (m *member) died() error {
	m.mu.Lock()
	a := m.agent
	m.mu.Unlock()
	if a == nil {
		return nil
	}
	select {
	case <-a.ended:
	default:
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.meant {
		return nil
	}
	how := "exit status 0"
	if a.err != nil {
		how = a.err.Error()
	}
	return fmt.Errorf("the agent of %s (process %d) ended by itself: %s", m.name, a.pid, how)
}

// end sends a signal that is to end the agent, and waits for the end.
func (a *agentProcess) end(s syscall.Signal, limit time.Duration) bool {
	a.mu.Lock()
	a.meant = true
	a.mu.Unlock()
	select {
	case <-a.ended:
		return true // its pid may belong to somebody else by now
	default:
		_ = syscall.Kill(a.pid, s)
	}
	select {
	case <-a.ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// killed says what a kill took away.
type killed struct{ agent, postmaster, others int }

// kill ends a member as the loss of a pod does: agent and PostgreSQL at once, without a chance to tidy up.
func (c *demoCluster) kill(m *member) (k killed, err error) {
	if a := m.running(); a != nil {
		k.agent = a.pid
		if !a.end(syscall.SIGKILL, killLimit) {
			return k, fmt.Errorf("kill the agent of %s: process %d is still there after %s", m.name, a.pid, killLimit)
		}
	}
	k.postmaster = postmaster(m.dataDir())
	n, err := killPostgres(m.dir, c.binDir)
	guard.Remove(m.dataDir())
	k.others = max(n-1, 0)
	return k, err
}

// close ends everything. keep leaves the directory, with data that a cluster can be started from again.
func (c *demoCluster) close(keep bool) error {
	var problems []error
	mode := syscall.SIGQUIT
	if keep {
		mode = syscall.SIGINT
	}
	for _, m := range c.members {
		if a := m.running(); a != nil && !a.end(syscall.SIGKILL, killLimit) { // or it would start PostgreSQL again
			problems = append(problems, fmt.Errorf("end the agent of %s: process %d is still there after %s", m.name, a.pid, killLimit))
		}
	}
	for _, m := range c.members {
		problems = append(problems, stopPostgres(m.dir, c.binDir, mode, 10*time.Second))
		guard.Remove(m.dataDir())
		m.client.Close()
	}
	if c.store != nil {
		problems = append(problems, c.store.Close())
	}
	if c.server != nil {
		problems = append(problems, c.server.Close())
	}
	if c.etcd != nil {
		problems = append(problems, c.etcd.Close())
	}
	if c.dir != "" && !keep {
		problems = append(problems, c.remove())
	}
	return errors.Join(problems...)
}

// remove deletes what the demo has put into its directory, and the directory if it made that.
func (c *demoCluster) remove() error {
	if c.made {
		return os.RemoveAll(c.dir)
	}
	var problems []error
	entries, err := os.ReadDir(c.dir) // was empty when we came
	problems = append(problems, err)
	for _, e := range entries {
		problems = append(problems, os.RemoveAll(filepath.Join(c.dir, e.Name())))
	}
	return errors.Join(problems...)
}

// dsn is a connection string that finds the primary among all members.
func (c *demoCluster) dsn() string {
	var hosts []string
	for _, m := range c.members {
		hosts = append(hosts, fmt.Sprintf("%s:%d", m.host, m.pgPort))
	}
	return fmt.Sprintf("postgresql://postgres:%s@%s/postgres?target_session_attrs=read-write", c.password, strings.Join(hosts, ","))
}

func (c *demoCluster) other(m *member) *member {
	return c.members[slices.IndexFunc(c.members, func(o *member) bool { return o != m })]
}

func (c *demoCluster) member(name string) *member {
	if i := slices.IndexFunc(c.members, func(m *member) bool { return m.name == name }); i >= 0 {
		return c.members[i]
	}
	return nil
}

// loopback is an address of its own for each member, as pods have them, where this machine has more than one.
func loopback(i int) string {
	host := fmt.Sprintf("127.0.0.%d", i+2)
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "127.0.0.1"
	}
	_ = l.Close()
	return host
}

var usedPorts = map[string]bool{}

// freePort finds a port that nobody listens on, below those that the kernel gives to outgoing connections: a member
// that is started again must find its port free.
func freePort(host string) (int, error) {
	var pick [2]byte
	for range 200 {
		_, _ = rand.Read(pick[:])
		port := 15000 + (int(pick[0])<<8+int(pick[1]))%15000
		address := fmt.Sprintf("%s:%d", host, port)
		if usedPorts[address] {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		_ = l.Close()
		usedPorts[address] = true
		return port, nil
	}
	return 0, fmt.Errorf("find a free port on %s: 200 between 15000 and 29999 are all taken", host)
}

// binDir finds PostgreSQL's programs: the newest version from 13.
func binDir(chosen string) (string, error) {
	var best string
	bestMajor := 0
	candidates := []string{filepath.Join(chosen, "postgres")}
	if chosen == "" {
		candidates = nil
		for _, pattern := range []string{"/usr/lib/postgresql/*/bin/postgres", "/usr/pgsql-*/bin/postgres", "/usr/local/pgsql/bin/postgres"} {
			found, _ := filepath.Glob(pattern)
			candidates = append(candidates, found...)
		}
		if found, err := exec.LookPath("postgres"); err == nil {
			candidates = append(candidates, found)
		}
	}
	for _, program := range candidates {
		if major := majorVersion(program); major >= 13 && major > bestMajor {
			best, bestMajor = program, major
		}
	}
	if best == "" {
		if chosen != "" {
			return "", fmt.Errorf("find PostgreSQL: have no program postgres of version 13 or later in %s; want a folder such as /usr/lib/postgresql/17/bin", chosen)
		}
		return "", fmt.Errorf("find PostgreSQL: have none of version 13 or later in /usr/lib/postgresql, /usr/pgsql-*, /usr/local/pgsql and on the PATH (%v); install it (Debian, Ubuntu: make deps), or name its folder of programs with --pg-bin", candidates)
	}
	real, err := filepath.EvalSymlinks(best)
	return filepath.Dir(real), err
}

func majorVersion(program string) (major int) {
	out, err := exec.Command(program, "--version").Output()
	if err == nil {
		_, _ = fmt.Sscanf(string(out), "postgres (PostgreSQL) %d", &major)
	}
	return major
}
