package config

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// vector is one recorded run of patroni --validate-config.
type vector struct {
	env, args      []string
	stdout, stderr string
	exit           int
}

func readVector(t *testing.T, name string) vector {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	var out *string
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "# env ") && out == nil:
			v.env = append(v.env, strings.TrimSpace(strings.TrimPrefix(line, "# env ")))
		case strings.HasPrefix(line, "$ patroni"):
			v.args = strings.Fields(line)[2:]
		case line == "--- stdout\n":
			out = &v.stdout
		case line == "--- stderr\n":
			out = &v.stderr
		case strings.HasPrefix(line, "--- exit "):
			fmt.Sscanf(line, "--- exit %d", &v.exit)
		case out != nil:
			*out += line
		}
	}
	return v
}

// fakeBins makes a directory with the six programs that the validator looks for.
func fakeBins(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range binNames {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// probes answer for the machine on which the vectors were recorded.
func fakeProbes(busy ...string) Probes {
	return Probes{
		Resolve: func(host string) error {
			if host == "foo" {
				return &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			return nil
		},
		Answers: func(address string) bool {
			for _, b := range append(busy, "127.0.0.1:24379") {
				if address == b {
					return true
				}
			}
			return false
		},
		Version:   func(string) string { return "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)" },
		LookupBin: func(string) string { return "" },
	}
}

func TestValidateVectors(t *testing.T) {
	for _, c := range []struct {
		name string
		busy []string
	}{
		{"validate-bad", nil},
		{"validate-ignore-port", []string{"127.0.0.1:24008", "127.0.0.1:24432"}},
		{"validate-missing-file", nil},
		{"validate-no-file", nil},
		{"validate-ok", nil},
		{"validate-ok-print", nil},
		{"validate-ok-running-ports-in-use", []string{"127.0.0.1:24008", "127.0.0.1:24432"}},
		{"validate-print", []string{"127.0.0.1:24008", "127.0.0.1:24432"}},
		{"config-from-env", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := readVector(t, c.name+".txt")
			bins, dir := fakeBins(t), t.TempDir()
			o := Options{RequireDCS: true, Probes: fakeProbes(c.busy...)}
			path, print := "", false
			for _, a := range v.args {
				switch a {
				case "--validate-config":
				case "-i", "--ignore-listen-port":
					o.IgnoreListenPort = true
				case "--print":
					print = true
				default:
					path = a
				}
			}
			if local := filepath.Join("testdata", filepath.Base(path)); strings.HasPrefix(path, "/etc/patroni/") {
				text, err := os.ReadFile(local)
				if err != nil {
					t.Fatal(err)
				}
				path = filepath.Join(dir, filepath.Base(path))
				// the recording machine's programs are not ours
				if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte("/usr/lib/postgresql/15/bin"), []byte(bins)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var stdout, stderr bytes.Buffer
			exit := CheckFile(path, v.env, o, print, &stdout, &stderr)
			if have, want := strings.ReplaceAll(stdout.String(), bins, "/usr/lib/postgresql/15/bin"), v.stdout; have != want {
				t.Errorf("stdout: have\n%s\nwant\n%s", have, want)
			}
			// the number of the error is Python's
			want := regexp.MustCompile(`\[Errno -?\d+\] `).ReplaceAllString(v.stderr, "")
			if have := stderr.String(); have != want {
				t.Errorf("stderr: have\n%s\nwant\n%s", have, want)
			}
			if exit != v.exit {
				t.Errorf("exit: have %d, want %d", exit, v.exit)
			}
		})
	}
}

func TestValidateBrokenYAML(t *testing.T) {
	v := readVector(t, "validate-broken-yaml.txt")
	var stdout, stderr bytes.Buffer
	exit := CheckFile("testdata/broken.yml", nil, Options{}, false, &stdout, &stderr)
	if exit != v.exit || stdout.Len() > 0 {
		t.Errorf("have exit %d and stdout %q, want exit %d and nothing", exit, stdout.String(), v.exit)
	}
	if have, want := stderr.String(), "read testdata/broken.yml:"; !strings.HasPrefix(have, want) || !strings.Contains(have, "expected ',' or ']'") {
		t.Errorf("have %q, want %s<line> and Patroni's reason", have, want)
	}
}

func TestStartWithoutConfiguration(t *testing.T) {
	for _, name := range []string{"missing-file.txt", "no-args.txt"} {
		v := readVector(t, name)
		path := strings.Join(v.args, "")
		_, err := Load(path, []string{"PATH=/bin", "PATRONI_UNKNOWN=1"})
		if err == nil || err.Error()+"\n" != v.stderr {
			t.Errorf("%s: have %v, want %s", name, err, v.stderr)
		}
	}
}

func validateText(t *testing.T, text string, p Probes) []string {
	t.Helper()
	v, err := ParseYAML("x.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range Validate(&File{Document: v.(*Map)}, Options{Probes: p}) {
		line := p.String()
		if p.Origin.Line > 0 {
			line = fmt.Sprintf("%d: %s", p.Origin.Line, line)
		}
		out = append(out, line)
	}
	return out
}

func TestValidateDurability(t *testing.T) {
	problems := func(text string) string {
		var about []string
		for _, line := range validateText(t, text, fakeProbes()) {
			if strings.Contains(line, "durability") || strings.Contains(line, "tags") {
				about = append(about, line)
			}
		}
		return strings.Join(about, "\n")
	}
	for text, want := range map[string]string{
		"bootstrap: {dcs: {durability: {survive: one-site}, synchronous_mode: quorum}}\ntags: {site: a}\n": "",
		"bootstrap: {dcs: {durability: {survive: 2}}}\n":                                                   "1: bootstrap.dcs.durability {'survive': 2} didn't pass validation: durability.survive: have 2, want none, one-node or one-site",
		"bootstrap: {dcs: {durability: {survive: one-site, sight: 1}, synchronous_mode: off}}\n": "1: bootstrap.dcs.durability.sight  is not a known setting and does not count\n" +
			"1: bootstrap.dcs.durability {'survive': 'one-site', 'sight': 1} didn't pass validation: synchronous_mode: have false, want on, quorum or nothing: durability.survive is one-site",
	} {
		if have := problems(text); have != want {
			t.Errorf("%s\nhave\n%s\nwant\n%s", text, have, want)
		}
	}
}

func TestValidateReportsEverythingAtOnce(t *testing.T) {
	dir := t.TempDir()
	have := strings.Join(validateText(t, `scope: [a, b]
name: n1
restapi:
  listen: 127.0.0.1:8008
  connect_address: 10.0.0.1:8008
  authentication:
    username: u
    password: [hush]
  verify_client: Required
  allowlist: []
bootstrap:
  dcs:
    ttl: 20
    loop_wait: ten
    retry_timeout: 10
    synchronous_mode: quorm
postgresql:
  listen: '*,127.0.0.1:5432'
  connect_address: localhost:5432
  data_dir: /dev/null
  bin_dir: `+dir+`/none
  use_pg_rewnd: true
  authentication:
    superuser: {username: postgres, password: {hush: hush}}
    replication: {pasword: hush}
  pg_hba: local all all trust
watchdog: {mode: off, safety_margin: -2}
tags: {nofailover: "false", nosync: true, sync_priority: 1}
`, fakeProbes()), "\n")
	want := strings.ReplaceAll(`1: scope ['a', 'b'] is not a string
8: restapi.authentication.password *** is not a string
9: restapi.verify_client Required didn't pass validation: Wrong value
10: restapi.allowlist [] is an empty list
14: bootstrap.dcs.loop_wait ten is not an integer
16: bootstrap.dcs.synchronous_mode quorm didn't pass validation: Wrong value
18: postgresql.listen *,127.0.0.1:5432 didn't pass validation: expecting '*' alone
19: postgresql.connect_address localhost:5432 didn't pass validation: must not contain "127.0.0.1", "0.0.0.0", "*", "::1", "localhost"
25: postgresql.authentication.replication.username  is not defined.
25: postgresql.authentication.replication.pasword  is not a known setting and does not count; do you mean password?
24: postgresql.authentication.superuser.password *** is not a string
20: postgresql.data_dir /dev/null didn't pass validation: is not a directory
21: postgresql.bin_dir DIR/none Directory 'DIR/none' does not exist.
26: postgresql.pg_hba local all all trust is not a list
22: postgresql.use_pg_rewnd  is not a known setting and does not count; do you mean use_pg_rewind?
27: watchdog.safety_margin -2 didn't pass validation: Wrong value
28: tags.nofailover false is not a boolean
28: tags {'nofailover': 'false', 'nosync': True, 'sync_priority': 1} Multiple of ('nosync', 'sync_priority') provided
28: tags  Conflicting configuration between nosync: True and sync_priority: 1. Defaulting to nosync: True`, "DIR", dir)
	if have != want {
		t.Errorf("have\n%s\nwant\n%s", have, want)
	}
}

func TestValidateBootstrapDCS(t *testing.T) {
	for _, c := range []struct{ name, dcs, want string }{
		{"fits", "{ttl: 30, loop_wait: 10, retry_timeout: 10}", ""},
		{"defaults count for what is absent", "{retry_timeout: 11}", "want at least loop_wait + 2*retry_timeout = 32"},
		{"numbers of PostgreSQL may be text", "{postgresql: {parameters: {max_connections: '50'}}, standby_cluster: {port: '5432'}}", ""},
		{"its range counts", "{postgresql: {parameters: {max_wal_senders: '-3'}}}", "parameters.max_wal_senders -3 didn't pass validation: Wrong value"},
		{"numbers of ours may not", "{ttl: '30'}", "bootstrap.dcs.ttl 30 is not an integer"},
		{"too long", "{ttl: 20, loop_wait: 1, retry_timeout: 10}", "bootstrap.dcs.ttl 20 didn't pass validation: want at least loop_wait + 2*retry_timeout = 21"},
		{"below the minimum", "{ttl: 19, loop_wait: 1, retry_timeout: 3}", "bootstrap.dcs.ttl 19 didn't pass validation: Wrong value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			have := strings.Join(validateText(t, "bootstrap: {dcs: "+c.dcs+"}", fakeProbes()), "\n")
			if c.want == "" && strings.Contains(have, "bootstrap") || !strings.Contains(have, c.want) {
				t.Errorf("have %s, want %q", have, c.want)
			}
		})
	}
}

func TestValidateDataDir(t *testing.T) {
	build := func(files ...string) string {
		dir := t.TempDir()
		for _, f := range files {
			name, content, _ := strings.Cut(f, "=")
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	bins := fakeBins(t)
	for _, c := range []struct{ name, dir, version, want string }{
		{"absent", "/nonexistent/data", "15.1", ""},
		{"only dot-files and lost+found", build(".x=", "lost+found/x="), "15.1", ""},
		{"foreign", build("notes.txt="), "15.1", "doesn't look like a valid data directory"},
		{"no WAL", build("global/pg_control=", "PG_VERSION=15\n"), "15.1", `doesn't contain "pg_wal"`},
		{"good", build("global/pg_control=", "PG_VERSION=15\n", "pg_wal/x="), "15.1", ""},
		{"other major version", build("global/pg_control=", "PG_VERSION=14\n", "pg_wal/x="), "15.1",
			"postgresql version (14) doesn't match with 'postgres --version' output (15)"},
		{"beta", build("global/pg_control=", "PG_VERSION=18\n", "pg_wal/x="), "18beta1", ""},
		{"too old", "/nonexistent/data", "12.3", "PostgreSQL 12 is too old, expected 13 or newer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := fakeProbes()
			p.Version = func(path string) string {
				if path != filepath.Join(bins, "postgres") {
					t.Errorf("asked %s, want the one in bin_dir", path)
				}
				return "postgres (PostgreSQL) " + c.version
			}
			var have []string
			for _, line := range validateText(t, "postgresql: {data_dir: "+c.dir+", bin_dir: "+bins+"}", p) {
				if strings.Contains(line, "data_dir") || strings.Contains(line, "bin_dir") {
					have = append(have, line)
				}
			}
			if got := strings.Join(have, "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("have %q, want %q", got, c.want)
			}
		})
	}
}

func TestValidateMissingPrograms(t *testing.T) {
	bins := fakeBins(t)
	for _, name := range []string{"initdb", "pg_rewind"} {
		if err := os.Remove(filepath.Join(bins, name)); err != nil {
			t.Fatal(err)
		}
	}
	have := strings.Join(validateText(t, "postgresql: {bin_dir: "+bins+"}", fakeProbes()), "\n")
	if want := "does not contain 'initdb' in '" + bins + "'"; !strings.Contains(have, want) || strings.Contains(have, "pg_rewind") {
		t.Errorf("have %s, want %s and nothing about pg_rewind", have, want)
	}
}

func TestValidateStores(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"none: etcd inside the agent", "{}", ""},
		{"etcd v2", "etcd: {host: 'a:1'}", "rename the section to etcd3"},
		{"consul", "consul: {host: '127.0.0.1:24379', port: 8500, scheme: https, token: t, verify: 'off', dc: east, consistency: stale, checks: [c], register_service: on, service_tags: [x]}", ""},
		{"consul, unreachable", "consul: {host: 'a:1'}", "consul.host a:1 didn't pass validation: a:1 is not reachable"},
		{"consul, wrong values", "consul: {url: 'http://a', consistency: careful}", "consul.consistency careful didn't pass validation: Wrong value"},
		{"zookeeper", "zookeeper: {hosts: ['127.0.0.1:24379'], use_ssl: 'true', verify: off, set_acls: {'CN=x': [ALL]}, auth_data: {digest: 'u:p'}}", ""},
		{"zookeeper without hosts", "zookeeper: {use_ssl: on}", "zookeeper.hosts  is not defined."},
		{"zookeeper, wrong values", "zookeeper: {hosts: '127.0.0.1:24379', use_ssl: perhaps}", "zookeeper.use_ssl perhaps is not a boolean"},
		{"exhibitor", "exhibitor: {hosts: [a], port: 1}", "not built yet"},
		{"kubernetes", "kubernetes: {labels: {a: b}, use_endpoints: on, ports: [{name: postgresql, port: 5432}], pod_ip: '10.0.0.1', retriable_http_codes: '401, 502'}", ""},
		{"kubernetes without labels", "kubernetes: {use_endpoints: on}", "kubernetes.labels  is not defined."},
		{"kubernetes, wrong values", "kubernetes: {labels: {a: b}, pod_ip: here}", "kubernetes.pod_ip here didn't pass validation: Is not a valid ipv4 address"},
		{"unreachable", "etcd3: {hosts: ['127.0.0.1:24379', 'b:2']}", "etcd3.hosts.1 b:2 didn't pass validation: b:2 is not reachable"},
		{"no address", "etcd3: {username: u}", "etcd3.host  is not defined."},
		{"raft", "raft: {self_addr: '10.0.0.1:2222'}", "raft.partner_addrs  is not defined."},
		{"two nodes", "raft: {self_addr: '10.0.0.1:2', partner_addrs: ['10.0.0.2:2']}", "raft  has 2 nodes"},
		{"three nodes", "raft: {self_addr: '10.0.0.1:2', partner_addrs: ['10.0.0.2:2', '10.0.0.3:2']}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var have []string
			for _, line := range validateText(t, c.text, fakeProbes()) {
				for _, s := range dcsSections {
					if _, rest, _ := strings.Cut(line, ": "); strings.HasPrefix(line, s) || strings.HasPrefix(rest, s) {
						have = append(have, line)
					}
				}
			}
			if got := strings.Join(have, "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("have %q, want %q", got, c.want)
			}
		})
	}
}

func TestBootstrapDoubts(t *testing.T) {
	for text, want := range map[string]string{
		"{users: {admin: {password: x}}}":                     "bootstrap.users is ignored since Patroni 4.0: create roles in post_bootstrap",
		"{method: initdb}":                                    "",
		"{method: wal, wal: {command: x, recovery_conf: {}}}": "",
		"{method: wal, wal: {retries: 2}}":                    "bootstrap.method wal has no section with a command: the cluster would be made by initdb, empty",
		"{method: wal}":                                       "bootstrap.method wal has no section with a command: the cluster would be made by initdb, empty",
		"{method: w, w: {command: x, keep_existing_recovery_conf: on, recovery_conf: {a: b}}}": "bootstrap.w.recovery_conf does not count beside keep_existing_recovery_conf",
	} {
		var have []string
		for _, p := range Validate(&File{Document: parse(t, "bootstrap: "+text)}, Options{DocumentOnly: true}) {
			if p.Warning && strings.HasPrefix(p.Path, "bootstrap") {
				have = append(have, p.Path+" "+p.Message)
			}
		}
		if joined := strings.Join(have, "\n"); joined != want {
			t.Errorf("%s: have %q, want %q", text, joined, want)
		}
	}
}
