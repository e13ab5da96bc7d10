package config

import (
	"fmt"
	"slices"
	"strings"
)

// variable tells where a named environment variable goes in the document.
type variable struct {
	name string // without PATRONI_
	path []string
	kind kind
}

type kind int

const (
	text kind = iota
	boolean
	integer
	realNumber
	list
	mapping
	format // a list, unless it has a %(name)
)

// variables are the named ones, config.md 1.5 and sections 2 and 6. A spelling that only Patroni's
// manual knows (config.md 9) stands before the real one, which wins.
var variables = func() []variable {
	var all []variable
	add := func(prefix string, kind kind, path []string, names ...string) {
		for _, n := range names {
			all = append(all, variable{prefix + strings.ToUpper(n), append(slices.Clone(path), n), kind})
		}
	}
	alias := func(kind kind, name string, path ...string) { all = append(all, variable{name, path, kind}) }

	add("", text, nil, "name", "namespace", "scope", "thread_pool_size", "thread_stack_size")
	add("RESTAPI_", text, []string{"restapi"}, "listen", "connect_address", "certfile", "keyfile", "keyfile_password",
		"cafile", "ciphers", "verify_client", "server_tokens")
	add("RESTAPI_", boolean, []string{"restapi"}, "allowlist_include_members")
	add("RESTAPI_", integer, []string{"restapi"}, "request_queue_size", "thread_pool_size")
	add("RESTAPI_", list, []string{"restapi"}, "allowlist")
	add("RESTAPI_", mapping, []string{"restapi"}, "http_extra_headers", "https_extra_headers")
	add("RESTAPI_", text, []string{"restapi", "authentication"}, "username", "password")
	add("CTL_", text, []string{"ctl"}, "cacert", "certfile", "keyfile", "keyfile_password")
	add("CTL_", boolean, []string{"ctl"}, "insecure")
	add("CTL_", text, []string{"ctl", "authentication"}, "username", "password")
	add("POSTGRESQL_", text, []string{"postgresql"}, "listen", "connect_address", "proxy_address", "data_dir", "config_dir",
		"pgpass", "bin_dir")
	alias(text, "POSTGRESQL_BIN_IS_READY", "postgresql", "bin_name", "pg_isready")
	add("POSTGRESQL_BIN_", text, []string{"postgresql", "bin_name"}, binNames...)
	for _, account := range accountNames {
		add(strings.ToUpper(account)+"_", text, []string{"postgresql", "authentication", account}, accountKeys...)
	}
	alias(text, "LOGLEVEL", "log", "level")
	alias(text, "LOGFORMAT", "log", "format")
	alias(text, "LOG_DATEFMT", "log", "dateformat")
	add("LOG_", text, []string{"log"}, "type", "level", "traceback_level", "dateformat", "dir")
	add("LOG_", format, []string{"log"}, "format")
	add("LOG_", integer, []string{"log"}, "max_queue_size", "file_size", "file_num", "mode")
	add("LOG_", mapping, []string{"log"}, "static_fields", "loggers")
	add("LOG_", boolean, []string{"log"}, "deduplicate_heartbeat_logs")
	add("RAFT_", text, []string{"raft"}, "self_addr", "bind_addr", "data_dir", "password")
	add("RAFT_", list, []string{"raft"}, "partner_addrs")
	add("RAFT_", realNumber, []string{"raft"}, "append_entries_period", "min_timeout", "max_timeout", "connection_timeout",
		"leader_fallback_timeout", "connection_retry_time")
	return all
}()

var (
	accountNames = []string{"superuser", "replication", "rewind"}
	accountKeys  = []string{"username", "password", "sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl",
		"sslcrldir", "gssencmode", "channel_binding", "sslnegotiation"}
	binNames = []string{"pg_ctl", "initdb", "pg_controldata", "pg_basebackup", "postgres", "pg_isready", "pg_rewind"}
)

// dcsSuffixes may follow any section word without an underscore: PATRONI_<SECTION>_<SUFFIX>.
var dcsSuffixes = map[string]kind{
	"HOST": text, "HOSTS": list, "PORT": integer, "USE_PROXIES": boolean, "PROTOCOL": text, "SRV": text, "SRV_SUFFIX": text,
	"URL": text, "PROXY": text, "CACERT": text, "CERT": text, "KEY": text, "VERIFY": boolean, "TOKEN": text, "CHECKS": list,
	"DC": text, "CONSISTENCY": text, "REGISTER_SERVICE": boolean, "SERVICE_CHECK_INTERVAL": text,
	"SERVICE_CHECK_TLS_SERVER_NAME": text, "SERVICE_TAGS": list, "NAMESPACE": text, "CONTEXT": text, "USE_ENDPOINTS": boolean,
	"SCOPE_LABEL": text, "ROLE_LABEL": text, "POD_IP": text, "PORTS": list, "LABELS": mapping, "BYPASS_API_SERVICE": boolean,
	"RETRIABLE_HTTP_CODES": list, "KEY_PASSWORD": text, "USE_SSL": text, "SET_ACLS": mapping, "GROUP": integer,
	"DATABASE": text, "LEADER_LABEL_VALUE": text, "FOLLOWER_LABEL_VALUE": text, "STANDBY_LEADER_LABEL_VALUE": text,
	"TMP_ROLE_LABEL": text, "AUTH_DATA": mapping, "BOOTSTRAP_LABELS": mapping, "LAYOUT": text,
}

// FromEnviron reads the PATRONI_* variables of an environment ("NAME=value") into a document and
// tells which names it used, so that children do not inherit them (config.md 1.2, 1.5). A value
// that does not parse is dropped with a warning that does not show it: it may be a password.
func FromEnviron(environ []string) (doc *Map, used []string, problems []Problem) {
	env := make(map[string]string, len(environ))
	names := make([]string, 0, len(environ))
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "PATRONI_") && value != "" {
			if _, ok := env[name]; !ok {
				names = append(names, name)
			}
			env[name] = value
		}
	}
	slices.Sort(names)
	r := &envReader{doc: NewMap(), env: env}
	for _, v := range variables {
		r.take("PATRONI_"+v.name, v.kind, v.path...)
	}
	for _, name := range names {
		section, suffix, _ := strings.Cut(strings.TrimPrefix(name, "PATRONI_"), "_")
		kind, known := dcsSuffixes[suffix]
		if !known || section == "" || section == "CITUS" && suffix != "GROUP" && suffix != "DATABASE" {
			continue
		}
		r.take(name, kind, strings.ToLower(section), strings.ToLower(suffix))
	}
	for _, section := range []string{"ETCD", "ETCD3"} {
		for _, suffix := range []string{"USERNAME", "PASSWORD"} {
			name := "PATRONI_" + section + "_" + suffix
			if r.doc.Map(strings.ToLower(section)) != nil {
				r.take(name, text, strings.ToLower(section), strings.ToLower(suffix))
			} else if env[name] != "" { // alone it must not choose the store
				r.ignore(name, "it counts only beside another variable of its section")
			}
		}
	}
	slices.Sort(r.used)
	return r.doc, r.used, r.problems
}

type envReader struct {
	doc      *Map
	env      map[string]string
	used     []string
	problems []Problem
}

func (r *envReader) take(name string, kind kind, path ...string) {
	value, ok := r.env[name]
	if !ok || slices.Contains(r.used, name) {
		return
	}
	r.used = append(r.used, name)
	v, ok := convertVariable(value, kind)
	if !ok {
		r.ignore(name, kind.expects())
		return
	}
	m := r.doc
	for _, key := range path[:len(path)-1] {
		sub := m.Map(key)
		if sub == nil {
			sub = NewMap()
			m.set(key, sub, Origin{File: name})
		}
		m = sub
	}
	m.set(path[len(path)-1], v, Origin{File: name})
}

func (r *envReader) ignore(name, why string) {
	r.problems = append(r.problems, Problem{Path: name, Message: "is ignored: " + why, Origin: Origin{File: name}, Warning: true})
}

func (k kind) expects() string {
	switch k {
	case boolean:
		return "expected a boolean: on, true, yes, 1 or off, false, no, 0"
	case integer:
		return "expected an integer without a unit"
	case realNumber:
		return "expected a number"
	case mapping:
		return "expected a YAML mapping such as {a: b}"
	default:
		return "expected a YAML list such as [a, b]"
	}
}

func convertVariable(value string, kind kind) (any, bool) {
	switch kind {
	case boolean:
		return parseBool(value)
	case integer:
		return parseInt(value, "")
	case realNumber:
		return parseReal(value, "")
	case format:
		if strings.Contains(value, "%(") {
			return value, true
		}
		return parseList(value)
	case list:
		return parseList(value)
	case mapping:
		if !strings.HasPrefix(strings.TrimSpace(value), "{") {
			value = "{" + value + "}"
		}
		v, err := ParseYAML("", []byte(value))
		m, ok := v.(*Map)
		return m, ok && err == nil
	default:
		return value, true
	}
}

func parseList(value string) (any, bool) {
	if !strings.HasPrefix(strings.TrimSpace(value), "-") && !strings.Contains(value, "[") {
		value = "[" + value + "]"
	}
	v, err := ParseYAML("", []byte(value))
	l, ok := v.([]any)
	return l, ok && err == nil
}

// ScriptEnviron is the environment of callbacks and other scripts: the agent's without the
// variables that the configuration used.
func ScriptEnviron(environ, used []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(used, name)
	})
}

// PostmasterEnviron is the environment of PostgreSQL: nothing of the agent, of Kubernetes or of
// systemd; PG_MALLOC_ARENA_MAX becomes MALLOC_ARENA_MAX (config.md 1.5).
func PostmasterEnviron(environ []string) []string {
	var out []string
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		switch {
		case strings.HasPrefix(name, "PATRONI_"), strings.HasPrefix(name, "KUBERNETES_"), name == "NOTIFY_SOCKET", name == "PG_MALLOC_ARENA_MAX":
		default:
			out = append(out, e)
		}
		if name == "PG_MALLOC_ARENA_MAX" && value != "" {
			out = append(out, "MALLOC_ARENA_MAX="+value)
		}
	}
	return out
}

// Problem is one finding about a configuration.
type Problem struct {
	Path    string // dotted, list positions are numbers
	Value   string // text form; *** for a secret, empty when absent
	Message string
	Origin  Origin // where it was written
	Warning bool   // the agent starts all the same
}

// String is the line that Patroni prints for it: path, value, message (config.md 7.1).
func (p Problem) String() string { return fmt.Sprintf("%s %s %s", p.Path, p.Value, p.Message) }
