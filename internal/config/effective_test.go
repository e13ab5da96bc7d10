package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

func dynamic(t *testing.T, text string) cluster.DynamicConfig {
	t.Helper()
	v, err := cluster.ParseValue([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cluster.DynamicConfig{Document: v, Usable: true}
}

func effective(t *testing.T, local, dyn string) (Effective, string) {
	t.Helper()
	e, warnings, err := NewEffective(&File{Document: parse(t, local)}, dynamic(t, dyn))
	if err != nil {
		t.Fatal(err)
	}
	return e, fmt.Sprint(warnings)
}

func value(e Effective, name string) string {
	for _, p := range e.Parameters {
		if p.Name == name {
			return p.Value
		}
	}
	return "absent"
}

func TestManagedParametersByDefault(t *testing.T) {
	e, warnings := effective(t, minimal, `{}`)
	var have []string
	for _, p := range e.Parameters {
		if !p.Managed {
			t.Errorf("%s: have unmanaged, want managed", p.Name)
		}
		if p.CommandLine {
			have = append(have, "--"+p.Name+"="+p.Value)
		}
	}
	want := "--listen_addresses=10.0.0.1 --port=5432 --cluster_name=demo --wal_level=replica --hot_standby=on --max_connections=100 " +
		"--max_wal_senders=10 --max_prepared_transactions=0 --max_locks_per_transaction=64 --track_commit_timestamp=off " +
		"--max_replication_slots=10 --max_worker_processes=8 --wal_log_hints=on"
	if strings.Join(have, " ") != want {
		t.Errorf("have %s\nwant %s", strings.Join(have, " "), want)
	}
	if have, want := value(e, "wal_keep_size"), "128MB"; have != want {
		t.Errorf("wal_keep_size: have %s, want %s", have, want)
	}
	if !e.UseSlots || e.Timing != cluster.DefaultTiming || warnings != "[]" {
		t.Errorf("have slots %v, timing %v, warnings %s; want slots, defaults, none", e.UseSlots, e.Timing, warnings)
	}
}

func TestPortOfTheOtherCluster(t *testing.T) {
	for port, want := range map[string]string{`6432`: "[]", `"6432"`: "[]", `"6432,6433"`: `have "6432,6433"`, `70000`: `have "70000"`} {
		if _, warnings := effective(t, minimal, `{"standby_cluster": {"host": "h", "port": `+port+`}}`); !strings.Contains(warnings, want) {
			t.Errorf("port %s: have %s, want %s", port, warnings, want)
		}
	}
}

func TestDynamicManagedParameters(t *testing.T) {
	const failed = "failed validation, defaulting to"
	for _, c := range []struct{ parameter, name, want, warning string }{
		{`"max_connections": 25`, "max_connections", "25", ""},
		{`"MAX_connections": "0x64"`, "max_connections", "100", ""},
		{`"max_connections": 24`, "max_connections", "100", "postgresql parameter max_connections=24 " + failed + " 100"},
		{`"max_connections": true`, "max_connections", "100", failed},
		{`"max_connections": "1kB"`, "max_connections", "100", failed},
		{`"max_connections": null`, "max_connections", "100", ""},
		{`"wal_level": "Logical"`, "wal_level", "Logical", ""},
		{`"wal_level": "hot_standby"`, "wal_level", "replica", ""},
		{`"wal_level": "minimal"`, "wal_level", "replica", failed},
		{`"hot_standby": false`, "hot_standby", "on", failed},
		{`"hot_standby": true`, "hot_standby", "True", ""},
		{`"wal_log_hints": "maybe"`, "wal_log_hints", "on", failed},
		{`"wal_log_hints": "off"`, "wal_log_hints", "off", ""},
		{`"wal_keep_size": "1GB"`, "wal_keep_size", "1GB", ""},
		{`"wal_keep_size": 8`, "wal_keep_size", "128MB", failed},
		{`"wal_keep_segments": 10`, "wal_keep_size", "160MB", ""},
		{`"wal_keep_segments": 10, "wal_keep_size": "1GB"`, "wal_keep_size", "1GB", ""},
		{`"port": 1, "listen_addresses": "*", "cluster_name": "x"`, "port", "5432", ""},
	} {
		t.Run(c.parameter, func(t *testing.T) {
			e, warnings := effective(t, minimal, `{"postgresql": {"parameters": {`+c.parameter+`}}}`)
			if have := value(e, c.name); have != c.want {
				t.Errorf("%s: have %s, want %s", c.name, have, c.want)
			}
			if c.warning == "" && warnings != "[]" || !strings.Contains(warnings, c.warning) {
				t.Errorf("warnings: have %s, want %q", warnings, c.warning)
			}
			for _, p := range e.Parameters {
				if strings.EqualFold(p.Name, "wal_keep_segments") {
					t.Error("have wal_keep_segments, which PostgreSQL 13 does not know")
				}
			}
		})
	}
}

func TestLocalOverDynamic(t *testing.T) {
	e, warnings := effective(t, minimal+"  parameters: {Work_Mem: 2MB, max_connections: 500, port: 1, gone: ~}\n  use_slots: false\n  pg_hba: [local]\n"+
		"  callbacks: {on_stop: /l}\nttl: 99\nstandby_cluster: {host: x}\n", `{"ttl": 40, "loop_wait": 5, "tags": {"nofailover": true},
		"postgresql": {"listen": "*:9", "data_dir": "/x", "use_pg_rewind": "on", "bin_dir": "/b", "callbacks": {"on_start": "/d"}, "pg_hba": ["dynamic"],
		"pg_ident": ["i"], "parameters": {"work_mem": "1MB", "shared_buffers": "16MB", "gone": 1}}}`)
	have := fmt.Sprint(value(e, "Work_Mem"), value(e, "work_mem"), value(e, "shared_buffers"), value(e, "gone"), value(e, "max_connections"), value(e, "port"), " ",
		e.Postgres.DataDir, e.Postgres.UsePgRewind, e.Postgres.BinDir, e.Postgres.Callbacks, e.Postgres.PgHBA, e.Postgres.PgIdent, e.UseSlots, len(e.Tags), e.Timing)
	want := fmt.Sprint("2MB", "absent", "16MB", "absent", "100", "5432", " ",
		"/pg/data", true, "/b", Callbacks{OnStop: "/l"}, []string{"local"}, []string{"i"}, true, 0, cluster.Timing{TTL: 40 * time.Second, LoopWait: 5 * time.Second, RetryTimeout: 10 * time.Second})
	if have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
	for _, w := range []string{"postgresql.listen of the dynamic", "postgresql.data_dir of the dynamic", "postgresql.use_slots of the local", "ttl of the local",
		"standby_cluster of the local", "postgresql.parameters.max_connections of the local"} {
		if !strings.Contains(warnings, w) {
			t.Errorf("warnings: have %s, want also %s", warnings, w)
		}
	}
}

func TestTimingIsAdjustedWithAWarning(t *testing.T) {
	e, warnings := effective(t, minimal, `{"ttl": 5, "loop_wait": 60, "retry_timeout": 1}`)
	if want := (cluster.Timing{TTL: 20 * time.Second, LoopWait: 14 * time.Second, RetryTimeout: 3 * time.Second}); e.Timing != want || !strings.Contains(warnings, "loop_wait") {
		t.Errorf("have %v with %s, want %v with warnings", e.Timing, warnings, want)
	}
}

func TestBadDynamicDocumentIsRefusedAsAWhole(t *testing.T) {
	for _, text := range []string{`{"ttl": "long"}`, `{"loop_wait": null}`, `{"postgresql": {"parameters": []}}`} {
		if _, _, err := NewEffective(&File{Document: parse(t, minimal)}, dynamic(t, text)); err == nil {
			t.Errorf("%s: have no error, want a refusal", text)
		}
	}
}

func TestRoleOverlay(t *testing.T) {
	e, _ := effective(t, minimal+"  parameters: {b: 1, c: 1}\n  parameters_replica: {B: 2, a: 3, port: 9, max_connections: 999}\n  pg_hba: [all]\n  pg_hba_replica: [replica]\n", `{}`)
	ps, hba, _ := e.ForRole(cluster.Replica)
	have := ""
	for _, p := range ps {
		if !p.Managed || p.Name == "port" || p.Name == "max_connections" {
			have += p.Name + "=" + p.Value + " "
		}
	}
	if want := "port=5432 max_connections=100 B=2 a=3 c=1 "; have != want || hba[0] != "replica" {
		t.Errorf("have %s %v, want %s and the replica's list", have, hba, want)
	}
	if ps, hba, _ := e.ForRole(cluster.Primary); hba[0] != "all" || len(ps) != len(e.Parameters) || value(e, "b") != "1" {
		t.Errorf("have %v %v, want the primary untouched", ps, hba)
	}
}

func TestContradictingTags(t *testing.T) {
	for text, want := range map[string]string{
		"{nofailover: true, failover_priority: 1}":  "Conflicting configuration between nofailover: True and failover_priority: 1. Defaulting to nofailover: True",
		"{nofailover: false, failover_priority: 0}": "Conflicting configuration",
		"{nosync: false, sync_priority: 2}":         "",
		"{nofailover: true}":                        "",
	} {
		_, warnings := effective(t, minimal+"tags: "+text, `{}`)
		if want == "" && warnings != "[]" || !strings.Contains(warnings, want) {
			t.Errorf("%s: have %s, want %q", text, warnings, want)
		}
	}
}

func TestSplitHostPort(t *testing.T) {
	for text, want := range map[string]string{
		"a:1": "a 1", "a": "a 5432", "*:5": "* 5", ":5": " 5", "[::1]:5": "::1 5", "[::]": ":: 5432", "0.0.0.0,[::]:5432": "0.0.0.0,:: 5432",
		"a, b:1": "a,b 1", "::1": ": 1", "a:x": "error", "a:65536": "error", "a:-1": "error",
	} {
		have := "error"
		if host, port, err := SplitHostPort(text, 5432); err == nil {
			have = fmt.Sprint(host, " ", port)
		}
		if have != want {
			t.Errorf("%s: have %s, want %s", text, have, want)
		}
	}
}

func TestDiff(t *testing.T) {
	old, _ := effective(t, minimal+"  parameters: {a: 1}\n  authentication: {superuser: {username: u, password: old}}\nbootstrap: {dcs: {ttl: 20}}\n", `{}`)
	new, _ := effective(t, strings.Replace(minimal, "10.0.0.1\n", "10.0.0.2\n", 1)+"  parameters: {a: '1', b: 2}\n  bin_dir: /b\n"+
		"  authentication: {superuser: {username: u, password: new}}\nbootstrap: {dcs: {ttl: 30}}\n",
		`{"postgresql": {"parameters": {"max_connections": 200, "wal_keep_size": "1GB"}}}`)
	var have []string
	for _, c := range Diff(old, new) {
		have = append(have, fmt.Sprintf("%s %s->%s %s", c.Path, c.Old, c.New, c.Need))
	}
	want := `bootstrap.dcs.ttl 20->30 nothing
postgresql.authentication.superuser.password ***->*** reload
postgresql.bin_dir ->/b agent restart
postgresql.listen 10.0.0.1->10.0.0.2 postgres restart
postgresql.parameters.b ->2 reload
postgresql.parameters.listen_addresses 10.0.0.1->10.0.0.2 postgres restart
postgresql.parameters.max_connections 100->200 postgres restart
postgresql.parameters.wal_keep_size 128MB->1GB reload`
	if strings.Join(have, "\n") != want {
		t.Errorf("have\n%s\nwant\n%s", strings.Join(have, "\n"), want)
	}
	if have := Diff(old, old); len(have) > 0 {
		t.Errorf("have %v, want no change", have)
	}
}

func TestCache(t *testing.T) {
	dir := t.TempDir()
	if d, err := ReadCache(dir); err != nil || d.Usable {
		t.Errorf("absent: have %v (%v), want not usable and no error", d, err)
	}
	for _, c := range []struct{ dir, file os.FileMode }{{0o700, 0o600}, {0o750, 0o640}} {
		if err := os.Chmod(dir, c.dir); err != nil {
			t.Fatal(err)
		}
		if err := WriteCache(dir, dynamic(t, `{"z": 1, "ttl": 5, "a": {"b": 1.50}}`)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, "patroni.dynamic.json"))
		if err != nil || info.Mode().Perm() != c.file {
			t.Errorf("directory %v: have %v (%v), want %v", c.dir, info.Mode().Perm(), err, c.file)
		}
	}
	d, err := ReadCache(dir)
	if have, want := string(d.Document.Encode()), `{"z":1,"ttl":20,"a":{"b":1.50},"loop_wait":1,"retry_timeout":9}`; err != nil || have != want || !d.Usable {
		t.Errorf("have %s (%v), want %s", have, err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("have %v, want the file alone", left)
	}
	write(t, dir, "patroni.dynamic.json", "[]")
	if d, err := ReadCache(dir); err == nil || d.Usable {
		t.Error("not an object: have no error, want one")
	}
	if err := WriteCache(filepath.Join(dir, "none"), d); err == nil {
		t.Error("no directory: have no error, want one")
	}
}
