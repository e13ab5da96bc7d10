package agent

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
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

// A heartbeat is told in each cycle, as Patroni does, or once.
func TestHeartbeats(t *testing.T) {
	for name, tt := range map[string]struct {
		deduplicate bool
		want        []time.Duration
	}{
		"by default":                 {false, []time.Duration{0, 10 * time.Second, 20 * time.Second}},
		"deduplicate_heartbeat_logs": {true, []time.Duration{0}},
	} {
		var out bytes.Buffer
		a := &Agent{log: slog.New(slog.NewTextHandler(&out, nil)), name: "pg1"}
		a.settings.Log.Deduplicate = tt.deduplicate
		begin := time.Unix(1000, 0)
		var told []time.Duration
		// The loop wakes also between its cycles.
		for _, after := range []time.Duration{0, time.Second, 10 * time.Second, 11 * time.Second, 20 * time.Second} {
			out.Reset()
			a.loop.View = ha.View{Self: "pg1", Now: begin.Add(after), Limits: ha.Limits{LoopWait: 10 * time.Second}, Store: &cluster.Snapshot{Leader: cluster.Leader{Name: "pg1"}}}
			a.loop.Decision = ha.Decision{Reason: ha.HealthyPrimary}
			level := slog.LevelDebug
			if after == 0 {
				level = slog.LevelInfo // it is new
			}
			a.logDecision(level, nil)
			if strings.Contains(out.String(), `msg="no action. I am (pg1), the leader with the lock"`) {
				told = append(told, after)
			}
		}
		if !slices.Equal(told, tt.want) {
			t.Errorf("%s: told after %v, want %v", name, told, tt.want)
		}
	}
}
