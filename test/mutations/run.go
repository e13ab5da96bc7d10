package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// proof is the file with the tables.
const proof = "docs/PROOF.md"

// outcome is what became of one mutation.
type outcome struct {
	mutation
	Tests  string // of the core that see it
	Oracle string // the first that was violated; empty: none
	Seed   int    // of the schedule that showed it; without an oracle all Seeds were played
	Took   time.Duration
	Stale  string // what the table says, if that is not so any more
	Sound  string // the oracle that the same schedule violates without any mistake; empty: none
	// Problem says why this fails the run; empty: it does not.
	Problem string
}

// run carries out what the command line asks for.
func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "mutations")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text, err := os.ReadFile(filepath.Join(o.root, proof))
	if err != nil {
		return err
	}
	w := &worker{options: o, dir: dir, simulator: filepath.Join(dir, "simulator"), sound: map[string]*violation{}, record: recorded(string(text))}
	all := slices.Concat(mutations(), defects())
	if err := w.buildCombined(ctx, all); err != nil {
		return err
	}
	if !o.check && o.build == "" {
		all = append([]mutation{{Name: "no mistake at all"}}, all...)
	}
	all = slices.DeleteFunc(all, func(m mutation) bool { return !o.only.MatchString(m.Name) })

	out := make([]outcome, len(all))
	w.inParallel(len(all), func(i int) {
		r := &out[i]
		r.mutation = all[i]
		if ctx.Err() != nil {
			return
		}
		if err := w.one(ctx, r, i); err != nil {
			r.Problem = err.Error()
		}
		fmt.Println(r.line())
	})
	failed := 0
	for i := range out {
		if out[i].Problem != "" {
			failed++
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failed > 0:
		return fmt.Errorf("%d of %d went wrong", failed, len(all))
	case o.write:
		return writeTable(filepath.Join(o.root, proof), out)
	}
	return nil
}

// inParallel does n things. With --check a run is a schedule or two, and as many are done at once as there are processors; else
// the simulator itself takes all of them.
func (w *worker) inParallel(n int, do func(int)) {
	var group errgroup.Group
	group.SetLimit(1)
	if w.check {
		w.workers = cmp.Or(w.workers, 1)
		group.SetLimit(runtime.NumCPU())
	}
	for i := range n {
		group.Go(func() error {
			do(i)
			return nil
		})
	}
	_ = group.Wait()
}

// worker makes one mistake at a time.
type worker struct {
	options
	dir       string
	simulator string                // has all mistakes in it, and makes the one that it is told to; none by itself
	numbers   map[string]int        // of the mistakes in it, by name
	mu        sync.Mutex            // of sound
	sound     map[string]*violation // what it shows without any mistake, by seed and arguments
	record    map[string]int        // the seed that has caught a mutation, by name
}

// program is a simulator, and which mistake it is to make; 0: none.
type program struct {
	path   string
	number int
}

// buildCombined builds the simulator with all mistakes in it.
func (w *worker) buildCombined(ctx context.Context, all []mutation) error {
	if w.build != "" {
		return nil
	}
	files, apart, err := combine(w.root, all)
	if err != nil {
		return err
	}
	file, err := overlay(w.root, w.dir, files)
	if err != nil {
		return err
	}
	w.numbers = map[string]int{}
	for i := range all {
		if !apart[i] {
			w.numbers[all[i].Name] = i + 1
		}
	}
	return w.buildSimulator(ctx, w.simulator, "-overlay", file)
}

// programOf is the simulator that makes that mistake.
func (w *worker) programOf(ctx context.Context, r *outcome, dir, overlay string) (program, error) {
	if number, ok := w.numbers[r.Name]; ok || len(r.Edits) == 0 && w.build == "" {
		return program{w.simulator, number}, nil
	}
	path := filepath.Join(cmp.Or(w.build, dir), strings.NewReplacer(" ", "-", "/", "").Replace(r.Name))
	return program{path: path}, w.buildSimulator(ctx, path, "-overlay", overlay)
}

// one makes one mistake, and is the n-th to do so.
func (w *worker) one(ctx context.Context, r *outcome, n int) error {
	r.Seeds = cmp.Or(r.Seeds, w.seeds)
	files, err := mutate(w.root, r.Edits)
	if err != nil {
		return err
	}
	dir := filepath.Join(w.dir, fmt.Sprint(n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	file, err := overlay(w.root, dir, files)
	if err != nil {
		return err
	}
	if w.tests {
		if r.Tests, err = w.runTests(ctx, file); err != nil {
			return err
		}
	}
	p, err := w.programOf(ctx, r, dir, file)
	if err != nil || w.build != "" || w.check && r.Open != "" {
		return err
	}
	began := time.Now()
	err = w.simulate(ctx, p, r)
	r.Took = time.Since(began)
	if err == nil {
		r.judge()
	}
	return err
}

func (w *worker) buildSimulator(ctx context.Context, to string, flags ...string) error {
	args := slices.Concat([]string{"build", "-ldflags=-s -w", "-o", to}, flags, []string{"./test/sim"})
	if text, err := w.golang(ctx, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the simulator: %w\n%s", err, text)
	}
	return nil
}

// judge says whether that is what was expected.
func (r *outcome) judge() {
	switch {
	case len(r.Edits) == 0 && r.Oracle != "":
		r.Problem = "a violation of " + r.Oracle + " without any mistake"
	case len(r.Edits) > 0 && r.Oracle == "" && r.Open == "":
		r.Problem = fmt.Sprintf("not caught in %d schedules", r.Seeds)
	case r.Sound != "":
		r.Problem = fmt.Sprintf("that schedule violates %s without any mistake", r.Sound)
	case r.Oracle != "" && r.Open != "":
		r.Problem = "caught by " + r.Oracle + ", though it counts as open: " + r.Open
	}
}

// runTests returns the tests of the core that see the mistake; empty: none.
func (w *worker) runTests(ctx context.Context, overlay string) (string, error) {
	text, err := w.golang(ctx, "test", "-overlay", overlay, "-count=1", "-timeout=3m", "./internal/ha", "./internal/loop").CombinedOutput()
	if err == nil {
		return "", nil
	}
	if bytes.Contains(text, []byte("[build failed]")) {
		return "", fmt.Errorf("the mutation does not compile:\n%s", text)
	}
	var seen []string
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); ok && !strings.HasPrefix(line, " ") {
			seen = append(seen, strings.Fields(name)[0])
		}
	}
	if len(seen) == 0 {
		return "", fmt.Errorf("the tests ended without a verdict: %w\n%s", err, text)
	}
	return strings.Join(seen, " "), nil
}

func (w *worker) golang(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir, c.Env = w.root, append(os.Environ(), "CGO_ENABLED=0")
	return c
}

// line tells the outcome in one line.
func (r *outcome) line() string {
	verdict := "built"
	switch took := r.Took.Round(100 * time.Millisecond); {
	case r.Oracle != "":
		verdict = fmt.Sprintf("%s with seed %d, %s", r.Oracle, r.Seed, took)
	case r.Took > 0:
		verdict = fmt.Sprintf("nothing in %d schedules, %s", r.Seeds, took)
	}
	if r.Stale != "" {
		verdict += "; " + r.Stale
	}
	if r.Tests != "" {
		verdict += "; tests: " + r.Tests
	}
	if r.Problem != "" {
		verdict += "; WRONG: " + r.Problem
	}
	return fmt.Sprintf("%-60s %s", r.Name, verdict)
}

// simulate plays schedules until one shows a violation that it does not show without the mistake: with --check the one of the
// table first, else all from seed 0 on.
func (w *worker) simulate(ctx context.Context, p program, r *outcome) error {
	if seed, ok := w.record[r.Name]; ok && w.check {
		if err := w.search(ctx, p, r, seed, seed+1); err != nil || r.Oracle != "" {
			return err
		}
		r.Stale = fmt.Sprintf("seed %d, which %s has, shows nothing", seed, proof)
	}
	return w.search(ctx, p, r, 0, r.Seeds)
}

// search notes the first schedule that catches the mutation.
func (w *worker) search(ctx context.Context, p program, r *outcome, from, end int) error {
	args := slices.Clone(r.Args)
	if w.ignore != "" {
		silent := slices.DeleteFunc(strings.Split(w.ignore, ","), func(o string) bool { return slices.Contains(r.Expect, o) })
		args = append(args, "--ignore", strings.Join(silent, ","))
	}
	for from < end {
		v, err := w.play(ctx, p, from, end-from, args)
		if err != nil || v == nil {
			return err
		}
		if len(r.Edits) == 0 {
			r.Oracle, r.Seed = v.Oracle, v.Seed
			return nil
		}
		sound, err := w.without(ctx, v.Seed, args)
		if err != nil {
			return err
		}
		if (sound == nil || *sound != *v) && slices.Contains(r.Expect, v.Oracle) {
			if r.Oracle, r.Seed = v.Oracle, v.Seed; sound != nil {
				r.Sound = sound.Oracle
			}
			return nil
		}
		from = v.Seed + 1
	}
	return nil
}

// without is what the seed shows without any mistake; nil: nothing.
func (w *worker) without(ctx context.Context, seed int, args []string) (*violation, error) {
	key := fmt.Sprint(seed, args)
	w.mu.Lock()
	found, played := w.sound[key]
	w.mu.Unlock()
	if !played {
		var err error
		if found, err = w.play(ctx, program{path: w.simulator}, seed, 1, args); err != nil {
			return nil, err
		}
		w.mu.Lock()
		w.sound[key] = found
		w.mu.Unlock()
	}
	return found, nil
}

// violation is what the simulator found with one seed.
type violation struct {
	Seed   int
	Oracle string
}

// play runs so many seeds up to the first that shows a violation; nil: none does.
func (w *worker) play(ctx context.Context, p program, from, count int, args []string) (*violation, error) {
	args = append([]string{"--json", "--stop", "--from", fmt.Sprint(from), "--seeds", fmt.Sprint(count)}, args...)
	if w.workers > 0 {
		args = append(args, "--workers", fmt.Sprint(w.workers))
	}
	c := exec.CommandContext(ctx, p.path, args...)
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%d", chooser, p.number))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	text, err := c.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return nil, fmt.Errorf("run the simulator: %w\n%s", err, stderr.Bytes())
	}
	var sum struct {
		Schedules  int
		Violations []violation
	}
	switch err := json.Unmarshal(text, &sum); {
	case err != nil:
		return nil, fmt.Errorf("read what the simulator found: %w:\n%s", err, text)
	case len(sum.Violations) > 0: // seeds are begun in order, and what was begun is ended: none before the first is missing
		first := slices.MinFunc(sum.Violations, func(a, b violation) int { return a.Seed - b.Seed })
		return &first, nil
	case sum.Schedules != count:
		return nil, fmt.Errorf("read what the simulator found: have %d schedules, want %d:\n%s", sum.Schedules, count, text)
	}
	return nil, nil
}
