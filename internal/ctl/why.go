package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/cluster"
)

// Own are the commands that patronictl does not have.
func (p *Program) Own() []*cobra.Command {
	return []*cobra.Command{p.why(), p.doctor(), p.adopt(), p.man()}
}

// explained is what one member said about itself, or why it did not.
type explained struct {
	name   string
	raw    []byte
	report client.Why
	err    error
}

// why asks members to explain the election and their last decisions, now or at a past moment.
func (p *Program) why() *cobra.Command {
	var when, scope string
	limit, format := 5, "pretty"
	c := p.command("why [OPTIONS] [MEMBER_NAME]", "Explain who may become the leader, who not, and what members decided", func(ctx context.Context, args []string) error {
		at, err := p.parseSchedule(when)
		if err != nil {
			return err
		}
		var named []string
		if scope != "" {
			named = []string{scope}
		}
		t, err := p.open(ctx, named, nil)
		if err != nil {
			return err
		}
		members := t.Members
		if len(args) > 0 {
			m, ok := t.Member(args[0])
			if !ok {
				return fmt.Errorf("explain member %s: cluster %s has no such member", args[0], t.scope)
			}
			members = []cluster.Member{m}
		}
		if len(members) == 0 {
			return fmt.Errorf("explain cluster %s: it has no members", t.scope)
		}
		all := t.site.explain(ctx, members, at, limit)
		if format == "json" {
			return p.printWhyJSON(all)
		}
		for i, e := range all {
			if i > 0 {
				fmt.Fprintln(p.Out)
			}
			fmt.Fprint(p.Out, e.pretty(t.Leader.Name))
		}
		return nil
	})
	f := c.Flags()
	f.StringVar(&when, "at", "", "a past `time`: ISO 8601; now by default")
	f.IntVarP(&limit, "limit", "n", limit, "this many decisions")
	f.VarP(choice{&format, []string{"pretty", "json"}}, "format", "f", "output format")
	f.StringVar(&scope, "cluster", "", "`name` of the cluster; the configured one by default")
	return c
}

// explain asks all members at the same time.
func (s *Site) explain(ctx context.Context, members []cluster.Member, at *time.Time, limit int) []explained {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if at != nil {
		query.Set("at", cluster.FormatTime(*at))
	}
	all := make([]explained, len(members))
	var asking sync.WaitGroup
	for i, m := range members {
		asking.Go(func() {
			status, reply, err := s.call(ctx, m, http.MethodGet, "/why?"+query.Encode(), value{})
			all[i] = explained{name: m.Name, raw: []byte(reply), err: err}
			switch {
			case err != nil:
			case status == http.StatusNotFound:
				all[i].err = errors.New("it does not explain itself: only Regent's members do")
			case status != http.StatusOK:
				all[i].err = fmt.Errorf("it answered %d: %s", status, reply)
			default:
				all[i].err = json.Unmarshal(all[i].raw, &all[i].report)
			}
		})
	}
	asking.Wait()
	return all
}

// printWhyJSON prints a list of what the members said; of one that said nothing its name and the reason.
func (p *Program) printWhyJSON(all []explained) error {
	list := make([]json.RawMessage, 0, len(all))
	for _, e := range all {
		if e.err != nil {
			text, err := json.Marshal(map[string]string{"member": e.name, "error": e.err.Error()})
			if err != nil {
				return err
			}
			e.raw = text
		}
		list = append(list, e.raw)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.Out, string(text))
	return nil
}

func (e explained) pretty(leader string) string {
	title := e.name
	if e.name == leader {
		title += ", the leader"
	}
	if e.err != nil {
		return fmt.Sprintf("%s: no explanation: %v\n", title, e.err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, at %s: %s\n", title, e.report.At.Format("2006-01-02 15:04:05"), e.report.Verdict)
	if e.report.Risk != nil {
		fmt.Fprintf(&b, "If it were lost now: %s\n", e.report.Risk.Detail)
	}
	if d := e.report.Durability; d != nil {
		fmt.Fprintf(&b, "Durability %s: %s\n", d.Survive, d.Detail)
	}
	if e.report.Loss != nil {
		fmt.Fprintf(&b, "The last failover: %s\n", e.report.Loss.Detail)
	}
	if len(e.report.Gates) > 0 {
		columns := []column{{name: "Gate"}, {name: "Value"}, {name: "Limit"}, {name: "Verdict"}}
		var rows [][]string
		for _, g := range e.report.Gates {
			rows = append(rows, []string{g.Name, g.Value, g.Limit, verdict(g)})
		}
		b.WriteString(prettyTable("", columns, rows))
	}
	for _, d := range e.report.Decisions {
		b.WriteString(decisionText(d))
	}
	return b.String()
}

func verdict(g client.Gate) string {
	switch {
	case g.Unknown:
		return "unknown"
	case g.Passed:
		return "passed"
	default:
		return "FAILED"
	}
}

// decisionText is a line for the decision and one for each thing it did, ruled out, or failed in.
func decisionText(d client.Decision) string {
	line := d.At.Format("2006-01-02 15:04:05.000") + " " + d.Reason
	if d.Detail != "" {
		line += ": " + d.Detail
	}
	lines := []string{line}
	if len(d.Actions) > 0 {
		lines = append(lines, "  did: "+strings.Join(d.Actions, ", "))
	}
	for _, r := range d.RuledOut {
		lines = append(lines, "  ruled out: "+r)
	}
	for _, r := range d.Errors {
		lines = append(lines, "  went wrong: "+r)
	}
	return strings.Join(lines, "\n") + "\n"
}
