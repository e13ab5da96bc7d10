// Package compat runs Regent beside the real thing: Patroni's command line on a cluster of Regent members, ours on a cluster of
// Patroni members, and both kinds of member in one cluster. Patroni is the distribution's; without it the tests are skipped.
package compat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/postgres/pgtest"
	"github.com/regent-ha/regent/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

const (
	patroni    = "/usr/bin/patroni"
	patronictl = "/usr/bin/patronictl"
)

func needPatroni(t *testing.T) {
	t.Helper()
	for _, program := range []string{patroni, patronictl} {
		if _, err := os.Stat(program); err != nil {
			t.Skipf("no %s on this machine (Debian: apt install patroni): compatibility is not tested", program)
		}
	}
}

// newPatroni is a member whose agent is Patroni.
func newPatroni(t *testing.T, name string, etcd *rig.Etcd) *rig.Member {
	m := rig.NewMember(t, name, etcd.Address)
	m.Command = []string{patroni, m.File()}
	return m
}

// ctl is a command line, Patroni's or ours, with its configuration.
type ctl struct {
	program []string
	dir     string
}

func newCtl(t *testing.T, etcd *rig.Etcd, program ...string) ctl {
	dir := pgtest.Dir(t)
	file := filepath.Join(dir, "ctl.yml")
	if err := os.WriteFile(file, []byte("scope: "+rig.Scope+"\netcd3: {hosts: '"+etcd.Address+"'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return ctl{append(program, "-c", file), dir}
}

// run runs one command, which must succeed, and returns what it prints.
func (c ctl) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.try(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (c ctl) try(args ...string) (string, error) {
	cmd := exec.Command(c.program[0], append(c.program[1:], args...)...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "LC_ALL=C.UTF-8", "COLUMNS=200")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// want checks that a command prints all of these.
func (c ctl) want(t *testing.T, texts []string, args ...string) {
	t.Helper()
	out := c.run(t, args...)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%s: want %q in\n%s", strings.Join(args, " "), text, out)
		}
	}
}

// pause and resume wait for every member, the command itself for one cycle only: an agent that has not seen the change yet stops its PostgreSQL
// when it leaves, or leaves it behind.
func pause(t *testing.T, c ctl, members ...*rig.Member) {
	t.Helper()
	c.run(t, "pause", rig.Scope, "--wait")
	for _, m := range members {
		rig.Wait(t, m.Name+" is paused", func() bool { return m.Status()["pause"] == true })
	}
}

func resume(t *testing.T, c ctl, members ...*rig.Member) {
	t.Helper()
	c.run(t, "resume", rig.Scope, "--wait")
	for _, m := range members {
		rig.Wait(t, m.Name+" is not paused", func() bool { s := m.Status(); return s != nil && s["pause"] != true })
	}
}

// cluster starts a leader and a replica.
func cluster(t *testing.T, leader, replica *rig.Member) {
	t.Helper()
	leader.Start(t)
	leader.WaitPrimary(t)
	replica.Start(t)
	replica.WaitStreamsFrom(t, leader)
}

// threePatroni is a cluster of three Patroni members; the first one leads.
func threePatroni(t *testing.T) (etcd *rig.Etcd, members []*rig.Member) {
	t.Helper()
	etcd = rig.StartEtcd(t)
	for n := range 3 {
		members = append(members, newPatroni(t, fmt.Sprintf("demo-%d", n), etcd))
	}
	cluster(t, members[0], members[1])
	members[2].Start(t)
	members[2].WaitStreamsFrom(t, members[0])
	return etcd, members
}
