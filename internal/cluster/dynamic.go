package cluster

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// DynamicConfig is the configuration that all members share (key config). Its accessors give the default
// for what is absent or cannot be read (config.md section 3).
type DynamicConfig struct {
	Document Value // the JSON object as stored, order and numbers kept; null when there is none
	Revision Revision
	Usable   bool // the key exists and is an object; else its last good value goes on to count
}

// Timing is the rhythm of a cluster, in whole seconds. TTL >= LoopWait + 2*RetryTimeout.
type Timing struct {
	TTL          time.Duration // how long the leader lock lives unrenewed
	LoopWait     time.Duration // between two looks at the cluster
	RetryTimeout time.Duration // for one operation on the store, its retries included
}

var (
	// DefaultTiming counts for what the document does not say.
	DefaultTiming = Timing{TTL: 30 * time.Second, LoopWait: 10 * time.Second, RetryTimeout: 10 * time.Second}
	// MinimumTiming is Patroni's floor. All members must adjust alike, so it counts while one of them is Patroni's.
	MinimumTiming = Timing{TTL: 20 * time.Second, LoopWait: time.Second, RetryTimeout: 3 * time.Second}
)

// Timing returns the rhythm with Patroni's floors, and a sentence for each value that is not as written.
func (c DynamicConfig) Timing() (Timing, []string) { return c.WrittenTiming().Adjust(MinimumTiming) }

// WrittenTiming returns the rhythm as the document has it, unchecked.
func (c DynamicConfig) WrittenTiming() Timing {
	return Timing{
		TTL:          c.seconds(DefaultTiming.TTL, "ttl"),
		LoopWait:     c.seconds(DefaultTiming.LoopWait, "loop_wait"),
		RetryTimeout: c.seconds(DefaultTiming.RetryTimeout, "retry_timeout"),
	}
}

// Adjust raises each value to its minimum, then shortens LoopWait, or LoopWait and RetryTimeout, until
// they fit into TTL, which never changes (config.md 1.11).
func (t Timing) Adjust(minimum Timing) (Timing, []string) {
	var changes []string
	change := func(name string, value *time.Duration, want time.Duration, why string) {
		if *value != want {
			changes = append(changes, fmt.Sprintf("%s: have %s, using %s: %s", name, *value, want, why))
			*value = want
		}
	}
	const low = "it is below the minimum"
	change("ttl", &t.TTL, max(t.TTL, minimum.TTL), low)
	change("loop_wait", &t.LoopWait, max(t.LoopWait, minimum.LoopWait), low)
	change("retry_timeout", &t.RetryTimeout, max(t.RetryTimeout, minimum.RetryTimeout), low)
	const fit = "want ttl >= loop_wait + 2*retry_timeout, or a leader cannot stop in time"
	switch {
	case minimum.LoopWait+2*t.RetryTimeout > t.TTL:
		change("loop_wait", &t.LoopWait, minimum.LoopWait, fit)
		change("retry_timeout", &t.RetryTimeout, ((t.TTL - minimum.LoopWait) / 2).Truncate(time.Second), fit)
	case t.LoopWait+2*t.RetryTimeout > t.TTL:
		change("loop_wait", &t.LoopWait, t.TTL-2*t.RetryTimeout, fit)
	}
	return t, changes
}

// Check reports every reason why Patroni refuses the document as a whole (config.md 1.10), and what speaks against a durability: members keep
// their previous settings then. nil for an empty document.
func (c DynamicConfig) Check() error {
	var problems []error
	for _, name := range []string{"ttl", "loop_wait", "retry_timeout"} {
		if v, ok := c.Document.Get(name); ok {
			if _, number := v.integer(""); !number {
				problems = append(problems, fmt.Errorf("%s: have %s, want a number of seconds", name, v.Encode()))
			}
		}
	}
	if v, ok := c.Document.Get("postgresql", "parameters"); ok && v.Kind != Object && v.Kind != Null {
		problems = append(problems, fmt.Errorf("postgresql.parameters: have %s, want a mapping of settings", v.Kind))
	}
	return errors.Join(append(problems, c.CheckDurability())...)
}

// SyncMode is a value of synchronous_mode.
type SyncMode string

const (
	SyncOff    SyncMode = "off"
	SyncOn     SyncMode = "on"     // the standbys of key sync, by priority
	SyncQuorum SyncMode = "quorum" // any of them, as many as the quorum
)

// Active says whether only members of key sync may lead.
func (m SyncMode) Active() bool { return m == SyncOn || m == SyncQuorum }

// SynchronousMode is off in a standby cluster, whatever the document says. Where commits are to survive something it is on, if nothing is said.
func (c DynamicConfig) SynchronousMode() SyncMode {
	v, said := c.Document.Get("synchronous_mode")
	on, _ := ParseBool(v.String())
	switch {
	case c.StandbyCluster() != nil:
		return SyncOff
	case strings.EqualFold(v.String(), string(SyncQuorum)):
		return SyncQuorum
	case on, (!said || v.Kind == Null) && c.Survive().Asked():
		return SyncOn
	default:
		return SyncOff
	}
}

// SynchronousModeStrict: rather no commit than one on the primary alone.
func (c DynamicConfig) SynchronousModeStrict() bool { return c.flag(false, "synchronous_mode_strict") }

// SynchronousNodeCount is how many synchronous standbys are wanted, at least 1 in strict mode. Default 1.
func (c DynamicConfig) SynchronousNodeCount() int {
	least := int64(0)
	if c.SynchronousModeStrict() {
		least = 1
	}
	return int(min(max(c.int(1, "synchronous_node_count"), least), math.MaxInt32))
}

// MaximumLagOnSyncNode is the lag in bytes that costs a standby its synchronous place; no limit when not positive. Default -1.
func (c DynamicConfig) MaximumLagOnSyncNode() int64 { return c.int(-1, "maximum_lag_on_syncnode") }

// MaximumLagOnFailover is the lag in bytes up to which a replica may become the leader. Default 1 MiB.
func (c DynamicConfig) MaximumLagOnFailover() int64 { return c.int(1<<20, "maximum_lag_on_failover") }

// Paused says that the cluster is in maintenance mode.
func (c DynamicConfig) Paused() bool { return c.flag(false, "pause") }

// MaxTimelinesHistory is how many entries key history keeps; 0: all.
func (c DynamicConfig) MaxTimelinesHistory() int {
	return int(min(max(c.int(0, "max_timelines_history"), 0), math.MaxInt32))
}

// PrimaryStartTimeout is how long a crashed primary may recover before a failover; 0: not at all. Default 300 s.
func (c DynamicConfig) PrimaryStartTimeout() time.Duration {
	return max(c.seconds(300*time.Second, "primary_start_timeout", "master_start_timeout"), 0)
}

// PrimaryStopTimeout is how long a primary may take to stop before it is killed, in synchronous mode only; 0: no limit.
func (c DynamicConfig) PrimaryStopTimeout() time.Duration {
	return max(c.seconds(0, "primary_stop_timeout", "master_stop_timeout"), 0)
}

// PrimaryRaceBackoff delays the race for the lock while WAL still arrives. Default 0, off.
func (c DynamicConfig) PrimaryRaceBackoff() time.Duration {
	return max(c.seconds(0, "primary_race_backoff"), 0)
}

// CheckTimeline: a candidate must not be on an older timeline than the cluster's.
func (c DynamicConfig) CheckTimeline() bool { return c.flag(false, "check_timeline") }

// FailsafeMode: the primary goes on without the store while all members agree.
func (c DynamicConfig) FailsafeMode() bool { return c.flag(false, "failsafe_mode") }

// MemberSlotsTTL is how long the slot of a vanished member stays; 0: not at all. Default 30 min.
func (c DynamicConfig) MemberSlotsTTL() time.Duration {
	return max(c.seconds(30*time.Minute, "member_slots_ttl"), 0)
}

// UseSlots: members stream through replication slots. Default true.
func (c DynamicConfig) UseSlots() bool { return c.flag(true, "postgresql", "use_slots") }

// UsePgRewind: a diverged member may be rewound. Default false.
func (c DynamicConfig) UsePgRewind() bool { return c.flag(false, "postgresql", "use_pg_rewind") }

// int reads a number, also as text.
func (c DynamicConfig) int(otherwise int64, path ...string) int64 {
	v, _ := c.Document.Get(path...)
	if n, ok := v.integer(""); ok {
		return n
	}
	return otherwise
}

// seconds reads the first of the names that is present, as seconds or as text with a unit.
func (c DynamicConfig) seconds(otherwise time.Duration, names ...string) time.Duration {
	const most = int64(math.MaxInt64 / time.Second)
	for _, name := range names {
		v, ok := c.Document.Get(name)
		if !ok {
			continue
		}
		if n, ok := v.integer("s"); ok {
			return time.Duration(min(max(n, -most), most)) * time.Second
		}
		return otherwise
	}
	return otherwise
}

// flag reads a boolean or a word for one; what is no such word is false.
func (c DynamicConfig) flag(otherwise bool, path ...string) bool {
	v, ok := c.Document.Get(path...)
	if !ok {
		return otherwise
	}
	on, _ := ParseBool(v.String())
	return on
}
