package integration

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/guard"
	"github.com/regent-ha/regent/test/integration/harness"
)

// guardOf is what a member tells of its guard.
func guardOf(t *testing.T, m *harness.Member) client.Guard {
	t.Helper()
	s := m.Status()
	if s == nil || s.Regent == nil || s.Regent.Guard == nil {
		t.Fatalf("%s tells nothing of its guard", m.Name)
	}
	return *s.Regent.Guard
}

// awaitGuard waits until a member's guard is as wanted.
func awaitGuard(t *testing.T, m *harness.Member, what string, wanted func(client.Guard) bool) client.Guard {
	t.Helper()
	var g client.Guard
	harness.Eventually(t, harness.Patience, what, func() bool {
		if s := m.Status(); s != nil && s.Regent != nil && s.Regent.Guard != nil {
			g = *s.Regent.Guard
		}
		return wanted(g)
	})
	return g
}

func end(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

// A guard follows what PostgreSQL is: armed while it is a primary, else not. One that is killed is replaced at once, also
// when the agent dies with it; an agent that restarts carries on with a living one.
func TestGuardIsKept(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{TTL: time.Minute, Retry: 15 * time.Second}) // nobody else is to lead while the agent is away
	leader, w := c.Healthy(t, harness.Patience), c.Write(t)
	replica := c.Others(leader)[0]
	first := awaitGuard(t, leader, "the leader's guard is armed", func(g client.Guard) bool { return g.Alive && g.Armed })
	if first.DeadlineIn <= 0 || first.DeadlineIn > 59.5 {
		t.Errorf("have %+v, want the end of the lock less half a second", first)
	}
	awaitGuard(t, replica, "the replica's guard is not armed", func(g client.Guard) bool { return g.Alive && !g.Armed })
	postmaster := leader.Postmaster()

	end(t, first.Pid)
	second := awaitGuard(t, leader, "another guard, armed", func(g client.Guard) bool { return g.Alive && g.Armed && g.Pid != first.Pid })

	leader.KillAgent(t)
	leader.Start(t)
	awaitGuard(t, leader, "the same guard, armed", func(g client.Guard) bool { return g.Pid == second.Pid && g.Armed })

	leader.KillAgent(t)
	end(t, second.Pid)
	leader.Start(t)
	awaitGuard(t, leader, "a third guard, armed", func(g client.Guard) bool { return g.Alive && g.Armed && g.Pid != second.Pid })
	if now := c.Healthy(t, harness.Patience); now != leader || leader.Postmaster() != postmaster {
		t.Errorf("have leader %s with postmaster %d, want %s with %d", now.Name, leader.Postmaster(), leader.Name, postmaster)
	}

	switchover(t, leader, leader, replica.Name)
	awaitGuard(t, replica, "the new leader's guard is armed", func(g client.Guard) bool { return g.Armed })
	awaitGuard(t, leader, "the old leader's is not any more", func(g client.Guard) bool { return g.Alive && !g.Armed })
	c.Healthy(t, harness.Patience)
	w.Audit(t, 0)
}

// In pause nothing is killed, whatever becomes of the agent, and an agent that leaves takes its guard along.
func TestGuardInPause(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{})
	leader := c.Healthy(t, harness.Patience)
	patch(t, leader, harness.Map{"pause": true})
	g := awaitGuard(t, leader, "the guard knows of the pause", func(g client.Guard) bool { return g.State == "paused" && !g.Armed })
	postmaster := leader.Postmaster()
	leader.SignalAgent(t, syscall.SIGTERM)
	if code := leader.AwaitExit(t, harness.Patience); code != 0 {
		t.Errorf("the agent left with %d, want 0", code)
	}
	harness.Eventually(t, harness.Patience, "the guard ends with its agent", func() bool { return !harness.Alive(g.Pid) })
	if leader.Postmaster() != postmaster {
		t.Error("PostgreSQL ended with its agent in pause, want it to live on")
	}
	for _, name := range guard.Files(leader.Data) {
		harness.Eventually(t, harness.Patience, name+" is gone", func() bool { _, err := os.Lstat(name); return err != nil })
	}
	leader.Start(t)
	harness.Eventually(t, harness.Patience, "the agent is back and holds the lock", func() bool { return leader.Ready("primary") && leader.LeaseLeft() > 0 })
	patch(t, c.Others(leader)[0], harness.Map{"pause": nil})
	awaitGuard(t, leader, "the guard is armed again", func(g client.Guard) bool { return g.Armed })
	if leader.Postmaster() != postmaster {
		t.Error("PostgreSQL was restarted, want the same as before")
	}
}

// A member that must have a guard and cannot have one follows, but does not lead, and says why.
func TestGuardRequired(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Member: func(m *harness.Member, config harness.Map) { config["regent"] = harness.Map{"guard": "required"} }})
	able, unable := c.Members[0], c.Members[1]
	for _, name := range guard.Files(unable.Data) { // files that others may read are no place for the guard's memory
		if !strings.HasSuffix(name, ".wake") {
			if err := os.WriteFile(name, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	unable.Start(t)
	harness.Eventually(t, harness.Patience, "a member without a guard makes no cluster", func() bool { return unable.Reason() == "watchdog-failed" })
	able.Start(t)
	if now := c.Healthy(t, harness.Patience); now != able {
		t.Fatalf("have leader %s, want %s", now.Name, able.Name)
	}
	if s := unable.Now(t); !s.WatchdogFailed || s.Regent == nil || s.Regent.Guard == nil || s.Regent.Guard.Problem == "" {
		t.Errorf("have %+v, want watchdog_failed and the reason", s)
	}
	able.KillAll(t)
	harness.Eventually(t, harness.Patience, "the other member refuses to lead", func() bool { return c.Leader() == nil && unable.Reason() == "watchdog-failed" })
	able.Start(t)
	if now := c.Healthy(t, harness.Patience); now != able {
		t.Errorf("have leader %s, want %s", now.Name, able.Name)
	}
}
