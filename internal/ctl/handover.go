package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/internal/cluster"
)

// handover is a switchover or a failover (ctl.md 6.5, 6.6).
type handover struct {
	action    string // switchover, failover
	leader    string
	candidate string
	scheduled string
	force     bool
	dryRun    bool // switchover only: show what would happen
	group     *int
}

func (p *Program) switchover() *cobra.Command {
	h := handover{action: "switchover"}
	c := p.command("switchover [OPTIONS] [CLUSTER_NAME]", "Make another member the leader; the present one agrees and nothing is lost", func(ctx context.Context, args []string) error {
		return p.handOver(ctx, h, args)
	})
	f := c.Flags()
	f.StringVar(&h.leader, "leader", "", "`name` of the present leader")
	f.StringVar(&h.leader, "primary", "", "the same as --leader")
	f.StringVar(&h.candidate, "candidate", "", "`name` of the next leader; any by default")
	f.StringVar(&h.scheduled, "scheduled", "", "`when`: ISO 8601, or now")
	f.BoolVar(&h.force, "force", false, "ask nothing")
	f.BoolVar(&h.dryRun, "dry-run", false, "change nothing: show who would lead, and what would have to be waited for")
	f.Var(groupFlag{&h.group}, "group", "Citus group")
	return c
}

func (p *Program) failover() *cobra.Command {
	h := handover{action: "failover"}
	c := p.command("failover [OPTIONS] [CLUSTER_NAME]", "Make a member the leader although the present one may be gone", func(ctx context.Context, args []string) error {
		return p.handOver(ctx, h, args)
	})
	f := c.Flags()
	f.StringVar(&h.candidate, "candidate", "", "`name` of the next leader")
	f.BoolVar(&h.force, "force", false, "ask nothing")
	f.Var(groupFlag{&h.group}, "group", "Citus group")
	return c
}

func (p *Program) handOver(ctx context.Context, h handover, args []string) error {
	site, err := p.Connect(p.options)
	if err != nil {
		return err
	}
	scope, err := clusterName(site, args)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.Out, "Current cluster topology")
	parts, err := p.show(ctx, site, listing{format: "pretty"}, scope, h.group)
	if err != nil {
		return err
	}
	t := target{site: site, scope: scope, group: h.group}
	if site.Citus && h.group == nil {
		if t.group, err = p.askGroup(ctx, h.force); err != nil {
			return err
		}
		if err := p.reread(ctx, &t); err != nil {
			return err
		}
	} else {
		t.part = parts[0]
	}
	h.force = h.force || h.dryRun
	at, err := p.settle(ctx, &h, t)
	if err != nil {
		return err
	}
	if h.dryRun {
		return p.preview(ctx, h, t, at)
	}
	return p.request(ctx, h, t, at)
}

func (p *Program) askGroup(ctx context.Context, force bool) (*int, error) {
	if force {
		return nil, errNoGroup
	}
	for {
		text, err := p.demand(ctx, "Citus group")
		if err != nil {
			return nil, err
		}
		if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
			return &n, nil
		}
		fmt.Fprintf(p.Out, "Error: '%s' is not a valid integer.\n", text)
	}
}

var errNoGroup = sentence("For Citus clusters the --group must me specified")

// settle asks for what was not given, checks it, and has it confirmed. It returns when to act; nil: now.
func (p *Program) settle(ctx context.Context, h *handover, t target) (*time.Time, error) {
	if h.action == "switchover" {
		if err := p.settleLeader(ctx, h, t); err != nil {
			return nil, err
		}
	}
	if err := p.settleCandidate(ctx, h, t); err != nil {
		return nil, err
	}
	at, err := p.settleTime(ctx, h, t)
	if err != nil || h.force {
		return at, err
	}
	return at, p.confirmHandover(ctx, h, t, at)
}

func (p *Program) settleLeader(ctx context.Context, h *handover, t target) error {
	leader := t.Leader.Name
	if leader == "" {
		return sentence("This cluster has no leader")
	}
	if h.leader == "" && !h.force {
		title := "Primary"
		if t.Config.StandbyCluster() != nil {
			title = "Standby Leader"
		}
		var err error
		if h.leader, err = p.ask(ctx, title, leader); err != nil {
			return err
		}
	}
	if h.leader != "" && h.leader != leader {
		return sentence("Member %s is not the leader of cluster %s", h.leader, t.scope)
	}
	h.leader = leader
	return nil
}

func (p *Program) settleCandidate(ctx context.Context, h *handover, t target) error {
	var names []string
	for _, m := range t.Members {
		if m.Name != t.Leader.Name && !m.Tags.NoFailover() {
			names = append(names, m.Name)
		}
	}
	if len(names) == 0 {
		return sentence("No candidates found to %s to", h.action)
	}
	if h.candidate == "" && !h.force {
		var err error
		if h.candidate, err = p.ask(ctx, "Candidate ['"+strings.Join(names, "', '")+"']", ""); err != nil {
			return err
		}
	}
	switch {
	case h.candidate == "" && h.action == "failover":
		return sentence("Failover could be performed only to a specific candidate")
	case h.candidate == "":
		return nil
	case h.candidate == t.Leader.Name:
		return sentence("Member %s is already the leader of cluster %s", h.candidate, t.scope)
	case !slices.Contains(names, h.candidate):
		return sentence("Member %s does not exist in cluster %s or is tagged as nofailover", h.candidate, t.scope)
	}
	if h.action == "failover" && !h.force && t.Config.SynchronousMode() != cluster.SyncOff && !t.Sync.Has(h.candidate) {
		return p.orAbort(ctx, "Aborting failover", "Are you sure you want to failover to the asynchronous node %s?", h.candidate)
	}
	return nil
}

func (p *Program) settleTime(ctx context.Context, h *handover, t target) (*time.Time, error) {
	if h.action == "failover" {
		return nil, nil
	}
	if h.scheduled == "" && !h.force {
		var err error
		if h.scheduled, err = p.ask(ctx, "When should the switchover take place (e.g. "+p.example()+" ) ", "now"); err != nil {
			return nil, err
		}
	}
	at, err := p.parseSchedule(h.scheduled)
	if err == nil && at != nil && t.Config.Paused() {
		err = sentence("Can't schedule switchover in the paused state")
	}
	return at, err
}

func (p *Program) confirmHandover(ctx context.Context, h *handover, t target, at *time.Time) error {
	demoting := ""
	if t.Leader.Name != "" {
		demoting = ", demoting current leader " + t.Leader.Name
	}
	if at != nil {
		return p.orAbort(ctx, "Aborting scheduled "+h.action, "Are you sure you want to schedule %s of cluster %s at %s%s?", h.action, t.scope, cluster.FormatTime(*at), demoting)
	}
	return p.orAbort(ctx, "Aborting "+h.action, "Are you sure you want to %s cluster %s%s?", h.action, t.scope, demoting)
}

// orAbort asks for a confirmation; without one the program ends with that error.
func (p *Program) orAbort(ctx context.Context, otherwise, format string, args ...any) error {
	yes, err := p.confirm(ctx, fmt.Sprintf(format, args...))
	if err == nil && !yes {
		err = errors.New(otherwise)
	}
	return err
}

// request sends the wish to the leader (a failover without one: to the candidate). When no member can
// be asked, it goes into the store, where the next leader finds it.
func (p *Program) request(ctx context.Context, h handover, t target, at *time.Time) error {
	body := object("candidate", orNull(h.candidate))
	if h.action == "switchover" {
		body = object("candidate", orNull(h.candidate), "leader", cluster.Text(h.leader))
	}
	if at != nil {
		body.Fields = append(body.Fields, cluster.Field{Name: "scheduled_at", Value: isoText(at)})
	}
	whom := t.Leader.Name
	if whom == "" {
		whom = h.candidate
	}
	m, _ := t.Member(whom)
	status, reply, err := t.site.call(ctx, m, http.MethodPost, "/"+h.action, body)
	if err == nil && status == http.StatusNotImplemented && strings.Contains(reply, "Server does not support this operation") {
		status, reply, err = t.site.call(ctx, m, http.MethodPost, "/failover", body)
	}
	switch {
	case errors.Is(err, errAborted):
		return err
	case err != nil:
		p.log("ERROR", "%v", err)
		p.warn("Failing over to DCS")
		fmt.Fprintf(p.Out, "%s Could not %s using Patroni api, falling back to DCS\n", p.stamp(), h.action)
		wish := cluster.Failover{From: h.leader, Candidate: h.candidate, ScheduledAt: at}
		if err := t.put(ctx, cluster.KeyFailover, wish.Encode(), t.Failover.Revision); err != nil {
			return fmt.Errorf("write the %s of cluster %s to the store: %w", h.action, t.scope, err)
		}
		p.keep(Outcome{OK: true, Message: "written to the store: no member could be asked"})
	case status == http.StatusOK || status == http.StatusAccepted:
		fmt.Fprintf(p.Out, "%s %s\n", p.stamp(), reply)
		p.keep(Outcome{Member: m.Name, OK: true, Status: status, Message: reply})
	default:
		outcome := "failed"
		if strings.Contains(reply, "status unknown") {
			outcome = "result unknown"
		}
		p.say(Outcome{Member: m.Name, Status: status}, "%s %s, details: %d, %s", capital(h.action), outcome, status, reply)
		return nil
	}
	_, err = p.show(ctx, t.site, listing{format: "pretty"}, t.scope, h.group)
	return err
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
