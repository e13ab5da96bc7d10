// Command mutations shows that the tests of the decisions are able to fail. It makes one mistake after the other in the core and
// runs the simulator with it, until that finds a violation. The source is left alone: through an overlay of the go command one
// simulator is built that has all the mistakes in it, and is told which of them to make. A mistake that is not found within its
// number of schedules is a hole in the simulator, and fails the run; so does a violation without any mistake.
//
//	go run ./test/mutations                   all, each from seed 0 on, and the core as it is
//	go run ./test/mutations --check           each with the seed of docs/PROOF.md, and only if that shows nothing from seed 0 on
//	go run ./test/mutations --only 'slot'     some
//	go run ./test/mutations --tests           also against the unit tests and transcripts of the core
//	go run ./test/mutations --write           and write the table of docs/PROOF.md
//	go run ./test/mutations --build DIR       keep a simulator for each mistake
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// options are what the command line chooses.
type options struct {
	only    *regexp.Regexp
	seeds   int
	workers int
	tests   bool
	check   bool
	write   bool
	build   string
	ignore  string
	root    string
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("mutations", flag.ContinueOnError)
	only := f.String("only", "", "a pattern: only the mutations whose names match")
	f.IntVar(&o.seeds, "seeds", 10000, "schedules for a mutation that has no number of its own, and for the control")
	f.IntVar(&o.workers, "workers", 0, "of the simulator (default: its own)")
	f.BoolVar(&o.tests, "tests", false, "run the tests of internal/ha and internal/loop with each mutation too")
	f.BoolVar(&o.check, "check", false, "begin with the seed that has caught it before, and leave out the core as it is")
	f.BoolVar(&o.write, "write", false, "replace the table in docs/PROOF.md, if nothing went wrong")
	f.StringVar(&o.build, "build", "", "only build a simulator for each mistake, into that folder, to look at one more closely")
	f.StringVar(&o.ignore, "ignore", "", "oracles that say nothing, separated by commas")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("--only: %w", err)
	}
	if o.write && (*only != "" || o.check) {
		return o, errors.New("--write: the table has all mutations and their first seeds: want neither --only nor --check")
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return o, fmt.Errorf("ask go for the module: %w", err)
	}
	o.root = filepath.Dir(strings.TrimSpace(string(mod)))
	return o, nil
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutations:", err)
		os.Exit(1)
	}
}
