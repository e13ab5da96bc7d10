package integration

import (
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/postgres/pgtest"
	"github.com/regent-ha/regent/test/integration/harness"
)

// The leader's agent is replaced while another container's PostgreSQL still has the data directory. That one may be a primary with
// clients until the lock that it had ends, so nobody leads beside it for a ttl.
func TestAnotherContainerHasTheDirectory(t *testing.T) {
	t.Parallel()
	const ttl = 40 * time.Second // long enough to be back before the lock ends
	c := harness.Start(t, harness.Options{TTL: ttl, Member: func(_ *harness.Member, config map[string]any) {
		config["postgresql"].(harness.Map)["pg_ctl_timeout"] = 2
	}})
	old, w := c.Healthy(t, harness.Patience), c.Write(t)
	other := c.Others(old)[0]
	w.Advance(t, 10, harness.Patience)
	reached := w.Reached(t, old, other)
	old.KillAll(t)
	release := pgtest.HoldElsewhere(t, old.Data)
	begun := time.Now()
	old.Start(t)
	harness.Eventually(t, harness.Patience, "the start is refused", func() bool { return old.Reason() == "leader-cannot-run" })
	if left := old.LeaseLeft(); left < ttl/4 {
		t.Errorf("have %s left of a lock that is to be kept", left)
	}
	harness.Eventually(t, harness.Patience, "the other member leads", func() bool { return other.Ready("primary") })
	if took := time.Since(begun); took < ttl {
		t.Errorf("the other member led after %s, want ttl, %s, at least", took, ttl)
	}
	w.AdvanceOn(t, other, harness.Patience)
	release()
	if now := c.Healthy(t, harness.Patience); now != other {
		t.Errorf("have leader %s, want %s", now.Name, other.Name)
	}
	w.Audit(t, reached.Since()) // rows that the crashed leader had not sent
}
