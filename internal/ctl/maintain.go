package ctl

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/internal/cluster"
)

// selection is a command that acts on members one by one (ctl.md 6.1).
type selection struct {
	action string // restart, reload, reinitialize, flush
	role   string
	force  bool
	group  *int
	site   *Site
	scope  string
	parts  []part
}

// choose prints the table and returns the members to act on.
func (p *Program) choose(ctx context.Context, s *selection, args []string) ([]shown, error) {
	var err error
	if s.site, err = p.Connect(p.options); err != nil {
		return nil, err
	}
	s.scope = args[0]
	if s.parts, err = p.read(ctx, s.site, s.scope, s.group); err != nil {
		return nil, err
	}
	candidates, names := withRole(s.parts, s.role), args[1:]
	if len(candidates) == 0 && len(names) == 0 {
		return nil, fmt.Errorf("%s cluster doesn't have any members", s.scope)
	}
	p.print(s.site, listing{format: "pretty"}, s.scope, s.group, s.parts)
	if len(names) == 0 && s.action == "reinitialize" {
		if s.force {
			return nil, nil
		}
		all := make([]string, 0, len(candidates))
		for _, m := range candidates {
			all = append(all, m.Name)
		}
		name, err := p.ask(ctx, "Which member do you want to reinitialize ["+strings.Join(all, ", ")+"]?", "")
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("%s is not a member of cluster", name)
		}
		names = []string{name}
	}
	if len(names) == 0 {
		return candidates, nil
	}
	chosen := slices.DeleteFunc(candidates, func(m shown) bool { return !slices.Contains(names, m.Name) })
	switch {
	case len(chosen) > 0:
		return chosen, nil
	case s.action == "reinitialize":
		return nil, sentence("No replica among provided members")
	default:
		return nil, sentence("No '%s' among provided members", s.role)
	}
}

func names(members []shown) string {
	list := make([]string, 0, len(members))
	for _, m := range members {
		list = append(list, m.Name)
	}
	return strings.Join(list, ", ")
}

func (p *Program) confirmMembers(ctx context.Context, s selection, members []shown) error {
	if s.force {
		return nil
	}
	return p.orAbort(ctx, "Aborted "+s.action, "Are you sure you want to %s members %s?", s.action, names(members))
}

// failed prints that a member refused.
func (p *Program) failed(action string, m shown, status int, reply string) {
	p.say(Outcome{Member: m.Name, Status: status}, "Failed: %s for member %s, status code=%d, (%s)", action, m.Name, status, reply)
}

func (p *Program) reload() *cobra.Command {
	s := selection{action: "reload", role: "any"}
	c := p.command("reload [OPTIONS] CLUSTER_NAME [MEMBER_NAMES]...", "Make members read their configuration file again", func(ctx context.Context, args []string) error {
		members, err := p.choose(ctx, &s, args)
		if err != nil {
			return err
		}
		if err := p.confirmMembers(ctx, s, members); err != nil {
			return err
		}
		for _, m := range members {
			status, reply, err := s.site.call(ctx, m.Member, http.MethodPost, "/reload", value{})
			switch {
			case err != nil:
				return memberError("reload", m, err)
			case status == http.StatusAccepted:
				wait := m.snapshot.Config.WrittenTiming().LoopWait
				p.say(Outcome{Member: m.Name, OK: true, Status: status}, "Reload request received for member %s and will be processed within %d seconds", m.Name, int(wait.Seconds()))
			case status == http.StatusOK:
				p.say(Outcome{Member: m.Name, OK: true, Status: status}, "No changes to apply on member %s", m.Name)
			default:
				p.failed("reload", m, status, reply)
			}
		}
		return nil
	})
	s.flags(c, true)
	return c
}

func (s *selection) flags(c *cobra.Command, role bool) {
	if role {
		c.Flags().VarP(choice{&s.role, roles}, "role", "r", "only members of this role")
	}
	c.Flags().BoolVar(&s.force, "force", false, "ask nothing")
	c.Flags().Var(groupFlag{&s.group}, "group", "Citus group")
}

// memberError says that a member did not answer, so that it is not known whether it acts.
func memberError(action string, m shown, err error) error {
	if errors.Is(err, errAborted) {
		return err
	}
	return fmt.Errorf("%s member %s: no answer from its REST API: %w; check that the member runs and that its api_url can be reached from here", action, m.Name, err)
}

// restartWish is what a restart is asked for with.
type restartWish struct {
	selection
	any, pending                bool
	scheduled, version, timeout string
	at                          *time.Time
}

func (p *Program) restart() *cobra.Command {
	w := restartWish{selection: selection{action: "restart", role: "any"}}
	c := p.command("restart [OPTIONS] CLUSTER_NAME [MEMBER_NAMES]...", "Restart PostgreSQL of members, now or later", func(ctx context.Context, args []string) error {
		return p.restartMembers(ctx, &w, args)
	})
	w.flags(c, true)
	f := c.Flags()
	f.BoolVar(&w.any, "any", false, "a single member of the selection, by chance")
	f.StringVar(&w.scheduled, "scheduled", "", "`when`: ISO 8601, or now")
	f.StringVar(&w.version, "pg-version", "", "only if PostgreSQL is older than this `version`")
	f.BoolVar(&w.pending, "pending", false, "only if a restart is pending")
	f.StringVar(&w.timeout, "timeout", "", "give up after so many `seconds`, and fail over if it is the leader")
	return c
}

func (p *Program) restartMembers(ctx context.Context, w *restartWish, args []string) error {
	members, err := p.choose(ctx, &w.selection, args)
	if err != nil {
		return err
	}
	if err := p.settleRestart(ctx, w, members); err != nil {
		return err
	}
	if w.pending && w.at == nil {
		members = slices.DeleteFunc(members, func(m shown) bool { return !m.PendingRestart })
	}
	if w.any && len(members) > 1 {
		members = []shown{members[rand.IntN(len(members))]}
	}
	for _, m := range members {
		if err := p.restartMember(ctx, w, m); err != nil {
			return err
		}
	}
	return nil
}

// settleRestart asks for what was not given (ctl.md 6.3).
func (p *Program) settleRestart(ctx context.Context, w *restartWish, members []shown) (err error) {
	if w.scheduled == "" && !w.force {
		if w.scheduled, err = p.ask(ctx, "When should the restart take place (e.g. "+p.example()+") ", "now"); err != nil {
			return err
		}
	}
	if w.at, err = p.parseSchedule(w.scheduled); err != nil {
		return err
	}
	switch {
	case w.force:
	case w.at == nil:
		err = p.confirmMembers(ctx, w.selection, members)
	case w.pending:
		err = p.orAbort(ctx, "Aborted scheduled restart", "The nodes needing a restart will be identified at the scheduled time, and might be different from the ones showing pending restart right now. Is this fine?")
	default:
		err = p.orAbort(ctx, "Aborted scheduled restart", "Are you sure you want to schedule restart of members %s at %s?", names(members), w.at.Format("2006-01-02 15:04:05-07:00"))
	}
	if err != nil {
		return err
	}
	if w.version == "" && !w.force {
		if w.version, err = p.ask(ctx, "Restart if the PostgreSQL version is less than provided (e.g. 9.5.2) ", ""); err != nil {
			return err
		}
	}
	if err := checkVersion(w.version); err != nil {
		return err
	}
	if w.at != nil && slices.ContainsFunc(w.parts, func(c part) bool { return c.Config.Paused() }) {
		return sentence("Can't schedule restart in the paused state")
	}
	return nil
}

var numericVersion = regexp.MustCompile(`^\d+(\.\d+)*$`)

// checkVersion accepts X.Y from PostgreSQL 10 on and X.Y.Z before; empty is no condition.
func checkVersion(text string) error {
	parts := strings.Split(text, ".")
	major, _ := strconv.Atoi(parts[0])
	switch {
	case text == "":
		return nil
	case !numericVersion.MatchString(text):
		return sentence("Invalid PostgreSQL version: %s", text)
	case len(parts) == 2 && major >= 10, len(parts) == 3 && major < 10:
		return nil
	default:
		return sentence("Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: %s", text)
	}
}

func (p *Program) restartMember(ctx context.Context, w *restartWish, m shown) error {
	if w.at != nil && w.force && m.ScheduledRestart != nil {
		status, reply, err := w.site.call(ctx, m.Member, http.MethodDelete, "/restart", value{})
		if err != nil {
			return memberError("restart", m, err)
		}
		if status != http.StatusOK && status != http.StatusNotFound {
			p.failed("flush scheduled restart", m, status, reply)
			return nil
		}
	}
	status, reply, err := w.site.call(ctx, m.Member, http.MethodPost, "/restart", w.body())
	switch {
	case err != nil:
		return memberError("restart", m, err)
	case status == http.StatusOK:
		p.say(Outcome{Member: m.Name, OK: true, Status: status}, "Success: restart on member %s", m.Name)
	case status == http.StatusAccepted:
		p.say(Outcome{Member: m.Name, OK: true, Status: status}, "Success: restart scheduled on member %s", m.Name)
	case status == http.StatusConflict:
		p.say(Outcome{Member: m.Name, Status: status}, "Failed: another restart is already scheduled on member %s", m.Name)
	default:
		p.failed("restart", m, status, reply)
	}
	return nil
}

func (w *restartWish) body() value {
	body := object()
	if w.pending {
		body = body.Set(cluster.Flag(true), "restart_pending")
	}
	if w.version != "" {
		body = body.Set(cluster.Text(w.version), "postgres_version")
	}
	if w.at != nil {
		body = body.Set(isoText(w.at), "schedule")
	}
	if w.timeout != "" {
		body = body.Set(cluster.Text(w.timeout), "timeout")
	}
	return body
}

func (p *Program) reinit() *cobra.Command {
	s := selection{action: "reinitialize", role: "replica"}
	var fromLeader, wait bool
	c := p.command("reinit [OPTIONS] CLUSTER_NAME [MEMBER_NAMES]...", "Rebuild replicas from scratch", func(ctx context.Context, args []string) error {
		members, err := p.choose(ctx, &s, args)
		if err != nil || len(members) == 0 {
			return err
		}
		if err := p.confirmMembers(ctx, s, members); err != nil {
			return err
		}
		var started []shown
		for _, m := range members {
			ok, err := p.rebuild(ctx, s, m, fromLeader)
			if err != nil {
				return err
			}
			if ok {
				started = append(started, m)
			}
		}
		if wait {
			return p.awaitRebuild(ctx, s, started)
		}
		return nil
	})
	s.flags(c, false)
	c.Flags().BoolVar(&fromLeader, "from-leader", false, "copy from the leader")
	c.Flags().BoolVar(&wait, "wait", false, "until the copies are complete")
	return c
}

// rebuild asks one replica to rebuild itself; ok: it began.
func (p *Program) rebuild(ctx context.Context, s selection, m shown, fromLeader bool) (ok bool, err error) {
	for force := s.force; ; force = true {
		body := object("force", cluster.Flag(force), "from_leader", cluster.Flag(fromLeader))
		status, reply, err := s.site.call(ctx, m.Member, http.MethodPost, "/reinitialize", body)
		if err != nil {
			return false, memberError("reinitialize", m, err)
		}
		if status == http.StatusOK || status == http.StatusAccepted {
			p.say(Outcome{Member: m.Name, OK: true, Status: status}, "Success: reinitialize for member %s", m.Name)
			return true, nil
		}
		p.failed("reinitialize", m, status, reply)
		if force || !strings.HasSuffix(reply, " already in progress") {
			return false, nil
		}
		if yes, err := p.confirm(ctx, "Do you want to cancel it and reinitialize anyway?"); err != nil || !yes {
			return false, err
		}
	}
}

// awaitRebuild asks the members every two seconds until none copies any more.
func (p *Program) awaitRebuild(ctx context.Context, s selection, members []shown) error {
	said := 0
	for len(members) > 0 {
		if said != len(members) {
			fmt.Fprintf(p.Out, "Waiting for reinitialize to complete on: %s\n", names(members))
			said = len(members)
		}
		if err := p.sleep(ctx, 2*time.Second); err != nil {
			return err
		}
		var left []shown
		for _, m := range members {
			_, reply, err := s.site.call(ctx, m.Member, http.MethodGet, "/patroni", value{})
			status, _ := cluster.ParseValue([]byte(reply))
			state, known := status.Get("state")
			switch {
			case errors.Is(err, errAborted):
				return err
			case err != nil || !known || state.Text == string(cluster.CreatingReplica):
				left = append(left, m)
			default:
				p.say(Outcome{Member: m.Name, OK: true}, "Reinitialize is completed on: %s", m.Name)
			}
		}
		members = left
	}
	return nil
}
