package ctl

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	if _, stderr, exit := play(t, vector{args: []string{"man", dir}}, nil); exit != 0 {
		t.Fatal(stderr)
	}
	for page, want := range map[string]string{
		"patronictl.1":            ".B switchover\nMake another member the leader",
		"patronictl-switchover.1": `.B \-\-candidate NAME`,
		"patronictl-list.1":       `.B \-f, \-\-format`,
	} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, want %q in\n%s", page, err, want, text)
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		return // what it would say of the pages is a second opinion
	}
	pages, _ := filepath.Glob(dir + "/*.1")
	if out, err := exec.Command(groff, append([]string{"-man", "-z", "-ww", "-Tutf8"}, pages...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if stdout, stderr, exit := play(t, vector{args: []string{"completion", shell}}, nil); exit != 0 || !strings.Contains(stdout, "__complete") {
			t.Errorf("%s: exit %d, %d bytes: %s", shell, exit, len(stdout), stderr)
		}
	}
	for line, want := range map[string]string{"swi": "switchover\t", "switchover --cand": "--candidate\t", "restart --pg": "--pg-version\t"} {
		stdout, _, exit := play(t, vector{args: append([]string{"__complete"}, strings.Fields(line)...)}, nil)
		if exit != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit %d: have %q, want %q", line, exit, stdout, want)
		}
	}
}
