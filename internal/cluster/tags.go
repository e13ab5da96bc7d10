package cluster

import (
	"slices"
	"strings"
)

// Tags are the options of one member, in the order in which they were written, each name once
// (dcs.md section 1.6, config.md section 4).
type Tags []Field

// Get returns the tag's value; ok is false when it is absent or null.
func (t Tags) Get(name string) (v Value, ok bool) {
	v, _ = Value{Fields: t}.Get(name)
	return v, v.Kind != Null
}

// With returns the tags with one more, or one replaced.
func (t Tags) With(name string, v Value) Tags {
	return Value{Kind: Object, Fields: t}.Set(v, name).Fields
}

// Effective returns the tags that a member publishes: the boolean ones only when set, but a false
// nofailover beside a failover_priority and a false nosync beside a sync_priority, where they decide.
func (t Tags) Effective() Tags {
	_, failoverPriority := t.Get("failover_priority")
	_, syncPriority := t.Get("sync_priority")
	return slices.DeleteFunc(slices.Clone(t), func(f Field) bool {
		switch f.Name {
		case "nofailover":
			return !f.Value.Truthy() && !failoverPriority
		case "nosync":
			return !f.Value.Truthy() && !syncPriority
		case "clonefrom", "noloadbalance", "nostream":
			return !f.Value.Truthy()
		default:
			return false
		}
	})
}

// NoFailover says that the member must never become the leader.
func (t Tags) NoFailover() bool { return t.excluded("nofailover", "failover_priority") }

// FailoverPriority ranks equally advanced candidates, larger first; 0 or less means never. Default 1.
func (t Tags) FailoverPriority() int { return t.priority("nofailover", "failover_priority") }

// NoSync says that the member must never be a synchronous standby.
func (t Tags) NoSync() bool { return t.excluded("nosync", "sync_priority") }

// SyncPriority ranks candidates for a synchronous standby, larger first; 0 or less means never. Default 1.
func (t Tags) SyncPriority() int { return t.priority("nosync", "sync_priority") }

// NoLoadBalance says that the member takes no read traffic.
func (t Tags) NoLoadBalance() bool { return t.truthy("noloadbalance") }

// CloneFrom says that new replicas may be copied from the member; it needs a ConnURL as well.
func (t Tags) CloneFrom() bool { return t.truthy("clonefrom") }

// NoStream says that the member follows by archive only.
func (t Tags) NoStream() bool {
	v, ok := t.Get("nostream")
	if !ok {
		return false
	}
	on, _ := ParseBool(v.String())
	return on
}

// ReplicateFrom names the member to stream from instead of the leader; empty: the leader.
func (t Tags) ReplicateFrom() string {
	if v, ok := t.Get("replicatefrom"); ok && v.Truthy() {
		return v.String()
	}
	return ""
}

// Match says whether the published tag has this text (rest-api.md 3.4): strings as they are, all else
// in lower case. A tag that is not published matches nothing.
func (t Tags) Match(name, want string) bool {
	v, ok := t.Effective().Get(name)
	switch {
	case !ok:
		return false
	case v.Kind == String:
		return v.Text == want
	default:
		return strings.ToLower(v.String()) == want
	}
}

// Encode writes the tags as a JSON object, without the filter of Effective.
func (t Tags) Encode() []byte { return Value{Kind: Object, Fields: t}.Encode() }

// DecodeTags reads a JSON object.
func DecodeTags(text []byte) (Tags, error) {
	v, err := parseObjectKey(text)
	return v.Fields, err
}

// Site is where the member is, for what is to survive the loss of a place as a whole: Regent's own. Empty: nobody said.
func (t Tags) Site() string {
	if v, ok := t.Get("site"); ok {
		return strings.TrimSpace(v.String())
	}
	return ""
}

func (t Tags) truthy(name string) bool {
	v, _ := t.Get(name)
	return v.Truthy()
}

func (t Tags) excluded(flag, rank string) bool {
	if v, ok := t.Get(flag); ok {
		return v.Truthy()
	}
	return t.rank(rank) <= 0
}

func (t Tags) priority(flag, rank string) int {
	if t.truthy(flag) {
		return 0
	}
	return t.rank(rank)
}

func (t Tags) rank(name string) int {
	v, _ := t.Get(name)
	n, ok := v.integer("")
	if !ok {
		return 1
	}
	return int(n)
}
