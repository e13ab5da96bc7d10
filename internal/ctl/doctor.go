package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/cluster"
)

// Finding is what doctor says about one thing.
type Finding struct {
	Check   string `json:"check"`   // configuration, disk, watchdog, store, fsync, settings, leader, member, account, clocks, candidates
	Subject string `json:"subject"` // of what: a member, a directory, the store's address; may be empty
	Verdict string `json:"verdict"` // ok, warning or problem
	Found   string `json:"found"`
	Advice  string `json:"advice,omitempty"` // what to do, where it is not ok
}

const (
	fine    = "ok"
	warning = "warning"
	problem = "problem"
)

// Limits of doctor.
const (
	storeTries = 5
	slowStore  = 100 * time.Millisecond // a read at a quorum, the connection included
	slowFsync  = 10 * time.Millisecond  // etcd's own advice
)

func (p *Program) doctor() *cobra.Command {
	format := "pretty"
	var group *int
	c := p.command("doctor [OPTIONS] [CLUSTER_NAME]", "Check configuration, store, members, accounts, clocks and disk, and say what to do", func(ctx context.Context, args []string) error {
		t, findings, err := p.examine(ctx, args, group)
		if err != nil {
			return err
		}
		if format == "json" {
			text, err := json.Marshal(findings)
			if err != nil {
				return err
			}
			fmt.Fprintln(p.Out, string(text))
		} else {
			fmt.Fprint(p.Out, findingsText(findings))
		}
		if slices.ContainsFunc(findings, func(f Finding) bool { return f.Verdict == problem }) {
			return fmt.Errorf("cluster %s has problems", t.scope)
		}
		return nil
	})
	c.Flags().VarP(choice{&format, []string{"pretty", "json"}}, "format", "f", "output format")
	c.Flags().Var(groupFlag{&group}, "group", "Citus group")
	return c
}

// examine makes every check. A store that does not answer is a finding as well, and ends it.
func (p *Program) examine(ctx context.Context, args []string, group *int) (target, []Finding, error) {
	site, err := p.Connect(p.options)
	if err != nil {
		return target{}, nil, err
	}
	scope, err := clusterName(site, args)
	if err != nil {
		return target{}, nil, err
	}
	if group == nil {
		group = site.Group
	}
	t := target{site: site, scope: scope, group: group}
	findings := site.localFindings()
	store, err := p.storeFinding(ctx, &t)
	if findings = append(findings, store); err != nil {
		return t, findings, nil
	}
	if site.Fsyncs != nil {
		findings = append(findings, fsyncFindings(site.Fsyncs(ctx))...)
	}
	statuses, failures := t.ask(ctx, t.Members)
	findings = append(findings, t.settingsFinding(), t.leaderFinding(statuses))
	fit := []string{}
	for _, m := range t.Members {
		findings = append(findings, t.memberFindings(m, statuses, failures[m.Name])...)
		if m.Name != t.Leader.Name && t.fit(m, statuses[t.Leader.Name], statuses[m.Name], failures[m.Name]).Fit {
			fit = append(fit, m.Name)
		}
	}
	findings = append(findings, t.accountFindings(ctx)...)
	findings = append(findings, p.clockFindings(ctx, t)...)
	candidates := Finding{Check: "candidates", Verdict: fine, Found: "could take over now: " + strings.Join(fit, ", ")}
	if len(fit) == 0 {
		candidates.Verdict, candidates.Found = problem, "nobody could take over now"
		candidates.Advice = "add a member, or mend those above; until then the loss of the leader is an outage"
	}
	return t, append(findings, candidates), nil
}

// storeFinding reads the cluster a few times and judges how long that takes.
func (p *Program) storeFinding(ctx context.Context, t *target) (Finding, error) {
	f := Finding{Check: "store", Subject: t.site.Where, Verdict: fine}
	var took []time.Duration
	for range storeTries {
		begin := p.Now()
		if err := p.reread(ctx, t); err != nil {
			f.Verdict, f.Found = problem, err.Error()
			f.Advice = "without the store nobody can become the leader, and the leader stops writing when its lock runs out"
			return f, err
		}
		took = append(took, p.Now().Sub(begin))
	}
	slices.Sort(took)
	f.Found = fmt.Sprintf("a read takes %s, the slowest of %d %s", took[storeTries/2].Round(time.Microsecond), storeTries, took[storeTries-1].Round(time.Microsecond))
	if took[storeTries-1] > slowStore {
		f.Verdict, f.Advice = warning, "look at the network to the store and at its disk: etcd wants an fsync below 10 ms"
	}
	return f, nil
}

// fsyncFindings judge the disks of the store. What cannot be learned is left out: not every store tells.
func fsyncFindings(disks []Fsync) (list []Finding) {
	for _, d := range disks {
		if d.Err != nil {
			continue
		}
		f := Finding{Check: "fsync", Subject: d.Server, Verdict: fine, Found: fmt.Sprintf("99 of 100 writes of its log to disk take %s at most", d.P99)}
		if d.P99 > slowFsync {
			f.Verdict, f.Advice = warning, "give etcd a faster disk, or one that it has for itself: a slow one delays every renewal of the leader lock"
		}
		list = append(list, f)
	}
	return list
}

func (t target) settingsFinding() Finding {
	timing := t.Config.WrittenTiming()
	f := Finding{Check: "settings", Verdict: fine, Found: fmt.Sprintf("ttl %s, loop_wait %s, retry_timeout %s", timing.TTL, timing.LoopWait, timing.RetryTimeout)}
	switch _, adjusted := t.Config.Timing(); {
	case !t.Config.Usable:
		f.Verdict, f.Found, f.Advice = problem, "there is no usable configuration in the store", "is the cluster's name right? A cluster that has started writes one"
	case len(adjusted) > 0:
		f.Verdict, f.Found, f.Advice = warning, f.Found+": "+strings.Join(adjusted, "; "), "choose ttl >= loop_wait + 2*retry_timeout with edit-config"
	case t.Config.Paused():
		f.Verdict, f.Found, f.Advice = warning, f.Found+"; the cluster is paused", "nobody takes over while it is: resume"
	}
	return f
}

func (t target) leaderFinding(statuses map[string]*client.Status) Finding {
	name := t.Leader.Name
	f := Finding{Check: "leader", Subject: name, Verdict: fine, Found: "holds the lock, and is a primary"}
	s := statuses[name]
	switch {
	case name == "":
		f.Verdict, f.Found, f.Advice = problem, "nobody holds the lock", "why says which gate of the election keeps each member back"
	case s == nil:
		f.Verdict, f.Found, f.Advice = problem, "holds the lock, but does not answer", "see its log; when the lock runs out another member takes over"
	case t.Config.StandbyCluster() != nil:
		f.Found = "holds the lock of a standby cluster"
	case !s.IsPrimary() || !s.Reachable():
		f.Verdict, f.Found, f.Advice = problem, "holds the lock, but its PostgreSQL is "+s.State+" as "+s.Role, "why explains what it waits for"
	}
	return f
}

// memberFindings says what is wrong with one member, or that nothing is.
func (t target) memberFindings(m cluster.Member, statuses map[string]*client.Status, failure error) (list []Finding) {
	found := func(verdict, text, advice string) {
		list = append(list, Finding{Check: "member", Subject: m.Name, Verdict: verdict, Found: text, Advice: advice})
	}
	s := statuses[m.Name]
	if s == nil {
		found(problem, fmt.Sprintf("its REST API does not answer: %v", failure), "is the agent running, is "+m.APIURL+" reachable from here, are certificates and passwords right?")
		return list
	}
	leader := statuses[t.Leader.Name]
	if !s.Reachable() {
		found(problem, "its PostgreSQL is "+s.State, "see the agent's log and PostgreSQL's")
	} else if m.Name != t.Leader.Name && !streams(m, s, leader) {
		found(warning, "does not stream from the leader", "look for a missing slot or WAL, pg_hba.conf and the replication user's password in its PostgreSQL log; reinit rebuilds it")
	}
	if leader != nil && s.Reachable() && leader.Reachable() && s.Timeline != leader.Timeline {
		found(problem, fmt.Sprintf("on timeline %d, the leader is on %d", s.Timeline, leader.Timeline), "why says whether it rewinds; reinit rebuilds it")
	}
	if leader != nil && leader.ServerVersion/10000 != s.ServerVersion/10000 && s.ServerVersion != 0 && leader.ServerVersion != 0 {
		found(problem, "another major version of PostgreSQL than the leader's", "upgrade it")
	}
	if s.PendingRestart {
		found(warning, "settings wait for a restart of PostgreSQL", "restart it")
	}
	if s.WatchdogFailed {
		found(problem, "must not lead: neither guard nor watchdog works", "see its log for the reason")
	}
	if r := s.Regent; r != nil && r.Guard != nil && !s.WatchdogFailed {
		switch {
		case !r.Guard.Alive && r.Guard.Problem != "":
			found(warning, "no guard: "+r.Guard.Problem, "without one an agent that hangs leaves its PostgreSQL writing beside a new leader")
		case len(r.Guard.Lacks) > 0:
			found(warning, "the guard was not allowed "+strings.Join(r.Guard.Lacks, ", "), "the unit file or container grants it")
		}
	}
	if r := s.Regent; r != nil && r.StoreError != "" {
		found(problem, "cannot read the store: "+r.StoreError, "look at its way to the store")
	}
	if r := s.Regent; r != nil && len(r.UnreadySlots) > 0 {
		found(warning, "logical slots not ready for a failover: "+strings.Join(r.UnreadySlots, ", "), "wait; when it lasts, see docs/operations/slots.md")
	}
	if len(list) == 0 {
		found(fine, s.State+" as "+s.Role, "")
	}
	return list
}

// streams says whether a member streams by its own word or, since old Patroni members say nothing, by the leader's.
func streams(m cluster.Member, s, leader *client.Status) bool {
	return s.ReplicationState == cluster.StateStreaming || s.ReplicationState == "" && leader != nil && slices.ContainsFunc(leader.Replication,
		func(w client.Walsender) bool { return w.Application == m.Name && w.State == cluster.StateStreaming })
}

func findingsText(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		subject := f.Check
		if f.Subject != "" {
			subject += " " + f.Subject
		}
		fmt.Fprintf(&b, "%-8s %s: %s\n", f.Verdict, subject, f.Found)
		if f.Advice != "" {
			fmt.Fprintf(&b, "         %s\n", f.Advice)
		}
	}
	return b.String()
}
