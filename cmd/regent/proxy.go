package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/ctl"
	"github.com/regent-ha/regent/internal/logging"
	"github.com/regent-ha/regent/internal/proxy"
	"github.com/regent-ha/regent/internal/version"
)

func proxyCommand() *cobra.Command {
	var given config.Proxy
	c := &cobra.Command{
		Use: "proxy [OPTIONS] [FILE]", Short: "Lead clients to the primary of a cluster, and to its replicas", Args: ctl.Arguments, DisableFlagsInUseLine: true,
		Long: `Lead clients to the primary of a cluster, and to its replicas.

Connections to one port go to whoever holds the leader lock and can be written to. When that changes they are closed at once, and new
ones wait for the next primary instead of being refused. Those to another port go to replicas, in turn. It reads scope, namespace, the section of the store, ctl and proxy of a member's
configuration file, or of one that has nothing else. It runs anywhere: beside an agent, beside an application, between the two.`,
		RunE: func(c *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
				if _, err := os.Stat(path); err != nil {
					return fmt.Errorf("read configuration: %w", err)
				}
			}
			file, err := config.Load(path, os.Environ())
			if err != nil {
				return err
			}
			if file.Document.Get("scope") == nil {
				return errors.New("scope is not defined: want the name of the cluster")
			}
			s, err := withoutMember(file.Document)
			if err != nil {
				return err
			}
			for name, take := range map[string]func(){
				"listen": func() { s.Proxy.Listen = given.Listen }, "replicas": func() { s.Proxy.Replicas = given.Replicas },
				"status": func() { s.Proxy.Status = given.Status }, "hold": func() { s.Proxy.Hold = given.Hold },
			} {
				if c.Flags().Changed(name) {
					take()
				}
			}
			return runProxy(c.Context(), &s)
		},
	}
	c.Flags().StringVar(&given.Listen, "listen", "", "host:port that leads to the primary (proxy.listen)")
	c.Flags().StringVar(&given.Replicas, "replicas", "", "host:port that leads to the replicas (proxy.replicas)")
	c.Flags().StringVar(&given.Status, "status", "", "host:port of the status over HTTP (proxy.status)")
	c.Flags().DurationVar(&given.Hold, "hold", 0, "how long a client waits while there is no primary (proxy.hold, default 30s)")
	return c
}

func runProxy(ctx context.Context, s *config.Settings) error {
	logs, err := logging.New(s.Log, os.Stderr)
	if err != nil {
		return err
	}
	defer logs.Close()
	asker, err := newPeers(s)
	if err != nil {
		return err
	}
	_, open, err := opener(*s)
	if err != nil {
		return err
	}
	store, err := open(ctx, s.Scope, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	watched, ok := store.(proxy.Store)
	if !ok {
		return fmt.Errorf("follow the store: %T cannot be watched: a bug", store)
	}
	log := logs.Logger()
	var vip proxy.VIP
	if v := s.Proxy.VIP; v != (config.VIP{}) {
		vip = proxy.VIP{Device: v.Device, Member: s.Name}
		vip.Address, _ = netip.ParsePrefix(v.Address) // the proxy refuses what cannot be read
	}
	p, err := proxy.New(proxy.Config{
		Listen: s.Proxy.Listen, Replicas: s.Proxy.Replicas, MaxLag: s.Proxy.MaxLag, Status: s.Proxy.Status, VIP: vip, Hold: s.Proxy.Hold, MaxHeld: s.Proxy.MaxHeld,
		Store: watched, Client: asker.client, Clock: boottime.Now, Log: log,
	})
	if err != nil {
		return err
	}
	log.Info("start proxy", "version", version.Regent, "scope", s.Scope, "listen", s.Proxy.Listen, "replicas", s.Proxy.Replicas, "hold", s.Proxy.Hold)
	notify("READY=1")
	return p.Run(ctx)
}
