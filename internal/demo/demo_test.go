package demo

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The product's promise on real processes, and what must hold however it ends.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster for a minute: not with -short")
	}
	bin, err := binDir("")
	if err != nil {
		t.Skip(err)
	}
	place, err := os.MkdirTemp("", "regent-demo-test-") // not below the user's own, since user postgres works there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(place) })
	if err := os.Chmod(place, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(place, "regent")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/regent").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Run("script", func(t *testing.T) { testScript(t, program, filepath.Join(place, "1")) })
	t.Run("interrupted", func(t *testing.T) { testInterrupted(t, program, filepath.Join(place, "2"), bin) })
}

// demonstration is a running demo.
type demonstration struct {
	*exec.Cmd
	out   bytes.Buffer
	ended chan error
}

// demonstrate starts the demo. It is asked to end when the test takes too long.
func demonstrate(t *testing.T, program, dir string, args ...string) *demonstration {
	t.Helper()
	d := &demonstration{Cmd: exec.Command(program, append([]string{"demo", "--dir", dir}, args...)...), ended: make(chan error, 1)}
	d.Stdout, d.Stderr = &d.out, &d.out
	d.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	d.WaitDelay = 20 * time.Second
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(25*time.Minute, func() { _ = d.Process.Signal(syscall.SIGTERM) })
	t.Cleanup(func() { late.Stop() })
	go func() { d.ended <- d.Wait() }()
	return d
}

// leftovers are the processes that still mention the directory, or work in it.
func leftovers(t *testing.T, dir string) (found []string) {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		line, _ := os.ReadFile(filepath.Join(e, "cmdline"))
		cwd, _ := os.Readlink(filepath.Join(e, "cwd"))
		if strings.Contains(string(line), dir) || strings.HasPrefix(cwd, dir) {
			found = append(found, e+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func cleanly(t *testing.T, dir string) {
	t.Helper()
	if have := leftovers(t, dir); len(have) > 0 {
		t.Errorf("left running:\n%s", strings.Join(have, "\n"))
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("have %v, want that the directory is gone", err)
	}
}

// Both ways of losing the leader, the loss of the replica, a switchover.
func testScript(t *testing.T, program, dir string) {
	d := demonstrate(t, program, dir, "--script")
	err := <-d.ended
	t.Log(d.out.String())
	if err != nil {
		t.Fatal(err)
	}
	cleanly(t, dir)
	var timelines []string
	for line := range strings.Lines(d.out.String()) {
		if cell := strings.Split(line, "|"); len(cell) == 8 && strings.TrimSpace(cell[3]) == "Leader" {
			timelines = append(timelines, strings.TrimSpace(cell[1])+" "+strings.TrimSpace(cell[5]))
		}
	}
	want := []string{"cluster-0 1", "cluster-0 2", "cluster-1 3", "cluster-1 3", "cluster-0 4"}
	if !slices.Equal(timelines, want) {
		t.Errorf("have leaders and timelines %v, want %v", timelines, want)
	}
}

// Ctrl-C in the middle of a start leaves nothing behind.
func testInterrupted(t *testing.T, program, dir, bin string) {
	d := demonstrate(t, program, dir)
	for len(postgresOf(filepath.Join(dir, "cluster-0"), bin)) == 0 { // another process's doing is no event
		select {
		case err := <-d.ended:
			t.Fatalf("have it ended before there was a PostgreSQL: %v\n%s", err, &d.out)
		case <-time.After(10 * time.Millisecond):
		}
	}
	_ = d.Process.Signal(os.Interrupt)
	if err := <-d.ended; err == nil || !strings.Contains(d.out.String(), "Nothing is left running") {
		t.Errorf("have %v, want a failure that says that nothing is left\n%s", err, &d.out)
	}
	cleanly(t, dir)
}
