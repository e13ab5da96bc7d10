// Package cluster is the vocabulary of a PostgreSQL cluster under high availability: members,
// roles, positions in the write-ahead log, and the keys that the members share in the DCS.
//
// It knows Patroni's key names and JSON both ways, to the byte where other programs read them
// (dcs.md sections 1.1 to 1.12). It is pure: values in, values out.
//
// Terms. Leader: the holder of the lock. Primary: a PostgreSQL out of recovery. The two differ
// exactly when something is wrong or on its way.
package cluster

import "time"

// LSN is a position in the write-ahead log: bytes since 0/0. Zero means unknown.
type LSN uint64

// Timeline numbers a line of WAL history, from 1. Zero means unknown.
type Timeline uint32

// Revision versions a key or a snapshot of the store. Zero means that the key does not exist.
// Only equality and, within one store, order have a meaning.
type Revision int64

// Role is what a member says about its PostgreSQL (dcs.md section 1.6).
type Role string

const (
	Uninitialized Role = "uninitialized"  // the data directory is empty, also during bootstrap and clone
	Replica       Role = "replica"        // in recovery
	Primary       Role = "primary"        // out of recovery; "master" before Patroni 4.0
	StandbyLeader Role = "standby_leader" // holds the lock of a standby cluster
	Promoted      Role = "promoted"       // between the promote command and the end of recovery
	Demoted       Role = "demoted"        // a stopped former primary
)

// State is what PostgreSQL is doing, in Patroni's words (dcs.md section 1.6).
type State string

const (
	InitializingCluster  State = "initializing new cluster"
	InitdbFailed         State = "initdb failed"
	CustomBootstrap      State = "running custom bootstrap script"
	CustomFailed         State = "custom bootstrap failed"
	CreatingReplica      State = "creating replica"
	Running              State = "running"
	Starting             State = "starting"
	StartingAfterCustom  State = "starting after custom bootstrap"
	StartFailed          State = "start failed"
	Restarting           State = "restarting"
	RestartFailed        State = "restart failed"
	Stopping             State = "stopping"
	Stopped              State = "stopped"
	StopFailed           State = "stop failed"
	Crashed              State = "crashed"
	UnknownState         State = "unknown"
	StateStreaming             = "streaming"           // a replication state, shown instead of a replica's state
	StateArchiveRecovery       = "in archive recovery" // likewise
)

// Member is what one member publishes about itself (key members/<name>, dcs.md section 1.6).
// Absent positions are zero: unknown, never "at the beginning".
type Member struct {
	Name                   string
	Revision               Revision
	Session                string // the lease or session that the key lives by; opaque
	ConnURL                string // postgres://host:port/database, without credentials
	APIURL                 string // http://host:port/patroni
	State                  State
	Role                   Role
	Version                string // agent version, dotted integers
	ProxyURL               string
	CheckpointAfterPromote bool // true: the key carries "checkpoint_after_promote": false, the checkpoint is still due
	Tags                   Tags
	PendingRestart         bool
	PendingRestartReason   []PendingParameter // in order of the parameter's name
	XlogLocation           LSN
	ReplayLSN              LSN
	ReceiveLSN             LSN
	ReplicationState       string
	Timeline               Timeline
	ScheduledRestart       *ScheduledRestart
	Pause                  bool   // the member has applied maintenance mode
	Regent                 string // Regent's own version; empty for a Patroni member
}

// PendingParameter is one setting that waits for a restart.
type PendingParameter struct {
	Name, Old, New string // values as text in human units; New is "?" when unknown
}

// ScheduledRestart is a restart planned on one member.
type ScheduledRestart struct {
	Schedule        string // ISO 8601 with offset
	PostgresVersion string
	Role            Role
	RestartPending  bool
	Timeout         int // seconds; 0: not given
	PostmasterStart string
}

// Leader is the holder of the lock (key leader).
type Leader struct {
	Name     string
	Revision Revision
	Session  string // the lease or session that the key lives by; opaque
}

// Status is what the lock holder publishes about its WAL (key status, dcs.md section 1.7).
type Status struct {
	Optime      LSN
	Slots       map[string]LSN
	SlotOrder   []string // the order of Slots in the stored value; names that are missing here follow, sorted
	RetainSlots []string
	Revision    Revision
}

// Failover is a request for a switchover (From set) or a failover (key failover, dcs.md section 1.8).
type Failover struct {
	From        string     // the leader to demote; empty for a failover
	Candidate   string     // empty: any
	ScheduledAt *time.Time // only for a switchover
	BadSchedule bool       // scheduled_at was there and could not be used: a stale request, to be cleared
	Revision    Revision
}

// Requested says whether anything is asked for at all; a schedule alone is nothing.
func (f Failover) Requested() bool { return f.From != "" || f.Candidate != "" }

// Switchover says whether the request names the leader to demote.
func (f Failover) Switchover() bool { return f.From != "" }

// Sync is the state of synchronous replication (key sync, dcs.md section 1.9).
type Sync struct {
	Leader   string
	Quorum   int
	Standbys []string // sorted by code point
	Revision Revision
}

// HistoryEntry tells where a timeline ended and who began the next (key history, dcs.md section 1.10).
type HistoryEntry struct {
	Timeline  Timeline
	LSN       LSN
	Reason    string
	Timestamp string // ISO 8601 with offset; empty when unknown
	NewLeader string // empty when unknown
}

// History is the list of ended timelines, oldest first.
type History struct {
	Entries  []HistoryEntry
	Present  bool // the key exists and can be read
	Revision Revision
}

// ClusterTimeline is the timeline that the history implies: the last ended one plus one, 1 for an
// empty list, 0 when there is no usable history.
func (h History) ClusterTimeline() Timeline {
	switch {
	case !h.Present:
		return 0
	case len(h.Entries) == 0:
		return 1
	default:
		return h.Entries[len(h.Entries)-1].Timeline + 1
	}
}

// Initialize is the state of the key that says whose data this cluster has (dcs.md section 1.3).
type Initialize struct {
	Present  bool
	SystemID string // empty while somebody bootstraps
	Invalid  bool   // the value is neither empty nor a system identifier: the lock holder replaces it
	Revision Revision
}

// Snapshot is every key of one cluster at one revision of the store. It never changes later.
type Snapshot struct {
	Revision          Revision
	Initialize        Initialize
	Config            DynamicConfig
	Leader            Leader   // Name empty: unlocked
	Members           []Member // by name
	Status            Status
	Failover          Failover
	Sync              Sync
	History           History
	Losses            Losses
	Failsafe          map[string]string // member name to API URL; nil when absent or unreadable
	FailsafeOrder     []string          // its names as stored
	FailsafeRevision  Revision
	Bootstrapper      string // who bootstraps (KeyBootstrap); empty: nobody
	BootstrapRevision Revision
	OldOptime         Status   // key optime/leader, which the leader keeps for members before 2.1.0; zero when absent
	Problems          []string // keys that could not be read, each with what is wrong; they cost the key, not the snapshot
}

// Member returns the member of that name; ok is false when it has no key.
func (s *Snapshot) Member(name string) (m Member, ok bool) {
	for _, m := range s.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{Name: name, State: UnknownState}, false
}

// KeyValue is one key as the store holds it.
type KeyValue struct {
	Key      string // relative to the cluster's root: "leader", "members/pg1"
	Value    []byte
	Revision Revision
	Session  string
}

// The relative names of the keys (dcs.md section 1.1).
const (
	KeyInitialize = "initialize"
	KeyConfig     = "config"
	KeyLeader     = "leader"
	KeyMembers    = "members/" // followed by the member's name
	KeyStatus     = "status"
	KeyOptime     = "optime/leader" // before Patroni 2.1
	KeyFailover   = "failover"
	KeySync       = "sync"
	KeyHistory    = "history"
	KeyFailsafe   = "failsafe"
	// KeyBootstrap is Regent's own: the name of the member that bootstraps. It has no lease; its owner lives while its member
	// key does, and a dead one is replaced. Patroni ignores it (ha.md G15).
	KeyBootstrap = "regent/bootstrap"
	// KeyLosses is Regent's own: what failovers have cost.
	KeyLosses = "regent/losses"
)
