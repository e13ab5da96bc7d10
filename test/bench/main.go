// Command bench measures Regent and Patroni side by side, on the same machine, PostgreSQL, etcd and settings, in one run: how long
// nobody can write after what happens to a leader, and what the agents cost. It prints a table in markdown.
//
// The systems take turns, so that what else the machine does meets both. Whatever ends the run but SIGKILL, nothing is left running.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what the command line chooses.
type options struct {
	rounds            int
	quick             bool
	cases, only       []string
	settings          []settings
	out, plot         string
	patroni           string
	cache             string
	regent, etcd, bin string
	idle              time.Duration
}

// caseNames are what --cases chooses from; bootstrap is always measured.
var caseNames = []string{"alone", "idle", "list", "rest", "switchover", "postmaster", "term", "node"}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 3, "how often each cluster is built and measured")
	f.BoolVar(&o.quick, "quick", false, "one round, the quick settings only, a short idle window")
	cases := f.String("cases", strings.Join(caseNames, ","), "what to measure, beside bootstrap")
	groups := f.String("settings", "default,quick", "which groups of settings")
	only := f.String("only", "", "regent or patroni, instead of both")
	f.StringVar(&o.out, "out", "", "a file to write the table to as well")
	f.StringVar(&o.plot, "plot", "", "a file for a plot of the outages (SVG)")
	f.StringVar(&o.patroni, "patroni", "auto", "host: this system's Patroni and PostgreSQL; chroot: those of a Debian "+suite+" that is fetched once; auto: chroot if it can be had")
	f.StringVar(&o.cache, "cache", ".cache/bench", "where that is kept")
	f.StringVar(&o.regent, "regent", "", "the regent program, static (default: built from the source)")
	f.StringVar(&o.etcd, "etcd", "etcd", "the etcd program")
	f.StringVar(&o.bin, "pg-bin", "", "folder of PostgreSQL's programs (default: the newest version that is installed)")
	f.DurationVar(&o.idle, "idle", time.Minute, "how long idle agents are watched")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	set := map[string]bool{}
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if o.quick && !set["rounds"] {
		o.rounds = 1
	}
	if o.quick && !set["idle"] {
		o.idle = 20 * time.Second
	}
	o.cases = strings.Split(*cases, ",")
	for _, name := range o.cases {
		if !slices.Contains(caseNames, name) {
			return o, fmt.Errorf("--cases: there is no %q, choose among %s", name, strings.Join(caseNames, ","))
		}
	}
	if o.quick && !set["settings"] {
		*groups = quick.name
	}
	for _, name := range strings.Split(*groups, ",") {
		i := slices.IndexFunc(allSettings, func(s settings) bool { return s.name == name })
		if i < 0 {
			return o, fmt.Errorf("--settings: there is no %q, want default, quick or both", name)
		}
		o.settings = append(o.settings, allSettings[i])
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("have the argument %q, want flags only", f.Arg(0))
	case o.rounds < 1 || o.idle < time.Second:
		return o, fmt.Errorf("--rounds, --idle: have %d and %s, want at least 1 and 1s", o.rounds, o.idle)
	case !slices.Contains([]string{"auto", "host", "chroot"}, o.patroni):
		return o, fmt.Errorf("--patroni: have %q, want auto, host or chroot", o.patroni)
	case *only != "" && *only != "regent" && *only != "patroni":
		return o, fmt.Errorf("--only: have %q, want regent or patroni", *only)
	}
	o.only = []string{"regent", "patroni"}
	if *only != "" {
		o.only = []string{*only}
	}
	return o, nil
}

func main() { os.Exit(run()) }

func run() int {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	root := os.Getenv(insideVariable)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	// Without a handler, a reader of our output that goes away would end us before we have ended our processes.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if root == "" && o.patroni != "host" {
		dir, err := fetchSystem(ctx, o.cache)
		if err == nil {
			stop()
			return again(dir)
		}
		if o.patroni == "chroot" || ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "prepare a newer Patroni:", err)
			return 1
		}
		fmt.Fprintln(os.Stderr, "A newer Patroni is not to be had, this system's is measured:", err)
	}
	if root != "" {
		if err := mountSystem(root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if err := benchmark(ctx, o, root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// bench is a run.
type bench struct {
	options
	place    *place
	store    *store
	results  *results
	password string
	systems  []system
}

// quick is the fastest rhythm that Patroni accepts.
var quick = settings{"quick", 20, 1, 3}

var allSettings = []settings{{"default", 30, 10, 10}, quick}

// benchmark measures, and prints also what there is when it is interrupted.
func benchmark(ctx context.Context, o options, root string) (err error) {
	b := &bench{options: o, results: newResults()}
	secret := make([]byte, 8)
	_, _ = rand.Read(secret) // never fails
	b.password = hex.EncodeToString(secret)
	begun := time.Now()
	f := facts{date: begun.Format("2006-01-02 15:04 MST"), machine: machine(), rounds: o.rounds, settings: o.settings}
	if b.place, err = newPlace(root, o.bin); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.place.remove()) }()
	if err := b.prepareSystems(ctx); err != nil {
		return err
	}
	if b.store, err = startStore(ctx, o.etcd, b.place.outside(b.place.dir)); b.store != nil {
		defer func() { err = errors.Join(err, b.store.close()) }()
	}
	if err != nil {
		return err
	}
	if f.versions, err = b.versions(ctx); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s. %s\n", f.machine, f.versions)
	err = b.measure(ctx)
	f.took = time.Since(begun)
	f.complete = ctx.Err() == nil && err == nil
	text := render(f, b.results)
	fmt.Print(text)
	if o.out != "" {
		err = errors.Join(err, os.WriteFile(o.out, []byte(text), 0o644))
	}
	if o.plot != "" {
		err = errors.Join(err, os.WriteFile(o.plot, []byte(plot(f, b.results)), 0o644))
	}
	if ctx.Err() != nil {
		return errors.Join(err, errors.New("the run was interrupted; nothing is left running"))
	}
	if n := len(b.results.order); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d measurements failed, want 0", n))
	}
	return err
}

// prepareSystems puts Regent into place and finds Patroni.
func (b *bench) prepareSystems(ctx context.Context) error {
	program := filepath.Join(b.place.dir, "regent")
	source := b.regent
	if source == "" {
		source = b.place.outside(program)
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", source, "github.com/regent-ha/regent/cmd/regent")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build regent: %w\n%s", err, out)
		}
	} else {
		text, err := os.ReadFile(source)
		if err == nil {
			err = os.WriteFile(b.place.outside(program), text, 0o755)
		}
		if err != nil {
			return fmt.Errorf("copy regent: %w", err)
		}
	}
	if err := b.place.own(b.place.outside(program)); err != nil {
		return err
	}
	for _, name := range b.only {
		if name == "regent" {
			b.systems = append(b.systems, regent{b.place, program, revision(ctx)})
		} else if b.place.exists(patroniProgram) {
			b.systems = append(b.systems, patroni{b.place})
		} else {
			return fmt.Errorf("find Patroni: there is no %s; install it (Debian: patroni), or leave it out with --only regent", b.place.outside(patroniProgram))
		}
	}
	return nil
}

// revision names the source that is measured.
func revision(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "of unknown revision"
	}
	return strings.TrimSpace(string(out))
}

func (b *bench) versions(ctx context.Context) (string, error) {
	var words []string
	for _, s := range b.systems {
		v, err := s.Version(ctx)
		if err != nil {
			return "", err
		}
		words = append(words, s.Name()+" "+v)
	}
	postgres, err := b.place.output(ctx, filepath.Join(b.place.binDir, "postgres"), "--version")
	if err != nil {
		return "", err
	}
	words = append(words, strings.Replace(postgres, "postgres (PostgreSQL)", "PostgreSQL", 1), "etcd "+b.store.version)
	return strings.Join(words, ", "), nil
}

// machine says what the run depends on that is not in it.
func machine() string {
	load, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(load))
	model := "unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d cores (%s), load at the start %s", runtime.NumCPU(), model, strings.Join(fields[:min(1, len(fields))], ""))
}

func (b *bench) wanted(name string) bool { return slices.Contains(b.cases, name) }

// window is how long idle agents are watched: enough loops, and a minute where a loop takes long.
func (b *bench) window(s settings) time.Duration {
	return max(time.Second, min(b.idle, 30*time.Duration(s.loopWait)*time.Second))
}

// measure builds every cluster in turn, A B A B.
func (b *bench) measure(ctx context.Context) error {
	n := 0
	for round := range b.rounds {
		if b.wanted("alone") && ctx.Err() == nil {
			b.postgresAlone(ctx, round)
		}
		for _, g := range b.settings {
			for _, s := range b.systems {
				if ctx.Err() != nil {
					return nil
				}
				n++
				fmt.Fprintf(os.Stderr, "--- round %d of %d, %s, %s\n", round+1, b.rounds, s.Name(), g)
				if err := b.cell(ctx, s, g, round, n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// cell builds one cluster, measures it and ends it.
func (b *bench) cell(ctx context.Context, s system, g settings, round, n int) (err error) {
	c, err := newCluster(b.place, s, g, fmt.Sprint("bench", n), b.store.address, b.password)
	defer func() { err = errors.Join(err, c.close()) }()
	if err != nil {
		return err
	}
	m := &cell{bench: b, cluster: c, dsn: c.dsn(b.password), round: round}
	m.run(ctx)
	return nil
}
