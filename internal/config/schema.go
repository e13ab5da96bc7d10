package config

import (
	"math"
	"slices"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

const unlimited = math.MaxInt64

// root checks the whole document, in the order of Patroni's validator. The ranges are those of
// config.md 7.1, a few of which are looser than what counts at run time.
func root(v *validation, path string, value any) {
	m := value.(*Map)
	dcs := []field{}
	for _, name := range dcsSections {
		dcs = append(dcs, optional(name, dcsSchemas[name]))
	}
	before := []field{
		required("name", memberName), required("scope", simple), optional("namespace", simple),
		optional("thread_pool_size", count(0, unlimited)), optional("thread_stack_size", between(0, unlimited, "B")),
		optional("log", logSchema), optional("ctl", ctlSchema), required("restapi", restSchema),
		optional("bootstrap", bootstrapSchema),
	}
	after := []field{
		optional("citus", object(required("database", isText), required("group", between(0, unlimited, "")))),
		required("postgresql", postgresSchema), optional("watchdog", watchdogSchema), optional("tags", tagSchema),
		optional("regent", object(optional("journal_dir", isText), optional("guard", fencingModes))),
		optional("proxy", proxySchema),
	}
	openObject(before...)(v, path, m)
	if slices.ContainsFunc(dcsSections, func(s string) bool { return m.Get(s) != nil }) {
		openObject(dcs...)(v, path, m)
	} else if v.options.RequireDCS {
		for _, name := range dcsSections {
			v.undefined(name)
		}
	}
	openObject(after...)(v, path, m)
	v.unknown(path, m, slices.Concat(before, dcs, after))
}

func memberName(v *validation, path string, value any) {
	if value == reservedName {
		v.refuse(path, value, "Node 'name' can't be set to '%s'", reservedName)
	}
	simple(v, path, value)
}

var logLevels = enum("DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL",
	"debug", "info", "warn", "warning", "error", "fatal", "critical")

var logSchema = func(v *validation, path string, value any) {
	object(
		optional("type", enum("plain", "json")), optional("level", logLevels), optional("traceback_level", tracebackLevel),
		optional("format", logFormat), optional("dateformat", isText), optional("static_fields", dictionary),
		optional("max_queue_size", logQueue), optional("dir", isText), optional("mode", between(0, 511, "")),
		optional("file_num", between(0, unlimited, "")), optional("file_size", between(0, unlimited, "B")),
		optional("loggers", loggers), optional("deduplicate_heartbeat_logs", isBool))(v, path, value)
	m, _ := value.(*Map)
	if json := word(m, "type", "plain") == "json"; json {
		return
	}
	if _, list := m.Get("format").([]any); list {
		v.origin = m.Origin("format")
		v.warn(under(path, "format"), "is a list, which only type json understands; the default counts")
	}
	if m.Get("static_fields") != nil {
		v.origin = m.Origin("static_fields")
		v.warn(under(path, "static_fields"), "has no effect without type json")
	}
}

func logFormat(v *validation, path string, value any) {
	switch value := value.(type) {
	case string:
	case []any:
		if len(value) == 0 {
			v.refuse(path, value, "should contain at least one item")
		}
		program(v, path, value)
	default:
		v.refuse(path, value, "Should be a string or a list")
	}
	logFormatDoubts(v, path, value)
}

// tracebackLevel and logQueue are settings that a default of Patroni's gets without a word.
func tracebackLevel(v *validation, path string, value any) {
	logLevels(v, path, value)
	if s, _ := value.(string); strings.EqualFold(s, "DEBUG") {
		v.warn(path, "has no effect: an error is one sentence, without a stack trace")
	}
}

func logQueue(v *validation, path string, value any) {
	between(0, unlimited, "")(v, path, value)
	if n, ok := value.(int64); ok && n != 1000 {
		v.warn(path, "has no effect: a record is written before the agent goes on, none waits and none is lost")
	}
}

func loggers(v *validation, path string, value any) {
	dictionary(v, path, value)
	m, _ := value.(*Map)
	for _, name := range m.Keys() {
		v.origin = m.Origin(name)
		if _, ok := LoggerPart(name); !ok {
			v.warn(under(path, name), "names no part of this agent and has no effect; have %s", strings.Join(LoggerParts, ", "))
		}
		logLevels(v, under(path, name), m.Get(name))
	}
}

var authentication = object(required("username", simple), required("password", simple))

var ctlSchema = object(
	optional("authentication", authentication), optional("insecure", isBool), optional("cacert", isText),
	optional("certfile", isText), optional("keyfile", isText), optional("keyfile_password", simple),
	optional("layout", enum("narrow", "wide")))

var restSchema = object(
	required("listen", listen(false)), required("connect_address", connectAddress),
	optional("authentication", authentication), optional("certfile", isText), optional("keyfile", isText),
	optional("keyfile_password", simple), optional("cafile", isText), optional("ciphers", isText),
	optional("verify_client", enum("none", "optional", "required")), optional("allowlist", listOf(isText)),
	optional("allowlist_include_members", isBool), optional("http_extra_headers", dictionary),
	optional("https_extra_headers", dictionary), optional("request_queue_size", between(0, 4096, "")),
	optional("thread_pool_size", between(0, unlimited, "")), optional("server_tokens", serverTokens))

func serverTokens(v *validation, path string, value any) {
	s, ok := value.(string)
	if !ok || !slices.Contains([]string{"minimal", "productonly", "original"}, strings.ToLower(s)) {
		v.refuse(path, value, "Wrong value")
	}
}

func bootstrapSchema(v *validation, path string, value any) {
	openObject( // the methods have names of their own
		required("dcs", dynamicSchema), optional("method", isText), optional("initdb", initdbOptions),
		optional("pg_hba", listOf(isText)), optional("post_bootstrap", isText), optional("post_init", isText),
		optional("users", removedUsers))(v, path, value)
	m, _ := value.(*Map)
	method := word(m, "method", "initdb")
	if method == "initdb" {
		return
	}
	custom := m.Map(method)
	v.origin = m.Origin("method")
	if word(custom, "command", "") == "" {
		v.warn(under(path, "method"), "%s has no section with a command: the cluster would be made by initdb, empty", method)
		return
	}
	if v.origin = m.Origin(method); flag(custom, "keep_existing_recovery_conf", false) && custom.Get("recovery_conf") != nil {
		v.warn(under(path, method+".recovery_conf"), "does not count beside keep_existing_recovery_conf")
	}
}

func removedUsers(v *validation, path string, _ any) {
	v.warn(path, "is ignored since Patroni 4.0: create roles in post_bootstrap")
}

func initdbOptions(v *validation, path string, value any) {
	program(v, path, value)
	for _, o := range options(value) {
		if slices.Contains([]string{"pgdata", "nosync", "pwfile", "sync-only", "version"}, o.Name) {
			v.refuse(path, o.Name, "this option of initdb is the agent's own business; remove it")
		}
	}
}

var syncModes = enum(true, false, "quorum", "on", "off")

func dynamicSchema(v *validation, path string, value any) {
	gucs := openObject(
		optional("max_connections", count(1, 262143)), optional("max_locks_per_transaction", count(10, 2147483647)),
		optional("max_prepared_transactions", count(0, 262143)), optional("max_replication_slots", count(0, 262143)),
		optional("max_wal_senders", count(0, 262143)), optional("max_worker_processes", count(0, 262143)))
	object(
		optional("ttl", between(20, unlimited, "")), optional("loop_wait", between(1, unlimited, "")),
		optional("retry_timeout", between(3, unlimited, "")),
		optional("maximum_lag_on_failover", between(0, unlimited, "")), optional("maximum_lag_on_syncnode", between(-1, unlimited, "")),
		optional("max_timelines_history", between(0, unlimited, "")),
		optional("primary_start_timeout", between(0, unlimited, "s")), optional("master_start_timeout", between(0, unlimited, "s")),
		optional("primary_stop_timeout", between(0, unlimited, "s")), optional("master_stop_timeout", between(0, unlimited, "s")),
		optional("primary_race_backoff", between(0, unlimited, "s")), optional("member_slots_ttl", between(0, unlimited, "s")),
		optional("synchronous_mode", syncModes), optional("synchronous_mode_strict", isBool),
		optional("synchronous_node_count", between(1, unlimited, "")), optional("failsafe_mode", isBool),
		optional("check_timeline", isBool), optional("pause", isBool), optional("durability", durabilitySchema),
		optional("slots", dictionary), optional("permanent_replication_slots", dictionary), optional("permanent_slots", dictionary),
		optional("ignore_slots", anything), optional("standby_cluster", standbySchema),
		optional("postgresql", openObject(optional("parameters", gucs), optional("use_slots", isBool), optional("use_pg_rewind", isBool),
			optional("pg_hba", listOf(isText)), optional("pg_ident", listOf(isText)))),
	)(v, path, value)
	m, ok := value.(*Map)
	if !ok {
		return
	}
	durabilityContradictions(v, path, m)
	// Patroni shortens the waits silently; nobody who reads the file would know.
	ttl, ok1 := parseInt(orDefault(m, "ttl", 30), "")
	wait, ok2 := parseInt(orDefault(m, "loop_wait", 10), "")
	retry, ok3 := parseInt(orDefault(m, "retry_timeout", 10), "")
	if ok1 && ok2 && ok3 && max(ttl, wait, retry) < 1<<40 && wait+2*retry > ttl {
		v.origin = m.Origin("ttl")
		v.refuse(under(path, "ttl"), ttl, "want at least loop_wait + 2*retry_timeout = %d, or a leader cannot stop in time; "+
			"raise ttl or lower retry_timeout", wait+2*retry)
	}
}

// durabilitySchema looks for what does not count; the rest is said where it is applied.
func durabilitySchema(v *validation, path string, value any) {
	if m, ok := value.(*Map); ok {
		v.unknown(path, m, []field{optional("survive", anything)})
	}
}

func durabilityContradictions(v *validation, path string, m *Map) {
	dynamic := cluster.DynamicConfig{Document: toValue(m), Usable: true}
	err := dynamic.CheckDurability()
	if err == nil {
		return
	}
	v.origin = m.Origin("durability")
	for line := range strings.Lines(err.Error()) {
		v.refuse(under(path, "durability"), m.Get("durability"), "%s", strings.TrimSpace(line))
	}
}

func orDefault(m *Map, key string, otherwise int64) any {
	if v, ok := m.Lookup(key); ok {
		return v
	}
	return otherwise
}

func standbySchema(v *validation, path string, value any) {
	object(optional("host", simple), optional("port", count(1, 65535)), optional("primary_slot_name", isText),
		optional("create_replica_methods", listOf(isText)), optional("restore_command", isText),
		optional("archive_cleanup_command", isText), optional("recovery_min_apply_delay", simple))(v, path, value)
	m, ok := value.(*Map)
	if ok && m.Get("host") == nil && m.Get("port") == nil && m.Get("restore_command") == nil {
		v.refuse(path, value, "needs at least one of host, port and restore_command")
	}
}

// accepted is a store that we do not have; its own settings are not looked at.
func accepted(v *validation, path string, _ any) {
	v.problems = append(v.problems, Problem{Path: path, Origin: v.origin,
		Message: "didn't pass validation: this store is not built yet; have etcd3, consul, zookeeper, kubernetes, or raft for etcd inside the agent"})
}

var dcsSchemas = map[string]check{
	"consul":    consulSchema,
	"exhibitor": accepted,
	"etcd": func(v *validation, path string, _ any) {
		v.problems = append(v.problems, Problem{Path: path, Origin: v.origin,
			Message: "didn't pass validation: the v2 protocol is gone from etcd 3.6; rename the section to etcd3"})
	},
	"etcd3":      etcdSchema,
	"kubernetes": kubernetesSchema,
	"raft":       raftSchema,
	"zookeeper":  zookeeperSchema,
}

func raftSchema(v *validation, path string, value any) {
	object(required("self_addr", connectAddress), optional("bind_addr", listen(false)),
		required("partner_addrs", listOf(address)), optional("data_dir", isText), optional("password", simple),
		optional("append_entries_period", positive), optional("min_timeout", positive), optional("max_timeout", positive),
		optional("connection_timeout", positive), optional("leader_fallback_timeout", positive),
		optional("connection_retry_time", positive))(v, path, value)
	m, _ := value.(*Map)
	if nodes := 1 + len(words(m, "partner_addrs")); nodes > 1 && nodes%2 == 0 {
		v.warn(path, "has %d nodes: an even number survives no more failures than one node less; have 3 or 5, or add a witness", nodes)
	}
}

func positive(v *validation, path string, value any) {
	if f, ok := parseReal(value, ""); !ok {
		v.report(path, value, "is not a number")
	} else if f < 0 {
		v.refuse(path, value, "Wrong value")
	}
}

func etcdSchema(v *validation, path string, value any) {
	object(optional("host", reachable), optional("hosts", reachableHosts), optional("url", isText), optional("proxy", isText),
		optional("srv", isText), optional("discovery_srv", isText), optional("srv_domain", isText), optional("srv_suffix", isText),
		optional("port", between(1, 65535, "")), optional("use_proxies", isBool), optional("protocol", enum("http", "https")),
		optional("username", simple), optional("password", simple), optional("cacert", isText), optional("cert", isText),
		optional("key", isText))(v, path, value)
	m, ok := value.(*Map)
	if !ok {
		return
	}
	alternatives := []string{"srv", "hosts", "host", "url", "proxy"}
	if !slices.ContainsFunc(append(alternatives, "discovery_srv", "srv_domain"), func(k string) bool { return m.Get(k) != nil }) {
		for _, k := range alternatives {
			v.undefined(under(path, k))
		}
	}
}

var accountSchema = func() check {
	fields := []field{required("username", simple)}
	for _, key := range accountKeys[1:] {
		fields = append(fields, optional(key, simple))
	}
	return object(fields...)
}()

var roleNames = []string{"primary", "replica", "standby_leader"}

var postgresSchema = func() check {
	bins := []field{}
	for _, b := range binNames {
		bins = append(bins, optional(b, isText))
	}
	fields := []field{
		required("listen", listen(true)), required("connect_address", connectAddress), optional("proxy_address", address),
		required("authentication", object(required("replication", accountSchema), required("superuser", accountSchema),
			optional("rewind", accountSchema))),
		required("data_dir", dataDir), optional("config_dir", isText), optional("config_base_name", isText),
		optional("bin_name", object(bins...)), optional("bin_dir", binDir),
		optional("parameters", openObject(optional("unix_socket_directories", isText))),
		optional("pg_hba", listOf(isText)), optional("pg_ident", listOf(isText)), optional("pgpass", isText),
		optional("database", isText), optional("krbsrvname", isText), optional("use_unix_socket", isBool),
		optional("use_unix_socket_repl", isBool), optional("custom_conf", isText), optional("recovery_conf", dictionary),
		optional("use_slots", isBool), optional("use_pg_rewind", isBool), optional("rewind", program),
		optional("remove_data_directory_on_rewind_failure", isBool), optional("remove_data_directory_on_diverged_timelines", isBool),
		optional("pg_ctl_timeout", between(0, unlimited, "s")), optional("basebackup", program),
		optional("create_replica_methods", listOf(isText)), optional("create_replica_method", listOf(isText)),
		optional("callbacks", object(optional("on_start", isText), optional("on_stop", isText), optional("on_restart", isText),
			optional("on_reload", isText), optional("on_role_change", isText))),
		optional("pre_promote", isText), optional("before_stop", isText),
		// the layout before 1.0
		optional("name", simple), optional("replication", dictionary), optional("superuser", dictionary), optional("pg_rewind", dictionary),
	}
	for _, role := range roleNames {
		fields = append(fields, optional("parameters_"+role, dictionary), optional("pg_hba_"+role, listOf(isText)),
			optional("pg_ident_"+role, listOf(isText)))
	}
	return func(v *validation, path string, value any) {
		known := fields
		m, _ := value.(*Map)
		for _, key := range m.Keys() { // custom clone methods have names of their own
			if isMethod(m, key, append(words(m, "create_replica_methods"), words(m, "create_replica_method")...)) {
				known = append(slices.Clip(known), optional(key, dictionary))
			}
		}
		object(known...)(v, path, value)
		programs(v, path, m)
	}
}()

var fencingModes = enum(false, "off", "automatic", "auto", "required", "require", "disable", "disabled")

var watchdogSchema = openObject( // the driver may have settings of its own
	optional("mode", fencingModes),
	optional("device", isText), optional("driver", isText), optional("safety_margin", between(-1, unlimited, "")))

func tagSchema(v *validation, path string, value any) {
	openObject(optional("nofailover", isBool), optional("failover_priority", between(0, unlimited, "")),
		optional("noloadbalance", isBool), optional("clonefrom", isBool), optional("replicatefrom", isText),
		optional("nosync", isBool), optional("sync_priority", between(0, unlimited, "")), optional("nostream", isBool), optional("site", simple))(v, path, value)
	m, _ := value.(*Map)
	for _, pair := range [][2]string{{"nofailover", "failover_priority"}, {"nosync", "sync_priority"}} {
		_, ok1 := m.Lookup(pair[0])
		_, ok2 := m.Lookup(pair[1])
		if ok1 && ok2 {
			v.report(path, value, "Multiple of ('%s', '%s') provided", pair[0], pair[1])
		}
	}
}

// proxySchema is of what runs beside the agent or elsewhere; its ports are looked at by nobody but the proxy.
var proxySchema = object(optional("listen", simple), optional("replicas", simple), optional("status", simple),
	optional("vip", object(required("address", isText), required("device", simple))),
	optional("max_lag", between(0, unlimited, "B")), optional("hold", between(0, 3600, "s")), optional("max_held", between(1, 1<<20, "")))
