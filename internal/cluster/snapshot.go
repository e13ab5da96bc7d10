package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// NewSnapshot reads every key of a cluster. A key that is not known is ignored; one that cannot be read
// costs what it says and adds a line to Problems, nothing else.
func NewSnapshot(rev Revision, kvs []KeyValue) *Snapshot { return (*Snapshot)(nil).Next(rev, kvs) }

// Next is NewSnapshot for whoever has read the cluster before: a key that is still at the revision that s knows is not read
// again. s may be nil.
func (s *Snapshot) Next(rev Revision, kvs []KeyValue) *Snapshot {
	next := &Snapshot{Revision: rev}
	if s != nil && len(s.Problems) > 0 {
		s = nil // what cannot be read is to be told again
	}
	if s != nil {
		next.Members = make([]Member, 0, len(s.Members)+1)
	}
	hasStatus := false
	for _, kv := range kvs {
		var err error
		if s.gives(next, &kv) {
			hasStatus = hasStatus || kv.Key == KeyStatus
			continue
		}
		switch kv.Key {
		case KeyInitialize:
			next.Initialize, err = DecodeInitialize(kv.Value, kv.Revision)
		case KeyConfig:
			next.Config, err = DecodeConfig(kv.Value, kv.Revision)
		case KeyLeader:
			next.Leader = Leader{Name: string(kv.Value), Revision: kv.Revision, Session: kv.Session}
		case KeyStatus:
			next.Status, err = DecodeStatus(kv.Value, kv.Revision)
			hasStatus = true
		case KeyOptime:
			next.OldOptime, err = DecodeOptime(kv.Value, kv.Revision)
		case KeyFailover:
			next.Failover, err = DecodeFailover(kv.Value, kv.Revision)
		case KeySync:
			next.Sync, err = DecodeSync(kv.Value, kv.Revision)
		case KeyHistory:
			next.History, err = DecodeHistory(kv.Value, kv.Revision)
		case KeyFailsafe:
			next.FailsafeRevision = kv.Revision
			next.Failsafe, next.FailsafeOrder, err = DecodeFailsafe(kv.Value)
		case KeyLosses:
			next.Losses, err = DecodeLosses(kv.Value, kv.Revision)
		case KeyBootstrap:
			next.Bootstrapper, next.BootstrapRevision = string(kv.Value), kv.Revision
		default:
			name, ok := strings.CutPrefix(kv.Key, KeyMembers)
			if !ok || name == "" || strings.Contains(name, "/") {
				continue
			}
			var m Member
			m, err = DecodeMember(name, kv.Value, kv.Revision, kv.Session)
			next.Members = append(next.Members, m)
		}
		if err != nil {
			next.Problems = append(next.Problems, fmt.Sprintf("key %s: %s", kv.Key, strings.ReplaceAll(err.Error(), "\n", "; ")))
		}
	}
	if !hasStatus {
		next.Status.Optime = next.OldOptime.Optime // the revision is another key's
	}
	byName := func(a, b Member) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(next.Members, byName) {
		slices.SortStableFunc(next.Members, byName)
	}
	return next
}

// gives hands over what it knows of a key that has not changed, and says whether it could.
func (s *Snapshot) gives(next *Snapshot, kv *KeyValue) bool {
	if s == nil || kv.Revision == 0 {
		return false
	}
	switch kv.Key {
	case KeyInitialize:
		if s.Initialize.Revision == kv.Revision {
			next.Initialize = s.Initialize
			return true
		}
	case KeyConfig:
		if s.Config.Revision == kv.Revision {
			next.Config = s.Config
			return true
		}
	case KeyStatus:
		if s.Status.Revision == kv.Revision {
			next.Status = s.Status
			return true
		}
	case KeyFailover:
		if s.Failover.Revision == kv.Revision {
			next.Failover = s.Failover
			return true
		}
	case KeySync:
		if s.Sync.Revision == kv.Revision {
			next.Sync = s.Sync
			return true
		}
	case KeyLosses:
		if s.Losses.Revision == kv.Revision {
			next.Losses = s.Losses
			return true
		}
	case KeyHistory:
		if s.History.Revision == kv.Revision {
			next.History = s.History
			return true
		}
	default:
		name, ok := strings.CutPrefix(kv.Key, KeyMembers)
		for i := range s.Members {
			if m := &s.Members[i]; ok && m.Name == name && m.Revision == kv.Revision && m.Session == kv.Session {
				next.Members = append(next.Members, *m)
				return true
			}
		}
	}
	return false
}

// Locked says whether anybody holds the leader lock, with or without a member key.
func (s *Snapshot) Locked() bool { return s.Leader.Name != "" }

// The roles of a member as they are shown (rest-api.md section 6). They follow from the lock and from the
// synchronous set, never from what the member says of itself.
const (
	ShownLeader        = "leader"
	ShownStandbyLeader = "standby_leader"
	ShownSyncStandby   = "sync_standby"
	ShownQuorumStandby = "quorum_standby"
	ShownReplica       = "replica"
)

// ShownRole is the role of a member as GET /cluster and patronictl list show it.
func (s *Snapshot) ShownRole(m Member) string {
	mode := s.Config.SynchronousMode()
	switch {
	case s.Locked() && m.Name == s.Leader.Name && s.Config.StandbyCluster() != nil:
		return ShownStandbyLeader
	case s.Locked() && m.Name == s.Leader.Name:
		return ShownLeader
	case mode == SyncQuorum && s.Sync.HasStandby(m.Name):
		return ShownQuorumStandby
	case mode == SyncOn && s.Sync.HasStandby(m.Name):
		return ShownSyncStandby
	default:
		return ShownReplica
	}
}

// ShownState is the replication state where there is one, else the state, but for the leader always the
// state; empty when unknown.
func (s *Snapshot) ShownState(m Member) string {
	switch {
	case m.ReplicationState != "" && s.ShownRole(m) != ShownLeader:
		return m.ReplicationState
	case m.State == UnknownState:
		return ""
	default:
		return string(m.State)
	}
}

// Lag is how far a position of a member (ReceiveLSN, ReplayLSN or XlogLocation) is behind the position in
// the status key, in bytes, never negative. known is false when the member did not publish it.
func (s *Snapshot) Lag(at LSN) (bytes uint64, known bool) {
	return uint64(max(s.Status.Optime, at) - at), at != 0
}
