package integration

import (
	"testing"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/test/integration/harness"
)

// A restart that is scheduled shows in the status and in the store, happens at its moment, once, and can be dropped before.
func TestScheduledRestart(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{})
	leader := c.Healthy(t, harness.Patience)
	replica := c.Others(leader)[0]
	before := replica.Postmaster()

	at := time.Now().Add(time.Hour)
	if said, err := replica.API.Restart(limited(t), client.RestartRequest{Schedule: &at}); err != nil || said != "Restart scheduled" {
		t.Fatalf("schedule a restart: have %q, %v", said, err)
	}
	if _, err := replica.API.Restart(limited(t), client.RestartRequest{Schedule: &at}); client.Code(err) != 409 {
		t.Errorf("a second one: have %v, want 409", err)
	}
	shown := func(want bool) func() bool {
		return func() bool {
			top, err := leader.API.Cluster(t.Context())
			if err != nil {
				return false
			}
			for _, m := range top.Members {
				if m.Name == replica.Name {
					s := replica.Status()
					return (m.ScheduledRestart != nil) == want && s != nil && (s.ScheduledRestart != nil) == want
				}
			}
			return false
		}
	}
	harness.Eventually(t, harness.Patience, "everybody sees the plan", shown(true))
	if said, err := replica.API.CancelRestart(limited(t)); err != nil || said != "scheduled restart deleted" {
		t.Errorf("drop it: have %q, %v", said, err)
	}
	harness.Eventually(t, harness.Patience, "nobody sees a plan", shown(false))

	at = time.Now().Add(8 * time.Second)
	if _, err := replica.API.Restart(limited(t), client.RestartRequest{Schedule: &at, Role: "replica"}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.Patience, "PostgreSQL restarts", func() bool { p := replica.Postmaster(); return p != 0 && p != before })
	if early := time.Until(at); early > 0 {
		t.Errorf("restarted %s too early", early)
	}
	harness.Eventually(t, harness.Patience, "the plan is gone", shown(false))
	c.Healthy(t, harness.Patience)
}
