package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Bounds of looking for servers.
const (
	lookupLimit = 5 * time.Second
	// lookAgain is the shortest pause; with all servers gone it is what a new address in the name service waits for.
	lookAgain = 5 * time.Second
)

// services are the names that etcd's servers are looked up by, in this order (config.md 2.10).
var services = []struct {
	name  string
	https bool
	peers bool // they are asked for the addresses of clients
}{
	{"_etcd-client-ssl", true, false}, {"_etcd-client", false, false}, {"_etcd-ssl", true, false}, {"_etcd", false, false},
	{"_etcd-server-ssl", true, true}, {"_etcd-server", false, true},
}

// discover keeps the list of servers up to date until ctx ends: what the configuration and the name service say, and what the cluster
// itself says, unless it is reached through a proxy. It looks every 10*ttl, and when no server answers.
func (s *Store) discover(ctx context.Context) {
	for ctx.Err() == nil {
		began := s.config.Clock()
		s.pool.use(append(s.configured(ctx), s.learned(ctx)...))
		ttl, _, _ := s.config.Timing()
		regular := time.NewTimer(10 * ttl)
		select {
		case <-ctx.Done():
		case <-regular.C:
		case <-s.pool.lost:
		}
		regular.Stop()
		select {
		case <-ctx.Done():
		case <-time.After(lookAgain - s.config.Clock().Sub(began)):
		}
	}
}

// configured are the addresses of the configuration, or of the name service when it names a domain; when that has no answer, those known.
func (s *Store) configured(ctx context.Context) []string {
	if s.config.SRV == "" {
		return slices.Clone(s.config.Endpoints)
	}
	found, err := s.config.lookup(ctx)
	s.pool.unknown(err)
	if err != nil {
		s.config.Log.Warn("look for etcd servers", "error", err)
		return s.pool.known()
	}
	return found
}

// lookup finds the servers of a domain: the first name that has any wins.
func (c *Config) lookup(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	var problems []error
	for _, service := range services {
		name := service.name
		if c.SRVSuffix != "" {
			name += "-" + c.SRVSuffix
		}
		name += "._tcp." + c.SRV
		records, err := c.LookupSRV(ctx, name)
		if err != nil || len(records) == 0 {
			problems = append(problems, err)
			continue
		}
		scheme := "http://"
		if service.https {
			scheme = "https://"
		}
		var found []string
		for _, r := range records {
			address := scheme + net.JoinHostPort(strings.TrimSuffix(r.Target, "."), fmt.Sprint(r.Port))
			if !service.peers {
				found = append(found, address)
				continue
			}
			clients, err := c.askPeer(ctx, address)
			if err != nil {
				problems = append(problems, err)
			}
			found = append(found, clients...)
		}
		if len(found) > 0 {
			return found, nil
		}
	}
	return nil, fmt.Errorf("look up _etcd-client._tcp.%s and the like: no servers found; check etcd3.srv: %w", c.SRV, errors.Join(problems...))
}

// askPeer asks a server at its address for other servers where clients reach the cluster.
func (c *Config) askPeer(ctx context.Context, address string) (clients []string, err error) {
	config, err := c.tls()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/members", nil)
	if err != nil {
		return nil, err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var members []struct {
		ClientURLs []string `json:"clientURLs"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, answer.Body, 1<<20)).Decode(&members); err != nil {
		return nil, fmt.Errorf("read %s/members: %w", address, err)
	}
	for _, m := range members {
		clients = append(clients, m.ClientURLs...)
	}
	return clients, nil
}

// learned are the addresses that the cluster's members say they have for clients, without those that lead to another cluster or nowhere:
// many are made for a local client only. When nobody can be asked, they are those known.
func (s *Store) learned(ctx context.Context) (found []string) {
	if !s.config.Learn {
		return nil
	}
	var members *pb.MemberListResponse
	err := s.pool.read(ctx, "members", func(ctx context.Context, e *endpoint) (*pb.ResponseHeader, error) {
		r, err := pb.NewClusterClient(e.conn).MemberList(ctx, &pb.MemberListRequest{})
		if err != nil {
			return nil, err
		}
		members = r
		return r.Header, nil
	})
	if err != nil {
		s.config.Log.Debug("learn the members of etcd", "error", err)
		return s.pool.known()
	}
	for _, m := range members.Members {
		for _, url := range m.ClientURLs {
			if err := s.config.belongs(ctx, url, members.Header.ClusterId); err != nil {
				s.config.Log.Debug("an address that etcd tells of itself is not used", "address", url, "error", err)
				continue
			}
			found = append(found, url)
		}
	}
	return found
}

// belongs checks that an address leads to the cluster of that number. It shows no password.
func (c *Config) belongs(ctx context.Context, address string, cluster uint64) error {
	e, err := dial(c, address)
	if err != nil {
		return err
	}
	defer e.conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := e.ready(ctx); err != nil {
		return err
	}
	status, err := pb.NewMaintenanceClient(e.conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return err
	}
	if status.Header.ClusterId != cluster {
		return fmt.Errorf("it is cluster %x, want %x", status.Header.ClusterId, cluster)
	}
	return nil
}

// use makes these the servers. Those that are known stay connected; others are hung up.
func (p *pool) use(addresses []string) {
	p.mu.Lock()
	before := slices.Clone(p.endpoints)
	p.mu.Unlock()
	var next []*endpoint
	for _, address := range addresses {
		hostport, _, err := p.config.address(address)
		same := func(e *endpoint) bool { return e.address == hostport }
		if err == nil && slices.ContainsFunc(next, same) {
			continue
		}
		if i := slices.IndexFunc(before, same); err == nil && i >= 0 {
			next = append(next, before[i])
			continue
		}
		e, err := dial(p.config, address)
		if err != nil {
			p.config.Log.Warn("an address of etcd cannot be used", "error", err)
			continue
		}
		next = append(next, e)
	}
	if len(next) == 0 {
		return
	}
	p.mu.Lock()
	current := 0
	if len(p.endpoints) > 0 {
		current = max(slices.Index(next, p.endpoints[p.current]), 0)
	}
	p.endpoints, p.current = next, current
	p.mu.Unlock()
	for _, e := range before {
		if !slices.Contains(next, e) {
			p.left(e)
			_ = e.conn.Close()
		}
	}
}

// known are the addresses of the servers as they came in.
func (p *pool) known() (addresses []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.endpoints {
		addresses = append(addresses, e.url)
	}
	return addresses
}

// unknown notes why no server is known, for as long as none is; nil: no longer.
func (p *pool) unknown(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.none = why
}
