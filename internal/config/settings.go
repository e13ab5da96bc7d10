package config

import (
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Settings are the typed form of a configuration. What is absent has its default.
type Settings struct {
	Name      string // unique member name; required; also application_name and, mangled, the slot's name
	Scope     string // cluster name; required; also the setting cluster_name
	Namespace string // path prefix in the DCS, "/<namespace>/<scope>/"; default "service"

	RESTAPI   RESTAPI
	CTL       CTL
	DCS       DCS
	Bootstrap Bootstrap
	Postgres  Postgres
	Watchdog  Watchdog
	Tags      cluster.Tags // what this member says about itself, as written; Tags.Effective is what it publishes
	Log       Log
	Regent    Regent
	Proxy     Proxy
}

// Credential is a name with a password; both are needed (config.md 2.2).
type Credential struct {
	Username string
	Password Secret
}

// Set says whether there is a credential at all.
func (c Credential) Set() bool { return c.Username != "" || !c.Password.Empty() }

// RESTAPI is the HTTP server of a member (config.md 2.2). All of it can be reloaded.
type RESTAPI struct {
	Listen                  string // host:port to bind; required; host empty or *: all addresses
	ConnectAddress          string // host:port that others use; default Listen
	Auth                    Credential
	CertFile                string            // PEM; its presence switches to HTTPS
	KeyFile                 string            // PEM; default: the key is in CertFile
	KeyFilePassword         Secret            // of an encrypted KeyFile
	CAFile                  string            // CA of client certificates, and the client's fallback CA
	Ciphers                 string            // OpenSSL cipher list; empty: the library's
	VerifyClient            string            // none, optional, required; default none
	Allowlist               []string          // hosts, addresses or CIDR that may call unsafe endpoints; empty: all
	AllowlistIncludeMembers bool              // also the members' own addresses; default false
	HTTPExtraHeaders        map[string]string // added to every answer
	HTTPSExtraHeaders       map[string]string // added to answers over TLS
	RequestQueueSize        int               // listen backlog, 0 to 4096; default 5; more costs memory of the kernel
	ServerTokens            string            // minimal, productonly, original; default original
}

// CTL is how this member and the command line call other members (config.md 2.3).
type CTL struct {
	Auth            Credential // default: RESTAPI.Auth
	Insecure        bool       // the command line does not verify certificates; default false
	CACert          string     // CA bundle; default RESTAPI.CAFile
	CertFile        string     // client certificate
	KeyFile         string
	KeyFilePassword Secret
	Layout          string // Regent's own: "narrow" (80 columns) or "wide" (Patroni 4.1's columns); default narrow
}

// Kind says which store the cluster has.
type Kind string

const (
	Etcd3        Kind = "etcd3"
	Embedded     Kind = "embedded" // etcd inside the agent
	InKubernetes Kind = "kubernetes"
	InZooKeeper  Kind = "zookeeper"
	InConsul     Kind = "consul"
)

// DCS is the choice of the store. Exactly the part that Kind names has a meaning.
type DCS struct {
	Kind       Kind
	Etcd       Etcd
	Embed      Embed
	Kubernetes Kubernetes
	ZooKeeper  ZooKeeper
	Consul     Consul
}

// Etcd is where an etcd v3 cluster is (config.md 2.10).
type Etcd struct {
	Hosts      []string // host:port to begin with, from proxy, url, hosts or host, in this order
	SRV        string   // domain of SRV discovery; comes before Hosts
	SRVSuffix  string   // suffix of the service name, "_etcd-client-<suffix>"
	Protocol   string   // http or https; default http
	UseProxies bool     // keep to Hosts, do not learn the members; default false
	Username   string
	Password   Secret
	CACert     string
	Cert, Key  string // client certificate
}

// Embed is the etcd inside the agent. Patroni's raft section maps to it (config.md 2.13); without
// any DCS section there is one member that only this machine reaches.
type Embed struct {
	SelfAddr     string   // host:port of this node; empty: a cluster of one on loopback
	BindAddr     string   // host:port to listen on; default SelfAddr
	PartnerAddrs []string // host:port of the other nodes; 2 or 4 of them, or none
	DataDir      string   // default: beside the PostgreSQL data directory, "<data_dir>/../<name>-etcd"
	Password     Secret   // shared by the nodes
}

// Bootstrap is how the first member makes the cluster (config.md 2.5); read once.
type Bootstrap struct {
	Present       bool                  // there is such a section: this member may initialise a cluster
	DCS           cluster.DynamicConfig // first dynamic document, verbatim and in order, and failsafe_mode with the embedded etcd; null when absent
	Method        string                // "initdb", or a custom method that has a command; default initdb
	Initdb        []Option
	Custom        *CustomBootstrap // of Method; nil for initdb
	PgHBA         []string         // appended to pg_hba.conf, only if postgresql.pg_hba is not set
	PostBootstrap string           // command, run once with a connection string as its argument
}

// Option is one option of a program: --name=value, or --name alone when Flag.
type Option struct {
	Name, Value string
	Flag        bool
}

// String is the option as an argument.
func (o Option) String() string {
	if o.Flag {
		return "--" + o.Name
	}
	return "--" + o.Name + "=" + o.Value
}

// CustomBootstrap is a command that fills the data directory (config.md 5.10).
type CustomBootstrap struct {
	Name                     string
	Command                  string
	NoParams                 bool // do not pass --scope and --datadir
	KeepExistingRecoveryConf bool
	RecoveryConf             map[string]string
	Arguments                []Option // every other key, as --key=value
}

// CloneMethod is a custom way to create a replica (config.md 5.9).
type CloneMethod struct {
	Name      string
	Command   string
	KeepData  bool     // do not wipe the data directory before
	NoParams  bool     // pass only Arguments
	NoLeader  bool     // works without a leader
	Arguments []Option // every key but command, the three flags included where written
}

// Account is how one kind of connection authenticates (config.md 5.12). The names are libpq's.
type Account struct {
	Username       string
	Password       Secret
	SSLMode        string
	SSLCert        string
	SSLKey         string
	SSLPassword    Secret
	SSLRootCert    string
	SSLCRL         string
	SSLCRLDir      string
	GSSEncMode     string
	ChannelBinding string
	SSLNegotiation string
}

// Postgres is the local instance (config.md 2.6 to 2.8).
type Postgres struct {
	DataDir           string            // PGDATA; required; agent restart
	ConfigDir         string            // of the configuration files; default DataDir; agent restart
	ConfigBaseName    string            // default "postgresql"; agent restart
	BinDir            string            // of the programs; empty: PATH; agent restart
	BinName           map[string]string // other names of pg_ctl, initdb, pg_controldata, pg_basebackup, postgres, pg_isready, pg_rewind
	Listen            string            // host[,host][:port]; required; a change restarts PostgreSQL
	ConnectAddress    string            // host:port published to the others; default: first address of Listen
	ProxyAddress      string            // host:port published as proxy_url only
	Database          string            // of the agent's own connections; default "postgres"
	PgPass            string            // password file that the agent writes; default ~/pgpass; agent restart
	UseUnixSocket     bool              // local superuser connections through the socket; default false
	UseUnixSocketRepl bool              // local replication connections through the socket; default false
	KrbSrvName        string

	Superuser, Replication Account
	Rewind                 Account // the zero value: the superuser rewinds

	Parameters   map[string]string             // by name as written; without the managed ones (Effective adds them)
	RoleOverlay  map[cluster.Role]RoleSettings // primary, replica, standby_leader
	PgHBA        []string                      // whole pg_hba.conf; nil: not managed
	PgIdent      []string                      // whole pg_ident.conf; nil: not managed
	CustomConf   string                        // included instead of <base>.base.conf
	RecoveryConf map[string]string             // further settings of standbys

	UsePgRewind                  bool          // default false
	RewindOptions                []Option      // further options of pg_rewind
	RemoveDataDirOnRewindFailure bool          // wipe and clone after a failed rewind; default false
	RemoveDataDirOnDiverged      bool          // wipe and clone a diverged timeline that cannot be rewound; default false
	CtlTimeout                   time.Duration // wait for a start when nothing else limits it; default 60 s; longer delays a failover
	CreateReplicaMethods         []string      // in order; default basebackup
	Methods                      []CloneMethod // the custom ones, of CreateReplicaMethods and of standby_cluster's list
	BaseBackup                   []Option      // further options of pg_basebackup

	Callbacks  Callbacks
	PrePromote string // command before promotion; a failure gives the promotion up
	BeforeStop string // command before each stop
}

// RoleSettings replace or add to the general ones in one role.
type RoleSettings struct {
	Parameters     map[string]string // laid over Parameters
	PgHBA, PgIdent []string          // instead of the general lists; nil: keep
}

// Callbacks are commands, started with action, role and scope as arguments (config.md 5.8).
type Callbacks struct {
	OnStart, OnStop, OnRestart, OnReload, OnRoleChange string
}

// Watchdog is the hardware one (config.md 2.4).
type Watchdog struct {
	Mode         string        // off, automatic, required; default automatic
	Device       string        // default /dev/watchdog
	SafetyMargin time.Duration // the device fires at ttl minus this; default 5 s; more fires earlier
	HalfTTL      bool          // safety_margin -1: fire at ttl/2
	Driver       string        // default "default"
}

// Log is where and how the agent logs (config.md 6). All of it can be reloaded.
type Log struct {
	Type         string            // plain, json; default plain
	Level        string            // DEBUG, INFO, WARNING, ERROR, CRITICAL; default INFO
	Format       []LogPiece        // of plain lines; default "%(asctime)s %(levelname)s: %(message)s"
	Fields       []LogPiece        // of JSON records; default the attributes of that format
	DateFormat   string            // strftime; empty: 2026-01-31 12:00:00,123
	StaticFields map[string]string // json: added to every record
	Dir          string            // writes <dir>/patroni.log; empty: standard error
	Mode         int               // of the file; 0: 0666 minus umask
	FileNum      int               // rotated files kept; default 4
	FileSize     int64             // bytes at which a file is rotated; default 25000000
	Loggers      map[string]string // level by part of the agent, of LoggerParts
	Deduplicate  bool              // deduplicate_heartbeat_logs: tell a heartbeat ("no action. ...") once, not in each cycle; default false
}

// Regent is our own section, which Patroni ignores.
type Regent struct {
	JournalDir string // journal of decisions; default "<data_dir>/../<name>-journal"
	Guard      string // the second process that kills PostgreSQL when the lock runs out: off, automatic, required; default automatic
}

// Proxy is what `regent proxy` reads, a section of our own.
type Proxy struct {
	Listen   string        // host:port that leads to the primary; empty: none
	Replicas string        // host:port that leads to the replicas; empty: none
	MaxLag   int64         // bytes that a replica may be behind; default -1: any
	Status   string        // host:port of the status over HTTP; empty: none
	Hold     time.Duration // how long a client waits while there is none; default 30 s; a longer one hides longer outages from clients
	VIP      VIP           // an address of this host while its member leads; zero: none
	MaxHeld  int           // how many wait at once; default 1000
}

// VIP is an address that follows the leader.
type VIP struct {
	Address string // with its prefix, such as 10.0.0.100/24
	Device  string // such as eth0
}
