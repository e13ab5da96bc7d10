package dcs

import (
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// Wakes says whether Watch returns for a change of the relative key: of its value, or, when existence is
// set, of whether it exists. It is the one filter of all backends. Members publish news in every loop, and
// watching those would make each wake all the others (dcs.md section 6, pitfall 15).
func Wakes(key string, existence bool) bool {
	switch key {
	case cluster.KeyLeader, cluster.KeyConfig, cluster.KeyFailover, cluster.KeySync, cluster.KeyInitialize, cluster.KeyFailsafe:
		return true
	}
	name, member := strings.CutPrefix(key, cluster.KeyMembers)
	return existence && member && name != "" && !strings.Contains(name, "/")
}
