//go:build !race

// The race detector's own memory would be measured, not the guard's.

package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/guard"
)

// The guard is this program, with everything that is linked into it, and must not pay for that. Its code is shared with the agent's;
// what counts against it all the same is what it has mapped in.
func TestGuardIsSmall(t *testing.T) {
	begun := time.Now()
	g, err := guard.Open(guard.Options{DataDir: t.TempDir(), Program: "postgres", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	took := time.Since(begun)
	if !g.Alive() {
		t.Fatal(g.State().Problem)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.State().Pid))
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	rss := 0
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "VmRSS":
			_, _ = fmt.Sscan(value, &rss)
			fallthrough
		case "RssAnon", "RssFile", "RssShmem", "VmLck", "Threads":
			told = append(told, key+strings.Join(strings.Fields(value), " "))
		}
	}
	t.Logf("watches after %s; %s", took.Round(time.Millisecond), strings.Join(told, ", "))
	if rss == 0 || rss > 12<<10 {
		t.Errorf("have a guard of %d kB, want at most 12 MB: which package is initialized before guard/process? See GODEBUG=inittrace=1", rss)
	}
}
