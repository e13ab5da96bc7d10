package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/logging"
	"github.com/regent-ha/regent/internal/metrics"
	"github.com/regent-ha/regent/internal/rest"
	"github.com/regent-ha/regent/internal/version"
)

// runMember wires one member together and runs it. leave asks it to leave in order; hard ends it at once. A value on
// reload makes it re-read its configuration.
func runMember(leave, hard context.Context, reload <-chan struct{}, file *config.File, logs *logging.Log) error {
	log := logs.Logger()
	settings, err := file.Settings()
	if err != nil {
		return err
	}
	now := &current{}
	store, end, err := openStore(hard, &settings, now, log)
	if err != nil {
		return err
	}
	defer end()

	journaled, endEvents, err := events(&settings, log)
	if err != nil {
		return err
	}
	defer endEvents()
	m := metrics.New(settings.Scope, settings.Name, version.Regent)
	asker, err := newPeers(&settings)
	if err != nil {
		return err
	}
	var server *rest.Server
	member, err := agent.New(agent.Options{
		File: file, Store: store, Peers: asker.ask, Agree: asker.agree, Log: log, Decided: m.Decided, Journaled: journaled,
		Reloaded: func(e *config.Effective) {
			now.effective.Store(e)
			if err := logs.Configure(e.Log); err != nil {
				log.Error("reload the log's settings: the old ones stay in force", "error", err)
			}
			if err := asker.configure(&e.Settings); err != nil {
				log.Error("reload the certificate for other members: the old one stays in force", "error", err)
			}
			if server != nil {
				if err := server.Reload(restConfig(&e.Settings, m)); err != nil {
					log.Error("reload REST: the old settings stay in force", "error", err)
				}
			}
		},
	})
	if err != nil {
		return err
	}
	m.Lease(member.LeaseLeft)
	m.Guard(func() metrics.Guard {
		g := member.Guard()
		left := time.Duration(0)
		if g.Armed {
			left = g.Deadline.Sub(boottime.Now())
		}
		return metrics.Guard{Alive: g.Alive, Armed: g.Armed, Kills: g.Kills, Left: left, Watchdog: g.Watchdog}
	})
	m.Risk(func() (string, uint64, bool) {
		r, ok := member.Risk()
		return r.Heir, uint64(r.Lost), ok
	})
	m.Lost(member.LastLoss)
	go tellWatchdog(hard, watchdogPeriod(os.Getenv, os.Getpid()), func() bool { return onTime(member.Status(), boottime.Now()) })
	if err := member.CheckName(leave); err != nil {
		return err
	}
	if server, err = rest.New(restConfig(&settings, m), member, log); err != nil {
		return err
	}
	serving, stop := context.WithCancel(hard)
	defer stop()
	g, serving := errgroup.WithContext(serving)
	g.Go(func() error { return server.Serve(serving) })
	g.Go(func() error {
		for {
			select {
			case <-serving.Done():
				return nil
			case <-reload:
				member.Reload()
			}
		}
	})
	g.Go(func() error {
		defer stop()
		return member.Run(leave, serving)
	})
	calm := time.AfterFunc(settleAfter, settle)
	defer calm.Stop()
	return g.Wait()
}

func restConfig(s *config.Settings, m *metrics.Metrics) rest.Config {
	r := s.RESTAPI
	return rest.Config{
		Listen: r.Listen, Username: r.Auth.Username, Password: r.Auth.Password.Reveal(),
		CertFile: r.CertFile, KeyFile: r.KeyFile, KeyFilePassword: r.KeyFilePassword.Reveal(), CAFile: r.CAFile,
		Ciphers: r.Ciphers, VerifyClient: r.VerifyClient,
		Allowlist: r.Allowlist, AllowlistIncludeMembers: r.AllowlistIncludeMembers,
		HTTPExtraHeaders: r.HTTPExtraHeaders, HTTPSExtraHeaders: r.HTTPSExtraHeaders, ServerTokens: r.ServerTokens,
		Metrics: m.Write,
	}
}

// peers asks other members for their status over REST.
type peers struct {
	scope   string
	mu      sync.Mutex
	options client.Options
	clients map[string]*client.Client // by URL
}

func newPeers(s *config.Settings) (*peers, error) {
	p := &peers{scope: s.Scope}
	return p, p.configure(s)
}

// configure takes credentials in. Members do not verify one another's server certificate unless they have a client
// certificate, and then only its chain, as Patroni's do (rest-api.md 11.6).
func (p *peers) configure(s *config.Settings) error {
	o := client.Options{Timeout: 3 * time.Second, Auth: client.Auth{Username: s.CTL.Auth.Username, Password: s.CTL.Auth.Password.Reveal()}}
	among := s.CTL
	among.Insecure = true
	var err error
	if o.TLS, err = clientTLS(among); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.clients {
		c.Close()
	}
	p.options, p.clients = o, map[string]*client.Client{}
	return nil
}

func (p *peers) client(url string) (*client.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.clients[url]; ok {
		return c, nil
	}
	c, err := client.New(url, p.options)
	if err == nil {
		p.clients[url] = c
	}
	return c, err
}

// ask is an agent.PeerAsker.
func (p *peers) ask(ctx context.Context, m cluster.Member) agent.PeerStatus {
	c, err := p.client(m.APIURL)
	if err != nil {
		return agent.PeerStatus{Error: err.Error()}
	}
	s, err := c.Status(ctx)
	if err != nil {
		return agent.PeerStatus{Error: err.Error(), Alive: client.Code(err) != 0}
	}
	a := agent.PeerStatus{
		Alive: true, Reachable: s.Reachable(), Primary: s.Reachable() && s.IsPrimary(), Position: cluster.LSN(s.Position()), Timeline: cluster.Timeline(s.Timeline),
		NoFailover: s.Tags.NoFailover(), Priority: s.Tags.FailoverPriority(), WatchdogFailed: s.WatchdogFailed,
	}
	a.Waives = s.Waives && s.Patroni.Name == m.Name && s.Patroni.Scope == p.scope // an address may have become somebody else's
	if s.DCSLastSeen > 0 {
		a.DCSLastSeen = time.Unix(s.DCSLastSeen, 0)
	}
	if !a.Reachable {
		a.Error = fmt.Sprintf("its PostgreSQL is %s", s.State)
	}
	return a
}

// agree is an agent.Agree.
func (p *peers) agree(ctx context.Context, m cluster.Member, h agent.Heartbeat) (agent.Promise, error) {
	c, err := p.client(m.APIURL)
	if err != nil {
		return agent.Promise{}, err
	}
	r := client.FailsafeRequest{Name: h.Name, ConnURL: h.ConnURL, APIURL: h.APIURL, Scope: h.Scope, To: h.To, Slots: map[string]uint64{}}
	for name, at := range h.Slots {
		r.Slots[name] = uint64(at)
	}
	bound, err := c.Failsafe(ctx, r)
	return agent.Promise{For: bound}, err
}
