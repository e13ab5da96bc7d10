package integration

import (
	"context"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/test/integration/harness"
)

// kill sends a signal to a process by its number as text.
func kill(t *testing.T, pid string, s syscall.Signal) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, s); err != nil {
		t.Fatalf("signal process %d: %v", n, err)
	}
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	t.Cleanup(cancel)
	return ctx
}

// patch changes the dynamic configuration through a member.
func patch(t *testing.T, m *harness.Member, change harness.Map) {
	t.Helper()
	if _, err := m.API.PatchConfig(limited(t), change); err != nil {
		t.Fatal(err)
	}
}

// switchover asks a member for a switchover and returns how long it took.
func switchover(t *testing.T, asked, leader *harness.Member, candidate string) time.Duration {
	t.Helper()
	begin := time.Now()
	if said, err := asked.API.Switchover(limited(t), client.SwitchoverRequest{Leader: leader.Name, Candidate: candidate}); err != nil {
		t.Fatalf("switchover: %v %s", err, said)
	}
	return time.Since(begin)
}
