// Package loop is the mind of an agent: Loop turns facts into decisions and effects, Lease says when to renew, acquire or
// release the leader lock. Both are values that are stepped: one fact in, effects out, with no goroutine and no clock of
// their own. The agent drives them against a real PostgreSQL and store, the simulator against modelled ones.
package loop

import (
	"reflect"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// Loop gathers what is known into a View, asks ha.Decide, and hands the actions out one by one.
//
// A cycle: observe (the store and PostgreSQL, side by side), decide, act, rest. A fact that arrives in the middle
// of a cycle is noted, and the next cycle follows at once. Our key is announced beside the cycles: a store that is slow to
// write must not keep us from seeing that the lock is free. Drivers read the exported fields; only Step and Configure
// change them. The zero value with Self set, and configured, is a loop that has seen nothing.
type Loop struct {
	Self string // our member name

	Limits       ha.Limits
	Tags         ha.Tags
	Store        *cluster.Snapshot // the last one read
	Readable     bool              // it could be read in this cycle
	Postgres     cluster.Postgres  // as observed last
	Lock         ha.Lock
	Poll         *ha.Poll
	Divergence   *ha.Divergence
	Job          *ha.Job
	Ended        *ha.Ended
	Asked        ha.Asked
	Memory       ha.Memory
	SlotNews     *ha.SlotNews
	Fresh        time.Time // until when an agent before us may have promised not to take the lock; set by the driver
	Unfenced     string    // why this member must not lead for want of a guard or watchdog; set by the driver
	Checkpointed cluster.Timeline

	View     ha.View     // of the last decision
	Decision ha.Decision // the last one
	Errors   []string    // what went wrong when it was carried out

	phase   phase
	pending bool // something happened: do not rest
	jobID   int

	gotStore, gotPostgres bool
	unseen                bool // a job that lets PostgreSQL write has ended since we looked
	outdated              bool // a job ended while we looked: PostgreSQL may have been seen as it was before

	announcing bool // our key is being written
	owed       bool // ... and has to be written once more after that

	left []ha.Action // of the decision, still to be done
	last ha.Reason
}

type phase int

const (
	resting phase = iota
	observing
	acting
)

// Facts are what the driver tells the loop. A fact of another type only wakes it.
type (
	// Wake: the time has come, or something may have changed.
	Wake struct{}
	// StoreRead: the store was read; nil when it did not answer.
	StoreRead struct{ Snapshot *cluster.Snapshot }
	// PostgresSeen: PostgreSQL was observed.
	PostgresSeen struct{ Postgres cluster.Postgres }
	// PeersAnswered: the peers have answered. ActionDone of the AskPeers follows.
	PeersAnswered struct{ Poll ha.Poll }
	// ActionDone: the action handed out last is done; a job that it started goes on, and begins only after this.
	ActionDone struct {
		Err error
		Job *ha.Job
		ID  int // the job's number, higher than that of any job before
	}
	// JobEnded: the job of that number is over.
	JobEnded struct {
		ID         int
		Ended      ha.Ended
		Divergence *ha.Divergence // what a comparison found
	}
	// ShutdownCheckpoint: the PostgreSQL that is being stopped has written its shutdown checkpoint.
	ShutdownCheckpoint struct{ Checkpoint, Previous cluster.LSN }
	// Checkpointed: a CHECKPOINT has completed on that timeline.
	Checkpointed struct{ Timeline cluster.Timeline }
	// SlotsTended: the work on logical slots beside the loop is done, as far as it went.
	SlotsTended struct{ News ha.SlotNews }
	// Announced: our key is written, or could not be.
	Announced struct{}
	// Ask: people ask for something.
	Ask struct{ Asked ha.Asked }
)

// Effects are what the loop asks of the driver, in order.
type (
	// Observe: read the store and look at PostgreSQL; both facts must come within the limit.
	Observe struct{ Limit time.Duration }
	// Act: carry the action out within the limit (a job is only started), then ActionDone.
	Act struct {
		Action ha.Action
		Limit  time.Duration
	}
	// Permit: the lock may be renewed until then; zero: not any more. Circle: who may be asked to let us lead on without the store; nil: nobody.
	Permit struct {
		Until  time.Time
		Circle *ha.Circle
	}
	// Announce: write our member key, then Announced.
	Announce struct{ Limit time.Duration }
	// Report: tell the decision and publish the status.
	Report struct{ News bool }
	// Rest: wake at that time at the latest.
	Rest struct{ Until time.Time }
)

type (
	// Fact is one of the facts above.
	Fact any
	// Effect is one of the effects above.
	Effect any
)

// Resting says whether the loop waits for its time or for news.
func (l *Loop) Resting() bool { return l.phase == resting }

// Step takes one fact in. now and wall are the time at which it arrived; lock is what the keeper last said.
func (l *Loop) Step(now, wall time.Time, lock ha.Lock, f Fact) []Effect {
	l.Lock = lock
	switch f := f.(type) {
	case Wake:
	case StoreRead:
		l.gotStore, l.Readable = true, f.Snapshot != nil
		if f.Snapshot != nil {
			l.Store = f.Snapshot
		}
	case PostgresSeen:
		l.gotPostgres, l.Postgres = true, f.Postgres
		l.unseen = l.unseen && l.outdated
	case PeersAnswered:
		l.Poll = &f.Poll
		return nil // ActionDone of AskPeers follows
	case ActionDone:
		return l.done(now, f)
	case JobEnded:
		if f.ID != l.jobID {
			return nil // it was replaced; the loop waits for another one's end
		}
		l.unseen = l.mayWrite()
		l.Job, l.Ended = nil, &f.Ended
		l.outdated = l.phase == observing
		if f.Divergence != nil {
			l.Divergence = f.Divergence
		}
	case ShutdownCheckpoint:
		if l.Job != nil {
			j := *l.Job
			j.Checkpoint, j.Previous = f.Checkpoint, f.Previous
			l.Job = &j
		}
	case Checkpointed:
		l.Checkpointed = max(l.Checkpointed, f.Timeline)
	case SlotsTended:
		l.SlotNews = &f.News
		return nil // the next cycle is soon enough
	case Ask:
		l.Asked = f.Asked
	case Announced:
		l.announcing = false
		if l.owed {
			return l.announce(now)
		}
		return nil
	}
	switch {
	case l.phase == observing && l.gotStore && l.gotPostgres && l.outdated:
		return l.observe(now)
	case l.phase == observing && l.gotStore && l.gotPostgres:
		return l.decide(now, wall)
	case l.phase == observing && isObservation(f):
		return nil
	case l.phase == resting:
		return l.observe(now)
	default:
		l.pending = true
		return nil
	}
}

func isObservation(f Fact) bool {
	switch f.(type) {
	case StoreRead, PostgresSeen:
		return true
	}
	return false
}

// observe begins a cycle.
func (l *Loop) observe(now time.Time) []Effect {
	l.phase, l.pending, l.outdated = observing, false, false
	l.gotStore, l.gotPostgres = false, false
	return []Effect{Observe{Limit: l.budget(now)}}
}

// budget is how long the store may take now: retry_timeout, but never into the time that a demotion needs. Where nothing
// can write the store gets all the time it wants, also when a lock ran out: over a slow line hurried requests never
// succeed, and the member would not come back.
func (l *Loop) budget(now time.Time) time.Duration {
	limit := l.Limits.RetryTimeout
	if last, ok := l.fencing(); ok {
		limit = min(limit, last.Sub(now))
	}
	return max(limit, 100*time.Millisecond)
}

// fencing is when a demotion must begin if nothing changes: before the lock ends, or after ttl without one (ha.fence).
func (l *Loop) fencing() (last time.Time, ok bool) {
	switch {
	case !l.mayWrite():
		return time.Time{}, false
	case l.Lock.Held:
		return l.Lock.Deadline.Add(-l.Limits.Reserve), true
	case !l.Memory.Unlocked.IsZero():
		return l.Memory.Unlocked.Add(l.Limits.TTL - l.Limits.Reserve), true
	}
	return time.Time{}, false
}

// mayWrite says whether PostgreSQL, as it was seen last, accepts writes, or a job is under way that makes it.
func (l *Loop) mayWrite() bool {
	if l.Job != nil {
		switch l.Job.Name {
		case ha.JobPromote, ha.JobStartPrimary, ha.JobBootstrap:
			return true
		case ha.JobRestart: // in the role that it had
			return !l.Postgres.StandbySignal
		case ha.JobSwitchover:
			if l.Job.Checkpoint != 0 {
				return false // the shutdown checkpoint is the last record; what still runs sends and archives WAL
			}
		}
	}
	p := &l.Postgres
	standby := p.StandbySignal
	if p.Queried {
		standby = p.InRecovery
	}
	return l.unseen || p.Running() && (!standby || l.Memory.Promoting)
}

// decide ends the observation and begins to act.
func (l *Loop) decide(now, wall time.Time) []Effect {
	l.View = ha.View{
		Now: now, Wall: wall, Self: l.Self, Limits: l.Limits, Tags: l.Tags,
		Lock: l.Lock, Postgres: l.Postgres, Poll: l.Poll, Divergence: l.Divergence,
		Job: l.Job, Ended: l.Ended, Asked: l.Asked, Memory: l.Memory,
		Checkpointed: l.Checkpointed, SlotNews: l.SlotNews, Fresh: l.Fresh, Unfenced: l.Unfenced,
	}
	if l.Readable {
		l.View.Store = l.Store
	}
	l.Decision = ha.Decide(l.View)
	l.Memory = l.Decision.Memory
	l.left, l.Errors = slices.Clone(l.Decision.Actions), nil
	l.phase = acting
	var out []Effect
	if l.Decision.Permit {
		// A loop that hangs from here on loses the lock in time: the keeper stops when the permission ends.
		out = append(out, Permit{Until: now.Add(l.Limits.LoopWait + 2*l.Limits.RetryTimeout), Circle: l.Decision.Circle})
	} else {
		out = append(out, Permit{})
	}
	return append(out, l.act(now)...)
}

// act hands out the next action, or ends the cycle.
func (l *Loop) act(now time.Time) []Effect {
	if len(l.left) > 0 {
		a := l.left[0]
		l.left = l.left[1:]
		return []Effect{Act{Action: a, Limit: l.budget(now)}}
	}
	news := l.Decision.Reason != l.last || len(l.Decision.Actions) > 0
	l.last = l.Decision.Reason
	out := append([]Effect{Report{News: news}}, l.announce(now)...)
	return append(out, l.relax(now)...)
}

// announce has our key written, once at a time and never with less than what is known by then.
func (l *Loop) announce(now time.Time) []Effect {
	l.owed = l.announcing
	if l.announcing {
		return nil
	}
	l.announcing = true
	return []Effect{Announce{Limit: l.budget(now)}}
}

// done notes how an action ended. When it failed the rest is dropped: the next View shows how far we came.
func (l *Loop) done(now time.Time, f ActionDone) []Effect {
	if l.phase != acting {
		return nil
	}
	if f.Job != nil {
		l.Job, l.jobID, l.Ended = f.Job, f.ID, nil
	}
	if f.Err != nil {
		l.Errors = append(l.Errors, f.Err.Error())
		l.left = nil
		if l.Decision.Within == 0 { // an action that fails at once must not be tried in a busy loop
			l.Decision.Within = min(time.Second, l.Limits.LoopWait)
		}
	}
	return l.act(now)
}

// relax ends the cycle.
func (l *Loop) relax(now time.Time) []Effect {
	l.phase = resting
	if l.pending || l.Decision.Within <= 0 {
		return l.observe(now)
	}
	// A store renews our key for ttl, and may hold it for fresh for half of that: with a longer rest it would be gone now and then.
	rest := now.Add(min(l.Decision.Within, l.Limits.TTL/3))
	// What was decided may have taken long: a demotion must not be slept over.
	if last, ok := l.fencing(); ok && last.Before(rest) {
		rest = last
	}
	if soonest := now.Add(100 * time.Millisecond); l.Decision.Within > 100*time.Millisecond && rest.Before(soonest) {
		rest = soonest
	}
	return []Effect{Rest{Until: rest}}
}

// Configure takes in the settings of the next cycle.
func (l *Loop) Configure(limits ha.Limits, tags ha.Tags) {
	if !reflect.DeepEqual(l.Limits, limits) || l.Tags != tags {
		l.Limits, l.Tags, l.pending = limits, tags, true
	}
}
