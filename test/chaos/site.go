package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/test/chaos/history"
	"github.com/regent-ha/regent/test/chaos/machine"
	"github.com/regent-ha/regent/test/chaos/network"
)

// The cluster's rhythm: the quickest that Patroni peers accept.
const (
	ttl      = 20 * time.Second
	loopWait = 1 * time.Second
	retry    = 3 * time.Second
)

const (
	scope      = "chaos"
	password   = "secret"
	apps       = "apps" // the network's name for the applications, which run in this process
	appsAt     = "10.77.0.100"
	diskSize   = 768 << 20 // of each member's data, in bytes
	memberPort = 5432
	restPort   = 8008
	storePort  = 2379
	peerPort   = 2380
)

// site is everything that one run plays with.
type site struct {
	dir     string // in memory, gone after the run
	out     string // where the logs go
	agent   string // the program under test
	mode    string // of replication
	binDir  string // of PostgreSQL
	etcd    string
	uid     uint32 // of PostgreSQL's user
	gid     uint32
	wires   *network.Network
	members []*member
	servers []*server
}

// newSite prepares hosts, which are off, and connects this process to their network.
func newSite(o options, base string) (*site, error) {
	s := &site{dir: base, out: o.out, agent: o.agent, mode: o.mode, binDir: o.binDir, etcd: o.etcd, wires: network.New(o.seed)}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("find the user who runs PostgreSQL: %w; PostgreSQL does not run as root", err)
	}
	uid, _ := strconv.ParseUint(account.Uid, 10, 32)
	gid, _ := strconv.ParseUint(account.Gid, 10, 32)
	s.uid, s.gid = uint32(uid), uint32(gid)
	device, err := network.OpenTUN("net0", appsAt)
	if err != nil {
		return nil, err
	}
	s.wires.Attach(apps, netip.MustParseAddr(appsAt), device)
	for i := range 3 {
		e := &server{site: s, name: fmt.Sprintf("e%d", i+1)}
		e.host = machine.New(e.name, netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}), s.wires)
		s.servers = append(s.servers, e)
	}
	for i := range 3 {
		m := &member{site: s, name: fmt.Sprintf("m%d", i+1)}
		m.host = machine.New(m.name, netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 11)}), s.wires)
		if err := m.prepare(); err != nil {
			return nil, err
		}
		s.members = append(s.members, m)
	}
	return s, nil
}

// own makes a directory that belongs to PostgreSQL's user.
func (s *site) own(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chown(dir, int(s.uid), int(s.gid))
}

func (s *site) log(name string) string { return filepath.Join(s.out, "logs", name+".log") }

// endpoints are the addresses of the store's servers.
func (s *site) endpoints() (list []string) {
	for _, e := range s.servers {
		list = append(list, e.address())
	}
	return list
}

// others are the names of the members but that one.
func (s *site) others(not *member) (names []string) {
	for _, m := range s.members {
		if m != not {
			names = append(names, m.name)
		}
	}
	return names
}

func (s *site) memberNames() []string { return s.others(nil) }

func (s *site) serverNames() (names []string) {
	for _, e := range s.servers {
		names = append(names, e.name)
	}
	return names
}

// powerOff ends everything on every host.
func (s *site) powerOff() {
	for _, m := range s.members {
		m.expect(true)
		m.host.PowerOff()
	}
	for _, e := range s.servers {
		e.host.PowerOff()
	}
}

type object = map[string]any

// modes are what the dynamic configuration says of each.
var modes = map[string]object{
	history.Async:    {},
	history.Sync:     {"synchronous_mode": true},
	history.Quorum:   {"synchronous_mode": "quorum"},
	history.Failsafe: {"failsafe_mode": true},
}

// prepare makes the member's directories and its configuration. JSON is YAML.
func (m *member) prepare() (err error) {
	m.dir = filepath.Join(m.site.dir, m.name)
	m.disk = filepath.Join(m.dir, "disk")
	m.data = filepath.Join(m.disk, "data")
	for _, dir := range []string{m.dir, filepath.Join(m.dir, "log"), filepath.Join(m.dir, "journal")} {
		if err := m.site.own(dir); err != nil {
			return err
		}
	}
	if err := machine.Disk(m.disk, strconv.Itoa(diskSize)); err != nil {
		return err
	}
	if err := m.site.own(m.disk); err != nil {
		return err
	}
	at := m.host.Address.String()
	sql, rest := fmt.Sprintf("%s:%d", at, memberPort), fmt.Sprintf("%s:%d", at, restPort)
	if m.api, err = client.New("http://"+rest, client.Options{Timeout: 3 * time.Second}); err != nil {
		return err
	}
	dynamic := object{
		"ttl": seconds(ttl), "loop_wait": seconds(loopWait), "retry_timeout": seconds(retry), "primary_start_timeout": 10,
		"postgresql": object{
			"use_pg_rewind": true,
			"parameters": object{
				"max_connections": 60, "shared_buffers": "16MB", "max_wal_size": "64MB", "min_wal_size": "32MB", "wal_keep_size": "64MB",
				"wal_receiver_timeout": "6s", "wal_sender_timeout": "6s", "timezone": "UTC",
			},
		},
	}
	maps.Copy(dynamic, modes[m.site.mode])
	config := object{
		"scope": scope, "name": m.name,
		"restapi": object{"listen": rest, "connect_address": rest},
		"etcd3":   object{"hosts": m.site.endpoints()},
		"log":     object{"level": "INFO"},
		"regent":  object{"journal_dir": filepath.Join(m.dir, "journal")},
		"bootstrap": object{
			"dcs":    dynamic,
			"initdb": []any{object{"encoding": "UTF8"}, object{"locale": "C"}, "data-checksums"},
		},
		"postgresql": object{
			"listen": sql, "connect_address": sql, "data_dir": m.data, "bin_dir": m.site.binDir, "pgpass": filepath.Join(m.dir, "pgpass"),
			"authentication": object{
				"superuser":   object{"username": "postgres", "password": password},
				"replication": object{"username": "replicator", "password": "rep"},
			},
			"pg_hba": []any{"local all all trust", "host all all 10.77.0.0/24 md5", "host replication replicator 10.77.0.0/24 md5"},
			"parameters": object{
				"unix_socket_directories": m.dir, "dynamic_shared_memory_type": "mmap", "log_line_prefix": "%m [%p] ",
				"logging_collector": "on", "log_directory": filepath.Join(m.dir, "log"), "log_filename": "postgresql.log", "log_rotation_age": 0, "log_rotation_size": 0,
			},
		},
	}
	text, err := json.MarshalIndent(config, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(m.file(), text, 0o600); err != nil {
		return err
	}
	return os.Chown(m.file(), int(m.site.uid), int(m.site.gid))
}

func seconds(d time.Duration) int { return int(d / time.Second) }
