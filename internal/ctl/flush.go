package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/internal/cluster"
)

// flushTargets are what can be taken back.
var flushTargets = []string{"restart", "switchover"}

// flush drops what was scheduled (ctl.md 6.7).
func (p *Program) flush() *cobra.Command {
	s := selection{action: "flush", role: "any"}
	var c *cobra.Command
	c = p.command("flush [OPTIONS] CLUSTER_NAME [MEMBER_NAMES]... {restart|switchover}", "Take back a scheduled restart or switchover", func(ctx context.Context, args []string) error {
		what := ""
		if len(args) < 2 {
			return &usageError{c, "Missing argument '{restart|switchover}'. Choose from:\n\trestart,\n\tswitchover"}
		}
		args, last := args[:len(args)-1], args[len(args)-1]
		if err := (choice{&what, flushTargets}).Set(last); err != nil {
			return &usageError{c, "Invalid value for '{restart|switchover}': " + err.Error()}
		}
		if what == "switchover" {
			return p.flushSwitchover(ctx, s, args[0])
		}
		return p.flushRestarts(ctx, s, args)
	})
	s.flags(c, true)
	return c
}

func (p *Program) flushRestarts(ctx context.Context, s selection, args []string) error {
	members, err := p.choose(ctx, &s, args)
	if err != nil {
		return err
	}
	if err := p.confirmMembers(ctx, s, members); err != nil {
		return err
	}
	for _, m := range members {
		if m.ScheduledRestart == nil {
			p.say(Outcome{Member: m.Name, OK: true}, "No scheduled restart for member %s", m.Name)
			continue
		}
		status, reply, err := s.site.call(ctx, m.Member, http.MethodDelete, "/restart", value{})
		switch {
		case err != nil:
			return memberError("flush", m, err)
		case status == http.StatusOK || status == http.StatusNotFound:
			p.say(Outcome{Member: m.Name, OK: true, Status: status}, "Success: flush scheduled restart for member %s", m.Name)
		default:
			p.failed("flush scheduled restart", m, status, reply)
		}
	}
	return nil
}

// flushSwitchover asks the members in turn; when none can be asked, the key is cleared in the store.
func (p *Program) flushSwitchover(ctx context.Context, s selection, scope string) error {
	t, err := p.open(ctx, []string{scope}, s.group)
	if err != nil {
		return err
	}
	if !t.Failover.Requested() && t.Failover.ScheduledAt == nil {
		p.say(Outcome{OK: true}, "No pending scheduled switchover")
		return nil
	}
	for _, m := range t.leaderFirst() {
		status, reply, err := t.site.call(ctx, m, http.MethodDelete, "/switchover", value{})
		switch {
		case errors.Is(err, errAborted):
			return err
		case err != nil:
			p.warn("%v", err)
			p.warn("Member %s is not accessible", m.Name)
		case status == http.StatusOK:
			p.say(Outcome{Member: m.Name, OK: true, Status: status}, "Success: scheduled switchover deleted")
			return nil
		case status == http.StatusNotFound:
			p.say(Outcome{Member: m.Name, Status: status}, "Failed: no switchover is scheduled")
			return nil
		default:
			p.say(Outcome{Member: m.Name, Status: status}, "Failed: member=%s, status_code=%d, (%s)", m.Name, status, reply)
		}
	}
	p.warn("Failing over to DCS")
	fmt.Fprintf(p.Out, "%s Could not find any accessible member of cluster %s\n", p.stamp(), t.scope)
	if err := t.put(ctx, cluster.KeyFailover, cluster.Failover{}.Encode(), t.Failover.Revision); err != nil {
		return fmt.Errorf("clear the switchover of cluster %s in the store: %w", t.scope, err)
	}
	p.keep(Outcome{OK: true, Message: "cleared in the store"})
	return nil
}
