package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Commands are those that look at clusters and act on them.
func (p *Program) Commands() []*cobra.Command {
	return []*cobra.Command{
		p.list(), p.topology(), p.history(), p.showConfig(), p.editConfig(), p.dsn(), p.query(), p.version(),
		p.switchover(), p.failover(), p.pause(), p.resume(),
		p.restart(), p.reload(), p.reinit(), p.flush(), p.remove(),
		p.demoteCluster(), p.promoteCluster(),
	}
}

// repeat is -w and -W: show again and again.
type repeat struct {
	every bool
	watch float64
}

func (r *repeat) flags(f *pflag.FlagSet) {
	f.BoolVarP(&r.every, "W", "W", false, "repeat every 2 seconds")
	f.Float64VarP(&r.watch, "watch", "w", 0, "repeat every so many `seconds`")
}

// run shows once, or until the interrupt key. On a terminal the screen is cleared before each round.
func (r *repeat) run(ctx context.Context, p *Program, clear bool, show func() error) error {
	pause := time.Duration(r.watch * float64(time.Second))
	if pause <= 0 && r.every {
		pause = 2 * time.Second
	}
	for {
		if pause > 0 && clear && p.Terminal {
			fmt.Fprint(p.Out, "\x1b[2J\x1b[H")
		}
		if err := show(); err != nil {
			return err
		}
		if pause <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (p *Program) list() *cobra.Command {
	l := listing{format: "pretty"}
	var group *int
	var again repeat
	var timestamp bool
	c := p.command("list [OPTIONS] [CLUSTER_NAMES]...", "Show the members of clusters", func(ctx context.Context, args []string) error {
		return p.showClusters(ctx, l, args, group, timestamp, again)
	})
	f := c.Flags()
	f.BoolVarP(&l.extended, "extended", "e", false, "show the optional columns even when they are empty")
	f.BoolVarP(&timestamp, "timestamp", "t", false, "print the time first")
	f.VarP(choice{&l.format, formats}, "format", "f", "output format")
	p.layoutFlags(f, &l, &group)
	again.flags(f)
	return c
}

func (p *Program) topology() *cobra.Command {
	l := listing{format: "topology"}
	var group *int
	var again repeat
	c := p.command("topology [OPTIONS] [CLUSTER_NAMES]...", "Show the members of clusters as a tree of who follows whom", func(ctx context.Context, args []string) error {
		return p.showClusters(ctx, l, args, group, false, again)
	})
	p.layoutFlags(c.Flags(), &l, &group)
	again.flags(c.Flags())
	return c
}

func (p *Program) layoutFlags(f *pflag.FlagSet, l *listing, group **int) {
	f.BoolVar(&l.wide, "wide", false, "show what was received and what was replayed in columns of their own")
	f.Var(groupFlag{group}, "group", "Citus group")
}

func (p *Program) showClusters(ctx context.Context, l listing, names []string, group *int, timestamp bool, again repeat) error {
	site, err := p.Connect(p.options)
	if err != nil {
		return err
	}
	if len(names) == 0 && site.Scope != "" {
		names = []string{site.Scope}
	}
	if len(names) == 0 {
		p.warn("Listing members: No cluster names were provided")
		return nil
	}
	if p.output == "json" {
		l.format = "json"
	}
	return again.run(ctx, p, true, func() error {
		if timestamp {
			fmt.Fprintln(p.Out, p.Now().Format("2006-01-02 15:04:05"))
		}
		for _, name := range names {
			if _, err := p.show(ctx, site, l, name, group); err != nil {
				return err
			}
		}
		return nil
	})
}

// show prints one cluster's table and returns what it read.
func (p *Program) show(ctx context.Context, site *Site, l listing, scope string, group *int) ([]part, error) {
	parts, err := p.read(ctx, site, scope, group)
	if err != nil {
		return nil, err
	}
	p.print(site, l, scope, group, parts)
	return parts, nil
}

func (p *Program) print(site *Site, l listing, scope string, group *int, parts []part) {
	l.wide, l.grouped = l.wide || site.Wide, group != nil
	fmt.Fprint(p.Out, l.render(scope, parts))
}
