package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/test/integration/harness"
)

// standbyMembers is how many members each cluster has in the tests of two clusters.
func standbyMembers(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("REGENT_STANDBY_MEMBERS"))
	if err != nil {
		return 2
	}
	return n
}

// standbyCluster starts a cluster that follows another one: section is what its configuration says of it.
func standbyCluster(t *testing.T, members int, section harness.Map, more func(m *harness.Member, config harness.Map)) *harness.Cluster {
	t.Helper()
	b := harness.New(t, harness.Options{Members: members, Names: "s", TTL: time.Minute, Retry: 15 * time.Second, Dynamic: harness.Map{"standby_cluster": section}, Member: func(m *harness.Member, config map[string]any) {
		callbacks(m, config)
		if more != nil {
			more(m, config)
		}
	}})
	b.Members[0].Start(t)
	harness.Eventually(t, harness.Patience, "s0 leads the standby cluster", func() bool { return b.Members[0].Ready("standby_leader") })
	for _, m := range b.Members[1:] {
		m.Start(t)
	}
	return b
}

// patient is a cluster that does not lose its lock because the machine stands still for a while: another timeline than expected would come of it.
func patient(members int) harness.Options {
	return harness.Options{Members: members, TTL: time.Minute, Retry: 15 * time.Second}
}

// follows waits until the cluster is whole as a standby cluster: its leader streams from elsewhere, the others stream from the leader, all on the timeline of
// the other cluster's leader. It returns the leader.
func follows(t *testing.T, c, other *harness.Cluster, members ...*harness.Member) (leader *harness.Member) {
	t.Helper()
	if len(members) == 0 {
		members = c.Members
	}
	why := ""
	ill := func() string {
		remote := other.Leader()
		if leader = c.Leader(); leader == nil || remote == nil {
			return "nobody holds the lock, here or there"
		}
		there := remote.Status()
		if there == nil || there.Role != "primary" {
			return remote.Name + " is no primary"
		}
		for _, m := range members {
			s, role := m.Status(), "replica"
			if m == leader {
				role = "standby_leader"
			}
			switch {
			case s == nil:
				return m.Name + " does not answer"
			case s.Role != role || s.State != "running" || s.ReplicationState != "streaming" || s.Regent == nil || s.Regent.Job != nil || s.Timeline != there.Timeline:
				return fmt.Sprintf("%s is %s %s %s on timeline %d, want a streaming %s on %d", m.Name, s.Role, s.State, s.ReplicationState, s.Timeline, role, there.Timeline)
			}
		}
		return ""
	}
	if !waits(func() bool { why = ill(); return why == "" }) {
		t.Fatalf("the standby cluster is not whole: %s", why)
	}
	return leader
}

func waits(holds func() bool) bool {
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if holds() {
			return true
		}
	}
	return holds()
}

// end is where a stopped or recovering server's WAL ends, as far as it has it.
func received(t *testing.T, m *harness.Member) cluster.LSN {
	t.Helper()
	at, err := cluster.ParseLSN(m.SQL(t, "select greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// swap makes one cluster follow the other, which stands on its own from then on: the order of docs/operations/standby-cluster.md.
func swap(t *testing.T, from, to *harness.Cluster, remote harness.Map) {
	t.Helper()
	args := []string{"demote-cluster", "--force"}
	for name, value := range remote {
		args = append(args, "--"+name, fmt.Sprint(value))
	}
	before := from.Leader()
	from.Command(t, args...)
	if now := from.Leader(); now != before {
		t.Errorf("have leader %s of the demoted cluster, want %s, which had all of the WAL", now.Name, before.Name)
	}
	last := received(t, before)
	harness.Eventually(t, harness.Patience, "the other cluster has all WAL", func() bool { return received(t, to.Leader()) >= last })
	to.Command(t, "promote-cluster", "--force")
}

// One cluster follows another one. Within the standby cluster the leader changes, by itself and when it is asked to; then the clusters change places, twice, while an
// application writes: no acknowledged row is lost, and never are both writable.
func TestStandbyCluster(t *testing.T) {
	t.Parallel()
	n := standbyMembers(t)
	a := harness.Start(t, patient(n))
	primary := a.Healthy(t, harness.Patience)
	b := standbyCluster(t, n, harness.Map{"host": "127.0.0.1", "port": primary.Port}, nil)
	first := follows(t, b, a)
	w := a.Write(t, b.Members...)

	if first != b.Members[0] {
		t.Fatalf("have leader %s, want s0", first.Name)
	}
	if have, want := first.Now(t).SystemID, primary.Now(t).SystemID; have != want {
		t.Errorf("have system identifier %s, want the remote's %s", have, want)
	}
	second := b.Others(first)[0]
	for m, codes := range map[*harness.Member]map[string]int{
		first:  {"/leader": 200, "/standby-leader": 200, "/standby_leader": 200, "/primary": 503, "/replica": 503, "/read-only": 200, "/health": 200},
		second: {"/leader": 503, "/standby-leader": 503, "/primary": 503, "/replica": 200, "/read-only": 200, "/health": 200},
	} {
		for path, want := range codes {
			if have := m.Answers(t, path); have != want {
				t.Errorf("%s of %s: have %d, want %d", path, m.Name, have, want)
			}
		}
	}
	if list := b.Command(t, "list"); !strings.Contains(list, "Standby Leader") {
		t.Errorf("have no Standby Leader in\n%s", list)
	}
	for m, want := range map[*harness.Member]string{first: "on_start standby_leader " + b.Scope(), second: "on_start replica " + b.Scope()} {
		harness.Eventually(t, harness.Patience, m.Name+" has had the callback "+want+" and no other", func() bool { return called(m) == want })
	}

	// The standby leader's machine dies; then the lock is handed back, and nobody's PostgreSQL is stopped for that.
	first.KillAll(t)
	harness.Eventually(t, harness.Patience, "another member leads", func() bool { now := b.Leader(); return now != nil && now != first })
	next := follows(t, b, a, b.Others(first)...)
	harness.Eventually(t, harness.Patience, next.Name+" has had the callback", func() bool { return strings.HasSuffix(called(next), "on_role_change standby_leader "+b.Scope()) })
	first.Start(t)
	follows(t, b, a)
	before := map[*harness.Member]int{first: first.Postmaster(), next: next.Postmaster()}
	switchover(t, next, next, first.Name)
	harness.Eventually(t, harness.Patience, "s0 leads again", func() bool { return b.Leader() == first })
	follows(t, b, a)
	for m, pid := range before {
		if m.Postmaster() != pid {
			t.Errorf("PostgreSQL of %s was restarted for a switchover in a standby cluster", m.Name)
		}
	}
	harness.Eventually(t, harness.Patience, next.Name+" has had the callback", func() bool { return strings.HasSuffix(called(next), "on_role_change replica "+b.Scope()) })

	// The clusters change places, and again.
	w.Advance(t, 10, harness.Patience)
	swap(t, a, b, harness.Map{"host": "127.0.0.1", "port": first.Port})
	follows(t, a, b)
	w.AdvanceOn(t, b.Healthy(t, harness.Patience), harness.Patience)
	swap(t, b, a, harness.Map{"host": "127.0.0.1", "port": primary.Port})
	follows(t, b, a)
	w.AdvanceOn(t, a.Healthy(t, harness.Patience), harness.Patience)
	w.Audit(t, 0)
	last := a.Leader().SQL(t, "select pg_current_wal_flush_lsn()")
	at, err := cluster.ParseLSN(last)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range b.Members {
		harness.Eventually(t, harness.Patience, m.Name+" has all that is written", func() bool {
			out, err := m.TrySQL("select pg_last_wal_replay_lsn()")
			have, bad := cluster.ParseLSN(out)
			return err == nil && bad == nil && have >= at
		})
	}
	w.AuditOn(t, b, 0)
}

// The cluster that is followed loses its leader. Several hosts and a slot: the standby leader finds the new one, and what it had more than that is taken back.
func TestStandbyClusterFollowsFailover(t *testing.T) {
	t.Parallel()
	a := harness.Start(t, harness.Options{OnePort: true, Dynamic: harness.Map{"slots": harness.Map{"far": harness.Map{"type": "physical"}}}})
	first := a.Healthy(t, harness.Patience)
	for _, m := range a.Members {
		harness.Eventually(t, harness.Patience, m.Name+" has the slot", func() bool {
			out, err := m.TrySQL("select count(pg_create_physical_replication_slot('far', true)) from (select where not exists (select from pg_replication_slots where slot_name = 'far')) x")
			return err == nil && out != ""
		})
	}
	var hosts []string
	for _, m := range a.Members {
		hosts = append(hosts, m.Host)
	}
	b := standbyCluster(t, 2, harness.Map{"host": strings.Join(hosts, ","), "port": first.Port, "primary_slot_name": "far"}, nil)
	follows(t, b, a)
	w := a.Write(t)
	reached := w.Reached(t, first, a.Others(first)[0])
	first.KillAll(t)
	second := successor(t, a, first)
	follows(t, b, a)
	first.Start(t)
	a.Healthy(t, harness.Patience)
	w.AdvanceOn(t, second, harness.Patience)
	w.Audit(t, reached.Since())
	for _, m := range b.Members {
		harness.Eventually(t, harness.Patience, m.Name+" has the same rows", func() bool {
			now := a.Leader()
			if now == nil {
				return false
			}
			theirs, bad := now.TrySQL("select count(*), sum(id) from numbered")
			rows, err := m.TrySQL("select count(*), sum(id) from numbered")
			return err == nil && bad == nil && rows == theirs
		})
	}
	if active := second.SQL(t, "select active from pg_replication_slots where slot_name = 'far'"); active != "t" {
		t.Errorf("the slot on %s: have active %q", second.Name, active)
	}
}

// A standby cluster that was promoted beside the other one, and has written, is demoted again: what it has written is taken back with pg_rewind.
func TestStandbyClusterThatHasWritten(t *testing.T) {
	t.Parallel()
	a := harness.Start(t, patient(1))
	primary := a.Members[0]
	b := standbyCluster(t, 2, harness.Map{"host": "127.0.0.1", "port": primary.Port}, nil)
	leader := follows(t, b, a)
	primary.SQL(t, "create table who (name text)")
	b.Command(t, "promote-cluster", "--force")
	b.Healthy(t, harness.Patience)
	leader.SQL(t, "insert into who values ('the copy')")
	primary.SQL(t, "insert into who values ('the original'); create table more as select generate_series(1, 10000)")
	b.Command(t, "demote-cluster", "--force", "--host", "127.0.0.1", "--port", fmt.Sprint(primary.Port))
	follows(t, b, a)
	for _, m := range b.Members {
		harness.Eventually(t, harness.Patience, m.Name+" has what the original has", func() bool {
			out, err := m.TrySQL("select string_agg(name, ' '), (select count(*) from more) from who")
			return err == nil && out == "the original|10000"
		})
	}
	if !leader.Logged("job=rewind") {
		t.Errorf("%s was not rewound", leader.Name)
	}
}

// A standby cluster that has nothing but the archive of the other one. A role swap loses nothing here either: the segment with the end of the WAL is archived.
func TestStandbyClusterOfAnArchive(t *testing.T) {
	t.Parallel()
	archive := t.TempDir()
	if err := os.Chmod(archive, 0o777); err != nil {
		t.Fatal(err)
	}
	for dir := archive; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o777)
	}
	keep := func(_ *harness.Member, config harness.Map) {
		parameters := config["postgresql"].(harness.Map)["parameters"].(harness.Map)
		parameters["archive_mode"] = "on"
		parameters["archive_command"] = "test ! -f " + archive + "/%f && cp %p " + archive + "/%f.part && mv " + archive + "/%f.part " + archive + "/%f"
	}
	restore := "cp " + archive + "/%f %p"
	o := patient(1)
	o.Member = keep
	a := harness.Start(t, o)
	primary := a.Members[0]
	b := standbyCluster(t, 2, harness.Map{"restore_command": restore, "create_replica_methods": []any{"fetch", "basebackup"}}, func(m *harness.Member, config harness.Map) {
		keep(m, config)
		script := filepath.Join(m.Dir, "fetch")
		text := fmt.Sprintf("#!/bin/sh\nfor a; do case $a in --datadir=*) dir=${a#*=};; esac; done\nexec env PGPASSWORD=rep pg_basebackup -h 127.0.0.1 -p %d -U replicator -X none -c fast -D \"$dir\"\n", primary.Port)
		if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
			panic(err)
		}
		config["postgresql"].(harness.Map)["fetch"] = harness.Map{"command": script, "no_leader": true}
	})
	leader := b.Leader()
	w := a.Write(t, b.Members...)
	for _, m := range b.Members {
		harness.Eventually(t, harness.Patience, m.Name+" has rows", func() bool {
			if _, err := primary.TrySQL("select pg_switch_wal()"); err != nil {
				return false
			}
			out, err := m.TrySQL("select count(*) > 10 from numbered")
			return err == nil && out == "t"
		})
	}
	if s := leader.Now(t); s.Role != "standby_leader" || s.ReplicationState != "in archive recovery" {
		t.Errorf("have a leader that is %s, %s, want standby_leader in archive recovery", s.Role, s.ReplicationState)
	}
	w.Advance(t, 10, harness.Patience)
	a.Command(t, "demote-cluster", "--force", "--restore-command", restore)
	last := received(t, primary)
	harness.Eventually(t, harness.Patience, "the other cluster has all WAL", func() bool { return received(t, leader) >= last })
	b.Command(t, "promote-cluster", "--force")
	w.AdvanceOn(t, b.Healthy(t, harness.Patience), harness.Patience)
	w.AuditOn(t, b, 0)
	harness.Eventually(t, harness.Patience, "the demoted cluster has followed", func() bool {
		now := b.Leader()
		if now == nil {
			return false
		}
		theirs, bad := now.TrySQL("select pg_switch_wal(); select count(*) from numbered")
		mine, err := primary.TrySQL("select count(*) from numbered")
		return err == nil && bad == nil && mine == theirs
	})
}
