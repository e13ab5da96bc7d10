package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/regent-ha/regent/test/chaos/history"
	"github.com/regent-ha/regent/test/chaos/machine"
)

// The test's own program is the command, too: it runs itself once more inside, and as the first process of each host.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"run", "check", machine.InitArgument}, os.Args[1]) {
		main()
		return
	}
	os.Exit(m.Run())
}

// A short run with easy faults holds every rule, and somebody else comes to the same verdict from its files.
func TestRunAndCheck(t *testing.T) {
	if err := machine.Allowed(); err != nil {
		t.Skip(err)
	}
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip(err)
	}
	out := t.TempDir()
	said, err := exec.Command("/proc/self/exe", "run", "--rounds=2", "--seed=1", "--only=switchover,kill postmaster", "--out="+out).CombinedOutput()
	if err != nil {
		logs, _ := filepath.Glob(filepath.Join(out, "logs", "*.log"))
		for _, l := range logs {
			text, _ := os.ReadFile(l)
			t.Logf("==== %s\n%s", filepath.Base(l), text[max(0, len(text)-6000):])
		}
		t.Fatalf("run: %v\n%s", err, said)
	}
	h, err := history.ReadFile(filepath.Join(out, history.FileName))
	if err != nil || len(h.Rounds) != 2 || len(h.Faults) != 2 || len(h.Leaders) == 0 || len(h.Run.Versions) != 4 {
		t.Errorf("have a history of %d rounds, %d faults, %d changes of the lock, versions %q, %v; want 2 rounds and faults", len(h.Rounds), len(h.Faults), len(h.Leaders), h.Run.Versions, err)
	}
	said, err = exec.Command("/proc/self/exe", "check", out).CombinedOutput()
	if err != nil || strings.Contains(string(said), "differs") {
		t.Errorf("check: %v\n%s", err, said)
	}
	// Spoilt files are noticed.
	if err := os.WriteFile(filepath.Join(out, verdJS), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err = exec.Command("/proc/self/exe", "check", out).CombinedOutput(); err == nil || !strings.Contains(string(said), "differs") {
		t.Errorf("check of another verdict: have %v\n%s, want it to differ", err, said)
	}
}
