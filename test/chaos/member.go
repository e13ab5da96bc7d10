package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/test/chaos/machine"
	"github.com/regent-ha/regent/test/rig/rows"
)

// member is a host with an agent and its PostgreSQL.
type member struct {
	site *site
	name string
	host *machine.Host
	dir  string // configuration, sockets, logs
	disk string // a file system of its own
	data string
	api  *client.Client

	starting sync.Mutex // one start at a time
	mu       sync.Mutex
	agent    *machine.Process
	expected bool // the agent may end: somebody has killed it or asked it to
	died     func(how string)
}

func (m *member) file() string { return filepath.Join(m.dir, "agent.yml") }

// start switches the host on when it is off, and starts the agent when there is none.
func (m *member) start() error {
	m.starting.Lock()
	defer m.starting.Unlock()
	if !m.host.On() {
		if err := m.host.Boot(); err != nil {
			return err
		}
	}
	if m.alive() {
		return nil
	}
	p, err := m.host.Start(machine.Command{
		Path: m.site.agent, Args: []string{"regent", "agent", m.file()}, Dir: m.dir, UID: m.site.uid, GID: m.site.gid,
		Env: []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + m.dir}, Log: m.site.log(m.name + ".agent"),
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.agent, m.expected = p, false
	died := m.died
	m.mu.Unlock()
	go func() {
		<-p.Ended
		if !m.expects() && died != nil {
			died(describe(p.Status))
		}
	}()
	return nil
}

func describe(s syscall.WaitStatus) string {
	if s.Signaled() {
		return "signal " + s.Signal().String()
	}
	return fmt.Sprintf("exit code %d", s.ExitStatus())
}

func (m *member) process() *machine.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agent
}

func (m *member) alive() bool {
	p := m.process()
	if p == nil {
		return false
	}
	select {
	case <-p.Ended:
		return false
	default:
		return true
	}
}

// expect says whether the agent may end from now on.
func (m *member) expect(may bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expected = may
}

func (m *member) expects() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.expected
}

// isAgent, isPostgres and isPostmaster choose among a host's processes.
func (m *member) isAgent(e machine.Entry) bool {
	p := m.process()
	return p != nil && e.Inner == p.PID
}

func (m *member) isPostgres(e machine.Entry) bool {
	return filepath.Base(e.Program) == "postgres"
}

func (m *member) isPostmaster(e machine.Entry) bool {
	text, err := os.ReadFile(filepath.Join(m.data, "postmaster.pid"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	return err == nil && e.Inner == pid && m.isPostgres(e)
}

// isBackend is a process that serves an application.
func (m *member) isBackend(e machine.Entry) bool {
	return m.isPostgres(e) && strings.Contains(e.Args[0], ": postgres postgres "+appsAt)
}

// stopAgent asks the agent to leave, and waits.
func (m *member) stopAgent(limit time.Duration) error {
	m.expect(true)
	if _, err := m.host.Signal(syscall.SIGTERM, m.isAgent); err != nil {
		return err
	}
	select {
	case <-m.process().Ended:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("the agent of %s has not left %s after SIGTERM", m.name, limit)
	}
}

// status asks the agent; nil when it does not answer.
func (m *member) status(ctx context.Context) *client.Status {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := m.api.Status(ctx)
	if err != nil {
		return nil
	}
	return s
}

func (m *member) dsn() string {
	return fmt.Sprintf("host=%s port=%d user=postgres password=%s dbname=postgres sslmode=disable connect_timeout=2", m.host.Address, memberPort, password)
}

// query runs one statement and returns the rows as text, columns separated by "|".
func (m *member) query(ctx context.Context, sql string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, m.dsn())
	if err != nil {
		return nil, err
	}
	defer rows.HangUp(conn)
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", m.name, sql, err)
	}
	var lines []string
	for _, r := range results {
		for _, row := range r.Rows {
			var fields []string
			for _, f := range row {
				fields = append(fields, string(f))
			}
			lines = append(lines, strings.Join(fields, "|"))
		}
	}
	return lines, nil
}

// unfinished is the agent's mark of a data directory that is being made, or removed.
const unfinished = ".regent-unfinished"

// timeline is the newest timeline of which the data directory has WAL; 0: there is no data directory, or half of one.
func (m *member) timeline() (newest uint32) {
	if _, err := os.Stat(filepath.Join(m.data, "PG_VERSION")); err != nil {
		return 0
	}
	if _, err := os.Stat(filepath.Join(m.data, unfinished)); err == nil {
		return 0
	}
	files, _ := os.ReadDir(filepath.Join(m.data, "pg_wal"))
	for _, f := range files {
		if tl, err := rows.Timeline(f.Name()); err == nil {
			newest = max(newest, tl)
		}
	}
	return newest
}

func find(members []*member, name string) *member {
	if i := slices.IndexFunc(members, func(m *member) bool { return m.name == name }); i >= 0 {
		return members[i]
	}
	return nil
}
