package loop

import (
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

func TestGuarded(t *testing.T) {
	standby := primary
	standby.InRecovery, standby.StandbySignal = true, true
	down := cluster.Postgres{Dir: cluster.DirPresent}
	silent := primary
	silent.Queried = false
	silentStandby := silent
	silentStandby.StandbySignal = true
	for name, c := range map[string]struct {
		postgres cluster.Postgres
		job      ha.JobName
		told     bool
		paused   bool
		want     bool
	}{
		"primary":                          {postgres: primary, want: true},
		"primary, paused":                  {postgres: primary, paused: true},
		"primary that does not answer":     {postgres: silent, want: true},
		"primary that is being stopped":    {postgres: primary, job: ha.JobDemote, want: true},
		"leader that hands over":           {postgres: primary, job: ha.JobSwitchover, want: true},
		"standby":                          {postgres: standby},
		"standby that does not answer":     {postgres: silentStandby},
		"standby that is being promoted":   {postgres: standby, job: ha.JobPromote, want: true},
		"promotion ran out of time":        {postgres: standby, told: true, want: true},
		"it is stopped for that":           {postgres: standby, told: true, job: ha.JobDemote, want: true},
		"died of its promotion":            {postgres: down, told: true},
		"standby that follows":             {postgres: standby, job: ha.JobFollow},
		"down":                             {postgres: down},
		"starts as a primary":              {postgres: down, job: ha.JobStartPrimary, want: true},
		"starts as a standby":              {postgres: down, job: ha.JobStart},
		"restarts":                         {postgres: down, job: ha.JobRestart, want: true},
		"is made":                          {postgres: down, job: ha.JobBootstrap, want: true},
		"is cloned":                        {postgres: down, job: ha.JobClone},
		"recovers in single-user mode":     {postgres: down, job: ha.JobRecover},
		"promoted in pause, nobody fences": {postgres: standby, job: ha.JobPromote, paused: true},
	} {
		l := leading()
		l.Postgres, l.Memory.Promoting, l.Limits.Paused = c.postgres, c.told, c.paused
		if c.job != "" {
			l.Job = &ha.Job{Name: c.job}
		}
		if have := l.Guarded(); have != c.want {
			t.Errorf("%s: have guarded %t, want %t", name, have, c.want)
		}
	}
}
