package compat

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/regent-ha/regent/internal/dcs/zookeeper/zookeepertest"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
	"github.com/regent-ha/regent/test/rig"
)

// A cluster of both kinds on a ZooKeeper: each follows the other, and takes over from the other, in order and after a crash; each command line
// reads and asks what the other kind wrote.
func TestMixedOnZooKeeper(t *testing.T) {
	needPatroni(t)
	if _, err := os.Stat("/usr/lib/python3/dist-packages/kazoo"); err != nil {
		t.Skip("no kazoo on this machine (Debian: apt install python3-kazoo): Patroni cannot use ZooKeeper")
	}
	for name, regentFirst := range map[string]bool{"Regent leads first": true, "Patroni leads first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			section := "zookeeper: {hosts: ['" + zookeepertest.Start(t).Address + "']}\n"
			on := func(m *rig.Member) *rig.Member {
				m.Edit(t, "restapi:", section+"restapi:")
				return m
			}
			command := func(program ...string) ctl {
				dir := pgtest.Dir(t)
				file := filepath.Join(dir, "ctl.yml")
				if err := os.WriteFile(file, []byte("scope: "+rig.Scope+"\n"+section), 0o600); err != nil {
					t.Fatal(err)
				}
				return ctl{append(program, "-c", file), dir}
			}
			regent, other := on(rig.NewMember(t, "demo-0", "")), on(rig.NewMember(t, "demo-1", ""))
			other.Command = []string{patroni, other.File()}
			leader, replica := regent, other
			if !regentFirst {
				leader, replica = other, regent
			}
			cluster(t, leader, replica)
			w := rig.StartWriter(t, leader, replica)
			w.Advance(t)
			ours, theirs := command(rig.Program()), command(patronictl)
			for _, c := range []ctl{ours, theirs} {
				c.want(t, []string{"demo-0", "demo-1", "Leader", "Replica", "running"}, "list", rig.Scope)
				c.run(t, "edit-config", rig.Scope, "--force", "--quiet", "-p", "work_mem=7MB")
				c.run(t, "switchover", rig.Scope, "--leader", leader.Name, "--candidate", replica.Name, "--force")
				leader, replica = replica, leader
				leader.WaitPrimary(t)
				replica.WaitStreamsFrom(t, leader)
				w.Advance(t)
				c.run(t, "pause", rig.Scope, "--wait")
				c.run(t, "resume", rig.Scope, "--wait")
			}
			for range 2 {
				leader.Crash(t)
				leader, replica = replica, leader
				leader.WaitPrimary(t)
				w.Advance(t)
				replica.Start(t)
				replica.WaitStreamsFrom(t, leader)
			}
			leader.Stop(t) // in order: the other one takes over
			replica.WaitPrimary(t)
			w.Advance(t)
			leader.Start(t)
			leader.WaitStreamsFrom(t, replica)
		})
	}
}
