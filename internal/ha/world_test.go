package ha

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/regent-ha/regent/internal/cluster"
)

// world is one member that carries out what is decided, with a store, and with others that stand still. Jobs end
// at once, which is the worst for a loop that makes no progress.
type world struct {
	v        View
	fails    map[JobName]bool // jobs that never succeed
	deaf     bool             // PostgreSQL does not obey Follow
	dry      bool             // it never streams
	answers  map[string]Answer
	verdict  Verdict
	exited   bool
	started  int // jobs
	steps    int
	progress []string // the last decisions, for messages
}

// run decides and acts for that long.
func (w *world) run(limit time.Duration) {
	end := w.v.Now.Add(limit)
	for w.v.Now.Before(end) && !w.exited && w.steps < 20000 {
		w.steps++
		d := Decide(w.v)
		w.v.Memory = d.Memory
		w.progress = append(w.progress, fmt.Sprintf("%s %s %v", w.v.Now.Sub(epoch), d.Reason, d.Actions))
		if len(w.progress) > 12 {
			w.progress = w.progress[1:]
		}
		wait := d.Within
		for _, a := range d.Actions {
			w.pass(time.Millisecond)
			if err := w.do(a); err != nil {
				wait = max(wait, time.Second) // as the agent does
				break
			}
		}
		w.pass(max(wait, time.Millisecond))
		if _, announced := w.v.Store.Member(w.v.Self); !announced { // at the end of each cycle
			w.change(func(s *cluster.Snapshot) {
				s.Members = append([]cluster.Member{member(w.v.Self, s.Leader.Name, 1)}, s.Members...)
			})
		}
		if d.Permit && w.v.Lock.Held {
			w.v.Lock.Deadline = w.v.Now.Add(w.v.Limits.TTL)
		}
	}
}

func (w *world) pass(d time.Duration) {
	w.v.Now, w.v.Wall = w.v.Now.Add(d), w.v.Wall.Add(d)
	if s := w.v.Store; s.Leader.Name == w.v.Self && !w.v.Lock.Held {
		w.change(func(s *cluster.Snapshot) { s.Leader.Name = "" }) // an old lease runs out
	}
}

// change replaces the snapshot, which never changes itself.
func (w *world) change(f func(*cluster.Snapshot)) {
	s := *w.v.Store
	f(&s)
	s.Revision++
	w.v.Store = &s
}

// job ends at once. What happens when it succeeds is the effect.
func (w *world) job(name JobName, effect func()) error {
	w.started++
	w.v.Ended = &Ended{Name: name, At: w.v.Now}
	if w.fails[name] {
		w.v.Ended.Error = "it broke"
		return nil
	}
	effect()
	w.v.Ended.Checkpoint = 0
	if name == JobSwitchover {
		w.v.Ended.Checkpoint = w.v.Postgres.Control.Checkpoint
	}
	return nil
}

func (w *world) runs(primary bool, up cluster.Upstream) {
	p := &w.v.Postgres
	at := max(p.Position(), 0x5000060)
	p.Pid, p.SingleUser, p.Ready, p.Queried, p.InRecovery, p.StandbySignal = 100, false, cluster.Accepting, true, !primary, !primary
	p.Timeline = max(p.Timeline, 1)
	p.Write, p.Flush, p.Received, p.Replayed, p.Upstream, p.Receiver = at, at, at, at, up, nil
	if !primary && up.Host != "" && !w.dry {
		p.Receiver = &cluster.Receiver{Status: "streaming"}
	}
	p.ReplayPaused = false
}

func (w *world) stopped(state cluster.ControlState) {
	p := &w.v.Postgres
	at := p.Position()
	*p = cluster.Postgres{Dir: p.Dir, Version: 150004, SystemID: p.SystemID, StandbySignal: p.StandbySignal, Timeline: p.Timeline, DirProblem: p.DirProblem}
	if p.Dir == cluster.DirPresent {
		p.Control = &cluster.Control{State: state, Checkpoint: at}
	}
}

func (w *world) do(a Action) error {
	v, p := &w.v, &w.v.Postgres
	switch a := a.(type) {
	case AcquireLeader:
		if l := v.Store.Leader.Name; l != "" && l != v.Self {
			return fmt.Errorf("held by %s", l)
		}
		w.change(func(s *cluster.Snapshot) { s.Leader.Name = v.Self })
		v.Lock = Lock{Held: true, Deadline: v.Now.Add(v.Limits.TTL)}
	case ReleaseLeader:
		v.Lock = Lock{}
		w.change(func(s *cluster.Snapshot) {
			if s.Leader.Name == v.Self {
				s.Leader.Name = ""
			}
		})
	case Promote:
		return w.job(JobPromote, func() { w.runs(true, cluster.Upstream{}); p.Timeline++ })
	case Demote:
		name := JobDemote
		if a.Mode == Graceful {
			name = JobSwitchover
		}
		return w.job(name, func() { w.stopped(cluster.ControlShutDown) })
	case StartPrimary:
		return w.job(JobStartPrimary, func() { w.runs(true, cluster.Upstream{}) })
	case StartStandby:
		if p.DirProblem != "" {
			v.Ended = &Ended{Name: JobStart, At: v.Now, Error: p.DirProblem}
			w.started++
			return nil
		}
		return w.job(JobStart, func() { w.runs(false, a.Upstream) })
	case Follow:
		return w.job(JobFollow, func() {
			if !w.deaf {
				w.runs(false, a.Upstream)
			}
		})
	case RestartPostgres:
		return w.job(JobRestart, func() { w.runs(p.Running() && !p.InRecovery, a.Upstream) })
	case Bootstrap:
		return w.job(JobBootstrap, func() { p.Dir, p.SystemID = cluster.DirPresent, ownID; w.runs(true, cluster.Upstream{}) })
	case ClaimBootstrap:
		w.change(func(s *cluster.Snapshot) {
			s.Bootstrapper, s.Initialize = v.Self, cluster.Initialize{Present: true, Revision: s.Revision + 1}
		})
	case CancelBootstrap:
		w.change(func(s *cluster.Snapshot) { s.Bootstrapper, s.Initialize = "", cluster.Initialize{} })
		*p = cluster.Postgres{Dir: cluster.DirMissing}
	case Clone:
		if a.Remove {
			*p = cluster.Postgres{Dir: cluster.DirMissing}
		}
		return w.job(JobClone, func() {
			*p = cluster.Postgres{Dir: cluster.DirPresent, Version: 150004, SystemID: ownID, BackupLabel: true, Control: &cluster.Control{State: cluster.ControlInProduction, Checkpoint: 0x5000060}}
			w.verdict, w.dry = NotDiverged, false
		})
	case Recover:
		return w.job(JobRecover, func() { w.stopped(cluster.ControlShutDown) })
	case CheckDivergence:
		return w.job(JobDivergence, func() {
			v.Divergence = &Divergence{Leader: a.Leader.Name, Verdict: w.verdict, CanRewind: v.Limits.UseRewind, WhyNot: "use_pg_rewind is off", At: v.Now}
		})
	case Rewind:
		w.stopped(cluster.ControlShutDown)
		return w.job(JobRewind, func() { w.verdict, w.dry, p.DirProblem = NotDiverged, false, "" })
	case AskPeers:
		v.Poll = &Poll{At: v.Now, Asked: a.Members, Answers: map[string]Answer{}}
		for _, m := range a.Members {
			v.Poll.Answers[m.Name] = w.answers[m.Name]
			if !w.answers[m.Name].Reachable {
				w.pass(2*time.Second - v.Now.Sub(v.Poll.At)) // a dead host
			}
		}
	case WriteInitialize:
		w.change(func(s *cluster.Snapshot) {
			s.Initialize = cluster.Initialize{Present: true, SystemID: a.SystemID, Revision: 5}
		})
	case WriteConfig, ResumeReplay:
		p.ReplayPaused = false
	case WriteFailover:
		if a.Failover.Revision != v.Store.Failover.Revision {
			return fmt.Errorf("conflict")
		}
		w.change(func(s *cluster.Snapshot) {
			s.Failover = a.Failover
			if a.Failover.Requested() {
				s.Failover.Revision++
			}
		})
	case WriteStatus:
		w.change(func(s *cluster.Snapshot) { s.Status = a.Status; s.Status.Revision = s.Revision + 1 })
	case WriteHistory:
		w.change(func(s *cluster.Snapshot) {
			s.History = cluster.History{Present: true}
			for i := cluster.Timeline(1); i < a.Timeline; i++ {
				s.History.Entries = append(s.History.Entries, cluster.HistoryEntry{Timeline: i, NewLeader: v.Self})
			}
		})
	case WriteSync:
		if a.Sync.Revision != v.Store.Sync.Revision {
			return fmt.Errorf("conflict")
		}
		w.change(func(s *cluster.Snapshot) { s.Sync = a.Sync; s.Sync.Revision = s.Revision + 1 })
	case RequireSync:
		p.SyncNames = a.Names
	case SyncSlots:
		for _, want := range a.Want {
			p.Slots = append(p.Slots, cluster.Slot{Name: want.Name, Type: "physical", Restart: max(want.Advance, 1)})
		}
	case Checkpoint:
		v.Checkpointed = p.Timeline
	case Exit:
		w.exited = true
	default:
		return fmt.Errorf("the world does not know %T", a)
	}
	return nil
}

// startingPoint is any state that a member can be found in, with the store in reach and nothing under way.
func startingPoint(t *rapid.T) *world {
	v := anyView(t)
	if v.Store == nil {
		b := builder{v: v}
		b.store(words{noun: "store"})
		v.Store = b.v.Store
	}
	v.Job, v.Memory, v.Divergence, v.Poll, v.Asked = nil, Memory{}, nil, nil, Asked{}
	v.Limits.Slots, v.SlotNews = cluster.SlotRules{}, nil // logical ones are tended beside the loop
	v.Ended = nil
	v.Limits.Type, v.Limits.SlotsTTL = cluster.OwnPrimary, 0
	v.Lock.Held = v.Lock.Held && v.Store.Leader.Name == v.Self
	if v.Lock.Held {
		v.Lock.Deadline = v.Now.Add(20 * time.Second)
	}
	v.Lock.Refused = false
	p := &v.Postgres
	if p.SingleUser || p.Dir != cluster.DirPresent {
		*p = cluster.Postgres{Dir: p.Dir, SystemID: p.SystemID}
	} else if p.Running() {
		p.Queried, p.Ready, p.SystemID, p.DirProblem = true, cluster.Accepting, ownID, ""
		p.Slots = nil
	}
	if p.Dir == cluster.DirPresent && p.Control == nil {
		p.Control = &cluster.Control{State: cluster.ControlInProduction, Checkpoint: 0x5000060}
	}
	w := &world{v: v, fails: map[JobName]bool{}, answers: map[string]Answer{}}
	for _, peer := range []string{"pg2", "pg3"} {
		w.answers[peer] = Answer{Reachable: rapid.Bool().Draw(t, "answers"), Position: rapid.SampledFrom([]cluster.LSN{0x5000000, 0x5000060, 0x9000000}).Draw(t, "has"), Timeline: 1, Priority: 1}
	}
	w.verdict = Verdict(rapid.SampledFrom([]string{"unknown", "not-needed", "needed"}).Draw(t, "truth"))
	return w
}

// Whatever fails, and however often, a member does not wear itself out: no loop without a pause, and no job after
// job (ha.md L35).
func TestNoBusyLoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := startingPoint(t)
		for _, name := range []JobName{JobBootstrap, JobClone, JobStart, JobStartPrimary, JobPromote, JobSwitchover, JobDemote, JobRecover, JobRewind, JobDivergence, JobRestart, JobFollow} {
			w.fails[name] = rapid.IntRange(0, 3).Draw(t, "fails "+string(name)) == 0
		}
		// A stop that fails is repeated each second by fence, and must be.
		w.fails[JobDemote] = false
		w.deaf, w.dry = rapid.Bool().Draw(t, "deaf"), rapid.Bool().Draw(t, "dry")
		w.run(5 * time.Minute)
		// Waiting for the last WAL of a switchover looks every 20 ms for retry_timeout; all else each second at most.
		if w.steps > 2500 || w.started > 200 {
			t.Fatalf("have %d decisions and %d jobs in 5 minutes; the last:\n%s", w.steps, w.started, strings.Join(w.progress, "\n"))
		}
	})
}

// V18: where nothing fails, a member ends as a healthy leader, as a streaming replica, or with a reason that people
// must deal with.
func TestNoDeadEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := startingPoint(t)
		w.run(5 * time.Minute)
		if w.exited {
			return
		}
		d := Decide(w.v)
		p := &w.v.Postgres
		switch d.Reason {
		case HealthyPrimary:
			if w.v.Lock.Held && !p.InRecovery {
				return
			}
		case Following:
			_, known := w.v.Store.Member(w.v.Store.Leader.Name) // without its key nobody knows its address
			if !known || w.v.Limits.Paused || p.ReplicationState() == cluster.StateStreaming || w.v.Tags.NoStream || p.Upstream == (cluster.Upstream{}) {
				return
			}
		case RewindGaveUp, SystemIDUnknown, SystemIDForeign, DirUnusable, BootstrapOther, CannotBootstrap, WaitForLeader: // for people, or for another member
			return
		case StayDown, PausedNoRace, PausedPrimary, OldTimeline: // paused
			if w.v.Limits.Paused {
				return
			}
		case CandidateIsOther, NoFailoverTag, PeerAhead, PeerPreferred, PeerIsPrimary, LagTooHigh, TimelineBehind, NotSyncStandby, NoQuorum, LockFree: // another member is to lead
			return
		case RequestScheduled:
			return
		}
		t.Fatalf("have %s after 5 minutes: %s; the last:\n%s", d.Reason, d.Detail, strings.Join(w.progress, "\n"))
	})
}
