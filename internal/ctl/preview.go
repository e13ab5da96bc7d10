package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/cluster"
)

// Preview is what switchover --dry-run shows.
type Preview struct {
	Leader      string         `json:"leader"`
	Candidate   string         `json:"candidate,omitempty"` // who would lead; empty: nobody can
	ScheduledAt string         `json:"scheduled_at,omitempty"`
	Possible    bool           `json:"possible"`
	Obstacles   []string       `json:"obstacles"` // why it is not possible
	Candidates  []CandidateFit `json:"candidates"`
	WaitsFor    []string       `json:"waits_for"` // in order
	Outage      string         `json:"expected_outage,omitempty"`
}

// CandidateFit says how fit a member is to lead. Lags are in bytes behind the leader at the moment of asking; -1: unknown.
type CandidateFit struct {
	Member     string   `json:"member"`
	Fit        bool     `json:"fit"`
	Unfit      []string `json:"unfit,omitempty"` // why not
	ReceiveLag int64    `json:"receive_lag"`
	ReplayLag  int64    `json:"replay_lag"`
}

// preview asks the members how a switchover would go, and changes nothing.
func (p *Program) preview(ctx context.Context, h handover, t target, at *time.Time) error {
	statuses, failures := t.ask(ctx, t.Members)
	v := t.previewOf(h, statuses, failures)
	if at != nil {
		v.ScheduledAt = cluster.FormatTime(*at)
	}
	if !p.data(v) {
		fmt.Fprint(p.Out, v.text())
	}
	if !v.Possible {
		return errors.New("the switchover is not possible now: " + strings.Join(v.Obstacles, "; "))
	}
	return nil
}

// ask reads the status of members, all at the same time; of one that does not answer the reason.
func (t target) ask(ctx context.Context, members []cluster.Member) (map[string]*client.Status, map[string]error) {
	statuses, failures := map[string]*client.Status{}, map[string]error{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, m := range members {
		asking.Go(func() {
			_, reply, err := t.site.call(ctx, m, http.MethodGet, "/patroni", value{})
			s := &client.Status{}
			if err == nil {
				err = json.Unmarshal([]byte(reply), s)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures[m.Name] = err
			} else {
				statuses[m.Name] = s
			}
		})
	}
	asking.Wait()
	return statuses, failures
}

func (t target) previewOf(h handover, statuses map[string]*client.Status, failures map[string]error) Preview {
	v := Preview{Leader: h.leader, Obstacles: []string{}, Candidates: []CandidateFit{}, WaitsFor: []string{}}
	leader := statuses[h.leader]
	switch {
	case leader == nil:
		v.Obstacles = append(v.Obstacles, fmt.Sprintf("leader %s does not answer (%v): only a failover is left", h.leader, failures[h.leader]))
	case !leader.Reachable():
		v.Obstacles = append(v.Obstacles, fmt.Sprintf("the PostgreSQL of leader %s is %s", h.leader, leader.State))
	case leader.Regent != nil && leader.Regent.Job != nil:
		v.Obstacles = append(v.Obstacles, fmt.Sprintf("leader %s is busy: %s", h.leader, leader.Regent.Job.Name))
	}
	if t.Config.Paused() && h.candidate == "" {
		v.Obstacles = append(v.Obstacles, "the cluster is paused: name a candidate")
	}
	var best *CandidateFit
	for _, m := range t.Members {
		if m.Name == h.leader || h.candidate != "" && m.Name != h.candidate {
			continue
		}
		v.Candidates = append(v.Candidates, t.fit(m, leader, statuses[m.Name], failures[m.Name]))
	}
	for i := range v.Candidates {
		if c := &v.Candidates[i]; c.Fit && (best == nil || c.ReceiveLag < best.ReceiveLag) {
			best = c
		}
	}
	if best == nil {
		v.Obstacles = append(v.Obstacles, "no candidate is fit")
	}
	if v.Possible = len(v.Obstacles) == 0; !v.Possible {
		return v
	}
	v.Candidate = best.Member
	v.WaitsFor = []string{
		fmt.Sprintf("%s: sessions end and PostgreSQL writes its shutdown checkpoint", h.leader),
		fmt.Sprintf("%s: receives the last WAL (%d bytes are on their way) and replays it (%d bytes to go)", best.Member, best.ReceiveLag, best.ReplayLag),
		fmt.Sprintf("%s: takes the lock and is promoted", best.Member),
	}
	base := "0.4 to 1.3 s" // measured in 50 switchovers, docs/BENCHMARK.md
	if leader.Regent == nil {
		base = "2.6 s" // Patroni's, same place
	}
	v.Outage = base + " for writes on a machine like that of docs/BENCHMARK.md, longer by what the checkpoint and the replay take"
	return v
}

// fit judges a member as the leader will, before it steps down.
func (t target) fit(m cluster.Member, leader, s *client.Status, failure error) CandidateFit {
	c := CandidateFit{Member: m.Name, ReceiveLag: -1, ReplayLag: -1}
	not := func(format string, args ...any) { c.Unfit = append(c.Unfit, fmt.Sprintf(format, args...)) }
	if m.Tags.NoFailover() {
		not("tagged nofailover")
	}
	if t.Config.SynchronousMode().Active() && !t.Sync.HasStandby(m.Name) {
		not("no synchronous standby")
	}
	if s == nil {
		not("does not answer: %v", failure)
		return c
	}
	if s.Tags.NoFailover() && !m.Tags.NoFailover() {
		not("tagged nofailover")
	}
	if s.WatchdogFailed {
		not("must not lead: neither guard nor watchdog")
	}
	switch x := s.Positions(); {
	case x == nil:
		not("PostgreSQL is %s", s.State)
	case leader != nil && leader.Reachable():
		at := leader.Positions().Location
		behind := func(p client.LSN) int64 { return max(int64(at)-int64(p), 0) }
		c.ReceiveLag, c.ReplayLag = behind(s.Position()), behind(x.ReplayedLocation)
		if most := t.Config.MaximumLagOnFailover(); c.ReceiveLag > most {
			not("%d bytes behind, maximum_lag_on_failover is %d", c.ReceiveLag, most)
		}
		if s.Timeline != leader.Timeline {
			not("on timeline %d, the leader is on %d", s.Timeline, leader.Timeline)
		}
		if s.ReplicationState != cluster.StateStreaming {
			not("does not stream")
		}
	}
	c.Fit = len(c.Unfit) == 0
	return c
}

func (v Preview) text() string {
	columns := []column{{name: "Candidate"}, {name: "Receive lag", right: true}, {name: "Replay lag", right: true}, {name: "Fit"}}
	bytes := func(n int64) string {
		if n < 0 {
			return "unknown"
		}
		return fmt.Sprintf("%d B", n)
	}
	var rows [][]string
	for _, c := range v.Candidates {
		verdict := "yes"
		if !c.Fit {
			verdict = "no: " + strings.Join(c.Unfit, ", ")
		}
		rows = append(rows, []string{c.Member, bytes(c.ReceiveLag), bytes(c.ReplayLag), verdict})
	}
	var b strings.Builder
	b.WriteString("Dry run: nothing is changed\n" + prettyTable("", columns, rows))
	for _, o := range v.Obstacles {
		fmt.Fprintf(&b, "Obstacle: %s\n", o)
	}
	if !v.Possible {
		return b.String()
	}
	when := "now"
	if v.ScheduledAt != "" {
		when = v.ScheduledAt
	}
	fmt.Fprintf(&b, "%s hands over to %s, %s. It waits for\n", v.Leader, v.Candidate, when)
	for i, w := range v.WaitsFor {
		fmt.Fprintf(&b, " %d. %s\n", i+1, w)
	}
	fmt.Fprintf(&b, "Expected outage: %s\n", v.Outage)
	return b.String()
}
