package ha

import (
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// What counts as a crash of the primary that leads, and what does not.
func TestCrashesAreCounted(t *testing.T) {
	answers := cluster.Postgres{Pid: 7, Ready: cluster.Accepting, Queried: true}
	down := func(s cluster.ControlState) cluster.Postgres {
		return cluster.Postgres{Control: &cluster.Control{State: s}}
	}
	rejects := cluster.Postgres{Pid: 7, Ready: cluster.Rejecting}
	for name, c := range map[string]struct {
		seen  []cluster.Postgres
		other bool // another member leads
		job   *Job
		want  int
	}{
		"it runs":                     {[]cluster.Postgres{answers, answers}, false, nil, 0},
		"killed":                      {[]cluster.Postgres{answers, down(cluster.ControlInProduction)}, false, nil, 1},
		"killed, and stays down":      {[]cluster.Postgres{answers, down(cluster.ControlInProduction), down(cluster.ControlInProduction)}, false, nil, 1},
		"twice":                       {[]cluster.Postgres{answers, down(cluster.ControlInProduction), rejects, answers, down(cluster.ControlInProduction)}, false, nil, 2},
		"killed, and met as it dies":  {[]cluster.Postgres{answers, {Pid: 7, Ready: cluster.NoResponse}, down(cluster.ControlInProduction)}, false, nil, 1},
		"a backend, then the rest":    {[]cluster.Postgres{answers, rejects, down(cluster.ControlInProduction)}, false, nil, 1},
		"a backend crashed":           {[]cluster.Postgres{answers, rejects, answers}, false, nil, 1},
		"recovers, and ends of it":    {[]cluster.Postgres{answers, rejects, down(cluster.ControlCrashRecovery)}, false, nil, 1},
		"frozen":                      {[]cluster.Postgres{answers, {Pid: 7, Ready: cluster.NoResponse}, answers}, false, nil, 0},
		"a wrong password":            {[]cluster.Postgres{answers, {Pid: 7, Ready: cluster.Accepting}}, false, nil, 0},
		"stopped by hand":             {[]cluster.Postgres{answers, down(cluster.ControlShutDown)}, false, nil, 0},
		"restarted by us":             {[]cluster.Postgres{answers, down(cluster.ControlShutDown), rejects, answers}, false, &Job{Name: JobRestart}, 0},
		"it starts":                   {[]cluster.Postgres{rejects, rejects}, false, nil, 0},
		"a standby":                   {[]cluster.Postgres{{Pid: 7, Ready: cluster.Accepting, Queried: true, InRecovery: true}, rejects}, false, nil, 0},
		"somebody else leads":         {[]cluster.Postgres{answers, rejects}, true, nil, 0},
		"more than are worth keeping": {[]cluster.Postgres{answers, rejects, answers, rejects, answers, rejects, answers, rejects, answers, rejects}, false, nil, crashLimit},
	} {
		leader := "pg1"
		if c.other {
			leader = "pg2"
		}
		v := View{Self: "pg1", Now: time.Unix(1000, 0), Job: c.job, Store: &cluster.Snapshot{Leader: cluster.Leader{Name: leader}}}
		v.Lock = Lock{Held: !c.other, Deadline: v.Now.Add(time.Hour)}
		for _, p := range c.seen {
			v.Postgres, v.Now = p, v.Now.Add(time.Second)
			v.remember()
		}
		if have := len(v.Memory.Crashes); have != c.want {
			t.Errorf("%s: have %d crashes, want %d", name, have, c.want)
		}
	}
}

// A postmaster that hangs is ended by us in the end, which is no crash.
func TestAnEndOfOursIsNoCrash(t *testing.T) {
	v := View{Self: "pg1", Now: time.Unix(1000, 0), Store: &cluster.Snapshot{Leader: cluster.Leader{Name: "pg1"}}}
	v.Lock = Lock{Held: true, Deadline: v.Now.Add(time.Hour)}
	look := func(p cluster.Postgres) { v.Postgres, v.Now = p, v.Now.Add(time.Second); v.remember() }
	look(cluster.Postgres{Pid: 7, Ready: cluster.Accepting, Queried: true})
	look(cluster.Postgres{Pid: 7, Ready: cluster.NoResponse})
	v.Ended = &Ended{Name: JobDemote, At: v.Now}
	look(cluster.Postgres{Control: &cluster.Control{State: cluster.ControlInProduction}})
	if have := len(v.Memory.Crashes); have != 0 {
		t.Errorf("have %d crashes, want none", have)
	}
}
