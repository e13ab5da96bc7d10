package ctl

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// remove forgets a cluster in the store; data and running members are not touched (ctl.md 6.10).
func (p *Program) remove() *cobra.Command {
	l := listing{format: "pretty"}
	var group *int
	c := p.command("remove [OPTIONS] CLUSTER_NAME", "Remove a cluster from the store", func(ctx context.Context, args []string) error {
		site, err := p.Connect(p.options)
		if err != nil {
			return err
		}
		scope := args[0]
		if site.Citus && group == nil {
			return errNoGroup
		}
		parts, err := p.show(ctx, site, l, scope, group)
		if err != nil {
			return err
		}
		if err := p.confirmRemoval(ctx, scope, parts[0].Leader.Name); err != nil {
			return err
		}
		store, err := site.Open(ctx, scope, group)
		if err != nil {
			return err
		}
		defer store.Close()
		_, err = bounded(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, store.RemoveAll(ctx) })
		if err != nil {
			return fmt.Errorf("remove cluster %s from the store: %w", scope, err)
		}
		p.keep(Outcome{OK: true, Message: "removed from the store"})
		return nil
	})
	c.Flags().VarP(choice{&l.format, formats}, "format", "f", "output format")
	c.Flags().Var(groupFlag{&group}, "group", "Citus group")
	return c
}

func (p *Program) confirmRemoval(ctx context.Context, scope, leader string) error {
	const aware = "Yes I am aware"
	questions := []struct{ text, want, otherwise string }{
		{"Please confirm the cluster name to remove", scope, "Cluster names specified do not match"},
		{"You are about to remove all information in DCS for " + scope + `, please type: "` + aware + `"`, aware, `You did not exactly type "` + aware + `"`},
		{"This cluster currently is healthy. Please specify the leader name to continue", leader, "You did not specify the current leader of the cluster"},
	}
	if leader == "" {
		questions = questions[:2]
	}
	for _, q := range questions {
		answer, err := p.demand(ctx, q.text)
		if err != nil {
			return err
		}
		if answer != q.want {
			return errors.New(q.otherwise)
		}
	}
	return nil
}
