// Package embedded runs an etcd server inside the agent: a cluster of one when no store is configured, or of three or
// five through Patroni's raft section (config.md section 2.13). It is plain etcd; etcdctl and Patroni members can use it.
//
// Ports: peers talk on self_addr; clients on the port after it, also those of the partners. Neither is
// encrypted: raft.password has no counterpart here, so keep both ports inside a trusted network.
//
// Sources: etcd, "Clustering Guide", "Runtime reconfiguration", "Maintenance"; dcs.md section 3.6.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
)

// Config says where the server lives and who its partners are.
type Config struct {
	DataDir string // raft.data_dir; the server uses its sub-directory "etcd" and nothing else

	SelfAddr     string   // raft.self_addr, host:port for peers; empty: a cluster of one that listens to no peers
	BindAddr     string   // raft.bind_addr; empty: SelfAddr
	PartnerAddrs []string // raft.partner_addrs

	// ClientAddr is the host:port for clients. Empty: the port after SelfAddr's, or 127.0.0.1:2379 without it. Port 0: any
	// free one. Partners look for it at the port after SelfAddr's.
	ClientAddr string

	Log *slog.Logger // nil: slog.Default()

	unsafe bool // no fsync: for tests, which share a disk
}

const (
	dirName           = "etcd"
	defaultClientAddr = "127.0.0.1:2379"
	// The keys of a cluster take kilobytes. The quota bounds what a stranger can make of it, and reserves address space only.
	quotaBytes = 512 << 20
)

// Server is a running etcd.
type Server struct {
	etcd     *embed.Etcd
	clients  []string
	log      *slog.Logger
	stop     context.CancelFunc
	tending  sync.WaitGroup
	stopOnce sync.Once
	cut      func() // ends all client connections
}

// Start returns once the server listens. It serves clients when it has found a majority, see Ready. A member that has lost its data
// is replaced by itself, which takes a majority of the partners; Start tries until ctx ends.
func Start(ctx context.Context, c Config) (*Server, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	p, err := c.plan(ctx)
	if err != nil {
		return nil, fmt.Errorf("start embedded etcd: %w", err)
	}
	dir := filepath.Join(c.DataDir, dirName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start embedded etcd: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { // it may be older than we are
		return nil, fmt.Errorf("start embedded etcd: %w", err)
	}
	for {
		initial, existing, err := p.join(ctx, initialized(dir), c.Log)
		if err != nil {
			return nil, fmt.Errorf("start embedded etcd: %w", err)
		}
		config := p.etcd(dir, initial, existing, c.Log)
		config.UnsafeNoFsync = c.unsafe
		var serving atomic.Pointer[grpc.Server]
		config.ServiceRegister = func(s *grpc.Server) { serving.Store(s) }
		running, err := embed.StartEtcd(config)
		if err == nil {
			s := &Server{etcd: running, clients: append([]string{p.clientAdvertise}, p.partnerClients...), log: c.Log}
			s.cut = func() {
				if server := serving.Load(); server != nil {
					server.Stop()
				}
			}
			s.tend()
			return s, nil
		}
		err = p.explain(err)
		if !soon(err) {
			return nil, fmt.Errorf("start embedded etcd: %w", err)
		}
		// Partners came up, or changed the membership, between our question and our start: ask again.
		c.Log.Warn("embedded etcd could not join its partners yet", "error", err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("start embedded etcd: %w (%w)", err, ctx.Err())
		case <-time.After(time.Second):
		}
	}
}

// soon says whether asking the partners again may help. etcd has no types for these errors, and calls a cluster of which nobody told
// his version in time an incompatible one.
func soon(err error) bool {
	for _, text := range []string{"already been bootstrapped", "cannot fetch cluster info", "error validating peerURLs", "incompatible with current running cluster"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// Endpoints are the clients' host:port: our own first, then the partners'.
func (s *Server) Endpoints() []string { return s.clients }

// Ready is closed when the server has joined a majority and serves clients.
func (s *Server) Ready() <-chan struct{} { return s.etcd.Server.ReadyNotify() }

// Err tells when the server has ended by itself.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Close stops serving and waits for what is written. It does not wait for clients: watches have no end, and etcd
// would give them seven seconds.
func (s *Server) Close() error {
	s.stopOnce.Do(func() {
		s.stop()
		s.tending.Wait()
		select {
		case <-s.Ready():
			s.cut()
		default: // etcd's Close would wait until it has a majority
			s.etcd.Server.Stop()
		}
		s.etcd.Close()
	})
	return nil
}

// plan is the configuration with all addresses filled in.
type plan struct {
	name                          string // of the member in etcd: its peer address, which the partners know without asking
	peerListen                    string
	clientListen, clientAdvertise string
	partners, partnerClients      []string
}

func (c Config) plan(ctx context.Context) (plan, error) {
	p := plan{name: c.SelfAddr, partners: c.PartnerAddrs}
	if c.DataDir == "" {
		return p, errors.New("have no data_dir, want a directory that survives a restart")
	}
	client := c.ClientAddr
	if c.SelfAddr == "" {
		if len(c.PartnerAddrs) > 0 {
			return p, errors.New("have partner_addrs without self_addr; a member that only watches is not supported")
		}
		p.name = "single"
		if client == "" {
			client = defaultClientAddr
		}
	} else {
		next, err := clientOf(c.SelfAddr)
		if err != nil {
			return p, err
		}
		p.clientAdvertise = next
		bind := c.BindAddr
		if bind == "" {
			bind = c.SelfAddr
		}
		if p.peerListen, err = numeric(ctx, bind); err != nil {
			return p, err
		}
		if client == "" {
			if client, err = clientOf(bind); err != nil {
				return p, err
			}
		} else {
			p.clientAdvertise = client
		}
		for _, partner := range c.PartnerAddrs {
			next, err := clientOf(partner)
			if err != nil {
				return p, err
			}
			p.partnerClients = append(p.partnerClients, next)
		}
	}
	var err error
	if p.clientListen, err = numeric(ctx, client); err != nil {
		return p, err
	}
	for _, address := range []*string{&p.peerListen, &p.clientListen} {
		if *address != "" {
			if *address, err = probe(*address); err != nil {
				return p, err
			}
		}
	}
	if p.clientAdvertise == "" || strings.HasSuffix(p.clientAdvertise, ":0") {
		p.clientAdvertise = p.clientListen
	}
	return p, nil
}

// clientOf is the client address that belongs to a peer address.
func clientOf(peer string) (string, error) {
	host, port, err := net.SplitHostPort(peer)
	if err != nil {
		return "", fmt.Errorf("read raft address %s: want host:port: %w", peer, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil || number < 1 || number > 65534 {
		return "", fmt.Errorf("read raft address %s: want a port from 1 to 65534, the next one is for clients", peer)
	}
	return net.JoinHostPort(host, strconv.Itoa(number+1)), nil
}

// numeric replaces the host by its address, since etcd listens on nothing else.
func numeric(ctx context.Context, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("read address %s: want host:port: %w", address, err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if net.ParseIP(host) == nil {
		found, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			return "", fmt.Errorf("resolve %s: %w", address, err)
		}
		host = found[0]
	}
	return net.JoinHostPort(host, port), nil
}

// probe says in one sentence when an address cannot be listened on, and chooses a port for port 0.
func probe(address string) (string, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", taken(address, err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func taken(address string, err error) error {
	_, port, _ := net.SplitHostPort(address)
	return fmt.Errorf("listen on port %s: %w; stop the program that uses %s, or configure another address", port, err, address)
}

func (p plan) explain(err error) error {
	for _, address := range []string{p.peerListen, p.clientListen} {
		if address != "" && strings.Contains(err.Error(), "address already in use") && strings.Contains(err.Error(), address) {
			return taken(address, err)
		}
	}
	return err
}

func initialized(dir string) bool {
	files, err := os.ReadDir(filepath.Join(dir, "member", "wal"))
	return err == nil && len(files) > 0
}

func link(address string) url.URL { return url.URL{Scheme: "http", Host: address} }

// etcd is the configuration of the server. initial maps the members' names to their peer addresses.
func (p plan) etcd(dir string, initial map[string]string, existing bool, log *slog.Logger) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = p.name, dir
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{link(p.clientListen)}, []url.URL{link(p.clientAdvertise)}
	c.ListenPeerUrls = nil
	c.AdvertisePeerUrls = []url.URL{link(initial[p.name])}
	if p.peerListen != "" {
		c.ListenPeerUrls = []url.URL{link(p.peerListen)}
	}
	var members []string
	for name, peer := range initial {
		members = append(members, name+"=http://"+peer)
	}
	c.InitialCluster, c.InitialClusterToken = strings.Join(members, ","), "regent"
	if existing {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	// Watches go on from where they were after a reconnect; more history than this nobody needs.
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, "1000"
	c.SnapshotCount, c.SnapshotCatchUpEntries = 2000, 500 // what raft keeps in memory
	c.MaxWalFiles = 2
	c.QuotaBackendBytes = quotaBytes
	c.EnablePprof = false
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger(log))
	return c
}
