package integration

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
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

// resume lets a process go on that was stopped, unless somebody has ended it.
func resume(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("resume process %d: %v", n, err)
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

// ttl is the harness's.
const ttl = 20 * time.Second

// shorten makes the ttl of a cluster that had a longer one the usual, and waits until the leader's lock is renewed for that.
func shorten(t *testing.T, leader *harness.Member) {
	t.Helper()
	patch(t, leader, harness.Map{"ttl": int(ttl / time.Second)})
	harness.Eventually(t, harness.Patience, "the lock is renewed for the new ttl", func() bool { left := leader.LeaseLeft(); return 0 < left && left <= ttl })
}

// successor waits until another member leads than that one, and returns it.
func successor(t *testing.T, c *harness.Cluster, dead *harness.Member) (next *harness.Member) {
	t.Helper()
	harness.Eventually(t, harness.Patience, "another member leads than "+dead.Name, func() bool {
		next = c.Leader()
		return next != nil && next != dead && next.Ready("primary")
	})
	return next
}

// switchover asks a member for a switchover. Its answer waits for the end, but not for ever.
func switchover(t *testing.T, asked, leader *harness.Member, candidate string) {
	t.Helper()
	said, err := asked.API.Switchover(limited(t), client.SwitchoverRequest{Leader: leader.Name, Candidate: candidate})
	if err != nil && !unknown(err) {
		t.Fatalf("switchover: %v %s", err, said)
	}
}

// unknown says whether a member has not waited for the end of what it was asked for.
func unknown(err error) bool {
	return client.Code(err) == http.StatusServiceUnavailable && strings.Contains(err.Error(), "status unknown")
}
