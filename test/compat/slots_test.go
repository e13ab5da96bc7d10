package compat

import (
	"fmt"
	"strings"
	"testing"

	"github.com/regent-ha/regent/test/rig"
)

// A permanent logical slot goes from a leader of the one kind to one of the other and back: each copies it from the other and moves it to where its
// consumer is. No change is missing after a switchover, and none that was consumed before comes again.
func TestMixedLogicalSlot(t *testing.T) {
	needPatroni(t)
	t.Parallel()
	etcd := rig.StartEtcd(t)
	regent, other := rig.NewMember(t, "demo-0", etcd.Address), newPatroni(t, "demo-1", etcd)
	for _, m := range []*rig.Member{regent, other} {
		m.Edit(t, "    retry_timeout: 3\n", "    retry_timeout: 3\n    slots: {cdc: {type: logical, database: postgres, plugin: test_decoding}, backup: {type: physical}}\n")
		m.Edit(t, "max_connections: 40,", "max_connections: 40, wal_level: logical,")
	}
	leader, replica := regent, other
	cluster(t, leader, replica)
	if _, err := leader.SQL("create table changed (n int primary key)"); err != nil {
		t.Fatal(err)
	}
	asked := func(m *rig.Member, sql string) string {
		t.Helper()
		text, err := m.SQL(sql)
		if err != nil {
			t.Fatalf("%s: %s: %v", m.Name, sql, err)
		}
		return text
	}
	insert := func(n int) { t.Helper(); asked(leader, fmt.Sprintf("insert into changed values (%d)", n)) }
	// consumed are the numbers that the consumer gets, once; it confirms them.
	consumed := func() string {
		t.Helper()
		return asked(leader, "select coalesce(string_agg(substring(data from 'INSERT: n.integer.:(\\d+)'), ' '), '') from pg_logical_slot_get_changes('cdc', null, null)")
	}
	rig.Wait(t, leader.Name+" has the slots", func() bool {
		n, err := leader.SQL("select count(*) from pg_replication_slots where slot_name in ('cdc', 'backup')")
		return err == nil && n == "2"
	})
	consumed()
	ours, theirs := newCtl(t, etcd, rig.Program()), newCtl(t, etcd, patronictl)
	for n, c := range []ctl{ours, theirs, ours} {
		insert(10*n + 1)
		if have, want := consumed(), fmt.Sprint(10*n+1); have != want {
			t.Fatalf("round %d: %s gives the changes %q, want %q", n, leader.Name, have, want)
		}
		at := asked(leader, "select confirmed_flush_lsn from pg_replication_slots where slot_name = 'cdc'")
		rig.Wait(t, "the slot of "+replica.Name+" follows to "+at, func() bool {
			there, err := replica.SQL("select confirmed_flush_lsn >= '" + at + "' from pg_replication_slots where slot_name = 'cdc'")
			return err == nil && there == "t"
		})
		rig.Wait(t, leader.Name+" keeps rows of catalogs for "+replica.Name, func() bool {
			kept, err := leader.SQL("select catalog_xmin is not null from pg_replication_slots where slot_name = '" + strings.ReplaceAll(replica.Name, "-", "_") + "'")
			return err == nil && kept == "t"
		})
		insert(10*n + 2)
		replica.WaitStreamsFrom(t, leader)
		c.run(t, "switchover", rig.Scope, "--leader", leader.Name, "--candidate", replica.Name, "--force")
		leader, replica = replica, leader
		leader.WaitPrimary(t)
		replica.WaitStreamsFrom(t, leader)
		insert(10*n + 3)
		if have, want := consumed(), fmt.Sprintf("%d %d", 10*n+2, 10*n+3); have != want {
			t.Fatalf("round %d: after the switchover %s gives the changes %q, want %q", n, leader.Name, have, want)
		}
		rig.Wait(t, leader.Name+" has slot backup", func() bool {
			n, err := leader.SQL("select count(*) from pg_replication_slots where slot_name = 'backup'")
			return err == nil && n == "1"
		})
	}
}
