package compat

import (
	"fmt"
	"testing"

	"github.com/regent-ha/regent/test/rig"
)

// A standby cluster of both kinds follows another cluster: each leads it, takes over from the other, and comes back as its replica; whoever leads is promoted when
// the section is taken away, and the other one follows.
func TestMixedStandbyCluster(t *testing.T) {
	needPatroni(t)
	for name, regentFirst := range map[string]bool{"Regent leads first": true, "Patroni leads first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far := rig.NewMember(t, "far-0", rig.StartEtcd(t).Address)
			far.Start(t)
			far.WaitPrimary(t)
			if _, err := far.SQL("create table rows (n int primary key)"); err != nil {
				t.Fatal(err)
			}
			etcd := rig.StartEtcd(t)
			regent, other := rig.NewMember(t, "demo-0", etcd.Address), newPatroni(t, "demo-1", etcd)
			for _, m := range []*rig.Member{regent, other} {
				m.Edit(t, "    retry_timeout: 3\n", fmt.Sprintf("    retry_timeout: 3\n    standby_cluster: {host: 127.0.0.1, port: %d}\n", far.PGPort))
			}
			leader, replica := regent, other
			if !regentFirst {
				leader, replica = other, regent
			}
			leads := func(m *rig.Member) {
				t.Helper()
				rig.Wait(t, m.Name+" leads the standby cluster", func() bool {
					s := m.Status()
					streams, err := m.SQL("select status = 'streaming' from pg_stat_wal_receiver")
					return s["role"] == "standby_leader" && s["state"] == "running" && err == nil && streams == "t"
				})
			}
			written := 0
			whole := func() {
				t.Helper()
				leads(leader)
				replica.WaitStreamsFrom(t, leader)
				written++
				if _, err := far.SQL(fmt.Sprintf("insert into rows values (%d)", written)); err != nil {
					t.Fatal(err)
				}
				for _, m := range []*rig.Member{leader, replica} {
					rig.Wait(t, m.Name+" has the row", func() bool { have, _ := m.SQL("select count(*) from rows"); return have == fmt.Sprint(written) })
				}
			}
			leader.Start(t)
			leads(leader)
			replica.Start(t)
			whole()
			ours, theirs := newCtl(t, etcd, rig.Program()), newCtl(t, etcd, patronictl)
			for _, c := range []ctl{ours, theirs} {
				c.want(t, []string{"Standby Leader"}, "list", rig.Scope)
				c.run(t, "switchover", rig.Scope, "--leader", leader.Name, "--candidate", replica.Name, "--force")
				leader, replica = replica, leader
				whole()
			}
			for range 2 {
				leader.Crash(t)
				leader, replica = replica, leader
				leads(leader)
				replica.Start(t)
				whole()
			}
			theirs.run(t, "edit-config", rig.Scope, "--force", "-s", "standby_cluster=null")
			leader.WaitPrimary(t)
			replica.WaitStreamsFrom(t, leader)
		})
	}
}
