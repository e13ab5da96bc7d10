package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs/consul"
	"github.com/regent-ha/regent/internal/dcs/consul/consultest"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/internal/dcs/etcd/etcdtest"
	"github.com/regent-ha/regent/internal/dcs/zookeeper"
	"github.com/regent-ha/regent/internal/guard"
	"github.com/regent-ha/regent/internal/porttest"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

// Patience bounds a wait for what takes seconds when all is well. Machines that run tests are slow; how long something
// may take is Quick's to say.
const Patience = 5 * time.Minute

// Cluster is one cluster of a test.
type Cluster struct {
	Members []*Member
	Keys    Keys               // reads the store directly
	Consul  *consultest.Server // the store, if it is one

	t       testing.TB // whose it is
	dir     string
	scope   string
	binDir  string
	options Options
	address string // of the store
}

// Keys is a store for looking at it.
type Keys interface {
	Snapshot(ctx context.Context) (*cluster.Snapshot, error)
	Close() error
}

// New prepares a cluster; its agents are not started. On failure of the test it prints what the agents said.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	o.defaults()
	machine.watch()
	pg := pgtest.Installed(t)
	address, scope, server := startStore(t, o)
	dir, err := os.MkdirTemp(root(t), scope+"-")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, Consul: server, dir: dir, scope: scope, binDir: pg.BinDir, options: o, address: address}
	if o.ZooKeeper {
		c.Keys, err = zookeeper.Open(t.Context(), zookeeper.Config{Servers: []string{address}, Namespace: "service", Scope: scope, Log: etcdtest.Quiet})
	} else if o.Consul {
		c.Keys, err = consul.Open(t.Context(), consul.Config{Address: address, Namespace: "service", Scope: scope, Log: etcdtest.Quiet})
	} else {
		c.Keys, err = etcd.Open(t.Context(), etcd.Config{Endpoints: []string{address}, Namespace: "service", Scope: scope, Log: etcdtest.Quiet})
	}
	if err != nil {
		t.Fatal(err)
	}
	port := porttest.Free(t)
	for i := range o.Members {
		host := "127.0.0.1"
		switch {
		case o.OnePort:
			host = fmt.Sprintf("127.0.0.%d", 11+i)
		case i > 0:
			port = porttest.Free(t)
		}
		m := &Member{Name: fmt.Sprintf("%s%d", o.Names, i), Host: host, Port: port, Store: dcstest.NewProxy(t, address), cluster: c}
		m.Dir = filepath.Join(dir, m.Name)
		m.Data = filepath.Join(m.Dir, "data")
		m.api = fmt.Sprintf("127.0.0.1:%d", porttest.Free(t))
		if m.API, err = client.New("http://"+m.api, client.Options{Timeout: 3 * time.Second}); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(m.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.file(), m.configuration(), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Members = append(c.Members, m)
	}
	t.Cleanup(c.close) // before the ports are anybody's
	return c
}

// Start makes a cluster that runs: m0 leads, the others stream from it.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := New(t, o)
	c.Members[0].Start(t)
	Eventually(t, Patience, "m0 is the primary", func() bool { return c.Members[0].Ready("primary") })
	for _, m := range c.Members[1:] {
		m.Start(t)
	}
	c.Healthy(t, Patience)
	return c
}

func (c *Cluster) close() {
	t := c.t
	if t.Failed() || os.Getenv(envTell) != "" {
		c.tell(t)
	}
	for _, m := range c.Members {
		if left := m.end(); len(left) > 0 {
			t.Errorf("processes %v of %s do not end", left, m.Name)
		}
		m.API.Close()
		guard.Remove(m.Data)
	}
	_ = c.Keys.Close()
	_ = os.RemoveAll(c.dir)
}

// tell prints what each agent logged and how it explains itself.
func (c *Cluster) tell(t testing.TB) {
	for _, m := range c.Members {
		log, _ := os.ReadFile(m.log())
		lines := strings.Split(string(log), "\n")
		var shown []string
		for _, l := range lines {
			if !strings.Contains(l, " DEBUG: ") {
				shown = append(shown, l)
			}
		}
		t.Logf("==== log of %s (%s), its last %d lines\n%s", m.Name, m.api, min(len(shown), 120), strings.Join(shown[max(0, len(shown)-120):], "\n"))
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		why, err := m.API.Why(ctx, time.Time{}, 5)
		cancel()
		if err != nil {
			t.Logf("==== GET /why of %s: %v", m.Name, err)
			continue
		}
		t.Logf("==== GET /why of %s: leader %q, verdict %q", m.Name, why.Leader, why.Verdict)
		for _, d := range why.Decisions {
			t.Logf("     %s %s: %s %v %v", d.At.Format("15:04:05.000"), d.Reason, d.Detail, d.Actions, d.Errors)
		}
	}
}

// Leader is the member that holds the lock by the store itself; nil: nobody does. A store that does not answer says nothing, so it is asked
// until it does.
func (c *Cluster) Leader() (leader *Member) {
	c.t.Helper()
	Eventually(c.t, Patience, "the store says who leads", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		s, err := c.Keys.Snapshot(ctx)
		if err != nil {
			return false
		}
		leader = nil
		for _, m := range c.Members {
			if m.Name == s.Leader.Name {
				leader = m
			}
		}
		return true
	})
	return leader
}

// Scope is the cluster's name.
func (c *Cluster) Scope() string { return c.scope }

// Command runs the command line tool against the cluster and returns what it prints.
func (c *Cluster) Command(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(os.Getenv(envAgent), append(args, "-c", c.Members[0].file(), c.scope)...)
	cmd.Args[0] = "regent"
	cmd.Dir, cmd.Env = c.dir, c.Members[0].environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("regent %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Others are the members but that one.
func (c *Cluster) Others(not *Member) (list []*Member) {
	for _, m := range c.Members {
		if m != not {
			list = append(list, m)
		}
	}
	return list
}

// ill says what keeps the cluster from being whole; empty: the leader runs as a primary, and every other member streams from it
// on its timeline and has nothing else to do.
func (c *Cluster) ill(members []*Member) (leader *Member, why string) {
	leader = c.Leader()
	if leader == nil {
		return nil, "nobody holds the lock"
	}
	s := leader.Status()
	if s == nil || s.State != "running" || s.Role != "primary" {
		return leader, fmt.Sprintf("the leader %s is no running primary", leader.Name)
	}
	for _, m := range members {
		r := m.Status()
		switch {
		case m == leader:
		case r == nil:
			return leader, m.Name + " does not answer"
		case r.Regent != nil && r.Regent.Job != nil:
			return leader, m.Name + " is busy: " + r.Regent.Job.Name
		case r.Role != "replica" || r.ReplicationState != "streaming" || r.Timeline != s.Timeline:
			return leader, fmt.Sprintf("%s is %s %s on timeline %d, replication %q; the leader %s is on %d", m.Name, r.Role, r.State, r.Timeline, r.ReplicationState, leader.Name, s.Timeline)
		}
	}
	return leader, ""
}

// Healthy waits until nothing is ill, and returns the leader. Agents say what they saw last: right after a fault that may be of before.
func (c *Cluster) Healthy(t testing.TB, limit time.Duration) *Member {
	t.Helper()
	return c.HealthyWith(t, limit, c.Members...)
}

// HealthyWith is Healthy for some members.
func (c *Cluster) HealthyWith(t testing.TB, limit time.Duration, members ...*Member) (leader *Member) {
	t.Helper()
	ill := ""
	if !holds(limit, func() bool { leader, ill = c.ill(members); return ill == "" }) {
		t.Fatalf("the cluster is not whole after %s: %s", limit, ill)
	}
	return leader
}

// Eventually waits until something outside this process holds, and fails after the limit. It returns when it waited. What
// holds only for a moment may be missed.
func Eventually(t testing.TB, limit time.Duration, what string, condition func() bool) Span {
	t.Helper()
	begin := time.Now()
	if !holds(limit, condition) {
		t.Fatalf("have waited %s, want: %s", limit, what)
	}
	return Since(begin)
}

func holds(limit time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		late := time.Now().After(deadline) // before the look: this process may not have been run since the last one
		if condition() {
			return true
		}
		if late {
			return false
		}
	}
}
