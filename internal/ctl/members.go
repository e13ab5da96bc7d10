package ctl

import (
	"math"
	"net"
	"strconv"

	"github.com/regent-ha/regent/internal/cluster"
)

// part is a cluster, or one group of a Citus cluster, as read from the store.
type part struct {
	group *int
	*cluster.Snapshot
}

// shown is a member as people see it.
type shown struct {
	cluster.Member
	snapshot   *cluster.Snapshot
	group      *int
	host       string // empty: unknown
	port       int
	role       string // one of cluster.Shown…
	state      string
	holdsLock  bool
	treePrefix string // in a topology
}

// members derives what is shown of every member, sorted by name.
func (p part) members() []shown {
	list := make([]shown, 0, len(p.Members))
	for _, m := range p.Members {
		s := shown{Member: m, snapshot: p.Snapshot, group: p.group, role: p.ShownRole(m), state: p.ShownState(m)}
		s.host, s.port, _ = m.HostPort()
		s.holdsLock = p.Locked() && m.Name == p.Leader.Name
		list = append(list, s)
	}
	return list
}

// address is host, or host:port when ports matter.
func (s shown) address(ports bool) string {
	if s.host == "" || !ports {
		return s.host
	}
	return net.JoinHostPort(s.host, strconv.Itoa(s.port))
}

// showPorts says whether any port differs from 5432 or two members share a host (ctl.md 4.3).
func showPorts(members []shown) bool {
	seen := map[string]bool{}
	for _, m := range members {
		if m.host == "" {
			continue
		}
		if m.port != 5432 || seen[m.host] {
			return true
		}
		seen[m.host] = true
	}
	return false
}

// positions are the cells for what a member has received and replayed. A member older than 4.1 says
// one position only: it counts as received while it streams, else as replayed (ctl.md 4.3).
func (s shown) positions() (receive, receiveLag, replay, replayLag value) {
	if s.holdsLock {
		return
	}
	received, replayed := s.ReceiveLSN, s.ReplayLSN
	if received == 0 && replayed == 0 {
		if s.state == cluster.StateStreaming {
			received = s.XlogLocation
		} else {
			replayed = s.XlogLocation
		}
	}
	receive, receiveLag = s.position(received)
	replay, replayLag = s.position(replayed)
	return
}

func (s shown) position(at cluster.LSN) (lsn, lag value) {
	bytes, known := s.snapshot.Lag(at)
	if !known {
		return cluster.Text("unknown"), value{}
	}
	return cluster.Text(at.String()), megabytes(bytes)
}

// lag is the cell "Lag in MB" of the narrow layout.
func (s shown) lag() value {
	if s.holdsLock {
		return value{}
	}
	bytes, known := s.snapshot.Lag(max(s.XlogLocation, s.ReceiveLSN, s.ReplayLSN))
	if !known {
		return cluster.Text("unknown")
	}
	return megabytes(bytes)
}

// megabytes rounds to whole MB, ties to even.
func megabytes(bytes uint64) value {
	return cluster.Int(int64(math.RoundToEven(float64(bytes) / (1 << 20))))
}

var roleNames = map[string]string{
	cluster.ShownLeader:        "Leader",
	cluster.ShownStandbyLeader: "Standby Leader",
	cluster.ShownSyncStandby:   "Sync Standby",
	cluster.ShownQuorumStandby: "Quorum Standby",
	cluster.ShownReplica:       "Replica",
}
