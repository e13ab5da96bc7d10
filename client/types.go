package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Status is what a member says about itself (GET /patroni and every health check). Absent numbers are 0: unknown.
type Status struct {
	State               string `json:"state"` // running, starting, ...; "unknown": it runs and does not answer
	Role                string `json:"role"`  // primary (also "master"), replica, standby_leader, ...
	PostmasterStartTime string `json:"postmaster_start_time"`
	ServerVersion       int    `json:"server_version"`
	Xlog                *Xlog  `json:"xlog"` // nil: PostgreSQL there does not answer
	Wal                 *Xlog  `json:"wal"`  // very old members; use Positions

	SyncStandby      bool        `json:"sync_standby"`
	QuorumStandby    bool        `json:"quorum_standby"`
	Timeline         uint32      `json:"timeline"`
	ReplicationState string      `json:"replication_state"`
	Replication      []Walsender `json:"replication"`

	Pause           bool   `json:"pause"`
	ClusterUnlocked bool   `json:"cluster_unlocked"`
	FailsafeActive  bool   `json:"failsafe_mode_is_active"`
	DCSLastSeen     int64  `json:"dcs_last_seen"` // seconds since 1970; 0: never
	Tags            Tags   `json:"tags"`
	SystemID        string `json:"database_system_identifier"`

	PendingRestart       bool                        `json:"pending_restart"`
	PendingRestartReason map[string]PendingParameter `json:"pending_restart_reason"`
	ScheduledRestart     *ScheduledRestart           `json:"scheduled_restart"`
	WatchdogFailed       bool                        `json:"watchdog_failed"`

	Patroni struct {
		Version string `json:"version"`
		Scope   string `json:"scope"`
		Name    string `json:"name"`
	} `json:"patroni"`
	Regent *Regent `json:"regent"` // nil: the member is Patroni's

	Waives bool `json:"-"` // failsafe mode: it counts on no promise that was given before it answered; only from GET /patroni
}

// Xlog is where a member is in the WAL: Location on a primary, the others on a standby.
type Xlog struct {
	Location          LSN    `json:"location"`
	ReceivedLocation  LSN    `json:"received_location"`
	ReplayedLocation  LSN    `json:"replayed_location"`
	ReplayedTimestamp string `json:"replayed_timestamp"`
	Paused            bool   `json:"paused"`
}

// Walsender is a standby that streams from the member.
type Walsender struct {
	User         string `json:"usename"`
	Application  string `json:"application_name"`
	Address      string `json:"client_addr"`
	State        string `json:"state"`
	SyncState    string `json:"sync_state"`
	SyncPriority int    `json:"sync_priority"`
}

// Regent is what only a Regent member says.
type Regent struct {
	Version    string `json:"version"`
	Reason     string `json:"reason"` // of the last decision
	StoreError string `json:"store_error"`
	Job        *Job   `json:"job"`
	Guard      *Guard `json:"guard"` // nil: an agent that has none yet

	Durability   *Durability `json:"durability"`    // of the leader, where a site is to be survived
	UnreadySlots []string    `json:"unready_slots"` // logical slots of a standby that might miss something after a failover
}

// Guard is the process that kills PostgreSQL when the leader lock runs out unrenewed.
type Guard struct {
	Alive      bool     `json:"alive"`
	Armed      bool     `json:"armed"`
	Pid        int      `json:"pid"`         // 0: none
	State      string   `json:"state"`       // disarmed, armed, paused, firing
	DeadlineIn float64  `json:"deadline_in"` // seconds until it kills, if it is armed
	Kills      int      `json:"kills"`       // since the machine started
	LastKill   string   `json:"last_kill"`
	Lacks      []string `json:"lacks"`    // what it was not allowed
	Problem    string   `json:"problem"`  // why there is none
	Watchdog   bool     `json:"watchdog"` // a hardware watchdog is active
}

// Job is the long action under way.
type Job struct {
	Name   string `json:"name"`
	Phase  string `json:"phase"`
	Done   int64  `json:"done_bytes"`
	Total  int64  `json:"total_bytes"` // 0: unknown
	Detail string `json:"detail"`
}

// Positions returns where the member is in the WAL; nil: it cannot tell, and counts as unreachable in an election
// (ha.md 1.1, facts about I10).
func (s *Status) Positions() *Xlog {
	if s.Xlog != nil {
		return s.Xlog
	}
	return s.Wal
}

// Reachable says whether PostgreSQL there answers queries, so that its positions mean something.
func (s *Status) Reachable() bool { return s.Positions() != nil }

// IsPrimary says whether the member is to be taken for a running primary: it writes WAL, or says so.
func (s *Status) IsPrimary() bool {
	x := s.Positions()
	return x != nil && x.Location != 0 || s.Role == "primary" || s.Role == "master"
}

// Position is how much WAL a standby has: the larger of received and replayed. 0 for a primary, and when unknown.
func (s *Status) Position() LSN {
	if x := s.Positions(); x != nil && x.Location == 0 {
		return max(x.ReceivedLocation, x.ReplayedLocation)
	}
	return 0
}

// LSN is a position in the WAL, in bytes; 0: unknown. It reads numbers, decimal text and PostgreSQL's X/X.
type LSN uint64

// String writes the position as PostgreSQL does.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// UnmarshalJSON takes anything that is no position for unknown.
func (l *LSN) UnmarshalJSON(text []byte) error {
	s := strings.Trim(string(text), `"`)
	if high, low, ok := strings.Cut(s, "/"); ok {
		h, errHigh := strconv.ParseUint(high, 16, 32)
		n, errLow := strconv.ParseUint(low, 16, 32)
		*l = 0
		if errHigh == nil && errLow == nil {
			*l = LSN(h<<32 | n)
		}
		return nil
	}
	n, _ := strconv.ParseUint(s, 10, 64)
	*l = LSN(n)
	return nil
}

// Lag is a distance to the leader in bytes; Unknown when the member did not say where it is.
type Lag int64

// Unknown is the lag of a member that did not say where it is.
const Unknown Lag = -1

// UnmarshalJSON reads a number; the text "unknown" and anything else is Unknown.
func (l *Lag) UnmarshalJSON(text []byte) error {
	n, err := strconv.ParseInt(string(text), 10, 64)
	*l = Lag(n)
	if err != nil {
		*l = Unknown
	}
	return nil
}

// Tags are the options of a member, by name.
type Tags map[string]any

// NoFailover says that the member must never become the leader. The flag wins over the priority.
func (t Tags) NoFailover() bool {
	if v, ok := t["nofailover"]; ok && v != nil {
		return truthy(v)
	}
	return t.rank() <= 0
}

// FailoverPriority ranks equally advanced candidates, larger first; 0 or less: never. Default 1.
func (t Tags) FailoverPriority() int {
	if truthy(t["nofailover"]) {
		return 0
	}
	return t.rank()
}

func (t Tags) rank() int {
	n, err := strconv.ParseFloat(fmt.Sprint(t["failover_priority"]), 64)
	if err != nil {
		return 1
	}
	return int(n)
}

func truthy(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	default:
		return v != nil
	}
}

// PendingParameter is a setting that waits for a restart.
type PendingParameter struct {
	Old string `json:"old_value"`
	New string `json:"new_value"`
}

// ScheduledRestart is a restart planned on a member.
type ScheduledRestart struct {
	Schedule            string `json:"schedule"` // ISO 8601 with offset
	Role                string `json:"role"`
	PostgresVersion     string `json:"postgres_version"`
	Timeout             int    `json:"timeout"` // seconds
	RestartPending      bool   `json:"restart_pending"`
	PostmasterStartTime string `json:"postmaster_start_time"`
}

// Cluster is the topology as the store has it.
type Cluster struct {
	Scope               string     `json:"scope"`
	Members             []Member   `json:"members"` // by name
	Pause               bool       `json:"pause"`
	ScheduledSwitchover *Scheduled `json:"scheduled_switchover"`
}

// Scheduled is a switchover to come.
type Scheduled struct {
	At   string `json:"at"` // ISO 8601 with offset
	From string `json:"from"`
	To   string `json:"to"`
}

// Leader returns the holder of the lock; nil when there is none, or it has no key of its own.
func (c *Cluster) Leader() *Member {
	for i := range c.Members {
		if r := c.Members[i].Role; r == "leader" || r == "standby_leader" {
			return &c.Members[i]
		}
	}
	return nil
}

// Member is one line of the topology. The lags and positions of the leader are unknown here.
type Member struct {
	Name                 string                      `json:"name"`
	Role                 string                      `json:"role"` // leader, standby_leader, sync_standby, quorum_standby, replica
	State                string                      `json:"state"`
	APIURL               string                      `json:"api_url"`
	Host                 string                      `json:"host"`
	Port                 int                         `json:"port"`
	Timeline             uint32                      `json:"timeline"`
	PendingRestart       bool                        `json:"pending_restart"`
	PendingRestartReason map[string]PendingParameter `json:"pending_restart_reason"`
	ScheduledRestart     *ScheduledRestart           `json:"scheduled_restart"`
	Tags                 Tags                        `json:"tags"`
	ReceiveLag           Lag                         `json:"receive_lag"`
	ReceiveLSN           LSN                         `json:"receive_lsn"`
	ReplayLag            Lag                         `json:"replay_lag"`
	ReplayLSN            LSN                         `json:"replay_lsn"`
	Lag                  Lag                         `json:"lag"` // of the larger position
	LSN                  LSN                         `json:"lsn"`
}

// UnmarshalJSON makes an absent lag unknown.
func (m *Member) UnmarshalJSON(text []byte) error {
	type plain Member
	p := plain{ReceiveLag: Unknown, ReplayLag: Unknown, Lag: Unknown}
	err := json.Unmarshal(text, &p)
	*m = Member(p)
	return err
}

// HistoryEntry tells where a timeline ended and who began the next.
type HistoryEntry struct {
	Timeline  uint32
	LSN       LSN
	Reason    string
	Timestamp string // ISO 8601 with offset; empty: unknown
	NewLeader string // empty: unknown
}

// UnmarshalJSON reads a list of three to five.
func (h *HistoryEntry) UnmarshalJSON(text []byte) error {
	line := []any{&h.Timeline, &h.LSN, &h.Reason, &h.Timestamp, &h.NewLeader}
	var items []json.RawMessage
	if err := json.Unmarshal(text, &items); err != nil {
		return err
	}
	if len(items) < 3 {
		return fmt.Errorf("read an entry of the history: have %d fields, want timeline, position and reason", len(items))
	}
	for i, item := range items[:min(len(items), len(line))] {
		if bytes.Equal(item, []byte("null")) {
			continue
		}
		if err := json.Unmarshal(item, line[i]); err != nil {
			return err
		}
	}
	return nil
}

// SwitchoverRequest names the leader that steps down and, if it matters, who follows.
type SwitchoverRequest struct {
	Leader      string     `json:"leader,omitempty"`
	Candidate   string     `json:"candidate,omitempty"`
	ScheduledAt *time.Time `json:"scheduled_at,omitempty"` // nil: now
}

// RestartRequest restarts PostgreSQL where all that is given holds.
type RestartRequest struct {
	Schedule        *time.Time `json:"schedule,omitempty"` // nil: now
	Role            string     `json:"role,omitempty"`     // primary, replica or standby_leader
	PostgresVersion string     `json:"postgres_version,omitempty"`
	RestartPending  bool       `json:"restart_pending,omitempty"`
	Timeout         string     `json:"timeout,omitempty"` // for the start: seconds, or with a unit such as 5min
}

// Why explains the election and the last decisions of a member.
type Why struct {
	Member     string      `json:"member"`
	At         time.Time   `json:"at"`
	Leader     string      `json:"leader"`
	Gates      []Gate      `json:"gates"`
	Verdict    string      `json:"verdict"`
	Risk       *Risk       `json:"risk"`       // of the leader
	Durability *Durability `json:"durability"` // likewise, where a site is to be survived
	Loss       *Loss       `json:"loss"`       // of the last failover, if it is known
	Decisions  []Decision  `json:"decisions"`  // newest first
}

// Risk is what losing the leader would cost, as it knows itself.
type Risk struct {
	Heir   string `json:"heir"`   // who would lead; empty: nobody
	Bytes  uint64 `json:"bytes"`  // WAL that the leader has written and the heir is not known to have
	Synced bool   `json:"synced"` // synchronous mode: none of it was acknowledged
	Detail string `json:"detail"`
}

// Durability is whether acknowledged commits survive what they are to survive by durability.survive of the dynamic configuration.
type Durability struct {
	Survive string `json:"survive"`
	Met     bool   `json:"met"`
	Detail  string `json:"detail"`
}

// Loss is what the last failover has cost, as the member that it left behind found out.
type Loss struct {
	Timeline int    `json:"timeline"` // that it ended
	Member   string `json:"member"`
	Bytes    uint64 `json:"bytes"`
	Fate     string `json:"fate"` // of that WAL: rewound, removed, kept
	Detail   string `json:"detail"`
}

// Gate is one condition of the election.
type Gate struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Limit   string `json:"limit"`
	Passed  bool   `json:"passed"`
	Unknown bool   `json:"unknown"` // not asked, or not answered
}

// Decision is one entry of the member's journal.
type Decision struct {
	At       time.Time `json:"at"`
	Reason   string    `json:"reason"`
	Detail   string    `json:"detail"`
	Actions  []string  `json:"actions"`
	RuledOut []string  `json:"ruled_out"`
	Errors   []string  `json:"errors"`
}

// FailsafeRequest is what a leader tells the others while the store is away. Scope and To say who is meant; a Patroni member ignores them.
type FailsafeRequest struct {
	Name    string            `json:"name"`
	ConnURL string            `json:"conn_url"`
	APIURL  string            `json:"api_url"`
	Slots   map[string]uint64 `json:"slots"` // position by slot
	Scope   string            `json:"scope,omitempty"`
	To      string            `json:"to,omitempty"`
}
