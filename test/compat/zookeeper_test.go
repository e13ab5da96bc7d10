package compat

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/regent-ha/regent/internal/dcs/zookeeper/zookeepertest"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
	"github.com/regent-ha/regent/test/rig"
)

// place is a store of one test that is no etcd, as a section of the configuration.
type place struct{ section string }

func startZooKeeper(t *testing.T) place {
	t.Helper()
	return place{"zookeeper: {hosts: ['" + zookeepertest.Start(t).Address + "']}\n"}
}

func (z place) member(t *testing.T, name string) *rig.Member {
	t.Helper()
	m := rig.NewMember(t, name, "")
	m.Edit(t, "restapi:", z.section+"restapi:")
	return m
}

func (z place) patroni(t *testing.T, name string) *rig.Member {
	t.Helper()
	m := z.member(t, name)
	m.Command = []string{patroni, m.File()}
	return m
}

func (z place) ctl(t *testing.T, program ...string) ctl {
	t.Helper()
	dir := pgtest.Dir(t)
	file := filepath.Join(dir, "ctl.yml")
	if err := os.WriteFile(file, []byte("scope: "+rig.Scope+"\n"+z.section), 0o600); err != nil {
		t.Fatal(err)
	}
	return ctl{append(program, "-c", file), dir}
}

func needKazoo(t *testing.T) {
	t.Helper()
	needPatroni(t)
	if _, err := os.Stat("/usr/lib/python3/dist-packages/kazoo"); err != nil {
		t.Skip("no kazoo on this machine (Debian: apt install python3-kazoo): Patroni cannot use ZooKeeper")
	}
}

// The way of docs/operations/move-from-patroni.md on a ZooKeeper: each agent takes over the lock and the node that the other kind left behind.
func TestMoveInPlaceOnZooKeeper(t *testing.T) {
	needKazoo(t)
	t.Parallel()
	movesOn(t, startZooKeeper(t))
}

func movesOn(t *testing.T, z place) {
	t.Helper()
	members := []*rig.Member{z.patroni(t, "demo-0"), z.patroni(t, "demo-1"), z.patroni(t, "demo-2")}
	cluster(t, members[0], members[1])
	members[2].Start(t)
	members[2].WaitStreamsFrom(t, members[0])
	moveInPlace(t, members, z.ctl(t, rig.Program()), z.ctl(t, patronictl))
}

// A cluster of both kinds on a ZooKeeper: each follows the other, and takes over from the other, in order and after a crash; each command line
// reads and asks what the other kind wrote.
func TestMixedOnZooKeeper(t *testing.T) {
	needKazoo(t)
	mixedOn(t, startZooKeeper)
}

func mixedOn(t *testing.T, start func(*testing.T) place) {
	t.Helper()
	for name, regentFirst := range map[string]bool{"Regent leads first": true, "Patroni leads first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := start(t)
			regent, other := z.member(t, "demo-0"), z.patroni(t, "demo-1")
			leader, replica := regent, other
			if !regentFirst {
				leader, replica = other, regent
			}
			cluster(t, leader, replica)
			w := rig.StartWriter(t, leader, replica)
			w.Advance(t)
			ours, theirs := z.ctl(t, rig.Program()), z.ctl(t, patronictl)
			for _, c := range []ctl{ours, theirs} {
				c.want(t, []string{"demo-0", "demo-1", "Leader", "Replica", "running"}, "list", rig.Scope)
				c.run(t, "edit-config", rig.Scope, "--force", "--quiet", "-p", "work_mem=7MB")
				c.run(t, "switchover", rig.Scope, "--leader", leader.Name, "--candidate", replica.Name, "--force")
				leader, replica = replica, leader
				leader.WaitPrimary(t)
				replica.WaitStreamsFrom(t, leader)
				w.Advance(t)
				pause(t, c, leader, replica)
				resume(t, c, leader, replica)
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
