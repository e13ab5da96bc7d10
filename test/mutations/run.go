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

// outcome is what became of one mutation.
type outcome struct {
	mutation
	Seeds     int // schedules that it had
	Tests     string
	Oracle    string // the first that was violated; empty: none
	Schedules int    // run until then
	Took      time.Duration
	Problem   string // why this fails the run; empty: it does not
}

// run carries out what the command line asks for.
func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "mutations")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := worker{options: o, dir: dir, control: filepath.Join(dir, "control"), sound: map[string][]violation{}}
	if w.simulated() && !o.check && o.build == "" {
		if text, err := w.golang(ctx, "build", "-o", w.control, "./test/sim").CombinedOutput(); err != nil {
			return fmt.Errorf("build the simulator: %w\n%s", err, text)
		}
	}

	var list []mutation
	for _, m := range append([]mutation{{Name: "no mistake at all"}}, append(mutations(), defects()...)...) {
		if o.only.MatchString(m.Name) {
			list = append(list, m)
		}
	}
	var out []outcome
	failed := 0
	for _, m := range list {
		r, err := w.one(ctx, m)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Problem = err.Error()
		}
		if r.Problem != "" {
			failed++
		}
		fmt.Println(r.line())
		out = append(out, r)
	}
	if o.write != "" && failed == 0 {
		if err := writeTable(o.write, out, o.tests); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d went wrong", failed, len(list))
	}
	return nil
}

// worker makes one mistake at a time.
type worker struct {
	options
	dir     string
	control string                 // the simulator without any mistake
	sound   map[string][]violation // what it shows, by seed and arguments
}

func (w *worker) one(ctx context.Context, m mutation) (outcome, error) {
	r := outcome{mutation: m, Seeds: m.Seeds}
	if r.Seeds == 0 {
		r.Seeds = w.seeds
	}
	files, err := mutate(w.root, m.Edits)
	if err != nil {
		return r, err
	}
	file, err := overlay(w.root, w.dir, files)
	if err != nil {
		return r, err
	}
	if w.tests || w.check && !w.simulated() {
		if r.Tests, err = w.runTests(ctx, file); err != nil {
			return r, err
		}
	}
	if !w.simulated() {
		return r, nil
	}
	program := filepath.Join(cmp.Or(w.build, w.dir), "sim")
	if text, err := w.golang(ctx, "build", "-overlay", file, "-o", program, "./test/sim").CombinedOutput(); err != nil {
		return r, fmt.Errorf("build the simulator: %w\n%s", err, text)
	}
	if w.build != "" {
		return r, os.Rename(program, filepath.Join(w.build, strings.ReplaceAll(m.Name, " ", "-")))
	}
	if w.check {
		return r, nil
	}
	began := time.Now()
	err = w.simulate(ctx, program, &r)
	r.Took = time.Since(began)
	if err == nil {
		r.judge()
	}
	return r, err
}

// simulated says whether there is a simulator yet.
func (w *worker) simulated() bool {
	_, err := os.Stat(filepath.Join(w.root, "test/sim"))
	return err == nil
}

// judge says whether that is what was expected.
func (r *outcome) judge() {
	switch {
	case len(r.Edits) == 0 && r.Oracle != "":
		r.Problem = "a violation of " + r.Oracle + " without any mistake"
	case len(r.Edits) > 0 && r.Oracle == "" && r.Open == "":
		r.Problem = fmt.Sprintf("not caught in %d schedules", r.Schedules)
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
	verdict := "not caught"
	switch {
	case r.Oracle != "":
		verdict = fmt.Sprintf("%s after %d schedules, %s", r.Oracle, r.Schedules, r.Took.Round(100*time.Millisecond))
	case len(r.Edits) == 0:
		verdict = fmt.Sprintf("nothing in %d schedules, %s", r.Schedules, r.Took.Round(100*time.Millisecond))
	case r.Schedules == 0:
		verdict = "compiles"
	}
	if r.Tests != "" {
		verdict += "; tests: " + r.Tests
	}
	if r.Problem != "" {
		verdict += "; WRONG: " + r.Problem
	}
	return fmt.Sprintf("%-60s %s", r.Name, verdict)
}

// simulate plays more and more schedules until one shows a violation that the same schedule does not show without the mistake.
func (w *worker) simulate(ctx context.Context, program string, r *outcome) error {
	args := slices.Clone(r.Args)
	if w.ignore != "" {
		silent := slices.DeleteFunc(strings.Split(w.ignore, ","), func(o string) bool { return slices.Contains(r.Expect, o) })
		args = append(args, "--ignore", strings.Join(silent, ","))
	}
	for size := 50; r.Schedules < r.Seeds && r.Oracle == ""; size *= 2 {
		size = min(size, r.Seeds-r.Schedules)
		found, err := w.play(ctx, program, r.Schedules, size, args)
		if err != nil {
			return err
		}
		slices.SortFunc(found, func(a, b violation) int { return a.Seed - b.Seed })
		r.Schedules += size
		for _, v := range found {
			known, err := w.without(ctx, v, args)
			if err != nil {
				return err
			}
			if len(r.Edits) == 0 || !known && slices.Contains(r.Expect, v.Oracle) {
				r.Oracle, r.Schedules = v.Oracle, v.Seed+1
				break
			}
		}
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
	return slices.Contains(found, v), nil
}

// violation is what the simulator found with one seed.
type violation struct {
	Seed   int
	Oracle string
}

// play runs so many seeds.
func (w *worker) play(ctx context.Context, program string, from, count int, args []string) ([]violation, error) {
	args = append([]string{"--json", "--from", fmt.Sprint(from), "--seeds", fmt.Sprint(count)}, args...)
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
	if err := json.Unmarshal(text, &sum); err != nil || sum.Schedules != count {
		return nil, fmt.Errorf("read what the simulator found: %v, %d schedules, want %d:\n%s", err, sum.Schedules, count, text)
	}
	return sum.Violations, nil
}
