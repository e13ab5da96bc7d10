package compat

import (
	"strings"
	"testing"

	"github.com/regent-ha/regent/test/rig"
)

// Patroni's command line operates a cluster of Regent members.
func TestPatronictlOnRegent(t *testing.T) {
	needPatroni(t)
	t.Parallel()
	etcd := rig.StartEtcd(t)
	operate(t, newCtl(t, etcd, patronictl), rig.NewMember(t, "demo-0", etcd.Address), rig.NewMember(t, "demo-1", etcd.Address))
}

// Regent's command line operates a cluster of Patroni members.
func TestRegentctlOnPatroni(t *testing.T) {
	needPatroni(t)
	t.Parallel()
	etcd := rig.StartEtcd(t)
	operate(t, newCtl(t, etcd, rig.Program()), newPatroni(t, "demo-0", etcd), newPatroni(t, "demo-1", etcd))
}

// operate goes once through everything that people do with a cluster.
func operate(t *testing.T, c ctl, a, b *rig.Member) {
	cluster(t, a, b)
	w := rig.StartWriter(t, a, b)
	w.Advance(t)

	c.want(t, []string{"demo", "demo-0", "demo-1", "Leader", "Replica", "running"}, "list", rig.Scope)
	c.want(t, []string{"demo-0", "+ demo-1"}, "topology", rig.Scope)
	c.want(t, []string{"loop_wait: 2", "max_connections: 40"}, "show-config", rig.Scope)

	c.run(t, "edit-config", rig.Scope, "--force", "--quiet", "-p", "work_mem=7MB", "-s", "maximum_lag_on_failover=2000000")
	rig.Wait(t, "the new setting is in force on both", func() bool {
		x, _ := a.SQL("show work_mem")
		y, _ := b.SQL("show work_mem")
		return x == "7MB" && y == "7MB"
	})

	c.run(t, "switchover", rig.Scope, "--leader", "demo-0", "--candidate", "demo-1", "--force")
	b.WaitPrimary(t)
	a.WaitStreamsFrom(t, b)
	w.Advance(t)
	rig.Wait(t, "the history names who took over", func() bool {
		out, err := c.try("history", rig.Scope, "-f", "json")
		return err == nil && strings.Contains(out, "demo-1")
	})

	c.run(t, "failover", rig.Scope, "--candidate", "demo-0", "--force")
	a.WaitPrimary(t)
	b.WaitStreamsFrom(t, a)
	w.Advance(t)

	pause(t, c, a, b)
	c.want(t, []string{"Maintenance mode: on"}, "list", rig.Scope)
	resume(t, c, a, b)
	if out := c.run(t, "list", rig.Scope); strings.Contains(out, "Maintenance mode") {
		t.Errorf("after resume: have\n%s", out)
	}

	started := func(m *rig.Member) string { s, _ := m.SQL("select pg_postmaster_start_time()"); return s }
	before := started(b)
	c.run(t, "restart", rig.Scope, "demo-1", "--force")
	b.WaitStreamsFrom(t, a)
	if after := started(b); after == before {
		t.Errorf("restart: PostgreSQL of demo-1 runs since %s, as before", after)
	}

	// A restart of the leader keeps it the leader.
	before = started(a)
	c.run(t, "restart", rig.Scope, "demo-0", "--force")
	a.WaitPrimary(t)
	if after := started(a); after == before {
		t.Errorf("restart: PostgreSQL of demo-0 runs since %s, as before", after)
	}

	c.want(t, []string{"demo-0", "demo-1"}, "reload", rig.Scope, "--force")

	if err := markDirectory(b); err != nil {
		t.Fatal(err)
	}
	c.run(t, "reinit", rig.Scope, "demo-1", "--force")
	rig.Wait(t, "the data directory is a new one", func() bool { return !marked(b) })
	b.WaitStreamsFrom(t, a)

	w.Advance(t)
	w.Check(t, a)
}
