package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/regent-ha/regent/client"
)

// settings are the timing of a cluster, in seconds.
type settings struct {
	name                 string
	ttl, loopWait, retry int
}

func (s settings) String() string {
	return fmt.Sprintf("ttl %d, loop_wait %d, retry_timeout %d", s.ttl, s.loopWait, s.retry)
}

// members is how many a cluster has.
const members = 3

// cluster is three agents of one system, with their PostgreSQL.
type cluster struct {
	place    *place
	system   system
	settings settings
	scope    string
	dir      string // inside
	store    string // host:port
	members  []*member
}

// member is one agent with its PostgreSQL.
type member struct {
	name             string
	dir, file        string // inside
	pgPort, restPort int
	client           *client.Client
	agent            *process // nil before the first start
	log              *os.File
}

func (m *member) api() string     { return fmt.Sprintf("127.0.0.1:%d", m.restPort) }
func (m *member) dataDir() string { return filepath.Join(m.dir, "data") }

// Passwords protect the clusters from other users of this machine while they run.
//
// The method is md5 because the writer asks all members for the primary every 5 ms while there is none: the thousands of hashes of
// scram would take the CPU from those who are measured.
var memberFile = template.Must(template.New("member").Parse(`scope: {{.Scope}}
name: {{.Name}}
restapi: {listen: '{{.REST}}', connect_address: '{{.REST}}'}
etcd3: {hosts: '{{.Store}}'}
bootstrap:
  dcs:
    ttl: {{.TTL}}
    loop_wait: {{.LoopWait}}
    retry_timeout: {{.Retry}}
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
      parameters: {max_connections: 50, password_encryption: md5}
  initdb: [{encoding: UTF8}, {locale: C}, data-checksums, {auth-host: md5}, {auth-local: md5}]
postgresql:
  listen: {{.Postgres}}
  connect_address: {{.Postgres}}
  data_dir: {{.Dir}}/data
  bin_dir: {{.BinDir}}
  pgpass: {{.Dir}}/pgpass
  use_pg_rewind: true
  authentication:
    superuser: {username: postgres, password: {{.Password}}}
    replication: {username: replicator, password: {{.Password}}}
    rewind: {username: rewinder, password: {{.Password}}}
  pg_hba:
  - local all all md5
  - host all all 127.0.0.1/32 md5
  - host replication replicator 127.0.0.1/32 md5
  parameters: {unix_socket_directories: '{{.Dir}}'}
`))

// newCluster prepares three members in a folder of the place's directory.
func newCluster(p *place, s system, t settings, scope, store, password string) (*cluster, error) {
	c := &cluster{place: p, system: s, settings: t, scope: scope, store: store, dir: filepath.Join(p.dir, scope)}
	if err := p.mkdir(c.dir); err != nil {
		return c, err
	}
	for i := range members {
		m := &member{name: fmt.Sprintf("%s-%d", scope, i)}
		m.dir = filepath.Join(c.dir, fmt.Sprint("m", i))
		m.file = filepath.Join(m.dir, "config.yml")
		c.members = append(c.members, m)
		var errPort, errClient error
		m.pgPort, errPort = freePort()
		if errPort == nil {
			m.restPort, errPort = freePort()
		}
		m.client, errClient = client.New("http://"+m.api(), client.Options{Timeout: 2 * time.Second})
		var text bytes.Buffer
		errText := memberFile.Execute(&text, map[string]any{
			"Scope": scope, "Name": m.name, "Store": store, "TTL": t.ttl, "LoopWait": t.loopWait, "Retry": t.retry, "Password": password,
			"REST": m.api(), "Postgres": fmt.Sprintf("127.0.0.1:%d", m.pgPort), "Dir": m.dir, "BinDir": p.binDir,
		})
		if err := errors.Join(errPort, errClient, errText, p.mkdir(m.dir), p.write(m.file, text.Bytes())); err != nil {
			return c, fmt.Errorf("prepare %s: %w", m.name, err)
		}
		var err error
		if m.log, err = os.Create(p.outside(filepath.Join(m.dir, "agent.log"))); err != nil {
			return c, fmt.Errorf("prepare %s: %w", m.name, err)
		}
	}
	return c, nil
}

// dsn finds the primary among all members.
func (c *cluster) dsn(password string) string {
	var hosts []string
	for _, m := range c.members {
		hosts = append(hosts, fmt.Sprintf("127.0.0.1:%d", m.pgPort))
	}
	return fmt.Sprintf("postgresql://postgres:%s@%s/postgres?target_session_attrs=read-write&sslmode=disable", password, strings.Join(hosts, ","))
}

// start starts a member's agent.
func (c *cluster) start(m *member) (err error) {
	// If we die, it gets SIGTERM and stops its PostgreSQL.
	cmd := c.place.command(context.Background(), syscall.SIGTERM, m.dir, c.system.Agent(m.file)...)
	m.agent, err = start(cmd, m.log)
	return err
}

// startMeasured starts an agent and returns how long it took until its REST API answered, whatever it said.
func (c *cluster) startMeasured(ctx context.Context, m *member) (time.Duration, error) {
	begun := time.Now()
	if err := c.start(m); err != nil {
		return 0, err
	}
	for {
		if _, err := m.client.Liveness(ctx); err == nil {
			return time.Since(begun), nil
		}
		select {
		case <-m.agent.ended:
			return 0, fmt.Errorf("start %s: the agent ended: %w\n%s", m.name, errors.Join(m.agent.err, errEnded), c.tail(m))
		case <-ctx.Done():
			return 0, fmt.Errorf("start %s: its REST API does not answer: %w", m.name, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

var errEnded = errors.New("nobody had told it to")

// streaming counts the members that stream from the primary. A base backup streams too, under another name.
func (c *cluster) streaming(ctx context.Context, primary *pgx.Conn) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	err = primary.QueryRow(ctx, "select count(distinct application_name) from pg_stat_replication where state = 'streaming' and starts_with(application_name, $1)", c.scope+"-").Scan(&n)
	return n, err
}

// waitStreaming waits until so many members stream, and returns when that was seen.
func (c *cluster) waitStreaming(ctx context.Context, dsn string, want int) (time.Time, error) {
	var conn *pgx.Conn
	defer func() { hangUp(conn) }()
	have, err := 0, error(nil)
	for {
		if conn == nil {
			conn, err = connect(ctx, dsn)
		}
		if conn != nil {
			if have, err = c.streaming(ctx, conn); err != nil {
				hangUp(conn)
				conn = nil
			} else if have >= want {
				return time.Now(), nil
			}
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("wait for %d members that stream: have %d: %w", want, have, errors.Join(context.Cause(ctx), err))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// healLimit bounds how long a cluster may take to be whole again.
const healLimit = 90 * time.Second

// healthy waits until all agents run and answer, one leads, the others stream, and the store says the same. It returns the leader.
func (c *cluster) healthy(ctx context.Context, dsn string) (*member, error) {
	ctx, cancel := context.WithTimeout(ctx, healLimit)
	defer cancel()
	for {
		if _, err := c.waitStreaming(ctx, dsn, members-1); err != nil {
			return nil, fmt.Errorf("wait for a healthy cluster: %w", err)
		}
		leader, lacks := c.look(ctx)
		if lacks == "" {
			return leader, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a healthy cluster, %s: %s", healLimit, lacks)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// look says who leads, or what is not as it should be.
func (c *cluster) look(ctx context.Context) (leader *member, lacks string) {
	for _, m := range c.members {
		if m.agent == nil || !m.agent.running() {
			return nil, m.name + ": its agent does not run"
		}
		code, s, err := m.client.Health(ctx, "/primary")
		switch {
		case err != nil:
			return nil, fmt.Sprintf("%s: %v", m.name, err)
		case s.State != "running":
			return nil, fmt.Sprintf("%s: PostgreSQL is %s", m.name, s.State)
		case code == http.StatusOK && leader != nil:
			return nil, fmt.Sprintf("%s and %s both lead", leader.name, m.name)
		case code == http.StatusOK:
			leader = m
		}
	}
	if leader == nil {
		return nil, "nobody leads"
	}
	v, err := leader.client.Cluster(ctx)
	if err != nil {
		return nil, fmt.Sprintf("%s: %v", leader.name, err)
	}
	l := v.Leader()
	if l == nil || l.Name != leader.name || len(v.Members) != members {
		return nil, "the store does not say yet who leads whom"
	}
	for _, m := range v.Members {
		if m.State != "running" && m.State != "streaming" || m.Timeline != l.Timeline {
			return nil, fmt.Sprintf("%s: the store has it as %s on timeline %d", m.Name, m.State, m.Timeline)
		}
	}
	return leader, ""
}

// kill ends a member as the loss of its machine does: agent and PostgreSQL at once.
func (c *cluster) kill(m *member) error {
	return errors.Join(m.agent.end(syscall.SIGKILL, true, killLimit), c.place.killPostgres(m.dir))
}

// close ends everything. The data is deleted: no stop needs to be in order.
func (c *cluster) close() error {
	var problems []error
	for _, m := range c.members { // first, or they would start PostgreSQL again
		if m.agent != nil {
			problems = append(problems, m.agent.end(syscall.SIGKILL, true, killLimit))
		}
	}
	for _, m := range c.members {
		// SIGQUIT lets it tidy up its shared memory.
		if pid := postmaster(c.place.outside(m.dataDir())); pid > 0 && len(c.place.postgresBelow(m.dir)) > 0 {
			_ = syscall.Kill(pid, syscall.SIGQUIT)
		}
	}
	for deadline := time.Now().Add(killLimit); len(c.place.postgresBelow(c.dir)) > 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	problems = append(problems, c.place.killPostgres(c.dir))
	for _, m := range c.members {
		if m.client != nil {
			m.client.Close()
		}
		if m.log != nil {
			problems = append(problems, m.log.Close())
		}
	}
	return errors.Join(append(problems, os.RemoveAll(c.place.outside(c.dir)))...)
}

// tail is the end of an agent's log.
func (c *cluster) tail(m *member) string {
	text, _ := os.ReadFile(m.log.Name())
	return string(text[max(0, len(text)-2000):])
}
