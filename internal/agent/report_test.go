package agent

import (
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// Who asks between two cycles hears what a cycle would say.
func TestObservedBetweenCycles(t *testing.T) {
	job := func(name ha.JobName) *JobStatus { return &JobStatus{Name: string(name)} }
	primary := cluster.Postgres{Pid: 1, Queried: true}
	replica := cluster.Postgres{Pid: 1, Queried: true, InRecovery: true}
	for name, tt := range map[string]struct {
		base  Status
		now   cluster.Postgres
		state cluster.State
		role  cluster.Role
	}{
		"post_bootstrap is under way": {Status{State: cluster.InitializingCluster, Role: cluster.Uninitialized, Job: job(ha.JobBootstrap)}, primary, cluster.InitializingCluster, cluster.Uninitialized},
		"a restore is under way":      {Status{State: cluster.StartingAfterCustom, Role: cluster.Uninitialized, Job: job(ha.JobBootstrap)}, replica, cluster.StartingAfterCustom, cluster.Uninitialized},
		"a start is over":             {Status{State: cluster.Starting, Role: cluster.Demoted, Job: job(ha.JobStart)}, replica, cluster.Running, cluster.Replica},
		"a stop is under way":         {Status{State: cluster.Stopping, Role: cluster.Primary, Job: job(ha.JobDemote)}, primary, cluster.Stopping, cluster.Primary},
		"a standby leader":            {Status{State: cluster.Running, Role: cluster.StandbyLeader}, replica, cluster.Running, cluster.StandbyLeader},
		"it was promoted":             {Status{State: cluster.Running, Role: cluster.StandbyLeader}, primary, cluster.Running, cluster.Primary},
		"it crashed":                  {Status{State: cluster.Running, Role: cluster.Primary}, cluster.Postgres{}, cluster.Crashed, cluster.Primary},
	} {
		if have := tt.base.observed(tt.now, time.Time{}); have.State != tt.state || have.Role != tt.role {
			t.Errorf("%s: have %s, %s, want %s, %s", name, have.State, have.Role, tt.state, tt.role)
		}
	}
}
