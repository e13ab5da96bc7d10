package ha

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Decision is what to do, in order, and why. When an action fails the rest is dropped: the next View
// shows how far we came.
type Decision struct {
	Reason   Reason
	Detail   string // the reason with its values, for people
	Actions  []Action
	RuledOut []string      // what was considered and why it was not done
	Gates    []Gate        // the gates of the election, if it was looked at
	Memory   Memory        // to be kept for the next View
	Within   time.Duration // decide again at the latest after this; 0: at once
	Permit   bool          // we may go on holding the lock
	Unready  []string      // logical slots of a standby that might miss something after a failover
	Circle   *Circle       // who has to agree that we lead on without the store; nil: nobody could
}

// Action is one thing to do. Each is idempotent.
type Action interface{ String() string }

type (
	// AcquireLeader takes the lock; also one that still bears our name from before the agent restarted.
	AcquireLeader struct{}
	// ReleaseLeader writes the final position and gives the lock up.
	ReleaseLeader struct{ Optime cluster.LSN }
	// Promote ends recovery. The executor looks at the lock once more. Above, when set, is a timeline that the cluster was on and
	// PostgreSQL may not know of: what begins must have a larger number.
	Promote struct{ Above cluster.Timeline }
	// Demote stops PostgreSQL. Until, when set, is the moment by which it must be down, however.
	Demote struct {
		Mode  StopMode
		Until time.Time
	}
	// StartPrimary starts PostgreSQL as the primary that it was when it crashed.
	StartPrimary struct{}
	// StartStandby starts PostgreSQL as a standby; a zero upstream means from nowhere.
	StartStandby struct {
		Upstream cluster.Upstream
		As       cluster.Role // the standby leader; empty: a replica
	}
	// Follow points a running standby at another upstream, and tells it what it is.
	Follow struct {
		Upstream cluster.Upstream
		As       cluster.Role
	}
	// Restart stops and starts PostgreSQL in its present role.
	RestartPostgres struct {
		Request  int
		Upstream cluster.Upstream
		As       cluster.Role
	}
	// Bootstrap makes a new cluster in the empty data directory.
	Bootstrap struct{}
	// ClaimBootstrap writes who bootstraps, then the empty initialize key; both create-only or at the revision seen.
	ClaimBootstrap struct{}
	// CancelBootstrap removes the initialize key and moves the failed directory aside.
	CancelBootstrap struct{}
	// Clone copies the data of another member into the empty data directory.
	Clone struct {
		From       cluster.Upstream
		Replace    bool // what is in the directory is moved aside first
		Remove     bool // ... or removed, where the configuration says so
		Request    int  // the reinitialize request that this answers, if any
		FromLeader bool // it wants a copy of the leader itself, by pg_basebackup
	}
	// Recover runs crash recovery in single-user mode.
	Recover struct{}
	// CheckDivergence compares our WAL with the leader's history.
	CheckDivergence struct{ Leader cluster.Upstream }
	// Rewind runs pg_rewind against the leader.
	Rewind struct {
		Leader     cluster.Upstream
		HalfRecord bool // only the begin of a record at the end of the WAL is cut off
	}
	// AskPeers asks members for their status.
	AskPeers struct{ Members []cluster.Member }
	// CancelJob ends the job under way.
	CancelJob struct{}
	// WriteInitialize records our system identifier.
	WriteInitialize struct{ SystemID string }
	// WriteConfig puts our last known dynamic configuration, or that of the bootstrap section, into the store.
	WriteConfig struct{}
	// WriteFailover replaces the failover request; an empty one clears it.
	WriteFailover struct{ Failover cluster.Failover }
	// WriteHistory records the ended timelines from the local history file.
	WriteHistory struct{ Timeline cluster.Timeline }
	// WriteLosses notes what a failover has cost, if the key still is at that revision.
	WriteLosses struct{ Losses cluster.Losses }
	// WriteStatus publishes position and slots.
	WriteStatus struct{ Status cluster.Status }
	// WriteSync writes key /sync, or removes it when it names no leader, if it still is at that revision.
	WriteSync struct{ Sync cluster.Sync }
	// WriteFailsafe writes who has to agree in failsafe mode, if the key still is at that revision.
	WriteFailsafe struct {
		URLs     map[string]string // API URL by member name
		Revision cluster.Revision
	}
	// RequireSync sets synchronous_standby_names, and looks whether it is in force.
	RequireSync struct{ Names string }
	// SyncSlots makes the physical slots what they should be, and drops those that nobody needs.
	SyncSlots struct {
		Want []SlotWant
		Drop []string // inactive ones
	}
	// TendSlots does beside the loop what may take long. What it shows comes back as SlotNews.
	TendSlots struct {
		Create  []cluster.PermanentSlot
		Advance []SlotMove
		Ask     cluster.Upstream // a primary that is to be asked for its slots; zero: nobody
	}
	// CopySlots stops PostgreSQL, to put logical slots of the primary into its directory.
	CopySlots struct {
		Leader cluster.Upstream
		Slots  []cluster.PermanentSlot
	}
	// Checkpoint runs a CHECKPOINT after a promotion.
	Checkpoint struct{}
	// ResumeReplay ends a replay pause.
	ResumeReplay struct{}
	// Exit ends the agent. Failure is empty for an orderly end.
	Exit struct{ Failure string }
)

// SlotWant is a physical slot that should be there, and how far it may be advanced (0: not at all).
type SlotWant struct {
	Name    string
	Advance cluster.LSN
	Anew    string // why the one that is there must be dropped first; empty: it need not
}

// SlotMove is a logical slot of a standby and where its consumer is.
type SlotMove struct {
	cluster.PermanentSlot
	To cluster.LSN
}

// StopMode says how and why a PostgreSQL is stopped (ha.md 2.19).
type StopMode string

const (
	Graceful  StopMode = "graceful"       // checkpoint, fast stop; the lock is kept until somebody has our last WAL
	Offline   StopMode = "offline"        // the store is away and the lock is running out: fast, then harder
	Immediate StopMode = "immediate"      // we hold the lock and cannot serve
	NoLock    StopMode = "no-lock"        // the lock is not ours: nothing may be written any more
	Shutdown  StopMode = "shutdown"       // the agent leaves
	ToStandby StopMode = "demote-cluster" // fast, with all WAL sent and archived; it comes back as a standby of another cluster
)

func (AcquireLeader) String() string   { return "acquire-leader" }
func (a ReleaseLeader) String() string { return withLSN("release-leader", a.Optime) }
func (a Promote) String() string {
	if a.Above != 0 {
		return fmt.Sprintf("promote(above %d)", a.Above)
	}
	return "promote"
}
func (a Demote) String() string        { return "demote(" + string(a.Mode) + ")" }
func (StartPrimary) String() string    { return "start-primary" }
func (a StartStandby) String() string  { return "start-standby" + upstream(a.Upstream) + as(a.As) }
func (a Follow) String() string        { return "follow" + upstream(a.Upstream) + as(a.As) }
func (RestartPostgres) String() string { return "restart" }
func (Bootstrap) String() string       { return "bootstrap" }
func (ClaimBootstrap) String() string  { return "claim-bootstrap" }
func (CancelBootstrap) String() string { return "cancel-bootstrap" }
func (a Clone) String() string {
	switch {
	case a.Remove:
		return "remove-and-clone" + upstream(a.From)
	case a.Replace:
		return "move-aside-and-clone" + upstream(a.From)
	}
	return "clone" + upstream(a.From)
}
func (Recover) String() string           { return "crash-recovery" }
func (a CheckDivergence) String() string { return "check-divergence" + upstream(a.Leader) }
func (a Rewind) String() string {
	if a.HalfRecord {
		return "cut-half-record" + upstream(a.Leader)
	}
	return "rewind" + upstream(a.Leader)
}
func (a AskPeers) String() string {
	var names []string
	for _, m := range a.Members {
		names = append(names, m.Name)
	}
	return "ask-peers(" + strings.Join(names, " ") + ")"
}
func (CancelJob) String() string         { return "cancel-job" }
func (a WriteInitialize) String() string { return "write-initialize(" + a.SystemID + ")" }
func (WriteConfig) String() string       { return "write-config" }
func (a WriteFailover) String() string {
	if !a.Failover.Requested() {
		return "clear-failover"
	}
	return "write-failover(" + a.Failover.From + ">" + a.Failover.Candidate + ")"
}
func (a WriteHistory) String() string { return fmt.Sprintf("write-history(%d)", a.Timeline) }
func (a WriteLosses) String() string {
	var each []string
	for _, l := range a.Losses.Entries {
		each = append(each, fmt.Sprintf("%d:%s %d %s", l.Timeline, l.Member, l.Bytes(), l.Fate))
	}
	return "write-losses(" + strings.Join(each, ", ") + ")"
}
func (a WriteStatus) String() string { return withLSN("write-status", a.Status.Optime) }
func (a WriteSync) String() string {
	if a.Sync.Leader == "" {
		return "remove-sync"
	}
	text := "write-sync(" + a.Sync.Leader + ":" + strings.Join(a.Sync.Standbys, ",")
	if a.Sync.Quorum > 0 {
		text += fmt.Sprintf(" quorum %d", a.Sync.Quorum)
	}
	return text + ")"
}
func (a WriteFailsafe) String() string {
	return "write-failsafe(" + strings.Join(slices.Sorted(maps.Keys(a.URLs)), ",") + ")"
}
func (a RequireSync) String() string { return "wait-for(" + a.Names + ")" }
func (a SyncSlots) String() string {
	var names []string
	for _, w := range a.Want {
		name := withLSN(w.Name, w.Advance)
		if w.Anew != "" {
			name += " anew"
		}
		names = append(names, name)
	}
	for _, name := range a.Drop {
		names = append(names, "-"+name)
	}
	return "sync-slots(" + strings.Join(names, " ") + ")"
}
func (a TendSlots) String() string {
	var list []string
	for _, s := range a.Create {
		list = append(list, "+"+s.Name)
	}
	for _, m := range a.Advance {
		list = append(list, withLSN(m.Name, m.To))
	}
	if a.Ask.Name != "" {
		list = append(list, "ask "+a.Ask.Name)
	}
	return "tend-slots(" + strings.Join(list, " ") + ")"
}
func (a CopySlots) String() string {
	list := []string{a.Leader.Name + ":"}
	for _, s := range a.Slots {
		list = append(list, s.Name)
	}
	return "copy-slots(" + strings.Join(list, " ") + ")"
}
func (Checkpoint) String() string   { return "checkpoint" }
func (ResumeReplay) String() string { return "resume-replay" }
func (a Exit) String() string {
	if a.Failure != "" {
		return "exit(" + a.Failure + ")"
	}
	return "exit"
}

func upstream(u cluster.Upstream) string {
	if u == (cluster.Upstream{}) {
		return "()"
	}
	if u.Name == "" && u.Host == "" {
		return "(archive)"
	}
	return "(" + u.String() + ")"
}

func as(r cluster.Role) string {
	if r == "" {
		return ""
	}
	return " as " + string(r)
}

func withLSN(s string, at cluster.LSN) string {
	if at == 0 {
		return s
	}
	return s + "@" + at.String()
}

// The builders below keep the cases of Decide one line each.

// decide starts a decision that keeps the memory and comes back after loop_wait.
func (v *View) decide(r Reason, detail string, actions ...Action) Decision {
	for _, a := range actions {
		v.point(a)
	}
	return Decision{Reason: r, Detail: detail, Actions: actions, Memory: v.Memory, Within: v.Limits.LoopWait, Permit: v.live()}
}

// point notes where an action tells PostgreSQL to stream from, or rewinds it to.
func (v *View) point(a Action) {
	switch a := a.(type) {
	case StartStandby:
		v.Memory.Pointed, v.Memory.PointedAt, v.Memory.As = a.Upstream, v.Now, a.As
	case Follow:
		v.Memory.Pointed, v.Memory.PointedAt, v.Memory.As = a.Upstream, v.Now, a.As
	case RestartPostgres:
		v.Memory.Pointed, v.Memory.PointedAt, v.Memory.As = a.Upstream, v.Now, a.As
	case Rewind:
		v.Memory.Source, v.Memory.SourceTimeline = a.Leader.String(), v.sourceTimeline()
	case Clone:
		v.Memory.Source = "" // what it has to come to was flushed before it ended
	}
}

// sourceTimeline is the leader's, at least.
func (v *View) sourceTimeline() cluster.Timeline {
	if v.standby() {
		return v.leaderTimeline()
	}
	return max(v.leaderTimeline(), v.Store.History.ClusterTimeline())
}

// again is decide, but the next decision follows as soon as the actions are done.
func (v *View) again(r Reason, detail string, actions ...Action) Decision {
	d := v.decide(r, detail, actions...)
	d.Within = 0
	return d
}

// soon is decide with a shorter wait, for what no event announces.
func (v *View) soon(after time.Duration, r Reason, detail string, actions ...Action) Decision {
	d := v.decide(r, detail, actions...)
	d.Within = min(after, v.Limits.LoopWait)
	return d
}
