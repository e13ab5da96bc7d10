package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/cluster"
)

// view is what the cluster looks like at one moment: to the store, and to its members.
type view struct {
	snapshot *cluster.Snapshot         // nil: the store did not answer
	status   map[string]*client.Status // by member; absent: no answer
}

const lookLimit = 2 * time.Second

func (c *demoCluster) look(ctx context.Context) view {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	v := view{status: map[string]*client.Status{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, m := range c.members {
		all.Go(func() {
			if s, err := m.client.Status(ctx); err == nil {
				mu.Lock()
				defer mu.Unlock()
				v.status[m.name] = s
			}
		})
	}
	if s, err := c.store.Snapshot(ctx); err == nil {
		v.snapshot = s
	}
	all.Wait()
	return v
}

func (v view) leader() string {
	if v.snapshot == nil {
		return ""
	}
	return v.snapshot.Leader.Name
}

// goal is a state to wait for.
type goal struct {
	leader   string           // empty: any
	timeline cluster.Timeline // 0: any
	alone    bool             // the other members do not matter
	members  []string
}

// lacks says what is not as it should be; empty: all is well. What the store says counts as well as what the members say
// of themselves, since the first is what people see.
func (g goal) lacks(v view) (missing []string) {
	say := func(format string, args ...any) { missing = append(missing, fmt.Sprintf(format, args...)) }
	if v.snapshot == nil {
		return []string{"the store does not answer"}
	}
	leader := v.leader()
	switch {
	case leader == "":
		return []string{"nobody holds the leader lock"}
	case g.leader != "" && leader != g.leader:
		say("%s holds the leader lock, want %s", leader, g.leader)
		return missing
	}
	timeline := g.timeline
	if s := v.status[leader]; timeline == 0 && s != nil {
		timeline = cluster.Timeline(s.Timeline)
	}
	for _, name := range g.members {
		if name != leader && g.alone {
			continue
		}
		s, known := v.status[name], true
		m, announced := v.snapshot.Member(name)
		switch {
		case s == nil:
			say("%s does not answer on its REST API", name)
			known = false
		case name == leader && (s.Role != "primary" || !s.IsPrimary() || s.State != "running"):
			say("%s says it is %s and %s, want primary and running", name, s.Role, s.State)
		case name != leader && (s.Role != "replica" || s.IsPrimary() || s.ReplicationState != cluster.StateStreaming):
			say("%s says it is %s and %s, replication state %q, want replica and streaming", name, s.Role, s.State, s.ReplicationState)
		case cluster.Timeline(s.Timeline) != timeline:
			say("%s is on timeline %d, want %d", name, s.Timeline, timeline)
		}
		if known && (!announced || m.State != cluster.Running || m.Timeline != timeline) {
			say("the store says %s is %s on timeline %d, want running on %d", name, m.State, m.Timeline, timeline)
		}
		lag, ok := v.snapshot.Lag(max(m.ReceiveLSN, m.ReplayLSN))
		switch {
		case !known || name == leader:
		case !ok:
			say("the store does not say how far %s lags", name)
		case lag > 1<<19:
			say("the store says %s lags by %d bytes, want less than half a megabyte", name, lag)
		}
	}
	return missing
}

func (g goal) String() string {
	leader := g.leader
	if leader == "" {
		leader = "any member"
	}
	text := leader + " holds the lock and is the primary"
	if g.timeline != 0 {
		text += fmt.Sprintf(" on timeline %d", g.timeline)
	}
	if !g.alone {
		text += ", the other member streams from it"
	}
	return text
}

// lookEvery is how often members are asked what they do; the end of an agent is noticed at once.
const lookEvery = 50 * time.Millisecond

// wait waits until the goal is reached. It tells what members do, at each look. What it returns when the limit is over explains
// itself: what was expected, what is there, the agents' last words.
func (c *demoCluster) wait(ctx context.Context, g goal, limit time.Duration, tell func(name, doing string)) (view, error) {
	for _, m := range c.members {
		g.members = append(g.members, m.name)
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	begin := time.Now()
	var lacks []string
	for {
		v := c.look(ctx)
		for _, m := range c.members {
			if doing := v.doing(m.name); doing != "" && m.running() != nil {
				tell(m.name, doing)
			}
		}
		if lacks = g.lacks(v); len(lacks) == 0 {
			return v, nil
		}
		for _, m := range c.members {
			if err := m.died(); err != nil && (!g.alone || g.leader == "" || g.leader == m.name) {
				return v, c.explain(g, lacks, time.Since(begin), err)
			}
		}
		if time.Since(begin) > limit {
			return v, c.explain(g, lacks, limit, nil)
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case err := <-c.server.Err():
			return v, fmt.Errorf("run the store: it ended: %w", err)
		case <-tick.C:
		}
	}
}

// doing is what a member says it does, in a few words; empty: it does not answer.
func (v view) doing(name string) string {
	s := v.status[name]
	if s == nil {
		return ""
	}
	if s.Regent != nil && s.Regent.Job != nil {
		j := s.Regent.Job
		return strings.TrimSpace(jobNames[j.Name] + " " + j.Phase)
	}
	switch {
	case s.State == "stopped":
		return "" // an agent that has just started and not decided yet
	case s.State != "running":
		return s.State
	case s.IsPrimary():
		return fmt.Sprintf("primary on timeline %d", s.Timeline)
	case s.ReplicationState == cluster.StateStreaming:
		return fmt.Sprintf("replica, streaming on timeline %d", s.Timeline)
	default:
		return "replica, running"
	}
}

// jobNames are the words for what takes time.
var jobNames = map[string]string{
	"bootstrap": "makes a new database:", "clone": "copies the leader:", "start": "starts as replica", "start-primary": "starts as primary",
	"promote": "is being promoted", "switchover": "stops, to hand over", "demote": "stops", "crash-recovery": "recovers from its crash",
	"rewind": "rewinds what only it had:", "divergence-check": "compares its WAL with the leader's", "restart": "restarts", "follow": "turns to its leader",
}

// explain says why a wait ended without success.
func (c *demoCluster) explain(g goal, lacks []string, after time.Duration, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var b strings.Builder
	fmt.Fprintf(&b, "wait for the cluster, %.1f s: expected that %s; have:\n", after.Seconds(), g)
	for _, l := range lacks {
		fmt.Fprintf(&b, "  - %s\n", l)
	}
	if cause != nil {
		fmt.Fprintf(&b, "  - %s\n", cause)
	}
	if t, err := c.table(ctx); err == nil {
		b.WriteString(t)
	}
	for _, m := range c.members {
		if !m.started() {
			continue
		}
		fmt.Fprintf(&b, "\nThe last lines of %s:\n%s", m.log(), lastLines(m.log(), 15))
		fmt.Fprintf(&b, "GET /why of %s: %s\n", m.name, c.why(ctx, m))
	}
	return errors.New(strings.TrimRight(b.String(), "\n"))
}

func (c *demoCluster) why(ctx context.Context, m *member) string {
	w, err := m.client.Why(ctx, time.Time{}, 5)
	if err != nil {
		return err.Error()
	}
	return reasons(w)
}

// reasons is an explanation with a line for each gate that is closed and for each decision.
func reasons(w *client.Why) string {
	var b strings.Builder
	b.WriteString(w.Verdict)
	for _, g := range w.Gates {
		if !g.Passed || g.Unknown {
			fmt.Fprintf(&b, "\n  closed: %s: have %s, want %s", g.Name, g.Value, g.Limit)
		}
	}
	for _, d := range w.Decisions {
		fmt.Fprintf(&b, "\n  %s %s: %s %v", d.At.Format("15:04:05.000"), d.Reason, d.Detail, d.Actions)
		for _, e := range d.Errors {
			fmt.Fprintf(&b, "\n    %s", e)
		}
	}
	return b.String()
}

// lastLines returns the end of a file, indented.
func lastLines(name string, most int) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return "  " + err.Error() + "\n"
	}
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	return "  " + string(bytes.Join(lines, []byte("\n  "))) + "\n"
}
