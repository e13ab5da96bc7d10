package postgres

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

// backedUp makes a base backup and an archive: the table t has a row from before the backup, one from before the restore point "here",
// and one from after it.
func backedUp(t *testing.T) (backup, archive string) {
	t.Helper()
	p := bootstrapped(t)
	stopFast(t, p)
	s := p.Settings()
	root := filepath.Dir(s.DataDir)
	backup, archive = filepath.Join(root, "backup"), filepath.Join(root, "archive")
	must(t, os.Mkdir(archive, 0o700))
	s.Parameters["archive_mode"], s.Parameters["archive_command"] = "on", "cp %p "+archive+"/%f"
	p.Configure(s)
	startPrimary(t, p)
	p.sql(t, "CREATE TABLE t AS SELECT 'before' AS row")
	out, err := exec.Command(p.binaries.path("pg_basebackup"), "-h", "127.0.0.1", "-p", fmt.Sprint(s.Port), "-U", "replicator", "-c", "fast", "-D", backup).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.sql(t, "INSERT INTO t VALUES ('kept')")
	p.sql(t, "SELECT pg_create_restore_point('here')")
	p.sql(t, "INSERT INTO t VALUES ('undone')")
	segment := p.sql(t, "SELECT pg_walfile_name(pg_switch_wal())")
	pgtest.Eventually(t, "the archive has "+segment, func() bool { return exists(filepath.Join(archive, segment)) })
	p.sql(t, "CHECKPOINT")
	return backup, archive
}

func TestRestoredBootstrap(t *testing.T) {
	t.Parallel()
	backup, archive := backedUp(t)
	restore := "cp " + archive + "/%f %p"
	target := map[string]string{"restore_command": restore, "recovery_target_name": "here"}
	with := func(more ...string) map[string]string {
		m := maps.Clone(target)
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for _, c := range []struct {
		name       string
		restore    Restore
		then       string // further commands of the script
		rows       string
		timeline   string
		hotStandby string // while post_bootstrap runs
	}{
		{"to a target", Restore{Recovery: with("recovery_target_action", "promote")}, "", "before kept", "2", "off"},
		{"by an old name", Restore{Recovery: with("pause_at_recovery_target", "false", "standby_mode", "off")}, "", "before kept", "2", "off"},
		{"paused at the target", Restore{Recovery: target}, "", "before kept", "2", "on"},
		{"to the end of the archive", Restore{Recovery: map[string]string{"restore_command": restore}}, "", "before kept undone", "2", "on"},
		{"of the backup alone", Restore{}, "", "before", "1", "on"},
		{"as the command says", Restore{KeepRecovery: true}, `
touch "$dir/recovery.signal"
echo "restore_command = '` + restore + `'
recovery_target_name = 'here'
recovery_target_action = 'promote'" >> "$dir/postgresql.auto.conf"`, "before kept", "2", "off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := testSettings(t, "pg1")
			root := filepath.Dir(s.DataDir)
			seen := filepath.Join(root, "seen")
			script := filepath.Join(root, "restore")
			pgtest.WriteProgram(t, script, "#!/bin/sh -e\necho \"$@\" > "+root+"/args\ndir=${2#--datadir=}\ncp -a "+backup+"/. \"$dir\""+c.then)
			s.PostBootstrap = "sh -c 'for name in hot_standby hba_file; do " + s.BinDir + "/psql \"$1\" -Atc \"show $name\"; done > " + seen + "' sh"
			s.Superuser.Password = "a new one"
			s.HBA = []string{"local all all trust", "host all all 127.0.0.1/32 scram-sha-256"}
			s.Parameters["password_encryption"] = "scram-sha-256"
			c.restore.Name, c.restore.Command, c.restore.Arguments = "wal", script, [][2]string{{"stanza", "main"}}
			s.Restore = &c.restore
			p := newInstance(t, s)
			resumed := make(chan error, 1)
			must(t, p.Bootstrap(within(t, 60*time.Second), func(r Report) {
				if strings.HasPrefix(r.Detail, "paused") {
					_, err := p.query(t.Context(), "SELECT pg_wal_replay_resume()")
					resumed <- err
				}
			}))
			if strings.HasPrefix(c.name, "paused") {
				must(t, <-resumed)
			}
			if have := strings.TrimSpace(read(t, filepath.Join(root, "args"))); have != "--scope=batman --datadir="+s.DataDir+" --stanza=main" {
				t.Errorf("arguments: have %s", have)
			}
			if have := p.local(t, "SELECT string_agg(row, ' ' ORDER BY row) FROM t"); have != c.rows {
				t.Errorf("rows: have %s, want %s", have, c.rows)
			}
			if have := p.local(t, "SELECT pg_is_in_recovery() || ' ' || timeline_id FROM pg_control_checkpoint()"); have != "false "+c.timeline {
				t.Errorf("recovery, timeline: have %s, want false %s", have, c.timeline)
			}
			if have, want := read(t, seen), c.hotStandby+"\n"+s.lockedHBAFile()+"\n"; have != want {
				t.Errorf("post_bootstrap saw %q, want %q", have, want)
			}
			if have := p.local(t, "SELECT current_setting('hot_standby') || ' ' || current_setting('hba_file')"); have != "on "+s.hbaFile() {
				t.Errorf("afterwards: have %s, want on %s", have, s.hbaFile())
			}
			if conf := read(t, s.confFile()) + read(t, filepath.Join(s.DataDir, "postgresql.auto.conf")); strings.Contains(conf, "restore_command") {
				t.Errorf("the recovery's settings are still there:\n%s", conf)
			}
			for _, name := range []string{"recovery.signal", "standby.signal", filepath.Base(s.lockedHBAFile()), markUnfinished} {
				if exists(filepath.Join(s.DataDir, name)) {
					t.Errorf("%s is left behind", name)
				}
			}
			if _, err := p.Query(within(t, 5*time.Second), "SELECT 1"); err != nil {
				t.Errorf("the configured password: %v", err)
			}
		})
	}
}

// local asks through the socket, whatever the passwords.
func (p *Instance) local(t *testing.T, sql string) string {
	t.Helper()
	s := p.Settings()
	out, err := exec.Command(filepath.Join(s.BinDir, "psql"), "-h", s.Parameters["unix_socket_directories"], "-p", fmt.Sprint(s.Port), "-U", "postgres", "-Atc", sql).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestRestoredBootstrapFails(t *testing.T) {
	t.Parallel()
	backup, archive := backedUp(t)
	copies := "sh -c 'cp -a " + backup + "/. \"$2\"' sh"
	for _, c := range []struct {
		name    string
		restore Restore
		user    string
		want    string
	}{
		{"the command", Restore{Command: "sh -c 'echo no such backup >&2; exit 4' sh"}, "postgres", "no such backup"},
		{"nothing is there", Restore{Command: "true"}, "postgres", "check the clone"},
		{"a target that never comes", Restore{Command: copies, Recovery: map[string]string{"restore_command": "cp " + archive + "/%f %p", "recovery_target_name": "nowhere", "recovery_target_action": "promote"}}, "postgres",
			"recovery ended before configured recovery target was reached"},
		{"another superuser", Restore{Command: copies}, "admin", "it needs the superuser"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := testSettings(t, "pg1")
			s.Superuser.Username = c.user
			c.restore.Name, c.restore.NoParams = "wal", true
			c.restore.Arguments = nil
			c.restore.Command = strings.ReplaceAll(c.restore.Command, "$2", s.DataDir)
			s.Restore = &c.restore
			p := newInstance(t, s)
			if err := p.Bootstrap(within(t, 30*time.Second), nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("have %v, want %s", err, c.want)
			}
			if state, problem := p.directory(); state == cluster.DirPresent || p.postmaster() != nil {
				t.Errorf("afterwards: have %s, %q, running %v; want a directory that counts as empty, and nothing running", state, problem, p.postmaster() != nil)
			}
		})
	}
}
