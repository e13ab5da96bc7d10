package cluster

import (
	"fmt"
	"strings"
)

// DefaultNamespace is where clusters live when the configuration names no other place.
const DefaultNamespace = "service"

// Root returns the prefix of a cluster's keys, with a slash at both ends: "/service/demo/". An empty
// namespace is none; absent ones are the caller's to default (dcs.md section 1.1).
func Root(namespace, scope string) string {
	root := "/"
	for part := range strings.SplitSeq(namespace+"/"+scope, "/") {
		if part != "" {
			root += part + "/"
		}
	}
	return root
}

// PrefixEnd returns the first key after all that begin with prefix, the end of a range in etcd; "" when
// there is none, that is, when no byte of prefix is below 0xff.
func PrefixEnd(prefix string) string {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return string(end[:i+1])
		}
	}
	return ""
}

// maxIdentifier is PostgreSQL's NAMEDATALEN - 1.
const maxIdentifier = 63

// SlotName returns the name of a member's replication slot. Two members can have the same one: the
// caller tells (dcs.md section 1.7).
func SlotName(member string) string {
	if ValidSlotName(member) {
		return member
	}
	var b strings.Builder
	for _, r := range strings.ToLower(member) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			b.WriteRune(r)
		case r == '-' || r == '.':
			b.WriteByte('_')
		default:
			fmt.Fprintf(&b, "u%04d", r)
		}
	}
	name := b.String()
	return name[:min(len(name), maxIdentifier)]
}

// ValidSlotName says whether PostgreSQL accepts the name for a replication slot.
func ValidSlotName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return name != "" && len(name) <= maxIdentifier
}
