package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/regent-ha/regent/internal/cluster"
)

// roleChange makes a cluster follow another one, or stand on its own again (ctl.md 6.11).
type roleChange struct {
	verb, noun string // demote, demotion
	role       cluster.Role
	standby    value // section standby_cluster; null: none
	force      bool
	group      *int
}

func (p *Program) demoteCluster() *cobra.Command {
	r := roleChange{verb: "demote", noun: "demotion", role: cluster.StandbyLeader}
	var host, command, slot string
	var port int
	var flags *pflag.FlagSet
	c := p.command("demote-cluster [OPTIONS] [CLUSTER_NAME]", "Make the cluster a standby cluster that follows another one", func(ctx context.Context, args []string) error {
		r.standby = object()
		if host != "" {
			r.standby = r.standby.Set(cluster.Text(host), "host")
		}
		if flags.Changed("port") {
			r.standby = r.standby.Set(cluster.Int(int64(port)), "port")
		}
		if command != "" {
			r.standby = r.standby.Set(cluster.Text(command), "restore_command")
		}
		if len(r.standby.Fields) == 0 {
			return sentence("At least --host, --port or --restore-command should be specified")
		}
		if slot != "" {
			r.standby = r.standby.Set(cluster.Text(slot), "primary_slot_name")
		}
		return p.changeRole(ctx, r, args)
	})
	flags = c.Flags()
	flags.StringVar(&host, "host", "", "`address` of the other cluster's primary")
	flags.IntVar(&port, "port", 0, "its port")
	flags.StringVar(&command, "restore-command", "", "`command` that fetches WAL from its archive")
	flags.StringVar(&slot, "primary-slot-name", "", "`name` of the slot to stream from")
	r.flags(flags)
	return c
}

func (p *Program) promoteCluster() *cobra.Command {
	r := roleChange{verb: "promote", noun: "promotion", role: cluster.Primary}
	c := p.command("promote-cluster [OPTIONS] [CLUSTER_NAME]", "Make a standby cluster stand on its own", func(ctx context.Context, args []string) error {
		return p.changeRole(ctx, r, args)
	})
	r.flags(c.Flags())
	return c
}

func (r *roleChange) flags(f *pflag.FlagSet) {
	f.BoolVar(&r.force, "force", false, "ask nothing")
	f.Var(groupFlag{&r.group}, "group", "Citus group")
}

func (p *Program) changeRole(ctx context.Context, r roleChange, args []string) error {
	t, err := p.open(ctx, args, r.group)
	if err != nil {
		return err
	}
	leader, _ := t.Member(t.Leader.Name)
	switch {
	case t.Leader.Name == "":
		return sentence("Cluster has no leader, %s is not possible", r.noun)
	case leader.Role == r.role:
		return sentence("Cluster is already in the required state")
	}
	fmt.Fprintln(p.Out, "Current cluster topology")
	p.print(t.site, listing{format: "pretty"}, t.scope, t.group, []part{t.part})
	if !r.force {
		if err := p.orAbort(ctx, "Aborted cluster "+r.noun, "Are you sure you want to %s %s cluster?", r.verb, t.scope); err != nil {
			return err
		}
	}
	status, reply, err := t.site.call(ctx, leader, http.MethodPatch, "/config", object("standby_cluster", r.standby))
	switch {
	case errors.Is(err, errAborted):
		return err
	case err != nil:
		return sentence("Failed to %s %s cluster: %w", r.verb, t.scope, err)
	case status != http.StatusOK:
		return sentence("Failed to %s %s cluster: %d, %s", r.verb, t.scope, status, reply)
	}
	return p.awaitRole(ctx, r, t, leader.Name)
}

// awaitRole tells every second how far the change is, until the leader has the new role and runs; after a
// demotion the former leader has to run as well.
func (p *Program) awaitRole(ctx context.Context, r roleChange, t target, former string) error {
	for {
		if err := p.sleep(ctx, time.Second); err != nil {
			return err
		}
		if err := p.reread(ctx, &t); err != nil {
			return err
		}
		now := p.Now().Format("2006-01-02 15:04:05")
		leader, _ := t.Member(t.Leader.Name)
		old, _ := t.Member(former)
		demotion := r.role == cluster.StandbyLeader
		if t.Locked() && leader.Role == r.role && leader.State == cluster.Running && (!demotion || old.State == cluster.Running) {
			p.say(Outcome{Member: leader.Name, OK: true}, "%s cluster is successfully %sd", now, r.verb)
			p.print(t.site, listing{format: "pretty"}, t.scope, t.group, []part{t.part})
			return nil
		}
		unlocked := cluster.Flag(!t.Locked()).String()
		line := fmt.Sprintf("%s cluster is unlocked: %s, leader role: %s, leader state: %s", now, unlocked, leader.Role, leader.State)
		if demotion && leader.Name != former {
			line += fmt.Sprintf(", previous leader state: '%s'", old.State)
		}
		fmt.Fprintln(p.Out, line)
	}
}
