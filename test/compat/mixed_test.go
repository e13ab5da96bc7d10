package compat

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/regent-ha/regent/test/rig"
)

// A cluster may be of both kinds while it is moved over, member by member: each follows the other, takes over from the other,
// and comes back after a crash of the other, and no acknowledged row is lost.
func TestMixedCluster(t *testing.T) {
	needPatroni(t)
	for name, regentFirst := range map[string]bool{"Regent leads first": true, "Patroni leads first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := rig.StartEtcd(t)
			regent, other := rig.NewMember(t, "demo-0", etcd.Address), newPatroni(t, "demo-1", etcd)
			leader, replica := regent, other
			if !regentFirst {
				leader, replica = other, regent
			}
			cluster(t, leader, replica)
			w := rig.StartWriter(t, leader, replica)
			w.Advance(t)
			ours, theirs := newCtl(t, etcd, rig.Program()), newCtl(t, etcd, patronictl)
			for _, c := range []ctl{ours, theirs, ours, theirs} {
				c.run(t, "switchover", rig.Scope, "--leader", leader.Name, "--candidate", replica.Name, "--force")
				leader, replica = replica, leader
				leader.WaitPrimary(t)
				replica.WaitStreaming(t)
				w.Advance(t)
			}
			for _, c := range []ctl{ours, theirs} {
				c.run(t, "pause", rig.Scope, "--wait")
				c.run(t, "resume", rig.Scope, "--wait")
			}
			leader.Stop(t) // in order: the other one takes over
			replica.WaitPrimary(t)
			w.Advance(t)
			leader.Start(t)
			leader.WaitStreaming(t)
			w.Check(t, replica)
		})
	}
}

// A member is moved over, and back, on its own data directory.
func TestMoveOver(t *testing.T) {
	needPatroni(t)
	t.Parallel()
	etcd := rig.StartEtcd(t)
	a, b := newPatroni(t, "demo-0", etcd), newPatroni(t, "demo-1", etcd)
	cluster(t, a, b)
	id, err := a.SQL("select system_identifier from pg_control_system()")
	if err != nil {
		t.Fatal(err)
	}
	w := rig.StartWriter(t, a, b)
	c := newCtl(t, etcd, rig.Program())
	move := func(m *rig.Member, command ...string) {
		t.Helper()
		m.Stop(t)
		m.Command = command
		m.Start(t)
		m.WaitStreaming(t)
		w.Advance(t)
	}
	move(b, rig.Program(), "agent", b.File())
	c.run(t, "switchover", rig.Scope, "--leader", "demo-0", "--candidate", "demo-1", "--force")
	b.WaitPrimary(t)
	a.WaitStreaming(t)
	move(a, rig.Program(), "agent", a.File())
	// And back.
	move(a, patroni, a.File())
	c.run(t, "switchover", rig.Scope, "--leader", "demo-1", "--candidate", "demo-0", "--force")
	a.WaitPrimary(t)
	b.WaitStreaming(t)
	move(b, patroni, b.File())
	if now, err := a.SQL("select system_identifier from pg_control_system()"); now != id {
		t.Errorf("have system identifier %s (%v), want %s", now, err, id)
	}
	w.Check(t, a)
}

// markDirectory puts a file into the data directory that no clone has.
func markDirectory(m *rig.Member) error {
	return os.WriteFile(filepath.Join(m.Data, "mark"), nil, 0o600)
}

func marked(m *rig.Member) bool {
	_, err := os.Stat(filepath.Join(m.Data, "mark"))
	return err == nil
}
