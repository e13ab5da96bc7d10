package config

import (
	"bytes"
	"slices"
	"strings"
)

// Fixme stands in a generated configuration where only the operator knows the value.
const Fixme = "#FIXME"

// Sample is a configuration to begin with (config.md 7.2), for a member called name at the given address. Once every Fixme is
// replaced it is valid, unlike Patroni's, which has tags that exclude each other.
func Sample(name, address string) *Map {
	account := func(user string) *Map { return mapOf("username", user, "password", Fixme) }
	parameters := NewMap()
	for _, p := range managed {
		if p.accept == nil || p.name == "wal_keep_segments" {
			continue
		}
		parameters.Set(p.name, p.fallback)
		if n, ok := parseInt(p.fallback, ""); ok {
			parameters.Set(p.name, n)
		}
	}
	return mapOf(
		"scope", Fixme, "name", name,
		"log", mapOf("format", defaultLogFormat, "level", "INFO", "max_queue_size", int64(1000), "traceback_level", "ERROR", "type", "plain"),
		"restapi", mapOf("connect_address", address+":8008", "listen", address+":8008"),
		"bootstrap", mapOf("dcs", mapOf("loop_wait", int64(10), "retry_timeout", int64(10), "ttl", int64(30),
			"postgresql", mapOf("parameters", parameters, "use_pg_rewind", true, "use_slots", true))),
		"postgresql", mapOf(
			"authentication", mapOf("replication", account("replicator"), "rewind", account("rewind_user"), "superuser", account("postgres")),
			"bin_dir", "", "connect_address", address+":5432", "data_dir", Fixme, "listen", address+":5432",
			"parameters", mapOf("password_encryption", "scram-sha-256"),
			"pg_hba", []any{"host all all all scram-sha-256", "host replication replicator all scram-sha-256"}),
		"tags", mapOf("clonefrom", true, "failover_priority", int64(1), "noloadbalance", false, "nostream", false, "sync_priority", int64(1)),
	)
}

func mapOf(pairs ...any) *Map {
	m := NewMap()
	for i := 0; i < len(pairs); i += 2 {
		m.Set(pairs[i].(string), pairs[i+1])
	}
	return m
}

// generatedOrder is how people read a configuration: who we are, how we speak, then PostgreSQL.
var generatedOrder = slices.Concat([]string{"scope", "namespace", "name", "log", "restapi", "ctl", "citus"}, dcsSections,
	[]string{"bootstrap", "postgresql", "watchdog", "tags"})

// explained are the comments of a generated file, by the line that they stand above.
var explained = map[string]string{
	"bootstrap:": "Read once, by the member that makes the cluster.",
	"  dcs:": "The first dynamic configuration, which all members share. Later it is changed with patronictl edit-config.\n" +
		"ttl must be at least loop_wait + 2*retry_timeout. Where etcd runs inside the agents, failsafe_mode is on unless it stands here as false.",
	"tags:": "What this member says about itself.",
}

// Generated writes a configuration file for people: sections in a reading order, with a few comments. Secrets are written out.
func Generated(m *Map) []byte {
	keys := m.Keys()
	slices.SortStableFunc(keys, func(a, b string) int { return place(a) - place(b) })
	var b bytes.Buffer
	for _, key := range keys {
		one := NewMap()
		one.Set(key, m.Get(key))
		if _, ok := m.Get(key).(*Map); ok {
			b.WriteByte('\n')
		}
		for line := range strings.Lines(string(YAML(one))) {
			text := strings.TrimRight(line, "\n")
			indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
			if words, ok := explained[text]; ok {
				b.WriteString(indent + "# " + strings.ReplaceAll(words, "\n", "\n"+indent+"# ") + "\n")
			}
			b.WriteString(line)
		}
	}
	return b.Bytes()
}

// place is a key's number in the reading order; what is not in it comes last.
func place(key string) int {
	if i := slices.Index(generatedOrder, key); i >= 0 {
		return i
	}
	return len(generatedOrder)
}
