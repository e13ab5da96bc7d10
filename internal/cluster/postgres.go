package cluster

import (
	"strconv"
	"time"
)

// DirState is what stands at the data directory's place. "Empty" ignores dot-files and lost+found (ha.md 2.6).
type DirState string

const (
	DirMissing    DirState = "missing"
	DirEmpty      DirState = "empty"
	DirPresent    DirState = "present"    // it holds a global/pg_control
	DirForeign    DirState = "foreign"    // it is not empty and is no data directory: never touched
	DirUnreadable DirState = "unreadable" // nothing is known, so nothing may be done to it
)

// Readiness is how a postmaster answers a new connection (pg_isready's answers).
type Readiness string

const (
	NotRunning Readiness = ""            // no postmaster
	NoResponse Readiness = "no response" // a postmaster process that does not answer in time: hung, or just born
	Rejecting  Readiness = "rejecting"   // starting up, shutting down or recovering
	Failing    Readiness = "failing"     // it lets us in, and then the session dies of an error of the server's own: a full disk, a lost file
	Accepting  Readiness = "accepting"
)

// ControlState is pg_controldata's "Database cluster state".
type ControlState string

const (
	ControlStartingUp       ControlState = "starting up"
	ControlShutDown         ControlState = "shut down"
	ControlShutDownRecovery ControlState = "shut down in recovery"
	ControlShuttingDown     ControlState = "shutting down"
	ControlCrashRecovery    ControlState = "in crash recovery"
	ControlArchiveRecovery  ControlState = "in archive recovery"
	ControlInProduction     ControlState = "in production"
)

// Control is the part of pg_control that decisions need.
type Control struct {
	State          ControlState
	SystemID       string
	Checkpoint     LSN
	CheckpointTLI  Timeline
	Redo           LSN
	MinRecovery    LSN
	MinRecoveryTLI Timeline
	Checksums      bool
	WALLogHints    bool
	Settings       map[string]int // max_connections setting and its kin, by GUC name
}

// Walsender is one row of pg_stat_replication.
type Walsender struct {
	User, Application, Address string // Address empty for a socket
	State                      string // streaming, catchup, backup, ...
	SyncState                  string
	SyncPriority               int
	Sent, Write, Flush, Replay LSN
}

// Slot is one row of pg_replication_slots.
type Slot struct {
	Name, Type, Database, Plugin string
	Active                       bool
	Restart, ConfirmedFlush      LSN
	HasXmin                      bool
	CatalogXmin                  uint32 // the oldest transaction whose changes of catalogs must stay readable; 0: none
	WALStatus                    string
	Failover                     bool // PostgreSQL 17 failover slot: not ours to touch
}

// Receiver is the WAL receiver of a standby (pg_stat_wal_receiver).
type Receiver struct {
	Status    string // "streaming" when it works
	Timeline  Timeline
	Written   LSN
	LatestEnd LSN
	Slot      string
	Host      string
	Port      int
}

// Upstream is where a standby streams from. The zero value means: from nowhere.
type Upstream struct {
	Name    string  // the member; empty for a remote
	Host    string  // of a remote also several, with commas
	Port    int     // of all of them
	Slot    string  // primary_slot_name; empty: none
	Archive Archive // in a standby cluster, what its section says of archived WAL
}

// Archive is where a standby fetches WAL beside streaming, and how. Empty values leave PostgreSQL's configuration as it is.
type Archive struct {
	Restore string // restore_command
	Cleanup string // archive_cleanup_command
	Delay   string // recovery_min_apply_delay
}

// String is the member's name, or where a remote is.
func (u Upstream) String() string {
	if u.Name != "" {
		return u.Name
	}
	return u.Host + ":" + strconv.Itoa(u.Port)
}

// Postgres is the local instance as observed at one moment. A field that could not be learned is
// zero; Queried tells whether the answers of SQL are there at all.
type Postgres struct {
	Dir        DirState
	DirProblem string
	Binaries   int // major version of the installed binaries, for example 15
	Version    int // server_version_num when running, else major * 10000 of the data directory

	Pid           int // 0: no postmaster
	SingleUser    bool
	Started       time.Time // of the postmaster, wall clock
	StartedText   string    // pg_postmaster_start_time() as text
	Ready         Readiness
	StandbySignal bool // standby.signal or recovery.signal is in the data directory
	BackupLabel   bool
	Control       *Control // nil: not read in this observation
	ControlError  string
	SystemID      string

	Queried        bool
	QueryError     string
	InRecovery     bool
	ReadOnly       bool     // out of recovery, yet transactions are read-only by default: not writable
	Timeline       Timeline // primary: its own; standby: received or replayed
	Write          LSN      // primary: pg_current_wal_lsn
	Flush          LSN      // primary: pg_current_wal_flush_lsn
	Received       LSN      // standby: written by the WAL receiver, else last received, else replayed (rest-api.md 4.1)
	Replayed       LSN
	ReplayedAt     string // text of pg_last_xact_replay_timestamp
	ReplayPaused   bool
	RestoreCommand bool
	Receiver       *Receiver
	Walsenders     []Walsender
	Slots          []Slot
	Upstream       Upstream           // as configured in primary_conninfo and primary_slot_name now
	SyncNames      string             // synchronous_standby_names
	SyncCommit     string             // synchronous_commit
	Heeded         bool               // primary: the checkpointer sleeps, so it has read the files; it is who makes commits wait
	Pending        []PendingParameter // settings that wait for a restart
}

// Running says whether a postmaster answers or at least lives.
func (p *Postgres) Running() bool { return p.Pid != 0 && !p.SingleUser }

// Position is how much of the WAL this instance has: the larger of received and replayed on a
// standby, the written position on a primary (ha.md 2.11b).
func (p *Postgres) Position() LSN {
	if !p.InRecovery {
		return p.Write
	}
	return max(p.Received, p.Replayed)
}

// End is where the WAL that is safe here ends: flushed on a primary, all that a standby has.
func (p *Postgres) End() LSN {
	if !p.InRecovery {
		return p.Flush
	}
	return p.Position()
}

// ReplicationState is "streaming", "in archive recovery" or empty (dcs.md section 1.6, field 14).
func (p *Postgres) ReplicationState() string {
	switch {
	case !p.Queried || !p.InRecovery:
		return ""
	case p.Receiver != nil && p.Receiver.Status == StateStreaming:
		return StateStreaming
	case p.RestoreCommand:
		return StateArchiveRecovery
	default:
		return ""
	}
}
