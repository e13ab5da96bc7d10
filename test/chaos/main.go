// Command chaos plays faults to a real cluster and judges what its applications saw.
//
//	chaos run --minutes 20 --seed 1 --out DIR    three members and three etcd servers, each on a host of namespaces; faults from the seed
//	chaos check DIR                              the verdict once more, from the files alone
//	chaos can                                    whether this machine allows what run needs; if not, why
//	chaos plan --seed 1 --rounds 20              what a seed would play
//
// It ends with 0 when every rule held, 1 when one was broken, and 2 when it could not do its work.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/regent-ha/regent/test/chaos/history"
	"github.com/regent-ha/regent/test/chaos/machine"
	"github.com/regent-ha/regent/test/chaos/verdict"
)

// options are those of a run.
type options struct {
	minutes      float64
	rounds       int
	seed         uint64
	mode         string
	out          string
	agent        string
	binDir       string
	etcd         string
	only         []string
	withoutGuard bool
	longPauses   bool
}

const (
	broken  = 1
	unable  = 2
	usage   = "usage: chaos run [flags] | chaos check DIR | chaos can | chaos plan [flags]; see chaos run -h"
	verdJS  = "verdict.json"
	summary = "summary.md"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(unable)
	}
	var code int
	var err error
	switch os.Args[1] {
	case machine.InitArgument:
		err = machine.Init(os.Args[2], os.Args[3])
	case "run":
		code, err = run(os.Args[2:])
	case "can":
		code, err = can()
	case "check":
		code, err = check(os.Args[2:])
	case "plan":
		err = plan(os.Args[2:])
	default:
		err = errors.New(usage)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		code = max(code, unable)
	}
	os.Exit(code)
}

func flags(args []string) (o options, err error) {
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.Float64Var(&o.minutes, "minutes", 20, "how long faults are played")
	f.IntVar(&o.rounds, "rounds", 0, "end after so many rounds; 0: when the time is over")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()%1e6), "what is played")
	f.StringVar(&o.mode, "mode", history.Async, "of replication: async, sync, quorum, or failsafe, which is async and goes on without the store")
	f.StringVar(&o.out, "out", "", "directory for history, verdict and logs (default: a new one)")
	f.StringVar(&o.agent, "agent", "", "program under test (default: it is built)")
	f.StringVar(&o.binDir, "bin", "", "folder of PostgreSQL's programs (default: the newest below /usr/lib/postgresql)")
	f.StringVar(&o.etcd, "etcd", "", "the store's program (default: etcd on the path)")
	f.BoolVar(&o.withoutGuard, "without-guard-faults", false, "leave out what only a guard beside the agent can survive: an agent that is frozen or dead for longer than ttl")
	f.BoolVar(&o.longPauses, "long-pauses", false, "also pause whole hosts for longer than ttl, which nothing on the host can survive with one primary")
	only := f.String("only", "", "play only these faults, separated by commas")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("have argument %q, want flags only", f.Arg(0))
	}
	for name := range strings.SplitSeq(*only, ",") {
		if name = strings.TrimSpace(name); name != "" {
			o.only = append(o.only, name)
		}
	}
	if _, ok := modes[o.mode]; !ok {
		return o, fmt.Errorf("there is no mode %q; chaos run -h shows them", o.mode)
	}
	if len(newPlanner(o).faults) < max(1, len(o.only)) {
		return o, fmt.Errorf("there is no such fault as one of %q; chaos plan shows their names", o.only)
	}
	return o, nil
}

// plan prints what a seed would play.
func plan(args []string) error {
	o, err := flags(args)
	if err != nil {
		return err
	}
	p := newPlanner(o)
	for i := range max(o.rounds, 30*min(1, max(0, 1-o.rounds))) {
		fmt.Printf("round %d: %s\n", i+1, p.next(i+1))
	}
	return nil
}

// check judges a run's files once more. A verdict that differs from the one that lies beside them is told as well.
func check(args []string) (code int, err error) {
	if len(args) != 1 {
		return unable, errors.New(usage)
	}
	h, err := history.ReadFile(filepath.Join(args[0], history.FileName))
	if err != nil {
		return unable, err
	}
	v := verdict.Judge(h)
	fmt.Println(report(h, v))
	if before, err := os.ReadFile(filepath.Join(args[0], verdJS)); err == nil {
		if now, err := json.MarshalIndent(v, "", " "); err == nil && string(now) != string(before) {
			fmt.Println("\nThe verdict that was written at the end of the run differs.")
			code = broken
		}
	}
	if !v.Holds() {
		code = broken
	}
	return code, nil
}

// conclude judges what was recorded and writes verdict and summary.
func conclude(o options, h history.History) (code int, err error) {
	v := verdict.Judge(h)
	text := report(h, v)
	fmt.Printf("\n%s\nHistory, verdict and logs are in %s.\n", text, o.out)
	js, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return unable, err
	}
	err = errors.Join(os.WriteFile(filepath.Join(o.out, verdJS), js, 0o644), os.WriteFile(filepath.Join(o.out, summary), []byte(text+"\n"), 0o644))
	if !v.Holds() {
		code = broken
	}
	return code, err
}

// patient is a context that outlives the one that was cancelled, for what has to be done in the end.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
}
