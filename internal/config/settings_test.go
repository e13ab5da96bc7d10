package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// minimal is what a start needs, with the PostgreSQL section open at the end.
const minimal = "name: n1\nscope: demo\nrestapi: {listen: '10.0.0.1:8008'}\npostgresql:\n  data_dir: /pg/data\n  listen: 10.0.0.1\n"

func settings(t *testing.T, text string) Settings {
	t.Helper()
	s, err := (&File{Document: parse(t, text)}).Settings()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDefaults(t *testing.T) {
	t.Setenv("HOME", "/home/x")
	s := settings(t, minimal)
	want := Settings{
		Name: "n1", Scope: "demo", Namespace: "service",
		RESTAPI:   RESTAPI{Listen: "10.0.0.1:8008", ConnectAddress: "10.0.0.1:8008", VerifyClient: "none", RequestQueueSize: 5, ServerTokens: "original"},
		CTL:       CTL{Layout: "narrow"},
		DCS:       DCS{Kind: Embedded, Embed: Embed{DataDir: "/pg/n1-etcd"}},
		Bootstrap: Bootstrap{Method: "initdb"},
		Postgres: Postgres{DataDir: "/pg/data", ConfigDir: "/pg/data", ConfigBaseName: "postgresql", PgPass: "/home/x/pgpass", Listen: "10.0.0.1", Database: "postgres",
			CtlTimeout: time.Minute, CreateReplicaMethods: []string{"basebackup"}},
		Watchdog: Watchdog{Mode: "automatic", Device: "/dev/watchdog", SafetyMargin: 5 * time.Second, Driver: "default"},
		Log:      Log{Type: "plain", Level: "INFO", Format: logPieces(defaultLogFormat), Fields: logFields(defaultLogFormat), FileNum: 4, FileSize: 25000000, Loggers: map[string]string{}},
		Regent:   Regent{JournalDir: "/pg/n1-journal", Guard: "automatic"},
		Proxy:    Proxy{MaxLag: -1, Hold: 30 * time.Second, MaxHeld: 1000},
	}
	// an empty mapping of methods and an absent one are the same
	if fmt.Sprintf("%#v", s) != fmt.Sprintf("%#v", want) {
		t.Errorf("have %#v\nwant %#v", s, want)
	}
}

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		name, text string
		get        func(Settings) any
		want       any
	}{
		{"watchdog off is a boolean", "watchdog: {mode: off}", func(s Settings) any { return s.Watchdog.Mode }, "off"},
		{"watchdog required", "watchdog: {mode: Require}", func(s Settings) any { return s.Watchdog.Mode }, "required"},
		{"watchdog of another word is off", "watchdog: {mode: on}", func(s Settings) any { return s.Watchdog.Mode }, "off"},
		{"guard off is a boolean", "regent: {guard: off}", func(s Settings) any { return s.Regent.Guard }, "off"},
		{"proxy", "proxy: {listen: ':5000', replicas: ':5001', status: ':8009', max_lag: 16MB, hold: 2min, max_held: 7, vip: {address: 10.0.0.9/24, device: eth0}}", func(s Settings) any { return s.Proxy },
			Proxy{Listen: ":5000", Replicas: ":5001", Status: ":8009", MaxLag: 16 << 20, Hold: 2 * time.Minute, MaxHeld: 7, VIP: VIP{"10.0.0.9/24", "eth0"}}},
		{"guard required", "regent: {guard: required}", func(s Settings) any { return s.Regent.Guard }, "required"},
		{"a typo leaves the guard on", "regent: {guard: offf}", func(s Settings) any { return s.Regent.Guard }, "automatic"},
		{"half of the ttl", "watchdog: {safety_margin: -1}", func(s Settings) any { return s.Watchdog.HalfTTL }, true},
		{"ctl takes the REST credentials", "ctl: {layout: Wide}\nrestapi: {listen: 'a:1', cafile: ca, authentication: {username: u, password: p}}",
			func(s Settings) any { return s.CTL.Auth.Username + s.CTL.CACert + s.CTL.Layout }, "ucawide"},
		{"initdb options", "bootstrap: {initdb: [{encoding: UTF8}, data-checksums, {locale: C}]}",
			func(s Settings) any { return fmt.Sprint(s.Bootstrap.Initdb) }, "[--encoding=UTF8 --data-checksums --locale=C]"},
		{"custom bootstrap", "bootstrap: {method: m, m: {command: c, keep_existing_recovery_conf: true, x: on, recovery_conf: {a: 1}}}",
			func(s Settings) any { return fmt.Sprintf("%+v", *s.Bootstrap.Custom) },
			"{Name:m Command:c NoParams:false KeepExistingRecoveryConf:true RecoveryConf:map[a:1] Arguments:[--x=True]}"},
		{"what is given to a custom bootstrap", "bootstrap: {method: m, m: {command: c, no_params: on, scope: x, datadir: y, z: 1}}",
			func(s Settings) any { return fmt.Sprint(s.Bootstrap.Custom.NoParams, s.Bootstrap.Custom.Arguments) }, "true [--z=1]"},
		{"clone methods", "postgresql: {create_replica_methods: [a, b, basebackup], a: {retries: 2, no_leader: on}, b: {command: c, no_params: on, keep_data: on, x: y}, other: {command: d}, parameters: {e: f}}",
			func(s Settings) any { return fmt.Sprintf("%+v", s.Postgres.Methods) },
			"[{Name:a Command:a KeepData:false NoParams:false NoLeader:true Arguments:[--retries=2 --no_leader=True]} " +
				"{Name:b Command:c KeepData:true NoParams:true NoLeader:false Arguments:[--x=y]} {Name:other Command:d KeepData:false NoParams:false NoLeader:false Arguments:[]}]"},
		{"method without a command is initdb", "bootstrap: {method: m, m: {}}", func(s Settings) any { return s.Bootstrap.Method }, "initdb"},
		{"first document stays in order", "bootstrap: {dcs: {ttl: 20, a: [1, {z: 1, b: on}]}}\netcd3: {host: a}",
			func(s Settings) any { return string(s.Bootstrap.DCS.Document.Encode()) }, `{"ttl":20,"a":[1,{"z":1,"b":true}]}`},
		{"... with failsafe mode where the members are the store", "bootstrap: {dcs: {ttl: 20}}\nraft: {self_addr: 'a:1'}",
			func(s Settings) any { return string(s.Bootstrap.DCS.Document.Encode()) }, `{"ttl":20,"failsafe_mode":true}`},
		{"... also without a word", "bootstrap: {initdb: []}", func(s Settings) any { return string(s.Bootstrap.DCS.Document.Encode()) }, `{"failsafe_mode":true}`},
		{"... unless they do not want it", "bootstrap: {dcs: {failsafe_mode: off, ttl: 20}}\nraft: {self_addr: 'a:1'}",
			func(s Settings) any { return string(s.Bootstrap.DCS.Document.Encode()) }, `{"failsafe_mode":false,"ttl":20}`},
		{"... and not with a store elsewhere", "bootstrap: {initdb: []}\netcd3: {host: a}", func(s Settings) any { return s.Bootstrap.DCS.Usable }, false},
		{"... and not where nobody bootstraps", "raft: {self_addr: 'a:1'}", func(s Settings) any { return s.Bootstrap.DCS.Usable }, false},
		{"etcd url", "etcd3: {url: 'https://u:p@h', hosts: ignored}",
			func(s Settings) any {
				return fmt.Sprint(s.DCS.Etcd.Hosts, s.DCS.Etcd.Protocol, s.DCS.Etcd.Username, s.DCS.Etcd.Password.Reveal())
			},
			"[h:2379]httpsup"},
		{"etcd behind a proxy", "etcd3: {proxy: 'http://p', srv: d, hosts: ignored}", func(s Settings) any { return fmt.Sprint(s.DCS.Etcd.Hosts, s.DCS.Etcd.UseProxies, s.DCS.Etcd.SRV) }, "[p:2379] true"},
		{"etcd in the name service", "etcd3: {discovery_srv: d, srv_suffix: s, use_proxies: on}",
			func(s Settings) any { return fmt.Sprint(s.DCS.Etcd.SRV, s.DCS.Etcd.SRVSuffix, s.DCS.Etcd.UseProxies) }, "dstrue"},
		{"etcd hosts", "etcd3: {hosts: 'a, b:1,::1', port: 9, host: c}", func(s Settings) any { return fmt.Sprint(s.DCS.Etcd.Hosts) }, "[a:9 b:1 [::1]:9]"},
		{"etcd before raft", "raft: {}\netcd3: {host: a}", func(s Settings) any { return s.DCS.Kind }, Etcd3},
		{"raft is etcd inside", "raft: {self_addr: 'a:1', partner_addrs: ['b:1', 'c:1'], data_dir: /r}",
			func(s Settings) any { return fmt.Sprintf("%s %+v", s.DCS.Kind, s.DCS.Embed) },
			"embedded {SelfAddr:a:1 BindAddr:a:1 PartnerAddrs:[b:1 c:1] DataDir:/r Password:}"},
		{"log", "log: {mode: 0640, level: debug, format: [message, {asctime: t}]}",
			func(s Settings) any { return fmt.Sprint(s.Log.Mode, s.Log.Level, s.Log.Fields) }, "416DEBUG[{ message message  s} { asctime t  s}]"},
		{"a heartbeat is told once", "log: {deduplicate_heartbeat_logs: on}", func(s Settings) any { return s.Log.Deduplicate }, true},
		{"loggers by Patroni's names and ours", "log: {loggers: {patroni.postmaster: warning, patroni.postgresql.slots: debug, patroni.ha: error, regent.dcs.etcd: info, urllib3: debug}}",
			func(s Settings) any { return fmt.Sprint(s.Log.Loggers) }, "map[regent.agent:ERROR regent.dcs.etcd:INFO regent.postgres:DEBUG]"},
		{"tags stay as written", "tags: {nofailover: off, x: 1}", func(s Settings) any { return mustText(s.Tags.Get("nofailover")) + fmt.Sprint(len(s.Tags)) }, "False2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := parse(t, minimal)
			Merge(base, parse(t, c.text))
			s, err := (&File{Document: base}).Settings()
			if err != nil {
				t.Fatal(err)
			}
			if have := c.get(s); have != c.want {
				t.Errorf("have %v, want %v", have, c.want)
			}
		})
	}
}

func mustText(v fmt.Stringer, ok bool) string {
	if !ok {
		return "absent"
	}
	return v.String()
}

func TestPostgresSettings(t *testing.T) {
	s := settings(t, minimal+`  pg_hba: ["host all all 10.0.0.0/8,x md5"]
  create_replica_method: [wal_e, basebackup]
  wal_e: {command: /wal_e, no_leader: 1, keep_data: on, retries: 2}
  basebackup: [{max-rate: 100M}, verbose]
  parameters: {hot_standby: on, work_mem: 4MB, gone: ~}
  parameters_replica: {work_mem: 8MB}
  pg_ctl_timeout: 90
  callbacks: {on_role_change: /cb}
  authentication: {rewind: {username: r, sslmode: require, other: x}}
`).Postgres
	have := fmt.Sprintf("%q %v %+v %v %v %v %v %v %v", s.PgHBA, s.CreateReplicaMethods, s.Methods, s.BaseBackup, s.Parameters, s.RoleOverlay, s.CtlTimeout,
		s.Callbacks.OnRoleChange, s.Rewind.Username+s.Rewind.SSLMode)
	want := `["host all all 10.0.0.0/8,x md5"] [wal_e basebackup] ` +
		`[{Name:wal_e Command:/wal_e KeepData:true NoParams:false NoLeader:true Arguments:[--no_leader=1 --keep_data=True --retries=2]}] ` +
		`[--max-rate=100M --verbose] map[hot_standby:True work_mem:4MB] map[replica:{map[work_mem:8MB] [] []}] 1m30s /cb rrequire`
	if have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}

func TestOldLayout(t *testing.T) {
	s := settings(t, "scope: s\nrestapi: {listen: 'a:1'}\npostgresql:\n  name: old\n  data_dir: /d\n  listen: a\n"+
		"  replication: {username: rep}\n  pg_rewind: {username: super}\n")
	have := fmt.Sprintln(s.Name, s.Postgres.Replication.Username, s.Postgres.Superuser.Username, s.Postgres.UsePgRewind)
	if want := "old rep super true\n"; have != want {
		t.Errorf("have %s, want %s", have, want)
	}
}

func TestWhatAStartNeeds(t *testing.T) {
	_, err := (&File{Document: parse(t, "ctl: {authentication: {username: u}}\nkubernetes: {}")}).Settings()
	for _, want := range []string{"name is not defined", "scope is not defined", "restapi.listen", "postgresql.data_dir", "postgresql.listen",
		"ctl.authentication: needs both", "kubernetes.labels is not defined"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("have %v, want also %q", err, want)
		}
	}
	for text, want := range map[string]string{
		"etcd: {host: a}":                   "rename the section to etcd3",
		"etcd3: {}":                         "none of host, hosts",
		"etcd3: {url: 'http://u:hush@'}":    "expected an URL",
		"name: " + reservedName:             "is reserved",
		"etcd3: {url: 'http://u:hush@h:x'}": "expected an URL",
	} {
		base := parse(t, minimal)
		Merge(base, parse(t, text))
		if _, err := (&File{Document: base}).Settings(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: have %v, want %q and no password", text, err, want)
		}
	}
}

func TestCommandLineNeedsOnlyTheStore(t *testing.T) {
	s, err := (&File{Document: parse(t, "scope: s\netcd3: {host: a}")}).ClientSettings()
	if err != nil || s.Scope != "s" || s.DCS.Kind != Etcd3 {
		t.Errorf("have %v %v (%v), want the store", s.Scope, s.DCS.Kind, err)
	}
	if _, err := (&File{Document: parse(t, "etcd: {host: a}")}).ClientSettings(); err == nil {
		t.Error("etcd v2: have no error, want a refusal")
	}
}

// hushed fills every secret that can be configured.
const hushed = `name: n1
scope: demo
restapi: {listen: 'a:1', keyfile_password: hush, authentication: {username: u, password: hush}}
ctl: {keyfile_password: hush, authentication: {username: u, password: hush}}
etcd3: {url: 'http://u:hush@h:1', password: hush}
bootstrap: {dcs: {}}
postgresql:
  data_dir: /d
  listen: a
  authentication:
    superuser: {username: s, password: hush, sslpassword: hush}
    replication: {username: s, password: hush, sslpassword: hush}
    rewind: {username: s, password: hush, sslpassword: hush}
`

func TestSecretsNeverShow(t *testing.T) {
	s := settings(t, hushed)
	raft := settings(t, strings.Replace(hushed, "etcd3: {url: 'http://u:hush@h:1', password: hush}", "raft: {self_addr: 'a:1', password: hush}", 1))
	if n := countSecrets(reflect.ValueOf(s)) + countSecrets(reflect.ValueOf(raft)); n != 2*10+1+1 {
		t.Fatalf("have %d secrets set, want all of them: extend the test when there are more", n)
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "settings", s, "raft", raft, "one", s.Postgres.Superuser, "password", s.CTL.Auth.Password, "document", parse(t, hushed))
	}
	doc := parse(t, hushed)
	file, err := Read("", []string{"PATRONI_SUPERUSER_PASSWORD=hush", "PATRONI_ETCD3_URL=http://u:hush@h:1"})
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := NewEffective(&File{Document: doc}, dynamic(t, `{}`))
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal([]any{s, raft, doc, file, e})
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal([]any{s.Postgres, s.RESTAPI, raft.DCS})
	if err != nil {
		t.Fatal(err)
	}
	p := s.Postgres.Superuser.Password
	outputs := map[string]string{"slog": log.String(), "JSON": string(asJSON), "YAML": string(asYAML)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		outputs[verb] = fmt.Sprintf(verb, s) + fmt.Sprintf(verb, &raft) + fmt.Sprintf(verb, p) + fmt.Sprintf(verb, &p) + fmt.Sprintf(verb, []Secret{p}) +
			fmt.Sprintf(verb, doc) + fmt.Sprintf(verb, file) + fmt.Sprintf(verb, *file) + fmt.Sprintf(verb, e)
	}
	other := parse(t, strings.ReplaceAll(hushed, "hush", "hushhush"))
	outputs["redacted"] = string(YAML(Redacted(doc)))
	outputs["diff"] = fmt.Sprintf("%+v", DiffDocuments(doc, other)) + fmt.Sprintf("%+v", DiffDocuments(doc, NewMap()))
	for how, text := range outputs {
		if strings.Contains(text, "hush") || strings.Contains(text, fmt.Sprintf("%x", "hush")) {
			t.Errorf("%s shows a secret: %s", how, text)
		}
		if !strings.Contains(text, hidden) && how != "redacted" {
			t.Errorf("%s: have %s, want *** where a secret is", how, text)
		}
	}
}

func countSecrets(v reflect.Value) int {
	if s, ok := v.Interface().(Secret); ok {
		if s.Reveal() == "hush" {
			return 1
		}
		return 0
	}
	n := 0
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				n += countSecrets(v.Field(i))
			}
		}
	}
	return n
}
