package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/version"
)

func (p *Program) history() *cobra.Command {
	format := "pretty"
	var group *int
	c := p.command("history [OPTIONS] [CLUSTER_NAME]", "Show where timelines ended and who began the next one", func(ctx context.Context, args []string) error {
		t, err := p.open(ctx, args, group)
		if err != nil {
			return err
		}
		columns := []column{{name: "TL", right: true}, {name: "LSN", right: true}, {name: "Reason"}, {name: "Timestamp"}, {name: "New Leader"}}
		var rows []row
		for _, h := range t.History.Entries {
			rows = append(rows, row{cluster.Int(int64(h.Timeline)), cluster.Int(int64(h.LSN)), cluster.Text(h.Reason), cluster.Text(h.Timestamp), cluster.Text(h.NewLeader)})
		}
		if format == "pretty" {
			fmt.Fprint(p.Out, prettyTable("", columns, listing{format: format}.texts(columns, rows)))
			for _, h := range t.History.Entries {
				if l, ok := t.Losses.Of(h.Timeline); ok {
					fmt.Fprintln(p.Out, " "+l.String())
				}
			}
			return nil
		}
		fmt.Fprint(p.Out, output(format, columns, rows, true))
		return nil
	})
	c.Flags().VarP(choice{&format, formats}, "format", "f", "output format")
	c.Flags().Var(groupFlag{&group}, "group", "Citus group")
	return c
}

// configWidth is where long lines of the dynamic configuration are folded.
const configWidth = 200

func (p *Program) showConfig() *cobra.Command {
	var group *int
	c := p.command("show-config [OPTIONS] [CLUSTER_NAME]", "Show the configuration that all members share", func(ctx context.Context, args []string) error {
		t, err := p.open(ctx, args, group)
		if err == nil && t.Config.Usable && p.data(json.RawMessage(t.Config.Document.Encode())) {
			return nil
		}
		if err == nil && t.Config.Usable {
			fmt.Fprintln(p.Out, blockYAML(t.Config.Document, configWidth))
		}
		return err
	})
	c.Flags().Var(groupFlag{&group}, "group", "Citus group")
	return c
}

func (p *Program) dsn() *cobra.Command {
	var group *int
	var role, member string
	c := p.command("dsn [OPTIONS] [CLUSTER_NAME]", "Print how to connect to a member", func(ctx context.Context, args []string) error {
		if role != "" && member != "" {
			return errors.New("--role and --member are mutually exclusive options")
		}
		site, err := p.Connect(p.options)
		if err != nil {
			return err
		}
		scope, err := clusterName(site, args)
		if err != nil {
			return err
		}
		parts, err := p.read(ctx, site, scope, group)
		if err != nil {
			return err
		}
		wanted := role
		switch {
		case member != "":
			wanted = "any"
		case role == "":
			wanted = "leader"
		}
		for _, m := range withRole(parts, wanted) {
			if m.host != "" && (member == "" || m.Name == member) {
				if !p.data(map[string]any{"member": m.Name, "host": m.host, "port": m.port}) {
					fmt.Fprintf(p.Out, "host=%s port=%d\n", m.host, m.port)
				}
				return nil
			}
		}
		return sentence("Can not find a suitable member")
	})
	f := c.Flags()
	f.VarP(choice{&role, roles}, "role", "r", "a member of this role; the leader by default")
	f.StringVarP(&member, "member", "m", "", "the member of this `name`")
	f.Var(groupFlag{&group}, "group", "Citus group")
	return c
}

func (p *Program) version() *cobra.Command {
	var group *int
	c := p.command("version [OPTIONS] [CLUSTER_NAME] [MEMBER_NAMES]...", "Print the version of this program, and those of a cluster's members", func(ctx context.Context, args []string) error {
		if p.Name == "patronictl" {
			fmt.Fprintf(p.Out, "patronictl version %s\n", version.Compatible)
		} else {
			fmt.Fprintf(p.Out, "%s version %s (speaks as Patroni %s)\n", p.Name, version.Regent, version.Compatible)
		}
		p.data(map[string]string{"regent": version.Regent, "patroni": version.Compatible})
		if len(args) == 0 {
			return nil
		}
		site, err := p.Connect(p.options)
		if err != nil {
			return err
		}
		parts, err := p.read(ctx, site, args[0], group)
		if err != nil {
			return err
		}
		fmt.Fprintln(p.Out)
		for _, m := range withRole(parts, "any") {
			if len(args) == 1 || slices.Contains(args[1:], m.Name) {
				text := site.versionOf(ctx, m.Member)
				fmt.Fprintf(p.Out, "%s: %s\n", m.Name, text)
				p.keep(Outcome{Member: m.Name, OK: !strings.HasPrefix(text, "failed "), Message: text})
			}
		}
		return nil
	})
	c.Flags().Var(groupFlag{&group}, "group", "Citus group")
	return c
}

// versionOf asks a member which programs it runs.
func (s *Site) versionOf(ctx context.Context, m cluster.Member) string {
	ctx, cancel := context.WithTimeout(ctx, MemberTimeout)
	defer cancel()
	_, reply, err := s.Caller.Call(ctx, http.MethodGet, m.APIURL, nil)
	if err != nil {
		return fmt.Sprintf("failed to get version: %v", err)
	}
	status, err := cluster.ParseValue(reply)
	if err != nil {
		return fmt.Sprintf("failed to get version: %v", err)
	}
	agent, _ := status.Get("patroni", "version")
	text := "Patroni " + agent.Text
	if own, ok := status.Get("regent", "version"); ok {
		text += " Regent " + own.Text
	}
	if server, ok := status.Get("server_version"); ok {
		text += " PostgreSQL " + serverVersion(server.Text)
	}
	return text
}

// serverVersion writes server_version_num as people do: 150018 is 15.18, 90603 is 9.6.3.
func serverVersion(number string) string {
	n, err := strconv.Atoi(number)
	switch {
	case err != nil:
		return number
	case n >= 100000:
		return fmt.Sprintf("%d.%d", n/10000, n%10000)
	default:
		return fmt.Sprintf("%d.%d.%d", n/10000, n/100%100, n%100)
	}
}
