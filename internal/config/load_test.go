package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	return string(toValue(v).Encode()) // json.Marshal would hide the secrets
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func parse(t *testing.T, text string) *Map {
	t.Helper()
	v, err := ParseYAML("x.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v.(*Map)
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct{ name, env, want, warning string }{
		{"text stays text", "PATRONI_NAME=1", `{"name":"1"}`, ""},
		{"empty counts as unset", "PATRONI_NAME=", `{}`, ""},
		{"boolean", "PATRONI_CTL_INSECURE=On", `{"ctl":{"insecure":true}}`, ""},
		{"no boolean", "PATRONI_CTL_INSECURE=si", `{}`, "PATRONI_CTL_INSECURE  is ignored: expected a boolean"},
		{"integer", "PATRONI_LOG_MODE=0644", `{"log":{"mode":420}}`, ""},
		{"integer with a unit", "PATRONI_LOG_FILE_SIZE=25MB", `{}`, "PATRONI_LOG_FILE_SIZE  is ignored"},
		{"bare list", "PATRONI_ETCD3_HOSTS=a:1,'b:2'", `{"etcd3":{"hosts":["a:1","b:2"]}}`, ""},
		{"YAML list", "PATRONI_RESTAPI_ALLOWLIST=- a\n- b", `{"restapi":{"allowlist":["a","b"]}}`, ""},
		{"bare mapping", "PATRONI_KUBERNETES_LABELS=app: x, b: y", `{"kubernetes":{"labels":{"app":"x","b":"y"}}}`, ""},
		{"broken mapping", "PATRONI_LOG_LOGGERS={a", `{}`, "PATRONI_LOG_LOGGERS  is ignored: expected a YAML mapping"},
		{"format as text", "PATRONI_LOG_FORMAT=%(message)s", `{"log":{"format":"%(message)s"}}`, ""},
		{"format as list", "PATRONI_LOG_FORMAT=message,{asctime: t}", `{"log":{"format":["message",{"asctime":"t"}]}}`, ""},
		{"old name", "PATRONI_LOGLEVEL=DEBUG", `{"log":{"level":"DEBUG"}}`, ""},
		{"new name wins", "PATRONI_LOGLEVEL=DEBUG PATRONI_LOG_LEVEL=INFO", `{"log":{"level":"INFO"}}`, ""},
		{"account", "PATRONI_REWIND_SSLMODE=require", `{"postgresql":{"authentication":{"rewind":{"sslmode":"require"}}}}`, ""},
		{"binary", "PATRONI_POSTGRESQL_BIN_PG_CTL=x", `{"postgresql":{"bin_name":{"pg_ctl":"x"}}}`, ""},
		{"any section word", "PATRONI_FOO_HOST=x", `{"foo":{"host":"x"}}`, ""},
		{"citus", "PATRONI_CITUS_GROUP=1 PATRONI_CITUS_HOST=x", `{"citus":{"group":1}}`, ""},
		{"TLS of ZooKeeper stays text", "PATRONI_ZOOKEEPER_USE_SSL=false", `{"zookeeper":{"use_ssl":"false"}}`, ""},
		{"etcd password with a host", "PATRONI_ETCD3_PASSWORD=p PATRONI_ETCD3_HOST=h", `{"etcd3":{"host":"h","password":"p"}}`, ""},
		{"etcd password alone", "PATRONI_ETCD3_PASSWORD=p", `{}`, "PATRONI_ETCD3_PASSWORD  is ignored: it counts only beside"},
		{"unknown names", "PATRONI_CONFIG_FILE=x PATRONI_admin_PASSWORD=y PATRONI_READ_ONLY_SERVICE_NAME=z", `{}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var env []string
			for _, e := range strings.Split(c.env, " PATRONI_") {
				env = append(env, "PATRONI_"+strings.TrimPrefix(e, "PATRONI_"))
			}
			doc, used, problems := FromEnviron(env)
			if have := mustJSON(t, doc); have != c.want {
				t.Errorf("have %s, want %s", have, c.want)
			}
			have := ""
			for _, p := range problems {
				have += p.String()
			}
			if c.warning == "" && have != "" || !strings.Contains(have, c.warning) {
				t.Errorf("warnings: have %q, want %q", have, c.warning)
			}
			if strings.Contains(c.name, "unknown") && len(used) > 0 {
				t.Errorf("used: have %v, want none", used)
			}
		})
	}
}

func TestChildrenInheritNoPasswords(t *testing.T) {
	env := []string{"PATH=/bin", "PATRONI_SUPERUSER_PASSWORD=x", "PATRONI_UNKNOWN=1", "KUBERNETES_SERVICE_HOST=h", "NOTIFY_SOCKET=/s", "PG_MALLOC_ARENA_MAX=2"}
	_, used, _ := FromEnviron(env)
	if have, want := ScriptEnviron(env, used), slices.Delete(slices.Clone(env), 1, 2); !slices.Equal(have, want) {
		t.Errorf("scripts: have %v, want %v", have, want)
	}
	if have, want := PostmasterEnviron(env), []string{"PATH=/bin", "MALLOC_ARENA_MAX=2"}; !slices.Equal(have, want) {
		t.Errorf("postmaster: have %v, want %v", have, want)
	}
}

func TestSourceOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "p.yml", "name: file\nscope: s\nrestapi: {port: 8008}\n")
	env := []string{"PATRONI_NAME=env", "PATRONI_CONFIGURATION=name: variable"}
	for _, c := range []struct {
		name, path string
		env        []string
		source     Source
		want       string
	}{
		{"file under environment", file, env, FromFile, `{"name":"env","scope":"s","restapi":{"port":8008}}`},
		{"absent file: the variable alone", filepath.Join(dir, "none"), env, FromVariable, `{"name":"variable"}`},
		{"environment alone", "", env[:1], FromEnvironment, `{"name":"env"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Load(c.path, c.env)
			if err != nil {
				t.Fatal(err)
			}
			if have := mustJSON(t, f.Document); have != c.want || f.Source != c.source {
				t.Errorf("have %s from %s, want %s from %s", have, f.Source, c.want, c.source)
			}
			if want := []string{"PATRONI_CONFIGURATION", "PATRONI_NAME"}; !slices.Equal(f.Used, want) {
				t.Errorf("used: have %v, want %v", f.Used, want)
			}
		})
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "20.yaml", "scope: late\nctl: null\nrestapi: {listen: b}\n")
	write(t, dir, "10.yml", "scope: early\nctl: {insecure: on}\nrestapi: {listen: a, cafile: c}\n")
	write(t, dir, ".hidden.yml", "name: hidden\n")
	write(t, dir, "30.YML", "scope: ignored\n")
	if err := os.MkdirAll(filepath.Join(dir, "sub.yml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(write(t, t.TempDir(), "x", "namespace: linked\n"), filepath.Join(dir, "40.yml")); err != nil {
		t.Fatal(err)
	}
	f, err := Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"hidden","scope":"late","restapi":{"listen":"b","cafile":"c"},"namespace":"linked"}`
	if have := mustJSON(t, f.Document); have != want {
		t.Errorf("have %s, want %s", have, want)
	}
	write(t, dir, "50.yml", "a: [\n")
	write(t, dir, "60.yml", "just text\n")
	if _, err := Load(dir, nil); err == nil || !strings.Contains(err.Error(), "50.yml") || !strings.Contains(err.Error(), "invalid config file "+filepath.Join(dir, "60.yml")) {
		t.Errorf("have %v, want errors about both files", err)
	}
}

func TestRefusedPaths(t *testing.T) {
	if _, err := Load("/dev/null", nil); err == nil || !strings.Contains(err.Error(), "invalid config path") {
		t.Errorf("have %v, want invalid config path", err)
	}
	if _, err := Load(write(t, t.TempDir(), "e.yml", ""), nil); err == nil || !strings.Contains(err.Error(), "invalid config file") {
		t.Errorf("empty file: have %v, want invalid config file", err)
	}
	if _, err := Load(t.TempDir(), nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty directory: have %v, want %v", err, ErrEmpty)
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "p.yml", "name: n\nrestapi: {listen: '8008'}\n")
	f, err := Load(path, []string{"PATRONI_SCOPE=s"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "p.yml", "restapi: {listen: 8008}\nname: n\n")
	if _, changed, err := f.Reload(); changed || err != nil {
		t.Errorf("same text forms: have changed %v (%v), want no change", changed, err)
	}
	write(t, dir, "p.yml", "restapi: {listen: 8009}\nname: n\n")
	next, changed, err := f.Reload()
	if !changed || err != nil || Text(next.Document.Get("scope")) != "s" {
		t.Errorf("have changed %v, scope %v (%v), want a change and the environment of the start", changed, next.Document.Get("scope"), err)
	}
	write(t, dir, "p.yml", "restapi: [\n")
	if kept, _, err := next.Reload(); err == nil || kept != next {
		t.Errorf("broken file: have %v, want an error and the old configuration", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if kept, _, err := next.Reload(); err == nil || kept != next {
		t.Errorf("file gone: have %v, want an error and the old configuration", err)
	}
}

func TestMerge(t *testing.T) {
	for _, c := range []struct {
		name, base, patch, want string
		changed                 bool
	}{
		{"null removes", "{a: 1, b: 2}", "{a: ~}", `{"b":2}`, true},
		{"null for nothing", "{a: 1}", "{b: ~}", `{"a":1}`, false},
		{"mappings merge", "{a: {b: 1, c: 2}}", "{a: {c: 3, d: 4}}", `{"a":{"b":1,"c":3,"d":4}}`, true},
		{"lists replace", "{a: [1, 2]}", "{a: [2]}", `{"a":[2]}`, true},
		{"mapping over scalar", "{a: 1}", "{a: {b: ~}}", `{"a":{"b":null}}`, true},
		{"equal text keeps the type", "{a: 8008}", "{a: '8008'}", `{"a":8008}`, false},
		{"boolean text differs from its word", "{a: true}", "{a: 'true'}", `{"a":"true"}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := parse(t, c.base)
			changed := Merge(base, parse(t, c.patch))
			if have := mustJSON(t, base); have != c.want || changed != c.changed {
				t.Errorf("have %s changed %v, want %s changed %v", have, changed, c.want, c.changed)
			}
		})
	}
}
