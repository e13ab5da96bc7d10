package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/postgres/pgtest"
	"github.com/regent-ha/regent/test/integration/harness"
)

// Three members start at once: one makes the cluster, the others become its replicas. Each member's slot is on the leader and, for
// the day when they lead, on the other replicas; when a member is gone for member_slots_ttl its slots go too.
func TestBootstrapRace(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Members: 3, Dynamic: harness.Map{"member_slots_ttl": 4}})
	for _, m := range c.Members {
		m.Start(t)
	}
	leader := c.Healthy(t, 2*harness.Patience)
	ids := map[string]bool{}
	for _, m := range c.Members {
		ids[m.Now(t).SystemID] = true
	}
	if len(ids) != 1 {
		t.Errorf("have the system identifiers %v, want one", ids)
	}
	w := c.Write(t)

	slots := func(m *harness.Member) string {
		out, err := m.TrySQL("select string_agg(slot_name, ' ' order by slot_name) from pg_replication_slots")
		if err != nil {
			return err.Error()
		}
		return out
	}
	names := func(members []*harness.Member) string {
		var list []string
		for _, m := range members {
			list = append(list, m.Name)
		}
		return strings.Join(list, " ")
	}
	for _, m := range c.Members {
		want := names(c.Others(m))
		harness.Eventually(t, harness.Patience, m.Name+" has the slots "+want, func() bool { return slots(m) == want })
	}

	gone, stays := c.Others(leader)[0], c.Others(leader)[1]
	gone.KillAll(t)
	for _, m := range []*harness.Member{leader, stays} {
		harness.Eventually(t, harness.Patience, "the slot of "+gone.Name+" goes from "+m.Name, func() bool { return !strings.Contains(slots(m), gone.Name) })
	}
	harness.Eventually(t, harness.Patience, "the leader has no slot but that of "+stays.Name, func() bool { return slots(leader) == stays.Name })
	gone.Start(t)
	if now := c.Healthy(t, harness.Patience); now != leader {
		t.Errorf("have leader %s, want %s", now.Name, leader.Name)
	}
	w.Audit(t, 0)
}

// The member that makes the cluster dies in the middle, when its PostgreSQL runs and post_bootstrap is under way: another one makes it, and the
// first joins when it is back.
func TestBootstrapperKilled(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Member: func(m *harness.Member, config map[string]any) {
		if m.Name == "m0" {
			config["bootstrap"].(harness.Map)["post_bootstrap"] = "sh -c 'touch " + begun(m) + " && exec sleep 1000'"
		}
	}})
	first, second := c.Members[0], c.Members[1]
	first.Start(t)
	harness.Eventually(t, harness.Patience, "m0 makes the cluster", func() bool {
		_, err := os.Stat(begun(first))
		return err == nil
	})
	if s := first.Now(t); s.State != "initializing new cluster" {
		t.Errorf("have state %q of a member that makes the cluster, want initializing new cluster", s.State)
	}
	first.KillAll(t)
	if leader := c.Leader(); leader != nil {
		t.Fatalf("%s leads already: it was not killed in the middle", leader.Name)
	}
	second.Start(t)
	harness.Eventually(t, harness.Patience, "m1 is the primary", func() bool { return second.Ready("primary") })
	first.Start(t)
	if now := c.Healthy(t, harness.Patience); now != second {
		t.Errorf("have leader %s, want %s", now.Name, second.Name)
	}
	if first.Now(t).SystemID != second.Now(t).SystemID {
		t.Error("the killed bootstrapper came back with a cluster of its own")
	}
}

// begun is a file that a member's post_bootstrap makes.
func begun(m *harness.Member) string { return filepath.Join(m.Dir, "begun") }

// A member whose data belongs to another cluster is told so and nothing is touched. Without that data it is cloned, and
// shows how far it is.
func TestForeignDataThenClone(t *testing.T) {
	t.Parallel()
	// pg_basebackup tells its progress once a second, and an empty cluster is copied in less.
	slow := func(_ *harness.Member, config map[string]any) {
		config["postgresql"].(map[string]any)["basebackup"] = []any{map[string]any{"max-rate": "8M"}}
	}
	c := harness.New(t, harness.Options{Member: slow})
	leader, m := c.Members[0], c.Members[1]
	leader.Start(t)
	harness.Eventually(t, harness.Patience, "m0 is the primary", func() bool { return leader.Ready("primary") })
	leader.SQL(t, "create table big as select repeat(md5(i::text), 200) as text from generate_series(1, 30000) i")

	initdb := exec.Command(filepath.Join(pgtest.Installed(t).BinDir, "initdb"), "-D", m.Data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	control := filepath.Join(m.Data, "global", "pg_control")
	before, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	m.Start(t)
	if code := m.AwaitExit(t, harness.Patience); code != 1 {
		t.Errorf("have exit code %d of an agent with foreign data, want 1", code)
	}
	if !m.Logged("belongs to another cluster") {
		t.Error("the log does not say why")
	}
	if after, err := os.ReadFile(control); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the foreign data was touched: %v", err)
	}
	if err := os.RemoveAll(m.Data); err != nil {
		t.Fatal(err)
	}

	m.Start(t)
	var done, total int64
	phases := map[string]bool{}
	harness.Eventually(t, harness.Patience, "the clone streams", func() bool {
		s := m.Status()
		if s != nil && s.Regent != nil && s.Regent.Job != nil && s.Regent.Job.Name == "clone" {
			done, total = max(done, s.Regent.Job.Done), max(total, s.Regent.Job.Total)
			phases[s.Regent.Job.Phase] = true
		}
		return s != nil && s.ReplicationState == "streaming"
	})
	if done == 0 || total == 0 || done > total+total/2 {
		t.Errorf("have %d of %d bytes shown while cloning, in phases %v; want both, and progress within the size", done, total, phases)
	}
	t.Logf("clone: %d of %d bytes shown, phases %v", done, total, phases)

	// The data directory of a running replica is deleted: it is built again.
	pid := m.Postmaster()
	harness.Eventually(t, harness.Patience, "PostgreSQL makes no file while its directory is deleted", func() bool { return os.RemoveAll(m.Data) == nil })
	harness.Eventually(t, harness.Patience, "the replica without data is ended", func() bool { return !harness.Alive(pid) })
	if now := c.Healthy(t, harness.Patience); now != leader {
		t.Errorf("have leader %s, want %s", now.Name, leader.Name)
	}
	if n := m.SQL(t, "select count(*) from big"); n != "30000" {
		t.Errorf("have %s rows on the rebuilt replica, want 30000", n)
	}

	// And because somebody asks for it; the leader refuses.
	pid = m.Postmaster()
	begin := time.Now()
	if said, err := m.API.Reinitialize(limited(t), false, false); err != nil {
		t.Fatalf("reinitialize: %v %s", err, said)
	}
	harness.Eventually(t, harness.Patience, "the replica is built again", func() bool { now := m.Postmaster(); return now != 0 && now != pid })
	c.Healthy(t, harness.Patience)
	t.Logf("reinitialized in %s", time.Since(begin).Round(time.Millisecond))
	if said, err := leader.API.Reinitialize(limited(t), false, false); err == nil {
		t.Errorf("have %q to the request to reinitialize the leader, want a refusal", said)
	}
}
