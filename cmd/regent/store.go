package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/consul"
	"github.com/regent-ha/regent/internal/dcs/embedded"
	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/dcs/zookeeper"
	"github.com/regent-ha/regent/internal/rest"
)

// current are the settings that a store asks for from its own goroutines, as the last reload left them.
type current struct {
	effective atomic.Pointer[config.Effective]
}

func (c *current) timing() (ttl, loopWait, retryTimeout time.Duration) {
	t := cluster.DefaultTiming
	if e := c.effective.Load(); e != nil {
		t = e.Timing
	}
	return t.TTL, t.LoopWait, t.RetryTimeout
}

// account is that of etcd; s has it until the first reload.
func (c *current) account(s *config.Settings) func() (username, password string) {
	return func() (username, password string) {
		e := s.DCS.Etcd
		if now := c.effective.Load(); now != nil {
			e = now.DCS.Etcd
		}
		return e.Username, e.Password.Reveal()
	}
}

// openStore opens the member's store. end also ends the etcd inside the agent, where it is that.
func openStore(ctx context.Context, s *config.Settings, now *current, log *slog.Logger) (store dcs.Store, end func(), err error) {
	if s.DCS.Kind == config.InKubernetes {
		c := kubernetesConfig(s)
		c.Timing, c.Log = now.timing, log
		store, err := kubernetes.OpenMoving(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		return store, func() { store.Close() }, nil
	}
	if s.DCS.Kind == config.InZooKeeper {
		c := zookeeperConfig(s)
		c.Timing, c.Log = now.timing, log
		store, err := zookeeper.Open(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		return store, func() { store.Close() }, nil
	}
	if s.DCS.Kind == config.InConsul {
		c := consulConfig(s, now)
		c.Timing, c.Log = now.timing, log
		store, err := consul.Open(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		return store, func() { store.Close() }, nil
	}
	endpoints, stop := s.DCS.Etcd.Hosts, func() {}
	if s.DCS.Kind == config.Embedded {
		server, err := embedded.Start(ctx, embedConfig(s, log))
		if err != nil {
			return nil, nil, err
		}
		endpoints, stop = server.Endpoints(), func() { server.Close() }
	}
	e, err := etcd.Open(ctx, etcdConfig(s, endpoints, now, log))
	if err != nil {
		stop()
		return nil, nil, err
	}
	return e, func() { e.Close(); stop() }, nil
}

func etcdConfig(s *config.Settings, endpoints []string, now *current, log *slog.Logger) etcd.Config {
	e := s.DCS.Etcd
	return etcd.Config{
		Endpoints: endpoints, HTTPS: e.Protocol == "https",
		SRV: e.SRV, SRVSuffix: e.SRVSuffix, Learn: s.DCS.Kind == config.Etcd3 && !e.UseProxies,
		Account: now.account(s), CACert: e.CACert, Cert: e.Cert, Key: e.Key,
		Namespace: s.Namespace, Scope: s.Scope, Name: s.Name, Log: log, Timing: now.timing,
	}
}

func embedConfig(s *config.Settings, log *slog.Logger) embedded.Config {
	e := s.DCS.Embed
	return embedded.Config{DataDir: e.DataDir, SelfAddr: e.SelfAddr, BindAddr: e.BindAddr, PartnerAddrs: e.PartnerAddrs, Log: log}
}

func kubernetesConfig(s *config.Settings) kubernetes.Config {
	k := s.DCS.Kubernetes
	c := kubernetes.Config{
		Access: kubernetes.Access{Context: k.Context, CACert: k.CACert, Bypass: k.BypassService},
		Layout: kubernetes.Layout(k.Layout), Namespace: k.Namespace, Scope: s.Scope, Name: s.Name, Labels: k.Labels, ScopeLabel: k.ScopeLabel,
		RoleLabel: k.RoleLabel, LeaderValue: k.LeaderValue, FollowerValue: k.FollowerValue, StandbyLeaderValue: k.StandbyLeaderValue,
		TmpRoleLabel: k.TmpRoleLabel, BootstrapLabels: k.BootstrapLabels, PodIP: k.PodIP, RetriableCodes: k.RetriableCodes,
	}
	for _, p := range k.Ports {
		c.Ports = append(c.Ports, kubernetes.Port{Name: p.Name, Port: p.Port, Protocol: p.Protocol})
	}
	return c
}

func zookeeperConfig(s *config.Settings) zookeeper.Config {
	z := s.DCS.ZooKeeper
	c := zookeeper.Config{
		Servers: z.Hosts, TLS: z.UseSSL, CACert: z.CACert, Unverified: !z.Verify,
		Namespace: s.Namespace, Scope: s.Scope, Name: s.Name,
	}
	if z.Cert != "" {
		c.Certificate = func() (*tls.Certificate, error) {
			pair, err := rest.LoadKeyPair("zookeeper", z.Cert, z.Key, z.KeyPassword.Reveal())
			return &pair, err
		}
	}
	for _, scheme := range slices.Sorted(maps.Keys(z.Auth)) {
		c.Auth = append(c.Auth, zookeeper.Credential{Scheme: scheme, Secret: z.Auth[scheme].Reveal()})
	}
	permissions := map[string]int32{
		"READ": zookeeper.Read, "WRITE": zookeeper.Write, "CREATE": zookeeper.Create, "DELETE": zookeeper.Delete, "ADMIN": zookeeper.Admin,
		"ALL": zookeeper.All,
	}
	for _, a := range z.ACL {
		acl := zookeeper.ACL{Scheme: a.Scheme, ID: a.ID}
		for _, p := range a.Permissions {
			acl.Permissions |= permissions[p]
		}
		c.ACL = append(c.ACL, acl)
	}
	return c
}

// consulConfig follows reloads of what may change while the store is open.
func consulConfig(s *config.Settings, now *current) consul.Config {
	x := s.DCS.Consul
	c := consul.Config{
		Address: x.Address, TLS: x.Scheme == "https", Unverified: !x.Verify, CACert: x.CACert, Checks: x.Checks,
		Namespace: s.Namespace, Scope: s.Scope, Name: s.Name,
		ServiceCheckInterval: x.ServiceCheckInterval, ServiceCheckTLSServerName: x.ServiceCheckTLSServerName,
		Live: func() consul.Live {
			x := x
			if e := now.effective.Load(); e != nil {
				x = e.DCS.Consul
			}
			return consul.Live{
				Token: x.Token.Reveal(), Datacenter: x.Datacenter, Consistency: consul.Consistency(x.Consistency),
				RegisterService: x.RegisterService, ServiceTags: x.ServiceTags,
			}
		},
	}
	if x.Cert != "" {
		key := x.Key
		if key == "" {
			key = x.Cert // both in one file
		}
		c.Cert = func() (*tls.Certificate, error) {
			pair, err := rest.LoadKeyPair("consul", x.Cert, key, "")
			return &pair, err
		}
	}
	return c
}
