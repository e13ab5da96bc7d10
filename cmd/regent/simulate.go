package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/ctl"
	"github.com/regent-ha/regent/internal/sim"
)

// forecast is what `regent simulate` was asked for.
type forecast struct {
	faults  []string
	runs    int
	members int
	writes  float64 // commits a second
	seed    uint64
}

func simulateCommand() *cobra.Command {
	var o forecast
	c := &cobra.Command{
		Use: "simulate [OPTIONS] FILE", Short: "Forecast what faults would cost a cluster with these settings", Args: ctl.Arguments, DisableFlagsInUseLine: true,
		Long: `Forecast what faults would cost a cluster with these settings.

The real decisions run over modelled machines, in virtual time, many times with other delays: when the fault strikes, how long a start,
a stop or a promotion takes. Nothing is touched and nobody is asked. The dynamic configuration is the file's bootstrap.dcs.
The outage is PostgreSQL's; what clients need to connect again comes on top.`,
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); err != nil {
				return fmt.Errorf("read configuration: %w", err)
			}
			f, err := config.Load(args[0], os.Environ())
			if err != nil {
				return err
			}
			e, _, err := config.NewEffective(f, cluster.DynamicConfig{})
			if err != nil {
				return err
			}
			return o.run(c.OutOrStdout(), &e)
		},
	}
	c.Flags().StringSliceVar(&o.faults, "faults", nil, "which ones, separated by commas (default all): "+strings.Join(sim.ScenarioNames(), ", "))
	c.Flags().IntVar(&o.runs, "runs", 200, "how often each is played")
	c.Flags().IntVar(&o.members, "members", 3, "members of the cluster, 1 to 7")
	c.Flags().Float64Var(&o.writes, "writes", 10, "commits a second, 0.1 to 100")
	c.Flags().Uint64Var(&o.seed, "seed", 1, "where chance begins")
	return c
}

func (o *forecast) check() (scenarios []sim.Scenario, err error) {
	switch {
	case o.members < 1 || o.members > 7:
		return nil, fmt.Errorf("--members: have %d, want 1 to 7", o.members)
	case o.runs < 1:
		return nil, fmt.Errorf("--runs: have %d, want at least 1", o.runs)
	case o.writes < 0.1 || o.writes > 100:
		return nil, fmt.Errorf("--writes: have %g a second, want 0.1 to 100", o.writes)
	}
	names := o.faults
	if len(names) == 0 {
		names = sim.ScenarioNames()
	}
	for _, name := range names {
		s, ok := sim.Scenarios[name]
		if !ok {
			return nil, fmt.Errorf("--faults: have %q, want some of %s", name, strings.Join(sim.ScenarioNames(), ", "))
		}
		scenarios = append(scenarios, s)
	}
	return scenarios, nil
}

func (o *forecast) run(out io.Writer, e *config.Effective) error {
	scenarios, err := o.check()
	if err != nil {
		return err
	}
	dynamic := e.Bootstrap.DCS
	if dynamic.Document.Kind != cluster.Object {
		dynamic = cluster.DynamicConfig{Usable: true, Document: cluster.Value{Kind: cluster.Object}}
	}
	p := sim.Plan{
		Members: o.members, Config: dynamic, WriteEvery: time.Duration(float64(time.Second) / o.writes),
		Local: sim.Local{UseRewind: e.Postgres.UsePgRewind, RemoveOnRewindFailure: e.Postgres.RemoveDataDirOnRewindFailure, RemoveOnDivergence: e.Postgres.RemoveDataDirOnDiverged},
	}
	t, _ := dynamic.Timing()
	fmt.Fprintf(out, "%d members, ttl %s, loop_wait %s, retry_timeout %s; %g commits a second; each fault %d times\n\n", o.members, t.TTL, t.LoopWait, t.RetryTimeout, o.writes, o.runs)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fault\toutage: median\t95 %\tmost\tlost commits: median\tmost\t")
	var notes, bad []string
	for _, s := range scenarios {
		have := o.play(p, s)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.0f\t%.0f\t\n", s.Name, seconds(have.outage(50)), seconds(have.outage(95)), seconds(have.outage(100)), have.lost(50, o.writes), have.lost(100, o.writes))
		for _, other := range variants(dynamic) {
			q := p
			q.Config = other.config
			if then := o.play(q, s); differs(have.outage(50), then.outage(50)) || differs(have.outage(95), then.outage(95)) {
				notes = append(notes, fmt.Sprintf("%s: with %s the outage is %s instead of %s (median), %s instead of %s (95 %%)", s.Name, other.what,
					seconds(then.outage(50)), seconds(have.outage(50)), seconds(then.outage(95)), seconds(have.outage(95))))
			}
		}
		for _, r := range have {
			if r.Violation != nil {
				bad = append(bad, fmt.Sprintf("%s, seed %d: %s", s.Name, r.Seed, r.Violation))
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, s := range scenarios {
		fmt.Fprintf(out, "%s: %s\n", s.Name, s.Text)
	}
	if len(notes) > 0 {
		fmt.Fprintln(out, "\nWhat would change it, other settings unchanged:")
		for _, n := range notes {
			fmt.Fprintln(out, "  "+n)
		}
	}
	if len(bad) > 0 {
		fmt.Fprintln(out, "\nRuns that did not end well:")
		for _, b := range bad {
			fmt.Fprintln(out, "  "+b)
		}
	}
	return nil
}

// variant is one setting changed.
type variant struct {
	what   string
	config cluster.DynamicConfig
}

// variants are the settings that decide about outages, each at its quick end, where the cluster has it otherwise.
func variants(d cluster.DynamicConfig) (list []variant) {
	t, _ := d.Timing()
	add := func(differs bool, name string, value int64) {
		if differs {
			c := d
			c.Document = d.Document.Set(cluster.Int(value), name)
			list = append(list, variant{fmt.Sprintf("%s %d", name, value), c})
		}
	}
	add(t.TTL > 20*time.Second, "ttl", 20)
	add(t.LoopWait > time.Second, "loop_wait", 1)
	add(t.RetryTimeout > 3*time.Second, "retry_timeout", 3)
	add(d.PrimaryStartTimeout() > 0, "primary_start_timeout", 0)
	return list
}

// outcomes of one scenario, in order of their seeds.
type outcomes []sim.Outcome

// play runs a scenario with seeds side by side; the outcome does not depend on how many at once.
func (o *forecast) play(p sim.Plan, s sim.Scenario) outcomes {
	list := make(outcomes, o.runs)
	next := make(chan int)
	var done sync.WaitGroup
	for range runtime.NumCPU() {
		done.Go(func() {
			for i := range next {
				list[i] = sim.Forecast(p, s, o.seed+uint64(i))
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	done.Wait()
	return list
}

// percentile is the value that so many percent of the runs do not exceed.
func (l outcomes) percentile(percent int, of func(sim.Outcome) time.Duration) time.Duration {
	values := make([]time.Duration, len(l))
	for i := range l {
		values[i] = of(l[i])
	}
	slices.Sort(values)
	return values[max((len(values)*percent+99)/100, 1)-1]
}

func (l outcomes) outage(percent int) time.Duration {
	return l.percentile(percent, func(o sim.Outcome) time.Duration { return o.Outage })
}

func (l outcomes) lost(percent int, writes float64) float64 {
	return l.percentile(percent, func(o sim.Outcome) time.Duration { return o.Lost }).Seconds() * writes
}

// differs says whether a change is worth telling: a tenth, and a quarter of a second.
func differs(a, b time.Duration) bool {
	d := (a - b).Abs()
	return d > max(a, b)/10 && d > 250*time.Millisecond
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
