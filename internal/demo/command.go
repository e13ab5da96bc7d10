// Package demo runs a cluster of two on this machine, lets things happen to it, and shows how it heals: for a person who
// sees the program for the first time (`regent demo`), and, many times over, as a test (`regent demo --script --rounds 50`).
//
// The members are processes of their own, as everywhere. Only the store lives in the demo's process, so that killing a
// member does not take it away. Nothing is left behind: whatever ends the demo but SIGKILL, it ends its processes and
// deletes its directory, unless it is told to keep it or something went wrong that the logs in it explain.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Command is `regent demo`.
func Command() *cobra.Command {
	o := options{}
	var script, keep bool
	var rounds, ttl, loopWait int
	c := &cobra.Command{
		Use: "demo", Short: "Run a cluster of two on this machine, and see it heal", Args: cobra.NoArgs,
		Long: `Run a cluster of two on this machine: cluster-0 and cluster-1, with etcd inside this process.
With --script, the leader is killed, the replica is killed, the leader is switched, while rows are written;
the exit code says whether the cluster healed and kept what it must keep. Without it the cluster stays up
until Ctrl-C, for you to play with.`,
		RunE: func(c *cobra.Command, args []string) error {
			o.ttl, o.loopWait = time.Duration(ttl)*time.Second, time.Duration(loopWait)*time.Second
			if rounds < 1 {
				return fmt.Errorf("--rounds: have %d, want at least 1", rounds)
			}
			if ttl < 20 || loopWait < 1 {
				return fmt.Errorf("--ttl, --loop-wait: have %d and %d seconds, want at least 20 and 1, the minimum of a cluster that Patroni may join", ttl, loopWait)
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
			defer stop()
			// Without a handler, a reader of our output that goes away would end us before we have ended our processes.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			return run(ctx, o, newScreen(os.Stdout, stop), script, rounds, keep)
		},
	}
	f := c.Flags()
	f.BoolVar(&script, "script", false, "play four scenes and end, instead of staying up")
	f.IntVar(&rounds, "rounds", 1, "how often to play the scenes")
	f.StringVar(&o.dir, "dir", "", "an empty directory for data and logs (default: a temporary one)")
	f.BoolVar(&keep, "keep", false, "do not delete the directory at the end")
	f.IntVar(&ttl, "ttl", 20, "seconds that the leader lock lives unrenewed: a killed leader is replaced after that")
	f.IntVar(&loopWait, "loop-wait", 1, "seconds between two looks of an agent when nothing happens")
	f.StringVar(&o.program, "bin", self, "the regent `program` that the members run; this one unless another is named")
	f.StringVar(&o.pgBin, "pg-bin", "", "folder of PostgreSQL's programs (default: the newest version that is installed)")
	return c
}

// self is this program by its open file: user postgres may have no way through the folders above its name, and it stays
// the same while a new one is built.
const self = "/proc/self/exe"

// run plays or stays up. Whatever happens in between, it ends everything that it started.
func run(ctx context.Context, o options, s *screen, script bool, rounds int, keep bool) (err error) {
	c, err := open(ctx, o)
	failed := true // also on panic
	defer func() {
		interrupted := ctx.Err() != nil
		if interrupted {
			s.say("\nEnding the cluster ...")
		}
		keep := keep || failed && !interrupted && len(c.members) > 0
		if e := c.close(keep); e != nil {
			e = fmt.Errorf("end the demo: %w", e)
			err = errors.Join(err, e)
			if interrupted {
				s.say("%v", e) // who called us says only that it was interrupted
			}
		} else if interrupted {
			s.say("Nothing is left running.")
		}
		if keep && c.dir != "" {
			s.say("\nLogs, configuration and data are kept in %s", c.dir)
		}
	}()
	if err != nil {
		return err
	}
	p := &play{screen: s, cluster: c, writer: newWriter(c.dsn())}
	if err := p.begin(ctx); err != nil {
		return err
	}
	if err := p.writer.prepare(ctx); err != nil {
		return err
	}
	writing, stop := context.WithCancel(ctx)
	var writer sync.WaitGroup
	writer.Go(func() { p.writer.run(writing) })
	defer writer.Wait()
	defer stop()
	if script {
		err = p.script(ctx, rounds)
	} else {
		err = p.stay(ctx)
	}
	failed = err != nil
	return err
}

// begin brings the cluster up and shows it.
func (p *play) begin(ctx context.Context) error {
	c := p.cluster
	p.say("%s", p.paint(bold, "A cluster of two: PostgreSQL and a Regent agent, twice, on this machine"))
	p.say("Store:       etcd inside this process, %s", c.site.etcd)
	p.say("PostgreSQL:  %s, as user %s", c.binDir, c.account.name)
	p.say("Directory:   %s", c.dir)
	if err := p.bringUp(ctx); err != nil {
		return err
	}
	return c.showTable(ctx, p.screen)
}

// rowsBetween is how many rows are written in peace before each scene: a second or more.
const rowsBetween = 100

// script plays all scenes, rounds times.
func (p *play) script(ctx context.Context, rounds int) error {
	p.say("\nFrom now on a writer inserts a row every %s, and notes which were acknowledged.", duration(writeEvery))
	p.brief = rounds > 1
	var tallies []*tally
	for _, s := range scenes {
		tallies = append(tallies, &tally{scene: s})
	}
	for round := 1; round <= rounds; round++ {
		for i, s := range scenes {
			if err := p.writer.writes(ctx, rowsBetween, healLimit); err != nil {
				return err
			}
			o, err := p.perform(ctx, s)
			if err != nil {
				for _, line := range p.silent {
					p.say("%s", line)
				}
				return fmt.Errorf("round %d, scene %s: %w", round, s.key, err)
			}
			tallies[i].add(o)
			if p.brief {
				p.line(round, o)
			} else if err := p.report(ctx, s, o); err != nil {
				return err
			}
		}
	}
	p.summary(tallies)
	for _, t := range tallies {
		if t.broken() {
			return fmt.Errorf("scene %s lost %d acknowledged rows, want 0", t.scene.key, t.missing)
		}
	}
	p.say("%s", p.paint(green, "The cluster healed every time."))
	return nil
}
