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
	"slices"
	"strings"
	"time"
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
	w := worker{options: o, dir: dir, control: filepath.Join(dir, "control"), sound: map[string]*violation{}, record: recorded(string(text))}
	if err := w.buildSimulator(ctx, w.control); err != nil {
		return err
	}
	all := slices.Concat(mutations(), defects())
	if !o.check && o.build == "" {
		all = append([]mutation{{Name: "no mistake at all"}}, all...)
	}
	all = slices.DeleteFunc(all, func(m mutation) bool { return !o.only.MatchString(m.Name) })

	var out []outcome
	failed := 0
	for _, m := range all {
		r := outcome{mutation: m}
		if err := w.one(ctx, &r); err != nil {
			r.Problem = err.Error()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if r.Problem != "" {
			failed++
		}
		fmt.Println(r.line())
		out = append(out, r)
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d went wrong", failed, len(all))
	case o.write:
		return writeTable(filepath.Join(o.root, proof), out)
	}
	return nil
}

// worker makes one mistake at a time.
type worker struct {
	options
	dir     string
	control string                // the simulator without any mistake
	sound   map[string]*violation // what it shows, by seed and arguments
	record  map[string]int        // the seed that has caught a mutation, by name
}

func (w *worker) one(ctx context.Context, r *outcome) error {
	r.Seeds = cmp.Or(r.Seeds, w.seeds)
	files, err := mutate(w.root, r.Edits)
	if err != nil {
		return err
	}
	file, err := overlay(w.root, w.dir, files)
	if err != nil {
		return err
	}
	if w.tests {
		if r.Tests, err = w.runTests(ctx, file); err != nil {
			return err
		}
	}
	program := filepath.Join(cmp.Or(w.build, w.dir), strings.ReplaceAll(r.Name, " ", "-"))
	if err := w.buildSimulator(ctx, program, "-overlay", file); err != nil || w.build != "" {
		return err
	}
	defer os.Remove(program)
	began := time.Now()
	err = w.simulate(ctx, program, r)
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
func (w *worker) simulate(ctx context.Context, program string, r *outcome) error {
	if seed, ok := w.record[r.Name]; ok && w.check && seed < r.Seeds {
		if err := w.search(ctx, program, r, seed, seed+1); err != nil || r.Oracle != "" {
			return err
		}
		r.Stale = fmt.Sprintf("seed %d, which %s has, shows nothing", seed, proof)
	}
	return w.search(ctx, program, r, 0, r.Seeds)
}

// search notes the first schedule that catches the mutation.
func (w *worker) search(ctx context.Context, program string, r *outcome, from, end int) error {
	args := slices.Clone(r.Args)
	if w.ignore != "" {
		silent := slices.DeleteFunc(strings.Split(w.ignore, ","), func(o string) bool { return slices.Contains(r.Expect, o) })
		args = append(args, "--ignore", strings.Join(silent, ","))
	}
	for from < end {
		v, err := w.play(ctx, program, from, end-from, args)
		if err != nil || v == nil {
			return err
		}
		known, err := w.without(ctx, *v, args)
		if err != nil {
			return err
		}
		if len(r.Edits) == 0 || !known && slices.Contains(r.Expect, v.Oracle) {
			r.Oracle, r.Seed = v.Oracle, v.Seed
			return nil
		}
		from = v.Seed + 1
	}
	return nil
}

// without says whether the seed shows that violation without any mistake too.
func (w *worker) without(ctx context.Context, v violation, args []string) (bool, error) {
	key := fmt.Sprint(v.Seed, args)
	found, played := w.sound[key]
	if !played {
		var err error
		if found, err = w.play(ctx, w.control, v.Seed, 1, args); err != nil {
			return false, err
		}
		w.sound[key] = found
	}
	return found != nil && *found == v, nil
}

// violation is what the simulator found with one seed.
type violation struct {
	Seed   int
	Oracle string
}

// play runs so many seeds up to the first that shows a violation; nil: none does.
func (w *worker) play(ctx context.Context, program string, from, count int, args []string) (*violation, error) {
	args = append([]string{"--json", "--stop", "--from", fmt.Sprint(from), "--seeds", fmt.Sprint(count)}, args...)
	if w.workers > 0 {
		args = append(args, "--workers", fmt.Sprint(w.workers))
	}
	c := exec.CommandContext(ctx, program, args...)
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
