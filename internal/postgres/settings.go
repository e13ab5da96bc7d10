// Package postgres drives one local PostgreSQL instance, versions 13 to 18: its process, control data,
// configuration files, SQL, slots, rewind and clone.
//
// It decides nothing about high availability; it does what it is told and reports what it sees. Every
// method ends with its ctx, and every wait has a bound. Methods that change the instance (Start, Stop,
// Bootstrap, Clone, Rewind, ...) must not run at the same time; observing may go on beside them.
//
// Sources: ha.md 2.12, 2.14, 2.16, 2.19, 2.20, 2.26 to 2.31; config.md 5; PostgreSQL documentation,
// "Server Administration".
package postgres

import (
	"time"
)

// Secret is a password; it prints as ***.
type Secret string

func (Secret) String() string               { return "***" }
func (Secret) GoString() string             { return "***" }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }

// Reveal returns the password itself.
func (s Secret) Reveal() string { return string(s) }

// Account is how one kind of connection authenticates (config.md 5.12). Keywords are libpq's.
type Account struct {
	Username string
	Password Secret
	Options  map[string]string // sslmode, sslcert, sslkey, sslrootcert, channel_binding, gssencmode, ...
}

// Settings is what this package needs to know of the configuration, already validated.
type Settings struct {
	Scope, Name                      string
	DataDir                          string
	ConfigDir                        string // default DataDir
	ConfigBaseName                   string // default "postgresql"
	CustomConf                       string // included instead of <base>.base.conf
	BinDir                           string // empty: PATH, then the distribution's directories, newest version first
	BinNames                         map[string]string
	ListenHosts                      string // listen_addresses
	Port                             int
	ConnectHost                      string // published
	ConnectPort                      int
	Database                         string // of the agent's own connections; default "postgres"
	PgPass                           string // password file written by the agent, mode 0600
	UseUnixSocket, UseUnixSocketRepl bool
	KrbSrvName                       string

	Superuser, Replication, Rewind Account

	Parameters   map[string]string // final value by GUC name; agent-controlled ones included (ha.md 2.27)
	Command      []string          // names of those that are passed on the postmaster's command line
	HBA, Ident   []string          // nil: not managed
	RecoveryConf map[string]string

	UserSyncNames         bool // synchronous_standby_names is for Parameters to say; else it stays as SetSyncNames left it
	UseSlots              bool
	UsePgRewind           bool
	RemoveOnRewindFailure bool
	RemoveOnDivergence    bool
	StartTimeout          time.Duration // pg_ctl_timeout; default 60 s

	Initdb        []string      // options for initdb, "--encoding=UTF8"
	Restore       *Restore      // bootstrap by a command instead of initdb
	BootstrapHBA  []string      // appended to pg_hba.conf after initdb when HBA is not managed
	PostBootstrap string        // command, run with the connection string as its argument
	BaseBackup    []string      // extra options of pg_basebackup
	CloneMethods  []CloneMethod // in order; empty: basebackup

	Callbacks   map[string]string // on_start, on_stop, on_restart, on_reload, on_role_change to a command line
	PrePromote  string
	BeforeStop  string
	Environment []string // of the postmaster: the agent's without PATRONI_*, KUBERNETES_*, NOTIFY_SOCKET
}

// Restore is a command that fills the data directory of a new cluster, from a backup for example, and how PostgreSQL recovers from what it
// left there (config.md 5.10).
type Restore struct {
	Name         string
	Command      string
	Arguments    [][2]string // further --key=value arguments
	NoParams     bool        // do not pass --scope and --datadir
	KeepRecovery bool        // the command has configured the recovery itself
	Recovery     map[string]string
}

// CloneMethod is a custom way to create a replica (config.md 5.9).
type CloneMethod struct {
	Name                         string
	Command                      string
	Arguments                    [][2]string // further --key=value arguments
	KeepData, NoParams, NoLeader bool
}
