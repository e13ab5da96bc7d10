package loop

import (
	"errors"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// leading is a loop whose member leads a healthy cluster of one.
func leading() *Loop {
	l := &Loop{Self: "pg1"}
	l.Configure(ha.Limits{TTL: 30 * time.Second, LoopWait: 10 * time.Second, RetryTimeout: 10 * time.Second, Reserve: 5 * time.Second, MaxLag: 1 << 20}, ha.Tags{Priority: 1})
	l.pending = false
	return l
}

var lock = ha.Lock{Held: true, Deadline: at(30 * time.Second)}

func snapshot() *cluster.Snapshot {
	return &cluster.Snapshot{
		Revision: 7, Leader: cluster.Leader{Name: "pg1"},
		Initialize: cluster.Initialize{Present: true, SystemID: "7000000000000000001"},
		Config:     cluster.DynamicConfig{Usable: true, Document: cluster.Value{Kind: cluster.Object, Fields: []cluster.Field{{Name: "ttl", Value: cluster.Int(30)}}}},
		Members:    []cluster.Member{{Name: "pg1", State: cluster.Running, Role: cluster.Primary, APIURL: "http://127.0.0.1:1/patroni"}},
	}
}

var primary = cluster.Postgres{
	Dir: cluster.DirPresent, Pid: 1, Ready: cluster.Accepting, Queried: true, Timeline: 1, Write: 100, Flush: 100,
	SystemID: "7000000000000000001", Version: 150000,
}

// cycle runs the loop to the first effect that is no permission.
func steps(l *Loop, now time.Time, facts ...Fact) (out []Effect) {
	for _, f := range facts {
		out = append(out, l.Step(now, now, lock, f)...)
	}
	return out
}

func find[E Effect](t *testing.T, effects []Effect) E {
	t.Helper()
	for _, e := range effects {
		if e, ok := e.(E); ok {
			return e
		}
	}
	var none E
	t.Fatalf("have effects %T %v, want a %T", effects, effects, none)
	return none
}

func TestCycle(t *testing.T) {
	l := leading()
	find[Observe](t, steps(l, at(0), Wake{}))
	if out := steps(l, at(0), StoreRead{snapshot()}); len(out) != 0 {
		t.Fatalf("have %v after half of the observation, want nothing", out)
	}
	out := steps(l, at(0), PostgresSeen{primary})
	if p := find[Permit](t, out); !p.Until.Equal(at(30 * time.Second)) {
		t.Errorf("have permission until %s, want loop_wait + 2*retry_timeout from now", p.Until)
	}
	if a := find[Act](t, out).Action; a.String() != "write-status@0/64" {
		t.Fatalf("have action %s, want the status written", a)
	}
	out = steps(l, at(0), ActionDone{})
	find[Report](t, out)
	find[Announce](t, out)
	if r := find[Rest](t, out); !r.Until.Equal(at(10 * time.Second)) {
		t.Errorf("have rest until %s, want loop_wait from now", r.Until)
	}
}

// An unchanged key costs the store nothing while it is younger than ttl/2: it must be announced again before it is gone.
func TestOurKeyLastsThroughALongLoopWait(t *testing.T) {
	l := leading()
	limits := l.Limits
	limits.TTL, limits.LoopWait, limits.RetryTimeout = 20*time.Second, 14*time.Second, 3*time.Second
	l.Configure(limits, l.Tags)
	l.pending = false
	out := steps(l, at(0), Wake{}, StoreRead{snapshot()}, PostgresSeen{primary}, ActionDone{})
	if r := find[Rest](t, out); r.Until.Sub(at(0)) > limits.TTL/3 {
		t.Errorf("have rest for %s, want a third of %s at most", r.Until.Sub(at(0)), limits.TTL)
	}
}

// The store is slow to write our key; meanwhile the leader is gone. The key follows with what is known by then, once.
func TestSlowAnnouncementHoldsNothingBack(t *testing.T) {
	l := leading()
	find[Announce](t, steps(l, at(0), Wake{}, StoreRead{snapshot()}, PostgresSeen{primary}, ActionDone{}))
	find[Observe](t, steps(l, at(1*time.Second), Wake{}))
	out := steps(l, at(1*time.Second), StoreRead{snapshot()}, PostgresSeen{primary}, ActionDone{})
	for _, e := range out {
		if _, ok := e.(Announce); ok {
			t.Error("a second announcement beside the first: the older one could be written last")
		}
	}
	find[Announce](t, steps(l, at(2*time.Second), Announced{}))
	if out := steps(l, at(3*time.Second), Announced{}); len(out) != 0 {
		t.Errorf("have %v after the last announcement, want nothing", out)
	}
}

func TestFactInTheMiddleOfACycleLeadsToTheNext(t *testing.T) {
	l := leading()
	find[Observe](t, steps(l, at(0), Wake{}, StoreRead{snapshot()}, PostgresSeen{primary}, Wake{}, ActionDone{}))
}

func TestFailedActionDropsTheRestAndRests(t *testing.T) {
	l := leading()
	s := snapshot()
	s.Leader, s.Initialize = cluster.Leader{}, cluster.Initialize{Present: true, SystemID: primary.SystemID}
	p := primary
	p.InRecovery, p.Write, p.Received, p.Replayed, p.StandbySignal = true, 0, 100, 100, true
	l.Poll = &ha.Poll{At: at(0), Answers: map[string]ha.Answer{}}
	free := ha.Lock{}
	for _, f := range []Fact{Wake{}, StoreRead{s}, PostgresSeen{p}} {
		l.Step(at(0), at(0), free, f)
	}
	if l.Decision.Reason != ha.Healthiest || len(l.left) == 0 {
		t.Fatalf("have %s with %v left, want the race won", l.Decision.Reason, l.left)
	}
	out := l.Step(at(0), at(0), free, ActionDone{Err: errors.New("held")})
	find[Report](t, out)
	if len(l.left) != 0 {
		t.Errorf("have %v left after a failure, want nothing: no promotion without the lock", l.left)
	}
	if r := find[Rest](t, out); !r.Until.After(at(0)) {
		t.Errorf("have rest until %s, want a pause before the next try", r.Until)
	}
}

func TestNothingReachesIntoTheTimeOfADemotion(t *testing.T) {
	l := leading()
	for now, want := range map[time.Duration]time.Duration{
		0: 10 * time.Second, 20 * time.Second: 5 * time.Second, 24900 * time.Millisecond: 100 * time.Millisecond, 40 * time.Second: 100 * time.Millisecond,
	} {
		l.Lock, l.Postgres = lock, primary
		if have := l.budget(at(now)); have != want {
			t.Errorf("%s after the renewal: have a budget of %s, want %s", now, have, want)
		}
	}
}

// A lock that ran out is held by the last answer until the store gives another one, which may take longer than a
// primary has time for.
func TestStoreHasTimeWhenNothingWrites(t *testing.T) {
	standby := primary
	standby.InRecovery, standby.StandbySignal = true, true
	down := cluster.Postgres{Dir: cluster.DirPresent}
	tests := map[string]struct {
		postgres cluster.Postgres
		job      *ha.Job
		want     time.Duration
	}{
		"down":            {down, nil, 10 * time.Second},
		"rewind":          {down, &ha.Job{Name: ha.JobRewind}, 10 * time.Second},
		"standby":         {standby, nil, 10 * time.Second},
		"promotion":       {standby, &ha.Job{Name: ha.JobPromote}, 100 * time.Millisecond},
		"start a standby": {down, &ha.Job{Name: ha.JobStart}, 10 * time.Second},
		"start a primary": {down, &ha.Job{Name: ha.JobStartPrimary}, 100 * time.Millisecond},
		"running primary": {primary, nil, 100 * time.Millisecond},
	}
	for name, tt := range tests {
		l := leading()
		l.Lock, l.Postgres, l.Job = lock, tt.postgres, tt.job
		if have := l.budget(at(40 * time.Second)); have != tt.want {
			t.Errorf("%s, the lock ran out: have a budget of %s, want %s", name, have, tt.want)
		}
	}
}

// A bootstrap ends between two looks at the same directory: empty, then full. Together with the news of its end, the first
// one reads as a data directory that is gone from under a running PostgreSQL.
func TestNoDecisionOnWhatWasSeenBeforeAJobEnded(t *testing.T) {
	l := leading()
	l.Job = &ha.Job{Name: ha.JobBootstrap}
	before := primary
	before.Dir = cluster.DirEmpty
	out := steps(l, at(0), Wake{}, JobEnded{Ended: ha.Ended{Name: ha.JobBootstrap}}, PostgresSeen{before})
	if len(out) != 1 {
		t.Fatalf("have %v, want one observation", out)
	}
	find[Observe](t, steps(l, at(0), StoreRead{snapshot()}))
	steps(l, at(0), StoreRead{snapshot()}, PostgresSeen{primary})
	if l.Decision.Reason != ha.HealthyPrimary {
		t.Errorf("have %s, want %s on what was seen after the job", l.Decision.Reason, ha.HealthyPrimary)
	}
}

func TestStateWhileTheClusterIsMade(t *testing.T) {
	job := &ha.Job{Name: ha.JobBootstrap}
	failed := &ha.Ended{Name: ha.JobBootstrap, Error: "no"}
	for name, tt := range map[string]struct {
		custom   bool
		postgres cluster.Postgres
		job      *ha.Job
		ended    *ha.Ended
		want     cluster.State
	}{
		"initdb":        {false, cluster.Postgres{}, job, nil, cluster.InitializingCluster},
		"accounts":      {false, primary, job, nil, cluster.InitializingCluster},
		"initdb failed": {false, cluster.Postgres{}, nil, failed, cluster.InitdbFailed},
		"a command":     {true, cluster.Postgres{}, job, nil, cluster.CustomBootstrap},
		"recovery":      {true, primary, job, nil, cluster.StartingAfterCustom},
		"it failed":     {true, cluster.Postgres{}, nil, failed, cluster.CustomFailed},
	} {
		l := leading()
		l.Limits.CustomBootstrap, l.Postgres, l.Job, l.Ended = tt.custom, tt.postgres, tt.job, tt.ended
		if have := l.State(); have != tt.want {
			t.Errorf("%s: have %s, want %s", name, have, tt.want)
		}
	}
}

func TestStoreAwayKeepsTheOldSnapshotFromDecisions(t *testing.T) {
	l := leading()
	steps(l, at(0), Wake{}, StoreRead{snapshot()}, PostgresSeen{primary}, ActionDone{}, Announced{})
	steps(l, at(10*time.Second), Wake{}, StoreRead{nil}, PostgresSeen{primary})
	if l.Decision.Reason != ha.StoreAway || l.View.Store != nil {
		t.Errorf("have %s on %v, want %s on no snapshot", l.Decision.Reason, l.View.Store, ha.StoreAway)
	}
	if l.Store == nil {
		t.Error("the last snapshot is gone; readers still need it")
	}
}

// Every action of the core has a case in the executor; a new one without is a bug that must show here.
// A job may end before its start is told; a replaced one may end after its successor has begun. Neither must leave the
// loop waiting for an end that never comes.
func TestOnlyTheEndOfTheJobUnderWayCounts(t *testing.T) {
	l := leading()
	l.phase = acting
	steps(l, at(0), ActionDone{Job: &ha.Job{Name: ha.JobStart}, ID: 1}, Announced{})
	l.phase = acting
	steps(l, at(0), ActionDone{Job: &ha.Job{Name: ha.JobDemote}, ID: 2}, Announced{})
	steps(l, at(0), JobEnded{ID: 1, Ended: ha.Ended{Name: ha.JobStart}})
	if l.Job == nil || l.Job.Name != ha.JobDemote {
		t.Errorf("have %+v after the end of a replaced job, want the demotion still under way", l.Job)
	}
	steps(l, at(0), JobEnded{ID: 2, Ended: ha.Ended{Name: ha.JobDemote}})
	if l.Job != nil || l.Ended == nil || l.Ended.Name != ha.JobDemote {
		t.Errorf("have job %+v, ended %+v; want the demotion ended", l.Job, l.Ended)
	}
}

// The store takes all the time that an action has, and loop_wait would last beyond the moment at which a demotion must begin.
func TestADemotionIsNotSleptOver(t *testing.T) {
	l := leading()
	steps(l, at(0), Wake{}, StoreRead{snapshot()}, PostgresSeen{primary})
	out := steps(l, at(20*time.Second), ActionDone{Err: errors.New("the store does not answer")})
	if r := find[Rest](t, out); !r.Until.Equal(at(25 * time.Second)) {
		t.Errorf("20 s after the renewal: have rest until %s, want the lock's end less the reserve", r.Until.Sub(at(0)))
	}
	l = leading()
	steps(l, at(0), Wake{}, StoreRead{snapshot()}, PostgresSeen{primary})
	if r := find[Rest](t, steps(l, at(29*time.Second), ActionDone{})); !r.Until.Equal(at(29*time.Second + 100*time.Millisecond)) {
		t.Errorf("when that has passed: have rest until %s, want a moment's", r.Until.Sub(at(0)))
	}
}

// What cannot write any more, or not yet, needs no guard: it would only kill a standby, or cut off those who still receive.
func TestNoGuardForWhatCannotWrite(t *testing.T) {
	standby, stopping := primary, primary
	standby.InRecovery, standby.StandbySignal = true, true
	stopping.Queried = false
	for name, c := range map[string]struct {
		postgres cluster.Postgres
		job      ha.Job
		want     bool
	}{
		"a standby restarts":                   {standby, ha.Job{Name: ha.JobRestart}, false},
		"a primary restarts":                   {stopping, ha.Job{Name: ha.JobRestart}, true},
		"a leader hands over":                  {stopping, ha.Job{Name: ha.JobSwitchover}, true},
		"its shutdown checkpoint is written":   {stopping, ha.Job{Name: ha.JobSwitchover, Checkpoint: 7}, false},
		"the same in a stop that is no switch": {stopping, ha.Job{Name: ha.JobDemote, Checkpoint: 7}, true},
	} {
		l := leading()
		l.Postgres, l.Job = c.postgres, &c.job
		if have := l.Guarded(); have != c.want {
			t.Errorf("%s: have guarded %t, want %t", name, have, c.want)
		}
	}
}

// A promotion ends while we look, or between two looks: until PostgreSQL is seen again it may write, and the store has no time to lose.
func TestWhatHasJustBecomeWritableIsNotForgotten(t *testing.T) {
	l := leading()
	l.Postgres.InRecovery, l.Postgres.StandbySignal = true, true
	l.Job, l.jobID = &ha.Job{Name: ha.JobPromote}, 1
	steps(l, at(20*time.Second), Wake{}, JobEnded{ID: 1, Ended: ha.Ended{Name: ha.JobPromote}}, StoreRead{snapshot()})
	standby := l.Postgres
	out := steps(l, at(20*time.Second), PostgresSeen{standby})
	if o := find[Observe](t, out); o.Limit != 5*time.Second || !l.Guarded() {
		t.Errorf("have %s for the store, guarded %t; want what is left before a demotion", o.Limit, l.Guarded())
	}
	steps(l, at(20*time.Second), PostgresSeen{standby})
	if l.Guarded() {
		t.Error("seen as a standby after the end of the job: have it guarded")
	}
}

// A running primary without a lock has ttl to take one; asking for it must not reach into the time of its demotion (ha.fence).
func TestTakingTheLockEndsBeforeADemotion(t *testing.T) {
	l := leading()
	l.Lock, l.Postgres, l.Memory.Unlocked = ha.Lock{}, primary, at(0)
	for now, want := range map[time.Duration]time.Duration{0: 10 * time.Second, 20 * time.Second: 5 * time.Second, 26 * time.Second: 100 * time.Millisecond} {
		if have := l.budget(at(now)); have != want {
			t.Errorf("%s without a lock: have a budget of %s, want %s", now, have, want)
		}
	}
}
