package config

import (
	"slices"
	"strings"
)

// Need is what a changed setting asks for before it counts.
type Need string

const (
	NeedReload          Need = "reload"           // counts at once
	NeedPostgresRestart Need = "postgres restart" // the member is pending a restart
	NeedAgentRestart    Need = "agent restart"    // the old value goes on to count until then
	NeedNothing         Need = "nothing"          // read only when a cluster is initialised, or by another program
)

// Change is one setting that differs.
type Change struct {
	Path     string // dotted
	Old, New string // text forms, secrets hidden; empty when absent
	Need     Need
}

// agentRestart are the settings that are read once (config.md 1.9), as paths or beginnings of paths.
var agentRestart = []string{"name", "scope", "namespace", "thread_pool_size", "thread_stack_size", "restapi.request_queue_size",
	"restapi.thread_pool_size", "citus", "consul", "etcd", "etcd3", "exhibitor", "kubernetes", "raft", "zookeeper",
	"postgresql.data_dir", "postgresql.config_dir", "postgresql.config_base_name", "postgresql.bin_dir", "postgresql.pgpass",
	"postgresql.database", "regent"}

// reloadable are the exceptions inside of those.
var reloadable = []string{"etcd3.username", "etcd3.password",
	"consul.token", "consul.dc", "consul.consistency", "consul.register_service", "consul.service_tags"}

// Diff lists what differs between two effective configurations, in the order of the path.
func Diff(old, new Effective) []Change {
	changes := DiffDocuments(old.document, new.document)
	var a, b parameters = map[string]Parameter{}, map[string]Parameter{}
	for _, p := range old.Parameters {
		a[p.Name] = p
	}
	for _, p := range new.Parameters {
		b[p.Name] = p
	}
	for _, m := range managed {
		if a[m.name].Value != b[m.name].Value {
			need := NeedPostgresRestart
			if strings.HasPrefix(m.name, "wal_keep_") {
				need = NeedReload
			}
			changes = append(changes, Change{"postgresql.parameters." + m.name, a[m.name].Value, b[m.name].Value, need})
		}
	}
	slices.SortStableFunc(changes, func(x, y Change) int { return strings.Compare(x.Path, y.Path) })
	return changes
}

// DiffDocuments lists what differs between two local configurations.
func DiffDocuments(old, new *Map) []Change {
	var changes []Change
	walkDiff(&changes, "", old, new)
	slices.SortStableFunc(changes, func(x, y Change) int { return strings.Compare(x.Path, y.Path) })
	return changes
}

func walkDiff(changes *[]Change, prefix string, old, new *Map) {
	keys := old.Keys()
	for _, k := range new.Keys() {
		if _, ok := old.Lookup(k); !ok {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		path := prefix + k
		a, hadIt := old.Lookup(k)
		b, hasIt := new.Lookup(k)
		if hadIt && hasIt && Equal(a, b) {
			continue
		}
		am, ok1 := a.(*Map)
		bm, ok2 := b.(*Map)
		if ok1 && ok2 || ok1 && !hasIt || ok2 && !hadIt {
			walkDiff(changes, path+".", am, bm)
			continue
		}
		c := Change{Path: path, Need: need(path)}
		if hadIt {
			c.Old = show(path, a)
		}
		if hasIt {
			c.New = show(path, b)
		}
		*changes = append(*changes, c)
	}
}

func need(path string) Need {
	under := func(root string) bool { return path == root || strings.HasPrefix(path, root+".") }
	switch {
	case slices.ContainsFunc(reloadable, under):
		return NeedReload
	case slices.ContainsFunc(agentRestart, under):
		return NeedAgentRestart
	case under("bootstrap"), under("proxy"):
		return NeedNothing
	case under("postgresql.listen"):
		return NeedPostgresRestart
	default:
		return NeedReload
	}
}
