package demo

import (
	"bytes"
	"fmt"
	"path/filepath"
	"text/template"
	"time"
)

// site is what the configurations of all members have in common.
type site struct {
	scope    string
	etcd     string // host:port
	binDir   string // of PostgreSQL's programs
	sockets  string // directory
	password string // of every account, also of the REST API
	ttl      time.Duration
	loopWait time.Duration
	retry    time.Duration
}

// place is where one member lives.
type place struct {
	name     string
	dir      string // everything of this member: configuration, log, data
	host     string
	pgPort   int
	restPort int
}

func (p place) file() string    { return filepath.Join(p.dir, p.name+".yaml") }
func (p place) log() string     { return filepath.Join(p.dir, "agent.log") }
func (p place) dataDir() string { return filepath.Join(p.dir, "data") }
func (p place) api() string     { return fmt.Sprintf("http://%s:%d/patroni", p.host, p.restPort) }

// patroniYAML is an ordinary configuration file, as for Patroni. The method md5 takes scram secrets as well, and is the
// one that PostgreSQL 13 can authenticate with by default.
var patroniYAML = template.Must(template.New("member").Funcs(template.FuncMap{"q": quote, "s": seconds}).Parse(
	`# One member of the demo. Patroni reads this file as well.
scope: {{q .Scope}}
name: {{q .Name}}

restapi:
  listen: {{q .REST}}
  connect_address: {{q .REST}}
  authentication: {username: regent, password: {{q .Password}}}

etcd3:
  hosts: {{q .Etcd}}

bootstrap:
  dcs:
    ttl: {{s .TTL}}
    loop_wait: {{s .LoopWait}}
    retry_timeout: {{s .Retry}}
    maximum_lag_on_failover: 1048576
    failsafe_mode: true # as wherever the members bring the store themselves
    postgresql:
      use_pg_rewind: true
      parameters:
        max_connections: 50
        shared_buffers: 32MB
        wal_keep_size: 128MB
        max_wal_size: 256MB
  initdb:
    - encoding: UTF8
    - locale: C
    - data-checksums

postgresql:
  listen: {{q .Postgres}}
  connect_address: {{q .Postgres}}
  data_dir: {{q .DataDir}}
  bin_dir: {{q .BinDir}}
  pgpass: {{q .PgPass}}
  use_pg_rewind: true
  authentication:
    superuser: {username: postgres, password: {{q .Password}}}
    replication: {username: replicator, password: {{q .Password}}}
    rewind: {username: rewinder, password: {{q .Password}}}
  parameters:
    unix_socket_directories: {{q .Sockets}}
    dynamic_shared_memory_type: mmap # in the data directory: that of a killed postmaster goes with it
    logging_collector: "on"
    log_directory: {{q .PostgresLog}}
    log_filename: postgresql.log
  pg_hba:
    - local all all md5
    - host all all 127.0.0.0/8 md5
    - host replication replicator 127.0.0.0/8 md5
`))

// memberFile is the configuration file of a member.
func memberFile(s site, p place) ([]byte, error) {
	var b bytes.Buffer
	err := patroniYAML.Execute(&b, map[string]any{
		"Scope": s.scope, "Name": p.name, "Etcd": s.etcd, "Password": s.password, "BinDir": s.binDir, "Sockets": s.sockets,
		"TTL": s.ttl, "LoopWait": s.loopWait, "Retry": s.retry,
		"REST": fmt.Sprintf("%s:%d", p.host, p.restPort), "Postgres": fmt.Sprintf("%s:%d", p.host, p.pgPort),
		"DataDir": p.dataDir(), "PgPass": filepath.Join(p.dir, "pgpass"), "PostgresLog": filepath.Join(p.dir, "log"),
	})
	return b.Bytes(), err
}

// quote writes a text as YAML's double-quoted form, of which Go's is a part for what may stand here.
func quote(text string) string { return fmt.Sprintf("%q", text) }

func seconds(d time.Duration) int { return int(d / time.Second) }
