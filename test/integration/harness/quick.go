package harness

import (
	"testing"
	"time"

	"github.com/regent-ha/regent/test/rig/pressure"
)

// Quick fails when something took longer than its limit, on a machine that is not busy with other things: where processes wait
// for a processor most of the time, durations say nothing about the agent, and are only logged.
func Quick(t testing.TB, what string, took, limit time.Duration) {
	t.Helper()
	waiting := pressure.CPU()
	switch {
	case took <= limit:
		t.Logf("%s: %s", what, took.Round(time.Millisecond))
	case waiting > 70:
		t.Logf("%s: %s, want at most %s, but processes wait for a processor %.0f%% of the time: not counted", what, took.Round(time.Millisecond), limit, waiting)
	default:
		t.Errorf("%s: have %s, want at most %s", what, took.Round(time.Millisecond), limit)
	}
}
