// Package history is what a run saw, as lines of JSON in a compressed file that anybody can read: what the applications sent and what
// was answered, which faults were played, who held the lock, and what every member had in the end.
package history

import (
	"fmt"
	"time"
)

// Time is a moment, in nanoseconds since the run began, by CLOCK_MONOTONIC of the one machine that all hosts run on: true time.
type Time int64

// String is the time in seconds.
func (t Time) String() string { return fmt.Sprintf("%.3fs", time.Duration(t).Seconds()) }

// Event is one line; exactly one field is set.
type Event struct {
	Run    *Run    `json:"run,omitempty"`
	Row    *Row    `json:"row,omitempty"`
	Op     *Op     `json:"op,omitempty"`
	Txn    *Txn    `json:"txn,omitempty"`
	Round  *Round  `json:"round,omitempty"`
	Fault  *Fault  `json:"fault,omitempty"`
	Leader *Leader `json:"leader,omitempty"`
	Wiped  *Wiped  `json:"wiped,omitempty"`
	Died   *Died   `json:"died,omitempty"`
	End    *End    `json:"end,omitempty"`
}

// Run says what was run.
type Run struct {
	Seed      uint64    `json:"seed"`
	Mode      string    `json:"mode,omitempty"`
	Started   time.Time `json:"started"` // wall clock, for people
	Arguments []string  `json:"arguments"`
	Versions  []string  `json:"versions"` // of the agent, PostgreSQL, etcd, the kernel
	TTL       Time      `json:"ttl"`
	Members   []string  `json:"members"`
	LeftOut   []string  `json:"left_out,omitempty"` // what the machine did not allow
}

// The modes of replication.
const (
	Async    = "async"
	Sync     = "sync"     // each commit waits for a standby that is named
	Quorum   = "quorum"   // for any one of the standbys
	Failsafe = "failsafe" // asynchronous, and the primary leads on without the store
)

// Waits says whether commits wait for standbys.
func (r Run) Waits() bool { return r.Mode == Sync || r.Mode == Quorum }

// The outcomes of what an application sent.
const (
	Done    = "done"    // acknowledged
	Unknown = "unknown" // the answer got lost
	Refused = "refused" // certainly not done; of transactions on lists only, the rest leaves it out
)

// Row is a row that an application sent and that was not refused.
type Row struct {
	ID       int64  `json:"id"`
	Member   string `json:"member"`
	Session  string `json:"session"`
	Outcome  string `json:"outcome"`
	Timeline uint32 `json:"timeline,omitempty"` // where it was accepted
	LSN      uint64 `json:"lsn,omitempty"`      // the end of the WAL before its commit was written
	Sent     Time   `json:"sent"`
	Ended    Time   `json:"ended"` // acknowledged, or given up
}

// The operations on a register.
const (
	Read  = "read"
	Write = "write"
	CAS   = "cas" // write New if the value is Old
)

// Op is an operation on a register that was not refused.
type Op struct {
	Client   int    `json:"client"`
	Key      int    `json:"key"`
	Kind     string `json:"kind"`
	Old      int64  `json:"old,omitempty"`     // of a CAS
	New      int64  `json:"new,omitempty"`     // of a CAS and a write
	Found    int64  `json:"found,omitempty"`   // by a read
	Applied  bool   `json:"applied,omitempty"` // a CAS has found Old and written New
	Outcome  string `json:"outcome"`
	Member   string `json:"member"`
	Timeline uint32 `json:"timeline"` // where it was done; of an unknown outcome: of the session's last answer
	Sent     Time   `json:"sent"`
	Ended    Time   `json:"ended"`
}

// Txn is a transaction on lists.
type Txn struct {
	Client   int    `json:"client"`
	Steps    []Step `json:"steps"`
	Outcome  string `json:"outcome"`
	Member   string `json:"member"`
	Replica  bool   `json:"replica,omitempty"` // it read from a server in recovery
	Timeline uint32 `json:"timeline,omitempty"`
	LSN      uint64 `json:"lsn,omitempty"` // the end of the WAL when it began
	Sent     Time   `json:"sent"`
	Ended    Time   `json:"ended"`
}

// Step is what a transaction does to one list: it appends a value that nobody else appends, or reads.
type Step struct {
	Key    int     `json:"key"`
	Append int64   `json:"append,omitempty"` // 0: it reads
	Found  []int64 `json:"found,omitempty"`  // by a read
}

// Round is one fault, or two at once, with what came of it. It is written when it is over.
type Round struct {
	Number   int    `json:"number"`
	Begin    Time   `json:"begin"`              // the cluster is whole
	Lifted   Time   `json:"lifted"`             // the last fault is over
	Healed   Time   `json:"healed"`             // the cluster is whole again; 0: it was not in time
	Bound    Time   `json:"bound"`              // how long healing may take
	Busy     int    `json:"busy"`               // percent of the time in which some process waited for a processor
	Standbys int    `json:"standbys,omitempty"` // that commits waited for when it began, by /sync
	Before   string `json:"before"`             // who led
	After    string `json:"after"`
	Ill      string `json:"ill,omitempty"`      // what kept it from being whole, when it did not heal
	Unplayed string `json:"unplayed,omitempty"` // why a fault could not be played
	Cut      bool   `json:"cut,omitempty"`      // somebody ended the run meanwhile
}

// Fault is one fault that was played. It is written when it is over.
type Fault struct {
	Round   int      `json:"round"`
	Name    string   `json:"name"`
	Targets []string `json:"targets"` // members or servers of the store
	Led     bool     `json:"led"`     // a target led when it began
	Hits    []string `json:"hits"`    // members that may lose what only they have
	Detail  string   `json:"detail,omitempty"`
	Begin   Time     `json:"begin"`
	End     Time     `json:"end"`
}

// Leader is a change of the leader lock, as a client of the store saw it; empty: nobody holds it.
type Leader struct {
	At     Time   `json:"at"`
	Member string `json:"member"`
}

// Wiped is a data directory that was removed, or replaced by another one, and not moved aside.
type Wiped struct {
	At       Time              `json:"at"`
	Member   string            `json:"member"`
	Timeline uint32            `json:"timeline"` // the newest one that it had
	Others   map[string]uint32 `json:"others"`   // the newest timeline of each other member's data directory
}

// Died is an agent that ended although nobody had asked it to, or killed it.
type Died struct {
	At     Time   `json:"at"`
	Member string `json:"member"`
	How    string `json:"how"`
}

// End is what the members had when all was over. Without it the run was cut short.
type End struct {
	At      Time            `json:"at"`
	Leader  string          `json:"leader"`
	Members map[string]Copy `json:"members"`
	Dropped int64           `json:"dropped"` // packets lost on links
}

// Copy is one member's data in the end.
type Copy struct {
	SystemID string            `json:"system_id"`
	Timeline uint32            `json:"timeline"`
	Streams  bool              `json:"streams"` // from the leader
	Switches []Switch          `json:"switches"`
	Rows     [][2]int64        `json:"rows"` // ranges, both ends included
	Sums     map[string]string `json:"sums"` // of each table
	Values   map[int]int64     `json:"values"`
	Lists    map[int][]int64   `json:"lists,omitempty"`
}

// Switch is a line of a timeline's history: the timeline was left at that position.
type Switch struct {
	Timeline uint32 `json:"timeline"`
	LSN      uint64 `json:"lsn"`
}

// History is all of a run.
type History struct {
	Run     Run
	Rows    []Row
	Ops     []Op
	Txns    []Txn
	Rounds  []Round
	Faults  []Fault
	Leaders []Leader
	Wiped   []Wiped
	Died    []Died
	End     *End // nil: the run was cut short
}

// Add puts an event in its place.
func (h *History) Add(e Event) {
	switch {
	case e.Run != nil:
		h.Run = *e.Run
	case e.Row != nil:
		h.Rows = append(h.Rows, *e.Row)
	case e.Op != nil:
		h.Ops = append(h.Ops, *e.Op)
	case e.Txn != nil:
		h.Txns = append(h.Txns, *e.Txn)
	case e.Round != nil:
		h.Rounds = append(h.Rounds, *e.Round)
	case e.Fault != nil:
		h.Faults = append(h.Faults, *e.Fault)
	case e.Leader != nil:
		h.Leaders = append(h.Leaders, *e.Leader)
	case e.Wiped != nil:
		h.Wiped = append(h.Wiped, *e.Wiped)
	case e.Died != nil:
		h.Died = append(h.Died, *e.Died)
	case e.End != nil:
		h.End = e.End
	}
}
