package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
	"github.com/regent-ha/regent/test/integration/harness"
)

// A cluster is made from a base backup and an archive, up to a point in time, by a bootstrap method of the operator's. Its replica is
// made from the backup too, also while nobody leads.
func TestPointInTimeRecovery(t *testing.T) {
	t.Parallel()
	old := pgtest.New(t)
	root := pgtest.Dir(t)
	backup, archive, gate := filepath.Join(root, "backup"), filepath.Join(root, "archive"), filepath.Join(root, "gate")
	if err := os.Mkdir(archive, 0o700); err != nil {
		t.Fatal(err)
	}
	old.Configure(t, "archive_mode = on\narchive_command = 'cp %p "+archive+"/%f'\nmax_connections = 60")
	old.Start(t)
	old.SQL(t, "create table t as select 'before' as row")
	out, err := exec.Command(filepath.Join(old.BinDir, "pg_basebackup"), "-h", "127.0.0.1", "-p", fmt.Sprint(old.Port), "-U", "postgres", "-c", "fast", "-D", backup).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	old.SQL(t, "insert into t values ('kept')")
	old.SQL(t, "select pg_create_restore_point('noon')")
	old.SQL(t, "insert into t values ('undone')")
	segment := old.SQL(t, "select pg_walfile_name(pg_switch_wal())")
	pgtest.Eventually(t, "the archive has "+segment, func() bool { _, err := os.Stat(filepath.Join(archive, segment)); return err == nil })
	id := old.SQL(t, "select system_identifier from pg_control_system()")
	old.Stop(t, "fast")

	script := filepath.Join(root, "restore")
	text := "#!/bin/sh -e\nfor a; do case $a in --datadir=*) dir=${a#*=};; --wait=*) until test -e ${a#*=}; do sleep 0.05; done;; esac; done\necho \"$@\" >> " + root + "/args\ncp -a " + backup + "/. \"$dir\"\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	restore := "cp " + archive + "/%f %p"
	c := harness.New(t, harness.Options{Member: func(_ *harness.Member, config map[string]any) {
		boot, pg := config["bootstrap"].(harness.Map), config["postgresql"].(harness.Map)
		boot["method"] = "noon"
		boot["noon"] = harness.Map{"command": script, "wait": gate, "recovery_conf": harness.Map{
			"restore_command": restore, "recovery_target_name": "noon", "recovery_target_action": "promote"}}
		pg["create_replica_methods"] = []any{"backup", "basebackup"}
		pg["backup"] = harness.Map{"command": script, "no_leader": true, "stanza": "main"}
		pg["recovery_conf"] = harness.Map{"restore_command": restore}
	}})
	first, second := c.Members[0], c.Members[1]
	first.Start(t)
	harness.Eventually(t, harness.Patience, "the method runs", func() bool {
		s := first.Status()
		return s != nil && s.State == "running custom bootstrap script"
	})
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.Patience, "m0 leads", func() bool { return c.Leader() == first }) // it is a primary before, while it is made
	rows := func(m *harness.Member) string {
		have, err := m.TrySQL("select string_agg(row, ' ' order by row) from t")
		if err != nil {
			return err.Error()
		}
		return have
	}
	if have := rows(first); have != "before kept" {
		t.Errorf("have the rows %q, want those of before the target", have)
	}

	second.Start(t)
	c.Healthy(t, harness.Patience)
	if s := first.Now(t); s.SystemID != id || s.Timeline != 2 {
		t.Errorf("have cluster %s on timeline %d, want %s on 2", s.SystemID, s.Timeline, id)
	}
	same := func() { // nothing of the old cluster's later history came along
		t.Helper()
		first.SQL(t, "insert into t values ('after')")
		harness.Eventually(t, harness.Patience, "m1 has the rows", func() bool { return rows(second) == rows(first) })
		first.SQL(t, "delete from t where row = 'after'")
	}
	same()
	if second.Logged("clone method") {
		t.Error("the replica was not made by the method")
	}

	// Both are gone, and the replica's disk too. It comes back first, further behind than maximum_lag_on_failover.
	first.SQL(t, "create table big as select repeat('x', 1000) from generate_series(1, 3000)")
	at, err := cluster.ParseLSN(first.SQL(t, "select pg_current_wal_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.Patience, "the leader has published its position", func() bool {
		s, err := c.Keys.Snapshot(t.Context())
		return err == nil && s.Status.Optime >= at
	})
	second.KillAll(t)
	first.KillAll(t)
	if err := os.RemoveAll(second.Data); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.Patience, "the lock ends", func() bool { return c.Leader() == nil })
	second.Start(t)
	harness.Eventually(t, harness.Patience, "m1 is built from the backup though nobody leads", func() bool {
		s := second.Status()
		return s != nil && s.Role == "replica" && s.State == "running"
	})
	if c.Leader() != nil {
		t.Errorf("%s leads with the data of a backup", c.Leader().Name)
	}
	first.Start(t)
	if now := c.Healthy(t, harness.Patience); now != first {
		t.Errorf("have leader %s, want %s", now.Name, first.Name)
	}
	same()
}
