package ctl

import (
	"errors"
	"slices"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
)

// A leader hands over in both synchronous modes only to who is in /sync.
func TestPreviewKnowsWhoIsInSync(t *testing.T) {
	for mode, want := range map[cluster.SyncMode]bool{cluster.SyncOff: false, cluster.SyncOn: true, cluster.SyncQuorum: true} {
		var v target
		v.Snapshot = &cluster.Snapshot{Sync: cluster.Sync{Leader: "pg1", Standbys: []string{"pg2"}, Quorum: 0}}
		v.Config = cluster.DynamicConfig{Usable: true, Document: cluster.Value{Kind: cluster.Object}.Set(cluster.Text(string(mode)), "synchronous_mode")}
		for name, in := range map[string]bool{"pg2": true, "pg3": false} {
			c := v.fit(cluster.Member{Name: name}, nil, nil, errors.New("it is down"))
			if have := slices.Contains(c.Unfit, "no synchronous standby"); have != (want && !in) {
				t.Errorf("%s, %s: have %v, want that it is no synchronous standby: %v", mode, name, c.Unfit, want && !in)
			}
		}
	}
}
