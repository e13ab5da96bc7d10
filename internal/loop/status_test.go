package loop

import (
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// What a member of a standby cluster says of itself (dcs.md 1.6; the recorded key of a clean stop).
func TestStandbyLeaderSaysSo(t *testing.T) {
	runs := cluster.Postgres{Dir: cluster.DirPresent, Pid: 1, Queried: true, InRecovery: true, StandbySignal: true}
	starts := cluster.Postgres{Dir: cluster.DirPresent, Pid: 1, StandbySignal: true}
	stopped := cluster.Postgres{Dir: cluster.DirPresent, StandbySignal: true}
	for name, c := range map[string]struct {
		was      cluster.Role
		postgres cluster.Postgres
		role     cluster.Role
		pending  bool
	}{
		"it leads":       {cluster.StandbyLeader, runs, cluster.StandbyLeader, true},
		"it starts":      {cluster.StandbyLeader, starts, cluster.StandbyLeader, true},
		"it has stopped": {cluster.StandbyLeader, stopped, cluster.StandbyLeader, true},
		"a replica":      {cluster.Replica, runs, cluster.Replica, false},
		"promoted":       {cluster.StandbyLeader, cluster.Postgres{Dir: cluster.DirPresent, Pid: 1, Queried: true}, cluster.Primary, false},
	} {
		l := Loop{Self: "a", Postgres: c.postgres, Memory: ha.Memory{Role: c.was}}
		m := l.Describe(cluster.Member{}, false)
		if m.Role != c.role || m.CheckpointAfterPromote != c.pending {
			t.Errorf("%s: have %s, checkpoint_after_promote %v, want %s, %v", name, m.Role, m.CheckpointAfterPromote, c.role, c.pending)
		}
	}
}
