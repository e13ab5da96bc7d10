package postgres

import (
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
)

var update = flag.Bool("update", false, "rewrite the golden files (they must be writable for the user that the tests run as)")

// offline is an instance whose server program is not asked: its version is none of the data directory's.
func offline(t *testing.T, version int, change func(*Settings)) *Instance {
	t.Helper()
	root := t.TempDir()
	s := Settings{
		Scope: "batman", Name: "pg1", DataDir: filepath.Join(root, "data"), ListenHosts: "127.0.0.1,10.0.0.1", Port: 5433,
		PgPass: filepath.Join(root, "pgpass"), UseSlots: true,
		Superuser:   Account{Username: "postgres", Password: "s3cret"},
		Replication: Account{Username: "replicator", Password: `re:p\l`, Options: map[string]string{"sslmode": "verify-ca", "sslrootcert": "/etc/ca file.pem", "sslcrldir": "/etc/crl"}},
		Parameters: map[string]string{"cluster_name": "batman", "wal_level": "replica", "hot_standby": "on", "max_connections": "100", "max_wal_senders": "10",
			"max_prepared_transactions": "0", "max_locks_per_transaction": "64", "track_commit_timestamp": "off", "max_replication_slots": "10",
			"max_worker_processes": "8", "wal_log_hints": "on", "wal_keep_size": "128MB",
			"archive_command": `test ! -f '/arch ive/%f' && cp %p \\nas\%f`, "ssl_ciphers": "", "auto_explain.log_min_duration": "1s"},
		HBA:          []string{"local all all peer", "host replication replicator all scram-sha-256"},
		Ident:        []string{"map root postgres"},
		RecoveryConf: map[string]string{"restore_command": `cp "/arch/%f" %p`, "trigger_file": "/tmp/promote", "recovery_target_time": "yesterday", "primary_conninfo": "host=evil", "nonsense": "1"},
	}
	if change != nil {
		change(&s)
	}
	if err := os.Mkdir(s.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.DataDir, "PG_VERSION"), fmt.Sprintln(version))
	write(t, filepath.Join(s.configDir(), "postgresql.conf"), "shared_buffers = 128MB\n")
	write(t, filepath.Join(s.DataDir, "postgresql.auto.conf"), "# comment\nprimary_conninfo = 'host=old'\nwork_mem = '8MB'\nRestore_Command='x'\n")
	return &Instance{log: slog.New(slog.DiscardHandler), settings: s}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dump shows every file below the parent of the data directory; of identical copies only the name.
func dump(t *testing.T, p *Instance) string {
	t.Helper()
	root := filepath.Dir(p.settings.DataDir)
	var b strings.Builder
	err := filepath.Walk(root, func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		if original, ok := strings.CutSuffix(name, ".backup"); ok {
			for _, dir := range []string{p.settings.configDir(), p.settings.DataDir} {
				if text, err := os.ReadFile(filepath.Join(dir, filepath.Base(original))); err == nil && string(text) == read(t, name) {
					fmt.Fprintf(&b, "-- %s %04o is a copy\n", strings.TrimPrefix(name, root), info.Mode().Perm())
					return nil
				}
			}
		}
		fmt.Fprintf(&b, "-- %s %04o\n%s", strings.TrimPrefix(name, root), info.Mode().Perm(), strings.ReplaceAll(read(t, name), root, ""))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func golden(t *testing.T, name, have string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := read(t, name); have != want {
		t.Errorf("%s: have\n%s\nwant\n%s", name, have, want)
	}
}

func TestConfigurationByVersion(t *testing.T) {
	up := cluster.Upstream{Name: "pg2", Host: "10.0.0.2", Port: 5432, Slot: "pg1"}
	c := &cluster.Control{Settings: map[string]int{"max_connections": 200, "max_wal_senders": 5, "max_prepared_transactions": 3}}
	for version := OldestVersion; version <= NewestVersion; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			p := offline(t, version, nil)
			if err := p.WriteConfiguration(AsStandby, up, c); err != nil {
				t.Fatal(err)
			}
			have := dump(t, p) + "-- command line\n" + strings.ReplaceAll(strings.Join(p.CommandLine(AsStandby, c), "\n"), filepath.Dir(p.settings.DataDir), "") + "\n"
			golden(t, fmt.Sprintf("standby-%d.txt", version), have)
		})
	}
}

func TestConfigurationOfPrimary(t *testing.T) {
	p := offline(t, 15, func(s *Settings) {
		s.ConfigDir = filepath.Join(filepath.Dir(s.DataDir), "etc")
		s.HBA, s.Ident = nil, nil
		if err := os.Mkdir(s.ConfigDir, 0o700); err != nil {
			t.Fatal(err)
		}
	})
	write(t, filepath.Join(p.settings.DataDir, "standby.signal"), "")
	write(t, filepath.Join(p.settings.DataDir, "recovery.signal"), "")
	if err := p.WriteConfiguration(AsPrimary, cluster.Upstream{Host: "ignored"}, nil); err != nil {
		t.Fatal(err)
	}
	golden(t, "primary-15.txt", dump(t, p))
}

func TestUnchangedConfigurationIsNotRewritten(t *testing.T) {
	p := offline(t, 15, nil)
	up := cluster.Upstream{Host: "10.0.0.2", Port: 5432}
	files := func() map[string]os.FileInfo {
		found := map[string]os.FileInfo{}
		names, _ := filepath.Glob(filepath.Join(p.settings.DataDir, "*"))
		for _, name := range append(names, p.settings.PgPass) {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			found[name] = info
		}
		return found
	}
	if err := p.WriteConfiguration(AsStandby, up, nil); err != nil {
		t.Fatal(err)
	}
	before := files()
	if err := p.WriteConfiguration(AsStandby, up, nil); err != nil {
		t.Fatal(err)
	}
	for name, info := range files() {
		if !os.SameFile(info, before[name]) {
			t.Errorf("%s: have a new file, want the old one", name)
		}
	}
	p.settings.Replication.Password = "new"
	if err := p.WriteConfiguration(AsStandby, up, nil); err != nil {
		t.Fatal(err)
	}
	if have, want := read(t, p.settings.PgPass), "10.0.0.2:5432:*:replicator:new\n"; have != want {
		t.Errorf("password file: have %q, want %q", have, want)
	}
	if !os.SameFile(files()[p.settings.confFile()], before[p.settings.confFile()]) {
		t.Error("postgresql.conf: have a new file after a new password, want the old one")
	}
}

// A crash between renaming the original and writing ours leaves no postgresql.conf; one of Patroni's is no original.
func TestOriginalIsKept(t *testing.T) {
	t.Run("after a crash", func(t *testing.T) {
		p := offline(t, 15, nil)
		if err := os.Rename(p.settings.confFile(), p.settings.baseFile()); err != nil {
			t.Fatal(err)
		}
		if err := p.WriteConfiguration(AsPrimary, cluster.Upstream{}, nil); err != nil {
			t.Fatal(err)
		}
		if have, want := read(t, p.settings.baseFile()), "shared_buffers = 128MB\n"; have != want {
			t.Errorf("base file: have %q, want %q", have, want)
		}
		if !managed(read(t, p.settings.confFile())) {
			t.Error("postgresql.conf: have somebody else's, want ours")
		}
	})
	t.Run("from its copy", func(t *testing.T) {
		p := offline(t, 15, nil)
		if err := p.WriteConfiguration(AsPrimary, cluster.Upstream{}, nil); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{p.settings.baseFile(), p.settings.confFile()} {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.WriteConfiguration(AsPrimary, cluster.Upstream{}, nil); err != nil {
			t.Fatal(err)
		}
		if have, want := read(t, p.settings.baseFile()), "shared_buffers = 128MB\n"; have != want {
			t.Errorf("base file: have %q, want %q", have, want)
		}
	})
	t.Run("beside Patroni's", func(t *testing.T) {
		p := offline(t, 15, nil)
		write(t, p.settings.baseFile(), "shared_buffers = 64MB\n")
		write(t, p.settings.confFile(), patroniHeader+"# It will be overwritten by Patroni!\ninclude 'postgresql.base.conf'\n\nsynchronous_standby_names = 'pg2'\n\n"+
			recoveryMark+"primary_conninfo = 'user=x host=10.0.0.9'\nprimary_slot_name = 'pg1'\n")
		if _, err := p.writeFiles(nil, AsPrimary, nil); err != nil { // as an agent that takes over a running server
			t.Fatal(err)
		}
		have := read(t, p.settings.confFile())
		for _, want := range []string{"synchronous_standby_names = 'pg2'\n", recoveryMark + "primary_conninfo = 'user=x host=10.0.0.9'\nprimary_slot_name = 'pg1'\n"} {
			if !strings.Contains(have, want) {
				t.Errorf("postgresql.conf: have\n%s\nwant in it\n%s", have, want)
			}
		}
		if have, want := read(t, p.settings.baseFile()), "shared_buffers = 64MB\n"; have != want {
			t.Errorf("base file: have %q, want %q", have, want)
		}
	})
}

func TestNothingIsWrittenWithoutVersion(t *testing.T) {
	p := offline(t, 15, nil)
	if err := os.Remove(filepath.Join(p.settings.DataDir, "PG_VERSION")); err != nil {
		t.Fatal(err)
	}
	before := dump(t, p)
	if err := p.WriteConfiguration(AsStandby, cluster.Upstream{Host: "h"}, nil); err == nil {
		t.Fatal("have no error, want ErrVersionUnknown")
	}
	if have := dump(t, p); have != before {
		t.Errorf("files: have\n%s\nwant\n%s", have, before)
	}
}

func TestPrimaryConninfoReadsBack(t *testing.T) {
	s := Settings{Name: `o'brien\ pg`, PgPass: "/tmp/pg pass", Replication: Account{Username: "r u", Password: "x"}}
	have := parseKeywords(s.primaryConninfo(18, cluster.Upstream{Host: "a,b", Port: 5432, Slot: "s"}))
	want := map[string]string{"dbname": "postgres", "user": "r u", "passfile": "/tmp/pg pass", "host": "a,b", "port": "5432", "sslmode": "prefer",
		"application_name": `o'brien\ pg`, "gssencmode": "prefer", "channel_binding": "prefer", "target_session_attrs": "read-write", "sslnegotiation": "postgres",
		"tcp_user_timeout": "10000", "options": "-c tcp_user_timeout=10000"}
	if !maps.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
	if have, want := parseKeywords(`host = 'a b' password='it''s' port=1`), "a b"; have["host"] != want {
		t.Errorf("quoted host: have %q, want %q", have["host"], want)
	}
}

// What section standby_cluster says of the archive wins over the configuration, and goes with the upstream.
func TestSectionWins(t *testing.T) {
	user := map[string]string{"restore_command": "ours", "archive_cleanup_command": "ours"}
	var s Settings
	for name, c := range map[string]struct {
		up                    cluster.Upstream
		restore, clean, delay string
	}{
		"no section":   {cluster.Upstream{Host: "h"}, "ours", "ours", ""},
		"all of it":    {cluster.Upstream{Archive: cluster.Archive{Restore: "r", Cleanup: "c", Delay: "5s"}}, "r", "c", "5s"},
		"a part of it": {cluster.Upstream{Host: "h", Archive: cluster.Archive{Restore: "r"}}, "r", "ours", ""},
	} {
		have := s.recoverySettings(15, c.up, user)
		for parameter, want := range map[string]string{"restore_command": c.restore, "archive_cleanup_command": c.clean, "recovery_min_apply_delay": c.delay} {
			if v := valueOf(have, parameter); v != want {
				t.Errorf("%s: have %s %q, want %q", name, parameter, v, want)
			}
		}
	}
	if have := parseKeywords(s.primaryConninfo(15, cluster.Upstream{Host: "a,b", Port: 5432})); have["target_session_attrs"] != "" {
		t.Errorf("several hosts without a slot: have target_session_attrs %q, want none", have["target_session_attrs"])
	}
}

func TestPassLines(t *testing.T) {
	have := passLines("/run/pg,10.0.0.1", 0, Account{Username: "a:b", Password: `p:\`})
	want := "/run/pg:*:*:a\\:b:p\\:\\\\\n10.0.0.1:*:*:a\\:b:p\\:\\\\\nlocalhost:*:*:a\\:b:p\\:\\\\\n"
	if have != want {
		t.Errorf("have %q, want %q", have, want)
	}
}

func TestSplitCommand(t *testing.T) {
	for line, want := range map[string][]string{
		`/bin/a  b`:         {"/bin/a", "b"},
		`a 'b c' "d \" e"`:  {"a", "b c", `d " e`},
		`a b\ c '' "x"'y'z`: {"a", "b c", "", "xyz"},
		"":                  nil,
	} {
		if have, err := splitCommand(line); err != nil || !slices.Equal(have, want) {
			t.Errorf("%s: have %q, %v, want %q", line, have, err, want)
		}
	}
	for _, line := range []string{`a 'b`, `a "b`, `a \`} {
		if words, err := splitCommand(line); err == nil {
			t.Errorf("%s: have %q, want an error", line, words)
		}
	}
}

func TestHumanSetting(t *testing.T) {
	for _, c := range []struct{ kind, unit, value, want string }{
		{"integer", "8kB", "16384", "128MB"}, {"integer", "8kB", "1GB", "1GB"}, {"integer", "kB", "4097", "4097kB"}, {"integer", "MB", "0", "0"},
		{"integer", "", "100", "100"}, {"integer", "s", "300", "5min"}, {"integer", "ms", "1500", "1500ms"}, {"integer", "min", "1440", "1d"},
		{"integer", "16MB", "2", "32MB"}, {"integer", "8kB", "-1", "-1"}, {"bool", "", "true", "on"}, {"enum", "", "logical", "logical"},
	} {
		if have := humanSetting(c.kind, c.unit, c.value); have != c.want {
			t.Errorf("%s %s %s: have %s, want %s", c.kind, c.unit, c.value, have, c.want)
		}
	}
}

func TestSecretsStayOutOfText(t *testing.T) {
	p := offline(t, 15, nil)
	if err := p.WriteConfiguration(AsStandby, cluster.Upstream{Host: "10.0.0.2", Port: 5432}, nil); err != nil {
		t.Fatal(err)
	}
	text := read(t, p.settings.confFile()) + strings.Join(p.CommandLine(AsStandby, nil), " ") + fmt.Sprintf("%v %+v %#v", p.settings, p.settings, p.settings)
	for _, secret := range []string{"s3cret", `re:p\l`, `re\:p`} {
		if strings.Contains(text, secret) {
			t.Errorf("password %q shows in configuration, arguments or printed settings", secret)
		}
	}
}

func TestReadSettingsReversesRendering(t *testing.T) {
	want := map[string]string{"a": `it's \n here`, "b": "", "c": "two\nlines", "d": ` spaces = 'x' `}
	if have := readSettings(renderSettings(sorted(want))); !reflect.DeepEqual(have, want) {
		t.Errorf("have %q, want %q", have, want)
	}
}
