package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/internal/cluster"
)

func (p *Program) pause() *cobra.Command {
	return p.maintenance("pause", "Stop acting automatically: no failover, no restart", true)
}

func (p *Program) resume() *cobra.Command {
	return p.maintenance("resume", "Act automatically again", false)
}

// maintenance turns maintenance mode on or off through the first member that answers (ctl.md 6.8).
func (p *Program) maintenance(action, short string, on bool) *cobra.Command {
	var group *int
	var wait bool
	c := p.command(action+" [OPTIONS] [CLUSTER_NAME]", short, func(ctx context.Context, args []string) error {
		t, err := p.open(ctx, args, group)
		switch {
		case err != nil:
			return err
		case on && t.Config.Paused():
			return sentence("Cluster is already paused")
		case !on && !t.Config.Paused():
			return sentence("Cluster is not paused")
		}
		return p.toggle(ctx, t, action, on, wait)
	})
	c.Flags().BoolVar(&wait, "wait", false, "until all members know")
	c.Flags().Var(groupFlag{&group}, "group", "Citus group")
	return c
}

func (p *Program) toggle(ctx context.Context, t target, action string, on, wait bool) error {
	body := object("pause", value{})
	if on {
		body = object("pause", cluster.Flag(true))
	}
	for _, m := range t.leaderFirst() {
		status, reply, err := t.site.call(ctx, m, http.MethodPatch, "/config", body)
		switch {
		case errors.Is(err, errAborted):
			return err
		case err != nil:
			p.warn("%v", err)
			p.warn("Member %s is not accessible", m.Name)
			continue
		case status != http.StatusOK:
			p.say(Outcome{Member: m.Name, Status: status}, "Failed: %s cluster management status code=%d, (%s)", action, status, reply)
			return nil
		}
		if wait {
			if err := p.awaitPause(ctx, t, action, on); err != nil {
				return err
			}
		}
		p.say(Outcome{Member: m.Name, OK: true, Status: status}, "Success: cluster management is %sd", action)
		return nil
	}
	return sentence("Can not find accessible cluster member")
}

// awaitPause waits until every member says that it has seen the change, one cycle at most.
func (p *Program) awaitPause(ctx context.Context, t target, action string, on bool) error {
	fmt.Fprintf(p.Out, "'%s' request sent, waiting until it is recognized by all nodes\n", action)
	before := t.Snapshot
	loopWait := t.Config.WrittenTiming().LoopWait
	for waited := time.Duration(0); ; waited += time.Second {
		if err := p.reread(ctx, &t); err != nil {
			return err
		}
		late, all := []string{}, true
		for _, m := range t.Members {
			if m.Pause == on {
				continue
			}
			all = false
			if old, known := before.Member(m.Name); known && old.Revision != m.Revision {
				late = append(late, m.Name)
			}
		}
		if all {
			return nil
		}
		if waited > loopWait {
			if len(late) > 0 {
				p.say(Outcome{}, "%s members didn't recognized %s state after %d seconds", strings.Join(late, ", "), action, int(loopWait.Seconds()))
			}
			return nil
		}
		if err := p.sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

// sleep waits, or ends with the interrupt key.
func (p *Program) sleep(ctx context.Context, d time.Duration) error {
	if p.Sleep != nil {
		return p.Sleep(ctx, d)
	}
	select {
	case <-ctx.Done():
		return errAborted
	case <-time.After(d):
		return nil
	}
}
