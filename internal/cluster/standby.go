package cluster

import "strconv"

// Type says what a cluster is for. The words are those of a slot's cluster_type (config.md 3.1).
type Type string

const (
	OwnPrimary     Type = "primary" // it has a primary of its own; so says the empty value, too
	FollowsAnother Type = "standby" // a standby cluster: all of its members are standbys of another cluster's
)

// Type is FollowsAnother when section standby_cluster says where to.
func (c DynamicConfig) Type() Type {
	if c.StandbyCluster() != nil {
		return FollowsAnother
	}
	return OwnPrimary
}

// StandbyCluster says where a standby cluster follows another one (config.md 3.2).
type StandbyCluster struct {
	Host                  string // several with commas
	Port                  string
	PrimarySlotName       string // empty: no slot is used
	CreateReplicaMethods  []string
	RestoreCommand        string
	ArchiveCleanupCommand string
	RecoveryMinApplyDelay string // for the standby leader only
}

// StandbyCluster returns the section; nil when this is no standby cluster, that is, when host, port and
// restore_command are all empty.
func (c DynamicConfig) StandbyCluster() *StandbyCluster {
	v, _ := c.Document.Get("standby_cluster")
	if !v.truthy("host") && !v.truthy("port") && !v.truthy("restore_command") {
		return nil
	}
	s := &StandbyCluster{
		Host:                  v.shown("host"),
		Port:                  v.shown("port"),
		PrimarySlotName:       v.shown("primary_slot_name"),
		RestoreCommand:        v.shown("restore_command"),
		ArchiveCleanupCommand: v.shown("archive_cleanup_command"),
		RecoveryMinApplyDelay: v.shown("recovery_min_apply_delay"),
	}
	for _, method := range v.field("create_replica_methods").Items {
		s.CreateReplicaMethods = append(s.CreateReplicaMethods, method.content())
	}
	return s
}

// PortNumber is the remote's port, 5432 when none is given that can be used.
func (s *StandbyCluster) PortNumber() int {
	if n, err := strconv.ParseUint(s.Port, 10, 16); err == nil && n != 0 {
		return int(n)
	}
	return 5432
}
