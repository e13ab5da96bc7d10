package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// Warning is a sentence about a setting that does not count as written.
type Warning string

// Effective is what counts: built-in defaults, then the dynamic document, then the local
// configuration (config.md 1.6).
type Effective struct {
	Settings   // local settings, with the dynamic ones of PostgreSQL where the local ones are silent
	Timing     cluster.Timing
	UseSlots   bool                  // members stream through replication slots; a choice of the cluster
	Parameters []Parameter           // managed ones in the order of the command line, then the others by name
	Dynamic    cluster.DynamicConfig // for what the HA code reads straight from it (config.md section 3)
	document   *Map
}

// refusedDynamic are the keys of postgresql that make sense for one member only.
var refusedDynamic = []string{"connect_address", "proxy_address", "listen", "config_dir", "data_dir", "pgpass", "authentication"}

// NewEffective combines both. The error says why the dynamic document is refused as a whole: the
// caller keeps the previous one (config.md 1.10), or it says what the local configuration lacks.
// A dynamic configuration that is not there is an empty one.
func NewEffective(local *File, dynamic cluster.DynamicConfig) (Effective, []Warning, error) {
	if err := dynamic.Check(); err != nil {
		return Effective{}, nil, fmt.Errorf("apply dynamic configuration: %w", err)
	}
	var warnings []Warning
	warn := func(format string, args ...any) { warnings = append(warnings, Warning(fmt.Sprintf(format, args...))) }

	d := derive(local.Document)
	localPG := d.Map("postgresql")
	dynPG, _ := fromValue(dynamic.Document).(*Map)
	dynPG = dynPG.Map("postgresql")
	pg := NewMap()
	for _, key := range dynPG.Keys() {
		if slices.Contains(refusedDynamic, key) {
			warn("postgresql.%s of the dynamic configuration is ignored: each member has its own", key)
			continue
		}
		pg.Set(key, dynPG.Get(key))
	}
	for _, key := range localPG.Keys() {
		if key == "use_slots" {
			warn("postgresql.use_slots of the local configuration is ignored: it is a choice of the whole cluster")
			continue
		}
		pg.set(key, localPG.Get(key), localPG.Origin(key))
	}
	for _, key := range []string{"ttl", "loop_wait", "retry_timeout", "standby_cluster"} {
		if _, ok := d.Lookup(key); ok {
			warn("%s of the local configuration is ignored: it belongs into the dynamic configuration", key)
			d.Delete(key)
		}
	}
	timing, changes := dynamic.Timing()
	_, badSlots := dynamic.SlotRules()
	for _, c := range append(changes, badSlots...) {
		warnings = append(warnings, Warning(c))
	}
	if s := dynamic.StandbyCluster(); s != nil && s.Port != "" && strconv.Itoa(s.PortNumber()) != s.Port {
		warn("standby_cluster.port: have %q, want one number from 1 to 65535; %d is used", s.Port, s.PortNumber())
	}
	hosts, port, err := SplitHostPort(word(pg, "listen", ""), 5432)
	if err != nil {
		return Effective{}, nil, fmt.Errorf("read postgresql.listen: %w", err)
	}
	ps, more := buildParameters(dynPG.Map("parameters"), localPG.Map("parameters"), hosts, port, word(d, "scope", ""))
	own := NewMap()
	for _, p := range ps {
		if !p.Managed {
			own.Set(p.Name, p.Value)
		}
	}
	pg.Set("parameters", own)
	d.Set("postgresql", pg)
	s, err := newSettings(d)
	if err != nil {
		return Effective{}, nil, err
	}
	warnings = append(append(warnings, more...), tagWarnings(s.Tags)...)
	return Effective{Settings: s, Timing: timing, UseSlots: dynamic.UseSlots(), Parameters: ps, Dynamic: dynamic, document: d}, warnings, nil
}

// ForRole are the parameters and lists of one role: the overlay over the general ones, but for the
// managed parameters (config.md 1.6). Nil lists are not managed.
func (e *Effective) ForRole(role cluster.Role) (ps []Parameter, hba, ident []string) {
	o := e.Postgres.RoleOverlay[role]
	ps, hba, ident = slices.Clone(e.Parameters), e.Postgres.PgHBA, e.Postgres.PgIdent
	for name, value := range o.Parameters {
		if IsManaged(name) {
			continue
		}
		i := slices.IndexFunc(ps, func(p Parameter) bool { return strings.EqualFold(p.Name, name) })
		if i < 0 {
			ps = append(ps, Parameter{Name: name, Value: value})
			continue
		}
		ps[i].Name, ps[i].Value = name, value
	}
	first := slices.IndexFunc(ps, func(p Parameter) bool { return !p.Managed })
	slices.SortFunc(ps[max(first, 0):], func(a, b Parameter) int { return strings.Compare(a.Name, b.Name) })
	if o.PgHBA != nil {
		hba = o.PgHBA
	}
	if o.PgIdent != nil {
		ident = o.PgIdent
	}
	return ps, hba, ident
}

// tagWarnings names contradictions between a boolean tag and its priority; the boolean wins.
func tagWarnings(tags cluster.Tags) []Warning {
	var out []Warning
	for _, pair := range [][2]string{{"nofailover", "failover_priority"}, {"nosync", "sync_priority"}} {
		b, ok1 := tags.Get(pair[0])
		p, ok2 := tags.Get(pair[1])
		n, isInt := cluster.ParseInt(p.String(), "")
		if ok1 && ok2 && isInt && b.Truthy() == (n > 0) {
			out = append(out, Warning(fmt.Sprintf("Conflicting configuration between %[1]s: %[2]s and %[3]s: %[4]s. Defaulting to %[1]s: %[2]s",
				pair[0], b.String(), pair[1], p.String())))
		}
	}
	return out
}

// SplitHostPort splits "host[,host][:port]" at the last colon, and takes brackets away. Without a
// colon the port is the default. A bare IPv6 address is misread, so it needs its brackets
// (config.md 1.12).
func SplitHostPort(text string, defaultPort int) (hosts string, port int, err error) {
	hosts, port = text, defaultPort
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		hosts = text[:i]
		if port, err = strconv.Atoi(text[i+1:]); err != nil || port < 0 || port > 65535 {
			return "", 0, fmt.Errorf("address %q: expected host:port with a port up to 65535", text)
		}
	}
	parts := strings.Split(hosts, ",")
	for i := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(parts[i]), "[]")
	}
	return strings.Join(parts, ","), port, nil
}
