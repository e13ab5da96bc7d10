package trouble

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/test/rig"
)

// The passwords of a cluster that is made, cloned, switched over, restarted, asked and changed are in no log, document, command line or
// file but those that are for them, though everything logs as much as it can; nor are wrong ones.
func TestPasswordsStayOutOfLogs(t *testing.T) {
	t.Parallel()
	secrets := []string{"Sup3r-hush", "Repl-hush", "Rew1nd-hush", "R3st-hush", "Wr0ng-hush"}
	etcd := rig.StartEtcd(t)
	leader, replica := rig.NewMember(t, "demo-0", etcd.Address), rig.NewMember(t, "demo-1", etcd.Address)
	for _, m := range []*rig.Member{leader, replica} {
		m.Edit(t, "scope: ", "log: {level: DEBUG}\nscope: ")
		m.Edit(t, "restapi: {", "restapi: {authentication: {username: admin, password: R3st-hush}, ")
		m.Edit(t, "password: secret}", "password: Sup3r-hush}")
		m.Edit(t, "password: rep}", "password: Repl-hush}\n    rewind: {username: rewinder, password: Rew1nd-hush}")
		m.Edit(t, "  - local all all trust", "  - local all all trust\n  - host all all 127.0.0.1/32 trust")
		m.Edit(t, "parameters: {unix", "parameters: {log_statement: all, log_min_duration_statement: 0, log_connections: 'on', log_replication_commands: 'on', log_line_prefix: '%a ', unix")
	}
	lines := watchCommandLines(t, leader.Dir, replica.Dir)
	leader.Start(t)
	leader.WaitPrimary(t)
	replica.Edit(t, "password: Repl-hush}", "password: Wr0ng-hush}")
	replica.Start(t)
	replica.WaitLog(t, "password authentication failed")
	replica.Edit(t, "password: Wr0ng-hush}", "password: Repl-hush}")
	replica.Stop(t)
	replica.Start(t)
	replica.WaitStreaming(t)

	said := []string{}
	ask := func(args ...string) {
		t.Helper()
		out, err := exec.Command(rig.Program(), append([]string{"-c", leader.File()}, args...)...).CombinedOutput()
		if said = append(said, string(out)); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	ask("switchover", rig.Scope, "--leader", leader.Name, "--candidate", replica.Name, "--force")
	replica.WaitPrimary(t)
	leader.WaitStreaming(t)
	ask("restart", rig.Scope, leader.Name, "--force")
	ask("edit-config", rig.Scope, "--force", "-s", "postgresql.parameters.work_mem=5MB")
	leader.WaitStreaming(t) // or doctor has something to say
	for _, args := range [][]string{{"list", rig.Scope}, {"show-config", rig.Scope}, {"dsn", rig.Scope}, {"doctor", rig.Scope}, {"why"}} {
		ask(args...)
	}
	leader.Crash(t)
	leader.Start(t)
	leader.WaitStreaming(t)
	for _, m := range []*rig.Member{leader, replica} {
		for _, path := range []string{"/patroni", "/cluster", "/config", "/history", "/metrics", "/why", "/nosuch"} {
			_, body := m.Call("GET", path, "")
			said = append(said, body)
		}
		m.Stop(t)
		said = append(said, m.Log())
	}
	said = append(said, lines()...)
	for _, text := range said {
		lookFor(t, secrets, "what was said", text)
	}
	files := 0
	for _, m := range []*rig.Member{leader, replica} {
		err := filepath.WalkDir(m.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || path == m.File() || filepath.Base(path) == "pgpass" {
				return err
			}
			text, err := os.ReadFile(path)
			files++
			lookFor(t, secrets, path, string(text)) // the cluster's own tables, too: they have hashes
			return err
		})
		if err != nil || files == 0 {
			t.Errorf("have %d files, %v", files, err)
		}
	}
	if !strings.Contains(strings.Join(said, ""), "created accounts") && !strings.Contains(strings.Join(said, ""), "bootstrap") {
		t.Error("the logs say nothing of the bootstrap: this test looks at the wrong ones")
	}
}

func lookFor(t *testing.T, secrets []string, where, text string) {
	t.Helper()
	for _, s := range secrets {
		if i := strings.Index(text, s); i >= 0 {
			t.Errorf("%s has the password %s: ...%s...", where, s, text[max(0, i-200):min(len(text), i+40)])
		}
	}
}

// watchCommandLines collects what the processes below these directories are called with and have in their environment until it is asked.
func watchCommandLines(t *testing.T, dirs ...string) func() []string {
	t.Helper()
	stop, ended := make(chan struct{}), make(chan struct{})
	seen := map[string]bool{}
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond): // nobody tells of processes that come and go
			}
			names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, name := range names {
				cwd, _ := os.Readlink(filepath.Join(filepath.Dir(name), "cwd"))
				if !slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(cwd, d) }) {
					continue
				}
				for _, file := range []string{"cmdline", "environ"} {
					text, _ := os.ReadFile(filepath.Join(filepath.Dir(name), file))
					seen[string(text)] = true
				}
			}
		}
	}()
	end := func() []string {
		select {
		case <-stop:
		default:
			close(stop)
		}
		<-ended
		var list []string
		for s := range seen {
			list = append(list, s)
		}
		return list
	}
	t.Cleanup(func() { end() })
	return end
}

// Somebody has put functions and views of the names that the agent uses before PostgreSQL's own in the search path of the superuser
// and of the database. Nothing that runs as the superuser calls them.
func TestSearchPathIsPinned(t *testing.T) {
	t.Parallel()
	etcd := rig.StartEtcd(t)
	leader, replica := rig.NewMember(t, "demo-0", etcd.Address), rig.NewMember(t, "demo-1", etcd.Address)
	for _, m := range []*rig.Member{leader, replica} {
		m.Edit(t, "  - host all postgres 127.0.0.1/32 md5", "  - host all all 127.0.0.1/32 md5")
		m.Edit(t, "password: rep}", "password: rep}\n    rewind: {username: rewinder, password: rew}")
	}
	leader.Start(t)
	leader.WaitPrimary(t)
	replica.Start(t)
	replica.WaitStreaming(t)
	trap := "create schema evil; "
	for _, f := range []string{"pg_is_in_recovery() returns boolean", "pg_current_wal_lsn() returns pg_lsn", "pg_current_wal_flush_lsn() returns pg_lsn",
		"pg_current_wal_insert_lsn() returns pg_lsn", "pg_last_wal_receive_lsn() returns pg_lsn", "pg_last_wal_replay_lsn() returns pg_lsn", "pg_is_wal_replay_paused() returns boolean",
		"pg_conf_load_time() returns timestamptz", "pg_postmaster_start_time() returns timestamptz", "pg_last_xact_replay_timestamp() returns timestamptz", "current_setting(text) returns text",
		"pg_switch_wal() returns pg_lsn", "pg_create_physical_replication_slot(name, boolean) returns record", "pg_drop_replication_slot(name) returns void",
		"has_function_privilege(text, text) returns boolean", "pg_read_binary_file(text) returns bytea", "pg_control_checkpoint() returns record", "unnest(text[]) returns text"} {
		trap += "create function evil." + f + " language plpgsql as $$begin raise exception 'lured'; end$$; "
	}
	for _, v := range []string{"pg_stat_replication", "pg_replication_slots", "pg_settings", "pg_file_settings", "pg_stat_wal_receiver", "pg_stat_activity", "pg_roles", "pg_database"} {
		trap += "create view evil." + v + " as select 1/(random()*0)::int as lured; "
	}
	trap += "alter database postgres set search_path = evil, pg_catalog; alter role postgres set search_path = evil, pg_catalog; alter role rewinder set search_path = evil, pg_catalog; grant usage on schema evil to public"
	if _, err := leader.SQL(trap); err != nil {
		t.Fatal(err)
	}
	if _, err := leader.SQL("select pg_is_in_recovery()"); err == nil || !strings.Contains(err.Error(), "lured") {
		t.Fatalf("the trap does not work: %v", err)
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(rig.Program(), append([]string{"-c", leader.File()}, args...)...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	streams := func(m *rig.Member) func() bool {
		return func() bool { s := m.Status(); return s["role"] == "replica" && s["replication_state"] == "streaming" }
	}
	rig.Wait(t, "the trap is on the replica", func() bool {
		_, err := replica.SQL("select pg_is_in_recovery()")
		return err != nil && strings.Contains(err.Error(), "lured")
	})
	run("restart", rig.Scope, "--force")
	leader.WaitPrimary(t)
	rig.Wait(t, "the replica streams", streams(replica))
	run("switchover", rig.Scope, "--leader", leader.Name, "--candidate", replica.Name, "--force")
	replica.WaitPrimary(t)
	rig.Wait(t, "the old leader streams", streams(leader))
	leader.Crash(t)
	leader.Start(t)
	rig.Wait(t, "it streams after a crash", streams(leader))
	run("edit-config", rig.Scope, "--force", "-s", "postgresql.parameters.work_mem=5MB")
	run("doctor", rig.Scope)
	run("reinit", rig.Scope, leader.Name, "--force", "--wait")
	rig.Wait(t, "it streams after a rebuild", streams(leader))
	for _, m := range []*rig.Member{leader, replica} {
		log, err := os.ReadFile(filepath.Join(m.Data, "regent-startup.log"))
		if err != nil || strings.Contains(string(log), "lured") { // it begins with the last start, after this test's own two statements
			t.Errorf("%s: PostgreSQL's log tells of calls that were lured, %v", m.Name, err)
		}
		if strings.Contains(m.Log(), "lured") {
			t.Errorf("%s: the agent was lured", m.Name)
		}
	}
}
