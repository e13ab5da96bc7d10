package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Parameter is one setting of PostgreSQL with the value that counts.
type Parameter struct {
	Name        string // as its last author spelled it; names have no case
	Value       string // text form
	Managed     bool   // the agent decides; only the dynamic document may change it
	CommandLine bool   // goes on the postmaster's command line, where ALTER SYSTEM does not reach
}

// managed are the parameters that the agent controls, in the order of the command line (config.md
// 5.1). All of them exist in the versions that we support, but wal_keep_segments, which is
// translated to wal_keep_size.
var managed = []struct {
	name     string
	fallback string
	accept   func(v any) bool // nil: not settable by anyone
}{
	{"listen_addresses", "", nil},
	{"port", "", nil},
	{"cluster_name", "", nil},
	{"wal_level", "replica", func(v any) bool {
		return slices.Contains([]string{"hot_standby", "replica", "logical"}, strings.ToLower(Text(v)))
	}},
	{"hot_standby", "on", func(v any) bool { b, _ := parseBool(v); return b }},
	{"max_connections", "100", atLeast(25, "")},
	{"max_wal_senders", "10", atLeast(3, "")},
	{"wal_keep_segments", "8", atLeast(1, "")},
	{"wal_keep_size", "128MB", atLeast(16, "MB")},
	{"max_prepared_transactions", "0", atLeast(0, "")},
	{"max_locks_per_transaction", "64", atLeast(32, "")},
	{"track_commit_timestamp", "off", isBoolean},
	{"max_replication_slots", "10", atLeast(4, "")},
	{"max_worker_processes", "8", atLeast(2, "")},
	{"wal_log_hints", "on", isBoolean},
}

func isBoolean(v any) bool { _, ok := parseBool(v); return ok }

func atLeast(least int64, base string) func(any) bool {
	return func(v any) bool {
		n, ok := parseInt(v, base)
		return ok && n >= least
	}
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// IsManaged says whether only the agent and the dynamic document decide about a parameter.
func IsManaged(name string) bool {
	for _, p := range managed {
		if strings.EqualFold(p.name, name) {
			return true
		}
	}
	return false
}

// parameters are settings by name without case; the last writer's spelling stays.
type parameters map[string]Parameter

// put sets one value; null takes it away.
func (ps parameters) put(name string, v any) {
	if v == nil {
		delete(ps, strings.ToLower(name))
		return
	}
	ps[strings.ToLower(name)] = Parameter{Name: name, Value: Text(v)}
}

func (ps parameters) putAll(m *Map) {
	for _, name := range m.Keys() {
		v, _ := m.Lookup(name)
		ps.put(name, v)
	}
}

// buildParameters lays the dynamic over the default and the local over the dynamic ones; of the
// managed ones only what the dynamic document says counts, and only if it is acceptable.
func buildParameters(dynamic, local *Map, listenHosts string, port int, scope string) ([]Parameter, []Warning) {
	var warnings []Warning
	ps := parameters{}
	ps.putAll(dynamic)
	for _, name := range local.Keys() {
		if !IsManaged(name) {
			v, _ := local.Lookup(name)
			ps.put(name, v)
			continue
		}
		warnings = append(warnings, Warning(fmt.Sprintf(
			"postgresql.parameters.%s of the local configuration is ignored: only the dynamic configuration decides about it", name)))
	}
	own := map[string]string{"listen_addresses": listenHosts, "port": strconv.Itoa(port), "cluster_name": scope}
	var out []Parameter
	for _, m := range managed {
		value := m.fallback
		written, isWritten := ps[m.name]
		switch {
		case m.accept == nil:
			value = own[m.name]
		case isWritten && m.accept(lookupFold(dynamic, m.name)):
			value = written.Value
			if n, ok := parseInt(lookupFold(dynamic, m.name), ""); ok && isDigits(m.fallback) {
				value = strconv.FormatInt(n, 10) // "0x64" and 99.9 as PostgreSQL's command line takes them
			}
		case isWritten:
			warnings = append(warnings, Warning(fmt.Sprintf("postgresql parameter %s=%s failed validation, defaulting to %s",
				m.name, written.Value, m.fallback)))
		}
		if m.name == "wal_level" && strings.EqualFold(value, "hot_standby") {
			value = "replica" // its name since PostgreSQL 9.6
		}
		delete(ps, m.name)
		out = append(out, Parameter{m.name, value, true, !strings.HasPrefix(m.name, "wal_keep_")})
	}
	out = onlyKeepSize(out, lookupFold(dynamic, "wal_keep_size") != nil)
	rest := make([]Parameter, 0, len(ps))
	for _, p := range ps {
		rest = append(rest, p)
	}
	slices.SortFunc(rest, func(a, b Parameter) int { return cmp.Compare(a.Name, b.Name) })
	return append(out, rest...), warnings
}

// onlyKeepSize translates wal_keep_segments, which is gone since PostgreSQL 13: a segment is
// taken for 16 MB.
func onlyKeepSize(ps []Parameter, sizeWritten bool) []Parameter {
	i := slices.IndexFunc(ps, func(p Parameter) bool { return p.Name == "wal_keep_segments" })
	if n, ok := parseInt(ps[i].Value, ""); ok && !sizeWritten {
		ps[i+1].Value = strconv.FormatInt(min(n, 1<<20)*16, 10) + "MB"
	}
	return slices.Delete(ps, i, i+1)
}

// lookupFold finds a key in any case; the last one wins.
func lookupFold(m *Map, name string) any {
	var found any
	for _, key := range m.Keys() {
		if strings.EqualFold(key, name) {
			found, _ = m.Lookup(key)
		}
	}
	return found
}
