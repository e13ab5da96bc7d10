package harness

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"time"
)

// Options are what a test chooses.
type Options struct {
	Members   int            // default 2
	Names     string         // what their names begin with, default "m": m0, m1, ...
	OnePort   bool           // PostgreSQL has the same port everywhere, at an address of its own for each member
	TTL       time.Duration  // default 20 s
	LoopWait  time.Duration  // default 2 s
	Retry     time.Duration  // default 3 s
	Dynamic   map[string]any // into bootstrap.dcs
	ZooKeeper bool           // the store is one, instead of etcd
	Consul    bool           // the store is one, instead of etcd
	// Member changes the configuration of one member before it is written.
	Member func(m *Member, config map[string]any)
}

func (o *Options) defaults() {
	o.Members = orDefault(o.Members, 2)
	o.Names = orDefault(o.Names, "m")
	o.TTL = orDefault(o.TTL, 20*time.Second)
	o.LoopWait = orDefault(o.LoopWait, 2*time.Second)
	o.Retry = orDefault(o.Retry, 3*time.Second)
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// Map is a mapping of a configuration.
type Map = map[string]any

// configuration is a member's file. JSON is YAML.
func (m *Member) configuration() []byte {
	o := m.cluster.options
	dynamic := Map{
		"ttl": int(o.TTL / time.Second), "loop_wait": int(o.LoopWait / time.Second), "retry_timeout": int(o.Retry / time.Second),
		"postgresql": Map{
			"use_pg_rewind": true,
			"parameters":    Map{"max_connections": 50, "shared_buffers": "16MB", "max_wal_size": "256MB", "wal_keep_size": "64MB", "timezone": "UTC"},
		},
	}
	maps.Copy(dynamic, o.Dynamic)
	address := fmt.Sprintf("%s:%d", m.Host, m.Port)
	config := Map{
		"scope": m.cluster.scope, "name": m.Name,
		"restapi": Map{"listen": m.api, "connect_address": m.api},
		"etcd3":   Map{"hosts": m.Store.Address(), "use_proxies": true}, // learned addresses would lead past the proxy
		"log":     Map{"level": "DEBUG"},
		"bootstrap": Map{
			"dcs": dynamic, "initdb": []any{Map{"encoding": "UTF8"}, Map{"locale": "C"}, "data-checksums"},
		},
		"postgresql": Map{
			"listen": address, "connect_address": address, "data_dir": m.Data, "bin_dir": m.cluster.binDir,
			"pgpass": filepath.Join(m.Dir, "pgpass"),
			"authentication": Map{
				"superuser":   Map{"username": "postgres", "password": password},
				"replication": Map{"username": "replicator", "password": "rep"},
			},
			"pg_hba": []any{"local all all trust", "host all all 127.0.0.0/8 md5", "host replication replicator 127.0.0.0/8 md5"},
			// Shared memory in the data directory: that of a killed postmaster goes with it.
			"parameters": Map{"unix_socket_directories": m.Dir, "dynamic_shared_memory_type": "mmap"},
		},
	}
	if o.ZooKeeper {
		delete(config, "etcd3")
		config["zookeeper"] = Map{"hosts": []any{m.Store.Address()}}
	}
	if o.Consul {
		delete(config, "etcd3")
		config["consul"] = Map{"host": m.Store.Address()}
	}
	if o.Member != nil {
		o.Member(m, config)
	}
	text, err := json.MarshalIndent(config, "", " ")
	if err != nil {
		panic(err) // a test's own values
	}
	return text
}

const password = "secret"
