package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Settings interprets the document. It is as tolerant as Patroni at run time: what cannot be read
// has its default. The error joins everything that makes a start impossible.
func (f *File) Settings() (Settings, error) { return newSettings(derive(f.Document)) }

// ClientSettings is for the command line, which needs the store and the credentials only: the error
// is about the store.
func (f *File) ClientSettings() (Settings, error) { return readSettings(derive(f.Document)) }

// derive translates old layouts into today's (config.md 1.6). The input is not changed.
func derive(doc *Map) *Map {
	d := doc.Clone()
	pg := d.Map("postgresql")
	if _, ok := d.Lookup("name"); !ok && pg.Get("name") != nil {
		d.Set("name", pg.Get("name"))
	}
	if pg == nil {
		return d
	}
	auth := pg.Map("authentication")
	rewind := pg.Map("pg_rewind")
	if auth == nil && (pg.Map("replication") != nil || pg.Map("superuser") != nil || rewind != nil) {
		auth = NewMap()
		for _, name := range []string{"replication", "superuser"} {
			if a := pg.Map(name); a != nil {
				auth.Set(name, a)
			}
		}
		pg.Set("use_pg_rewind", rewind != nil)
		pg.Set("authentication", auth)
	}
	if rewind != nil && auth != nil && auth.Map("superuser") == nil {
		auth.Set("superuser", rewind)
	}
	return d
}

func newSettings(d *Map) (Settings, error) {
	s, err := readSettings(d)
	errs := []error{err}
	missing := func(path, have, why string) {
		if have == "" {
			errs = append(errs, fmt.Errorf("%s is not defined: %s", path, why))
		}
	}
	missing("name", s.Name, "every member needs a name of its own")
	missing("scope", s.Scope, "the members of a cluster find each other by it")
	missing("restapi.listen", s.RESTAPI.Listen, "expected host:port")
	missing("postgresql.data_dir", s.Postgres.DataDir, "expected the directory of PostgreSQL's data")
	missing("postgresql.listen", s.Postgres.Listen, "expected host:port")
	if s.Name == reservedName {
		errs = append(errs, fmt.Errorf("name: %q is reserved for synchronous replication, choose another one", reservedName))
	}
	for _, c := range []struct {
		path string
		Credential
	}{{"restapi", s.RESTAPI.Auth}, {"ctl", s.CTL.Auth}} {
		if c.Set() && (c.Username == "" || c.Password.Empty()) {
			errs = append(errs, fmt.Errorf("%s.authentication: needs both username and password", c.path))
		}
	}
	return s, errors.Join(errs...)
}

func readSettings(d *Map) (s Settings, err error) {
	s.Name, s.Scope = word(d, "name", ""), word(d, "scope", "")
	s.Namespace = word(d, "namespace", "service")
	s.RESTAPI = readRESTAPI(d.Map("restapi"))
	s.CTL = readCTL(d.Map("ctl"), s.RESTAPI)
	s.Postgres = readPostgres(d.Map("postgresql"))
	s.Bootstrap = readBootstrap(d.Map("bootstrap"))
	s.Watchdog = readWatchdog(d.Map("watchdog"))
	s.Tags = toValue(d.Map("tags")).Fields
	s.Log = readLog(d.Map("log"))
	s.Regent.JournalDir = word(d.Map("regent"), "journal_dir", s.beside("-journal"))
	s.Regent.Guard = guardMode(d.Map("regent"))
	s.Proxy = readProxy(d.Map("proxy"))
	s.DCS, err = readDCS(d)
	if s.DCS.Kind == Embedded && s.DCS.Embed.DataDir == "" {
		s.DCS.Embed.DataDir = s.beside("-etcd")
	}
	if s.DCS.Kind == Embedded && s.Bootstrap.Present {
		s.Bootstrap.DCS = goingOn(s.Bootstrap.DCS)
	}
	return s, err
}

// goingOn is the first dynamic document of a cluster whose store is in its members: what the store loses they may lose, too, and they are there to agree
// that the primary goes on without it (ADR 25). Whoever says something about it keeps their word.
func goingOn(d cluster.DynamicConfig) cluster.DynamicConfig {
	if _, said := d.Document.Get("failsafe_mode"); said {
		return d
	}
	if !d.Usable {
		d = cluster.DynamicConfig{Document: cluster.Value{Kind: cluster.Object}, Usable: true}
	}
	d.Document = d.Document.Set(cluster.Flag(true), "failsafe_mode")
	return d
}

// beside is a directory next to the data directory: on the same disk, and not touched by a clone.
func (s *Settings) beside(suffix string) string {
	if s.Postgres.DataDir == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(filepath.Clean(s.Postgres.DataDir)), s.Name+suffix)
}

// reservedName stands in synchronous_standby_names where nobody is synchronous.
const reservedName = "__patroni_strict_sync_replica_placeholder__"

func readRESTAPI(m *Map) RESTAPI {
	return RESTAPI{
		Listen:          word(m, "listen", ""),
		ConnectAddress:  word(m, "connect_address", word(m, "listen", "")),
		Auth:            credential(m),
		CertFile:        word(m, "certfile", ""),
		KeyFile:         word(m, "keyfile", ""),
		KeyFilePassword: secret(m, "keyfile_password"),
		CAFile:          word(m, "cafile", ""),
		Ciphers:         word(m, "ciphers", ""),
		VerifyClient:    oneOf(word(m, "verify_client", ""), "none", "optional", "required"),
		Allowlist:       words(m, "allowlist"),

		AllowlistIncludeMembers: flag(m, "allowlist_include_members", false),
		HTTPExtraHeaders:        table(m, "http_extra_headers"),
		HTTPSExtraHeaders:       table(m, "https_extra_headers"),
		RequestQueueSize:        int(min(max(number(m, "request_queue_size", 5), 0), 4096)),
		ServerTokens:            oneOf(word(m, "server_tokens", ""), "original", "minimal", "productonly"),
	}
}

func readCTL(m *Map, rest RESTAPI) CTL {
	c := CTL{
		Auth:            credential(m),
		Insecure:        flag(m, "insecure", false),
		CACert:          word(m, "cacert", rest.CAFile),
		CertFile:        word(m, "certfile", ""),
		KeyFile:         word(m, "keyfile", ""),
		KeyFilePassword: secret(m, "keyfile_password"),
		Layout:          oneOf(word(m, "layout", ""), "narrow", "wide"),
	}
	if !c.Auth.Set() {
		c.Auth = rest.Auth
	}
	return c
}

// dcsSections are the sections that choose a store, in the order in which they are looked for:
// with several present the first wins (config.md 1.8).
var dcsSections = []string{"consul", "etcd", "etcd3", "exhibitor", "kubernetes", "raft", "zookeeper"}

func readDCS(d *Map) (DCS, error) {
	for _, section := range dcsSections {
		v, ok := d.Lookup(section)
		if !ok || v == nil {
			continue
		}
		m, _ := v.(*Map)
		switch section {
		case "etcd3":
			e, err := readEtcd(m)
			return DCS{Kind: Etcd3, Etcd: e}, err
		case "raft":
			return DCS{Kind: Embedded, Embed: Embed{
				SelfAddr: word(m, "self_addr", ""), BindAddr: word(m, "bind_addr", word(m, "self_addr", "")),
				PartnerAddrs: words(m, "partner_addrs"), DataDir: word(m, "data_dir", ""), Password: secret(m, "password"),
			}}, nil
		case "kubernetes":
			k, err := readKubernetes(d, m)
			return DCS{Kind: InKubernetes, Kubernetes: k}, err
		case "zookeeper":
			z, err := readZooKeeper(m)
			return DCS{Kind: InZooKeeper, ZooKeeper: z}, err
		case "consul":
			c, err := readConsul(m)
			return DCS{Kind: InConsul, Consul: c}, err
		case "etcd":
			return DCS{}, errors.New("etcd: the v2 protocol is gone from etcd 3.6; rename the section to etcd3")
		default:
			return DCS{}, fmt.Errorf("%s: this store is not built yet; have etcd3, consul, zookeeper, kubernetes, raft (etcd inside the agent), or no section at all for a single member", section)
		}
	}
	return DCS{Kind: Embedded}, nil
}

// readEtcd finds the addresses: proxy, url, hosts, host, in this order. With an URL the credentials
// come from it, if it has any (config.md 2.10).
func readEtcd(m *Map) (Etcd, error) {
	e := Etcd{
		SRV:        word(m, "srv", word(m, "discovery_srv", word(m, "srv_domain", ""))),
		SRVSuffix:  word(m, "srv_suffix", ""),
		Protocol:   word(m, "protocol", "http"),
		UseProxies: flag(m, "use_proxies", false),
		Username:   word(m, "username", ""),
		Password:   secret(m, "password"),
		CACert:     word(m, "cacert", ""),
		Cert:       word(m, "cert", ""),
		Key:        word(m, "key", ""),
	}
	port := number(m, "port", 2379)
	for _, key := range []string{"proxy", "url"} {
		text := word(m, key, "")
		if text == "" {
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return e, fmt.Errorf("etcd3.%s: expected an URL such as http://host:2379", key) // the text may hold a password
		}
		e.Protocol = u.Scheme
		if u.User != nil {
			p, _ := u.User.Password()
			e.Username, e.Password = u.User.Username(), NewSecret(p)
		}
		e.Hosts = []string{withPort(u.Host, 2379)}
		if key == "proxy" {
			e.UseProxies, e.SRV = true, ""
		}
		return e, nil
	}
	hosts := words(m, "hosts")
	if len(hosts) == 0 {
		hosts = words(m, "host")
	}
	for _, h := range hosts {
		e.Hosts = append(e.Hosts, withPort(h, port))
	}
	if len(e.Hosts) == 0 && e.SRV == "" {
		return e, errors.New("etcd3: none of host, hosts, url, proxy and srv is defined; expected one of them")
	}
	return e, nil
}

// withPort adds the port to an address that has none.
func withPort(host string, port int64) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), fmt.Sprint(port))
}

func readBootstrap(m *Map) Bootstrap {
	b := Bootstrap{Present: m != nil, Method: "initdb"}
	if dcs := m.Map("dcs"); dcs != nil {
		b.DCS = cluster.DynamicConfig{Document: toValue(dcs), Usable: true}
	}
	b.Initdb = options(m.Get("initdb"))
	b.PgHBA = lines(m, "pg_hba")
	b.PostBootstrap = word(m, "post_bootstrap", word(m, "post_init", ""))
	method := word(m, "method", "initdb")
	if custom := m.Map(method); word(custom, "command", "") != "" && method != "initdb" {
		b.Method = method
		b.Custom = &CustomBootstrap{
			Name: method, Command: word(custom, "command", ""), NoParams: flag(custom, "no_params", false),
			KeepExistingRecoveryConf: flag(custom, "keep_existing_recovery_conf", false),
			RecoveryConf:             table(custom, "recovery_conf"),
			Arguments:                arguments(custom, "command", "no_params", "keep_existing_recovery_conf", "recovery_conf", "scope", "datadir"),
		}
	}
	return b
}

func readPostgres(m *Map) Postgres {
	p := Postgres{
		DataDir:           word(m, "data_dir", ""),
		ConfigDir:         word(m, "config_dir", word(m, "data_dir", "")),
		ConfigBaseName:    word(m, "config_base_name", "postgresql"),
		BinDir:            word(m, "bin_dir", ""),
		BinName:           table(m, "bin_name"),
		Listen:            word(m, "listen", ""),
		ConnectAddress:    word(m, "connect_address", ""),
		ProxyAddress:      word(m, "proxy_address", ""),
		Database:          word(m, "database", "postgres"),
		PgPass:            word(m, "pgpass", homePgPass()),
		UseUnixSocket:     flag(m, "use_unix_socket", false),
		UseUnixSocketRepl: flag(m, "use_unix_socket_repl", false),
		KrbSrvName:        word(m, "krbsrvname", ""),

		Superuser:   account(m.Map("authentication", "superuser")),
		Replication: account(m.Map("authentication", "replication")),
		Rewind:      account(m.Map("authentication", "rewind")),

		Parameters:   table(m, "parameters"),
		PgHBA:        lines(m, "pg_hba"),
		PgIdent:      lines(m, "pg_ident"),
		CustomConf:   word(m, "custom_conf", ""),
		RecoveryConf: table(m, "recovery_conf"),

		UsePgRewind:                  flag(m, "use_pg_rewind", false),
		RewindOptions:                options(m.Get("rewind")),
		RemoveDataDirOnRewindFailure: flag(m, "remove_data_directory_on_rewind_failure", false),
		RemoveDataDirOnDiverged:      flag(m, "remove_data_directory_on_diverged_timelines", false),
		CtlTimeout:                   time.Duration(min(max(number(m, "pg_ctl_timeout", 60), 0), 1<<31)) * time.Second,
		CreateReplicaMethods:         words(m, "create_replica_methods"),
		BaseBackup:                   options(m.Get("basebackup")),

		Callbacks: Callbacks{
			OnStart:      word(m.Map("callbacks"), "on_start", ""),
			OnStop:       word(m.Map("callbacks"), "on_stop", ""),
			OnRestart:    word(m.Map("callbacks"), "on_restart", ""),
			OnReload:     word(m.Map("callbacks"), "on_reload", ""),
			OnRoleChange: word(m.Map("callbacks"), "on_role_change", ""),
		},
		PrePromote: word(m, "pre_promote", ""),
		BeforeStop: word(m, "before_stop", ""),
	}
	if p.CreateReplicaMethods == nil {
		p.CreateReplicaMethods = words(m, "create_replica_method")
	}
	if p.CreateReplicaMethods == nil {
		p.CreateReplicaMethods = []string{"basebackup"}
	}
	for _, role := range []cluster.Role{cluster.Primary, cluster.Replica, cluster.StandbyLeader} {
		r := RoleSettings{table(m, "parameters_"+string(role)), lines(m, "pg_hba_"+string(role)), lines(m, "pg_ident_"+string(role))}
		if r.Parameters != nil || r.PgHBA != nil || r.PgIdent != nil {
			if p.RoleOverlay == nil {
				p.RoleOverlay = map[cluster.Role]RoleSettings{}
			}
			p.RoleOverlay[role] = r
		}
	}
	p.Methods = readMethods(m, p.CreateReplicaMethods)
	return p
}

func homePgPass() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return "" // a process without a home has to configure the file
	}
	return filepath.Join(home, "pgpass")
}

// readMethods takes every sub-section with a command for a method: which of them count is said by create_replica_methods, here or in
// the standby_cluster section of the DCS. One that is named here needs no command: it is called as it is named.
func readMethods(m *Map, named []string) []CloneMethod {
	var methods []CloneMethod
	for _, key := range m.Keys() {
		sub := m.Map(key)
		if !isMethod(m, key, named) {
			continue
		}
		c := CloneMethod{
			Name: key, Command: word(sub, "command", key), KeepData: flag(sub, "keep_data", false),
			NoParams: flag(sub, "no_params", false), NoLeader: flag(sub, "no_leader", false),
			Arguments: arguments(sub, "command"),
		}
		if c.NoParams {
			c.Arguments = arguments(sub, "command", "no_params", "no_leader", "keep_data")
		}
		methods = append(methods, c)
	}
	return methods
}

// isMethod says whether a sub-section of postgresql is a clone method of the operator's.
func isMethod(m *Map, key string, named []string) bool {
	sub := m.Map(key)
	return sub != nil && key != "basebackup" && (word(sub, "command", "") != "" || slices.Contains(named, key))
}

func readWatchdog(m *Map) Watchdog {
	w := Watchdog{Mode: fencingMode(m, "mode"), Device: word(m, "device", "/dev/watchdog"), Driver: word(m, "driver", "default")}
	margin := number(m, "safety_margin", 5)
	if w.HalfTTL = margin == -1; !w.HalfTTL {
		w.SafetyMargin = time.Duration(min(max(margin, 0), 1<<31)) * time.Second
	}
	return w
}

// fencingMode reads off, automatic or required. Another word means off, as at Patroni (config.md 2.4).
func fencingMode(m *Map, key string) string {
	v, ok := m.Lookup(key)
	if !ok || v == nil {
		return "automatic"
	}
	switch strings.ToLower(Text(v)) {
	case "automatic", "auto":
		return "automatic"
	case "required", "require":
		return "required"
	default:
		return "off"
	}
}

// guardMode reads the same words for a setting of our own: a typo must not switch the guard off.
func guardMode(m *Map) string {
	mode := fencingMode(m, "guard")
	if v := strings.ToLower(Text(m.Get("guard"))); mode == "off" && v != "off" && v != "false" && v != "disable" && v != "disabled" {
		return "automatic"
	}
	return mode
}

func readLog(m *Map) Log {
	l := Log{
		Type:         oneOf(word(m, "type", ""), "plain", "json"),
		Level:        strings.ToUpper(word(m, "level", "INFO")),
		Format:       logPieces(defaultLogFormat),
		DateFormat:   word(m, "dateformat", ""),
		StaticFields: table(m, "static_fields"),
		Dir:          word(m, "dir", ""),
		Mode:         int(min(max(number(m, "mode", 0), 0), 0o777)),
		FileNum:      int(min(max(number(m, "file_num", 4), 0), 1<<16)),
		FileSize:     max(number(m, "file_size", 25000000), 0),
		Loggers:      map[string]string{},
		Deduplicate:  flag(m, "deduplicate_heartbeat_logs", false),
	}
	loggers := m.Map("loggers")
	for _, name := range loggers.Keys() { // of two names for one part the last one counts
		if part, ok := LoggerPart(name); ok {
			l.Loggers[part] = strings.ToUpper(word(loggers, name, "INFO"))
		}
	}
	format := m.Get("format")
	if text, ok := format.(string); ok {
		l.Format = logPieces(text)
	}
	if l.Fields = logFields(format); len(l.Fields) == 0 {
		l.Fields = logFields(defaultLogFormat)
	}
	return l
}

func readProxy(m *Map) Proxy {
	lag, ok := parseInt(m.Get("max_lag"), "B")
	if !ok || lag < 0 {
		lag = -1
	}
	return Proxy{
		Listen:   word(m, "listen", ""),
		Replicas: word(m, "replicas", ""),
		MaxLag:   lag,
		VIP:      VIP{Address: word(m.Map("vip"), "address", ""), Device: word(m.Map("vip"), "device", "")},
		Status:   word(m, "status", ""),
		Hold:     time.Duration(min(max(number(m, "hold", 30), 0), 3600)) * time.Second,
		MaxHeld:  int(min(max(number(m, "max_held", 1000), 1), 1<<20)),
	}
}
