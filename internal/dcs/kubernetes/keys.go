package kubernetes

import (
	"fmt"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// place is where a key is kept: the object and its annotations. The lock and the members are not among these.
func (c *Config) place(key string) (id, bool) {
	switch key {
	case cluster.KeyConfig, cluster.KeyHistory, cluster.KeyInitialize, cluster.KeyBootstrap, cluster.KeyLosses:
		return id{objects, c.base() + "-config"}, true
	case cluster.KeyStatus, cluster.KeyFailsafe:
		return c.statusID(), true
	case cluster.KeyFailover:
		return id{objects, c.base() + "-failover"}, true
	case cluster.KeySync:
		return id{objects, c.base() + "-sync"}, true
	}
	return id{}, false
}

var plainKeys = []string{
	cluster.KeyConfig, cluster.KeyHistory, cluster.KeyInitialize, cluster.KeyBootstrap, cluster.KeyLosses,
	cluster.KeyStatus, cluster.KeyFailsafe, cluster.KeyFailover, cluster.KeySync,
}

// value reads a key from its object's annotations; nil: absent. Operators blank annotations instead of removing them, so
// an empty text is mostly no value (dcs.md section 3.5.2).
func value(key string, a map[string]string) []byte {
	text := a[key]
	switch key {
	case cluster.KeyInitialize: // empty: somebody bootstraps
		if _, ok := a[key]; !ok {
			return nil
		}
		return []byte(text)
	case cluster.KeyConfig:
		if _, ok := a[key]; ok && text == "" {
			return []byte("{}")
		}
	case cluster.KeyStatus:
		return assembled(a, "optime", "slots", "retain_slots")
	case cluster.KeyFailover:
		return assembled(a, "leader", "member", "scheduled_at")
	case cluster.KeySync:
		if a["leader"] == "" {
			return nil
		}
		return assembled(a, "leader", "quorum", "sync_standby")
	}
	if text == "" {
		return nil
	}
	return []byte(text)
}

// assembled makes one JSON object of several annotations; nil when none has a value.
func assembled(a map[string]string, names ...string) []byte {
	v := cluster.Value{Kind: cluster.Object}
	for _, name := range names {
		if a[name] != "" {
			v.Fields = append(v.Fields, cluster.Field{Name: name, Value: cluster.Text(a[name])})
		}
	}
	if len(v.Fields) == 0 {
		return nil
	}
	return v.Encode()
}

// annotations are what a key is written as; a nil value removes the key.
func annotations(key string, value []byte) (fields, error) {
	switch key {
	case cluster.KeyStatus:
		if value == nil {
			return fields{"optime": nil, "slots": nil, "retain_slots": nil}, nil
		}
		s, err := cluster.DecodeStatus(value, 0)
		return statusAnnotations(s), err
	case cluster.KeyFailover, cluster.KeySync:
		return scattered(key, value)
	}
	if value == nil {
		return fields{key: nil}, nil
	}
	return fields{key: set(string(value))}, nil
}

// statusAnnotations: optime must be text, or Patroni's write fails; the list has blanks, as Patroni's has.
func statusAnnotations(s cluster.Status) fields {
	f := fields{"optime": set(fmt.Sprint(uint64(s.Optime))), "slots": nil, "retain_slots": nil}
	v, err := cluster.ParseValue(s.Encode()) // brings the slots into order
	if err != nil {
		return f
	}
	if slots, ok := v.Get("slots"); ok {
		f["slots"] = set(string(slots.Encode()))
	}
	if retain, ok := v.Get("retain_slots"); ok {
		var names []string
		for _, name := range retain.Items {
			names = append(names, string(name.Encode()))
		}
		f["retain_slots"] = set("[" + strings.Join(names, ", ") + "]")
	}
	return f
}

// scattered spreads the fields of a JSON object over annotations.
func scattered(key string, value []byte) (fields, error) {
	names := []string{"leader", "member", "scheduled_at"}
	if key == cluster.KeySync {
		names = []string{"leader", "quorum", "sync_standby"}
	}
	f := fields{}
	for _, name := range names {
		f[name] = nil
	}
	if value == nil {
		return f, nil
	}
	v, err := cluster.ParseValue(value)
	if err != nil || v.Kind != cluster.Object {
		return nil, fmt.Errorf("have value %q, want a JSON object, which annotations are made of", value)
	}
	if leader, ok := v.Get("leader"); key == cluster.KeySync && (!ok || !leader.Truthy()) {
		return f, nil // without a leader the key says nothing
	}
	for _, name := range names {
		if field, ok := v.Get(name); ok && field.Kind != cluster.Null && field.String() != "" {
			f[name] = set(field.String())
		}
	}
	return f, nil
}
