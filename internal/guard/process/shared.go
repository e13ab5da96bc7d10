// Package process is the guard's own process: it kills PostgreSQL when the order says so, whatever has become of the agent.
//
// The guard is the same binary, started by the agent with Title as its first argument. A process needs little to wait and to kill,
// but this binary's packages (etcd, protobuf, crypto) take tens of milliseconds and tens of megabytes to initialize. So the guard
// runs inside of init and never returns from it. Go initializes packages in the order of their import paths, each as soon as what it
// imports is initialized (Go specification, "Program initialization", since 1.21): because this package imports nothing but
// syscall, unsafe and sync/atomic, it comes before almost everything else. internal/arch watches the imports; the test
// of package guard measures the memory.
//
// Nothing here allocates once the guard watches: buffers are package variables, the collector is off (GOGC=off), and there is one
// goroutine. So no lock of the runtime can be held by a thread that waits for a processor while the deadline passes.
package process

import "sync/atomic"

// Title is the first argument of a guard, and what ps shows. Nobody types it by accident.
const Title = "regent: guard"

// Descriptors that the agent hands over: the shared file, the reading end of the FIFO that wakes the guard, and a pipe that
// the guard closes when it watches.
const (
	SharedFD = 3
	WakeFD   = 4
	ReadyFD  = 5
)

// Size of the shared file, bytes.
const Size = 4096

// Layout is the version of Shared. An agent that finds a guard of another one replaces it.
const Layout = 1

// Shared is what the agent and the guard share, in memory and beyond the life of either. Each field is one word, written by one of
// them; only Order is written by both, with compare-and-swap. So a process that dies in the middle of an update leaves no half of one.
// Later layouts append fields; they never change these.
type Shared struct {
	Layout atomic.Int64
	Boot   atomic.Int64 // which boot of the machine this is about; written last. Another boot's content means nothing
	Order  atomic.Int64 // an Order
	Told   atomic.Int64 // how many kills the agent has logged

	// The guard's.
	Ready     atomic.Int64 // since when it watches, boot-time nanoseconds
	Lacks     atomic.Int64 // what it was not allowed, bits below
	Wakes     atomic.Int64 // how often it looked at its order
	Kills     atomic.Int64 // how often a deadline passed and something was left to kill; all guards of this boot together
	KilledAt  atomic.Int64 // the last time, when it began, boot-time nanoseconds
	Deadline  atomic.Int64 // the order's moment then
	Took      atomic.Int64 // until nothing was left, nanoseconds
	Processes atomic.Int64 // how many it found at first
}

// What a guard may be refused; it works without, less surely.
const (
	LacksMemory   = 1 << iota // its memory is not locked: it may have to be read from disk first
	LacksPriority             // no higher priority: it waits for a processor like others
	LacksOOM                  // oom_score_adj could not be lowered: the kernel may choose it
)

// Mode is what an order means.
type Mode int64

const (
	Disarmed Mode = iota // PostgreSQL cannot write, or nobody looks after it
	Armed                // kill when the moment has come
	Paused               // the cluster is paused: leave it alone
	Failsafe             // as Armed; the moment does not come from the lock but from members that answered
	Firing               // the moment has come. Only the guard ends this: nothing may become writable meanwhile
	Fired                // nothing is left, and nothing may start here until the agent says something else
)

// Order is a mode and a moment in one word, so that nobody ever sees half of an order. The moment is in boot-time nanoseconds, its
// lowest three bits are the mode's.
type Order int64

const modeBits = 7

// NewOrder makes an order. It comes up to 7 ns early.
func NewOrder(m Mode, at int64) Order { return Order(at&^modeBits) | Order(m) }

func (o Order) Mode() Mode { return Mode(o & modeBits) }

// At is the moment in boot-time nanoseconds; 0 when there is none.
func (o Order) At() int64 { return int64(o &^ modeBits) }

// Armed says whether the moment counts.
func (o Order) Armed() bool { return o.Mode() == Armed || o.Mode() == Failsafe }
