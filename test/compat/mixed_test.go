package compat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	keys "github.com/regent-ha/regent/internal/cluster"
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
				replica.WaitStreamsFrom(t, leader)
				w.Advance(t)
			}
			for _, c := range []ctl{ours, theirs} {
				pause(t, c, leader, replica)
				resume(t, c, leader, replica)
			}
			leader.Stop(t) // in order: the other one takes over
			replica.WaitPrimary(t)
			w.Advance(t)
			leader.Start(t)
			leader.WaitStreamsFrom(t, replica)
			w.Check(t, replica)
		})
	}
}

// Each takes over when the machine of the other one dies, and the dead one comes back, rewound if need be, under the other kind.
func TestMixedNodeDeath(t *testing.T) {
	needPatroni(t)
	t.Parallel()
	etcd := rig.StartEtcd(t)
	regent, other := rig.NewMember(t, "demo-0", etcd.Address), newPatroni(t, "demo-1", etcd)
	cluster(t, regent, other)
	if _, err := regent.SQL("create table deaths (n int primary key)"); err != nil {
		t.Fatal(err)
	}
	leader, replica := regent, other
	for n := range 4 {
		insert := fmt.Sprintf("insert into deaths values (%d)", n)
		if _, err := leader.SQL(insert); err != nil {
			t.Fatal(err)
		}
		rows := fmt.Sprint(n + 1)
		rig.Wait(t, replica.Name+" has the row", func() bool { have, _ := replica.SQL("select count(*) from deaths"); return have == rows })
		leader.Crash(t)
		leader, replica = replica, leader
		leader.WaitPrimary(t)
		replica.Start(t)
		replica.WaitStreamsFrom(t, leader)
		if have, err := leader.SQL("select count(*) from deaths"); have != rows {
			t.Fatalf("%s has %s rows, %v; want %s", leader.Name, have, err, rows)
		}
	}
}

// In synchronous mode whoever leads maintains /sync, and whoever is named there takes over with every row that was acknowledged, of whichever kind
// the leader was.
func TestMixedSynchronous(t *testing.T) {
	needPatroni(t)
	t.Parallel()
	etcd := rig.StartEtcd(t)
	regent, other := rig.NewMember(t, "demo-0", etcd.Address), newPatroni(t, "demo-1", etcd)
	for _, m := range []*rig.Member{regent, other} {
		m.Edit(t, "    retry_timeout: 3\n", "    retry_timeout: 3\n    synchronous_mode: true\n")
	}
	cluster(t, regent, other)
	leader, replica := regent, other
	settled := func() {
		t.Helper()
		rig.Wait(t, "/sync names "+replica.Name+" as the standby of "+leader.Name, func() bool {
			value, _ := etcd.Get(t, "sync")
			key, err := keys.DecodeSync([]byte(value), 1)
			return err == nil && key.Leader == leader.Name && key.HasStandby(replica.Name)
		})
	}
	settled()
	w := rig.StartWriter(t, leader, replica)
	w.Advance(t)
	ours, theirs := newCtl(t, etcd, rig.Program()), newCtl(t, etcd, patronictl)
	for n, c := range []ctl{ours, theirs, ours, theirs} {
		c.want(t, []string{"Sync Standby"}, "list", rig.Scope)
		if n < 2 {
			c.run(t, "switchover", rig.Scope, "--leader", leader.Name, "--candidate", replica.Name, "--force")
		} else {
			leader.Crash(t)
		}
		leader, replica = replica, leader
		leader.WaitPrimary(t)
		w.Advance(t)
		if n >= 2 {
			replica.Start(t)
		}
		replica.WaitStreamsFrom(t, leader)
		settled()
	}
	w.Check(t, leader)
}

// In quorum mode whoever leads maintains the voters in /sync, and whoever is elected by them takes over with every row that was acknowledged: three
// leaders in a row are lost, and with a switchover each kind has been one of them.
func TestMixedQuorum(t *testing.T) {
	needPatroni(t)
	if text, err := exec.Command(patroni, "--version").Output(); err != nil || strings.HasPrefix(string(text), "patroni 3.") {
		t.Skipf("have %s, %v, want a Patroni that knows quorum mode: 4.0", text, err)
	}
	t.Parallel()
	etcd := rig.StartEtcd(t)
	members := []*rig.Member{rig.NewMember(t, "demo-0", etcd.Address), newPatroni(t, "demo-1", etcd), rig.NewMember(t, "demo-2", etcd.Address)}
	for _, m := range members {
		m.Edit(t, "    retry_timeout: 3\n", "    retry_timeout: 3\n    synchronous_mode: quorum\n")
	}
	leader, other := members[0], members[1]
	cluster(t, leader, other)
	members[2].Start(t)
	whole := func() {
		t.Helper()
		rig.Wait(t, "one of the two standbys of "+leader.Name+" must agree to the other, by /sync", func() bool {
			value, _ := etcd.Get(t, "sync")
			key, err := keys.DecodeSync([]byte(value), 1)
			return err == nil && key.Leader == leader.Name && len(key.Standbys) == 2 && key.Quorum == 1
		})
	}
	whole()
	w := rig.StartWriter(t, members[0], members[1], members[2])
	w.Advance(t)
	ours := newCtl(t, etcd, rig.Program())
	ours.want(t, []string{"Quorum Standby"}, "list", rig.Scope)
	for round := range 3 {
		if round == 1 && leader != other {
			ours.run(t, "switchover", rig.Scope, "--leader", leader.Name, "--candidate", other.Name, "--force")
			leader = other
			leader.WaitPrimary(t)
			whole()
			w.Advance(t)
		}
		dead := leader
		dead.Crash(t)
		rig.Wait(t, "another member leads", func() bool {
			for _, m := range members {
				if m != dead && m.IsPrimary() {
					leader = m
				}
			}
			return leader != dead
		})
		w.Advance(t)
		dead.Start(t)
		dead.WaitStreamsFrom(t, leader)
		whole()
	}
	w.Check(t, leader)
}

// In failsafe mode each lets the other one go on while the store is away, for longer than the lock would live.
func TestMixedFailsafe(t *testing.T) {
	needPatroni(t)
	for name, regentFirst := range map[string]bool{"Regent leads": true, "Patroni leads": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := rig.StartEtcd(t)
			leader, replica := rig.NewMember(t, "demo-0", etcd.Address), newPatroni(t, "demo-1", etcd)
			for _, m := range []*rig.Member{leader, replica} {
				m.Edit(t, "    retry_timeout: 3\n", "    retry_timeout: 3\n    failsafe_mode: true\n")
			}
			if !regentFirst {
				leader, replica = replica, leader
			}
			cluster(t, leader, replica)
			rig.Wait(t, "/failsafe lists both", func() bool {
				value, _ := etcd.Get(t, "failsafe")
				urls, _, err := keys.DecodeFailsafe([]byte(value))
				return err == nil && len(urls) == 2
			})
			w := rig.StartWriter(t, leader, replica)
			w.Advance(t)
			etcd.Kill()
			killed := time.Now()
			for _, m := range []*rig.Member{leader, replica} {
				rig.Wait(t, m.Name+" is in failsafe mode", func() bool { return m.Status()["failsafe_mode_is_active"] == true })
			}
			rig.Wait(t, "the store is away for 45 s, and who leads goes on", func() bool {
				if replica.IsPrimary() {
					t.Fatalf("%s after the store has gone %s is a primary, too", time.Since(killed), replica.Name)
				}
				return time.Since(killed) > 45*time.Second
			})
			w.Advance(t)
			etcd.Start(t)
			rig.Wait(t, "failsafe mode is over", func() bool { return leader.Status()["failsafe_mode_is_active"] == nil })
			leader.WaitPrimary(t)
			replica.WaitStreamsFrom(t, leader)
			w.Check(t, leader)
		})
	}
}

// The dynamic configuration is one, whoever writes it and whoever leads.
func TestMixedConfiguration(t *testing.T) {
	needPatroni(t)
	t.Parallel()
	etcd := rig.StartEtcd(t)
	regent, other := rig.NewMember(t, "demo-0", etcd.Address), newPatroni(t, "demo-1", etcd)
	cluster(t, regent, other)
	both := func(setting, want string) {
		t.Helper()
		rig.Wait(t, setting+" is "+want+" on both", func() bool {
			x, _ := regent.SQL("show " + setting)
			y, _ := other.SQL("show " + setting)
			return x == want && y == want
		})
	}
	patch := func(m *rig.Member, body string) {
		t.Helper()
		if code, answer := m.Call("PATCH", "/config", body); code != 200 {
			t.Fatalf("%s: PATCH /config: %d %s", m.Name, code, answer)
		}
	}
	work := func(mb int) string { return fmt.Sprintf(`{"postgresql":{"parameters":{"work_mem":"%dMB"}}}`, mb) }
	ours, theirs := newCtl(t, etcd, rig.Program()), newCtl(t, etcd, patronictl)
	for round, leader := range []*rig.Member{regent, other} {
		patch(regent, work(5+10*round))
		both("work_mem", fmt.Sprintf("%dMB", 5+10*round))
		patch(other, work(6+10*round))
		both("work_mem", fmt.Sprintf("%dMB", 6+10*round))
		// Both say that a restart is needed, and a restart by either's command line brings it.
		patch(leader, fmt.Sprintf(`{"postgresql":{"parameters":{"max_connections":%d}}}`, 41+round))
		rig.Wait(t, "both wait for a restart", func() bool {
			return regent.Status()["pending_restart"] == true && other.Status()["pending_restart"] == true
		})
		[]ctl{ours, theirs}[round].run(t, "restart", rig.Scope, "--force")
		both("max_connections", fmt.Sprint(41+round))
		// The rhythm too: what one writes the other shows.
		patch(leader, fmt.Sprintf(`{"ttl":%d}`, 21+round))
		for _, c := range []ctl{ours, theirs} {
			c.want(t, []string{fmt.Sprintf("ttl: %d", 21+round)}, "show-config", rig.Scope)
		}
		if round == 0 {
			ours.run(t, "switchover", rig.Scope, "--leader", regent.Name, "--candidate", other.Name, "--force")
			other.WaitPrimary(t)
			regent.WaitStreamsFrom(t, other)
		}
	}
}

// Three members are moved over one after the other, each on its own data directory, and back, while somebody writes: one
// switchover each way, which moving the leader needs.
func TestMoveOver(t *testing.T) {
	needPatroni(t)
	t.Parallel()
	etcd, members := threePatroni(t)
	leader := members[0]
	id, err := leader.SQL("select system_identifier from pg_control_system()")
	if err != nil {
		t.Fatal(err)
	}
	w := rig.StartWriter(t, members[0], members[1:]...)
	c := newCtl(t, etcd, rig.Program())
	move := func(m *rig.Member, command func(*rig.Member) []string) {
		t.Helper()
		m.Stop(t)
		m.Command = command(m)
		m.Start(t)
		m.WaitStreamsFrom(t, leader)
		w.Advance(t)
	}
	moveAll := func(next *rig.Member, command func(*rig.Member) []string) {
		t.Helper()
		for _, m := range members {
			if m != leader {
				move(m, command)
			}
		}
		c.run(t, "switchover", rig.Scope, "--leader", leader.Name, "--candidate", next.Name, "--force")
		next.WaitPrimary(t)
		for _, m := range members {
			if m != next {
				m.WaitStreamsFrom(t, next)
			}
		}
		leader, next = next, leader
		move(next, command)
	}
	moveAll(members[1], func(m *rig.Member) []string { return []string{rig.Program(), "agent", m.File()} })
	moveAll(members[2], func(m *rig.Member) []string { return []string{patroni, m.File()} })
	for _, m := range members {
		if now, err := m.SQL("select system_identifier from pg_control_system()"); now != id {
			t.Errorf("%s has system identifier %s (%v), want %s", m.Name, now, err, id)
		}
	}
	w.Check(t, leader)
}

// markDirectory puts a file into the data directory that no clone has.
func markDirectory(m *rig.Member) error {
	return os.WriteFile(filepath.Join(m.Data, "mark"), nil, 0o600)
}

func marked(m *rig.Member) bool {
	_, err := os.Stat(filepath.Join(m.Data, "mark"))
	return err == nil
}
