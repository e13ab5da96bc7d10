package scenario

import (
	"fmt"
	"strings"
	"testing"
)

// TestMoving: a cluster moves from Endpoints to ConfigMaps and on to a Lease while clients write. The leader stays, nothing is lost, nobody
// leads beside it; the manifest follows later, as the command says.
func TestMoving(t *testing.T) {
	c := Connect(t, "moving", "cluster")
	c.Uninstall(t)
	t.Cleanup(func() { cleanUp(t, c) })
	c.Install(t, "rbac.moveTo=configmaps")
	c.Heal(t, 2)
	w := c.Write(t)
	c.Sole(t)
	c.holds(t, "endpoints/cluster", `{.metadata.annotations.leader}`)
	for _, move := range []struct{ to, next, lock, holder string }{
		{"configmaps", "lease", "configmap/cluster-leader", `{.metadata.annotations.leader}`},
		{"lease", "", "lease/cluster-leader", `{.spec.holderIdentity}`},
	} {
		var said string
		after := c.step(t, w, 2, "moved to "+move.to, func(s State) {
			said = c.kubectl(t, "exec", other(s.Leader), "-c", "patroni", "--", "regent", "kubernetes", "migrate", "--to", move.to)
		})
		if before := last().before; after != before {
			t.Errorf("have %v after the move, want %v to go on", after, before)
		}
		c.holds(t, move.lock, move.holder)
		c.step(t, w, 2, "Service patched as told, then leader's pod deleted", func(s State) {
			run(t, "sh", "-c", command(t, said))
			c.kubectl(t, "delete", "pod", s.Leader)
		})
		c.holds(t, move.lock, move.holder)
		c.step(t, w, 2, "manifest changed to "+move.to, func(State) {
			c.Install(t, "store="+move.to, "rbac.moveTo="+move.next)
			c.kubectl(t, "rollout", "status", "statefulset/cluster", "--timeout="+limit.String())
		})
		c.holds(t, move.lock, move.holder)
	}
	if have := c.kubectl(t, "get", "endpoints", "cluster", "-o", `jsonpath={.metadata.annotations.leader}`); have != "moved-to-configmaps" {
		t.Errorf("the lock that was left says %q, want its seal", have)
	}
}

// holds wants the lock to be where the leader renews it.
func (c *Cluster) holds(t testing.TB, object, holder string) {
	t.Helper()
	s := c.Heal(t, 2)
	c.until(t, "the lock is in "+object, func() error {
		have, err := try(t.Context(), "kubectl", "-n", c.Namespace, "get", object, "-o", "jsonpath="+holder)
		if err == nil && have != s.Leader {
			err = fmt.Errorf("its holder is %q, the leader is %s", have, s.Leader)
		}
		return err
	})
}

// command is the one that the output tells people to run.
func command(t testing.TB, said string) string {
	t.Helper()
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "kubectl ") {
			return line
		}
	}
	t.Fatalf("have no command for the Service in\n%s", said)
	return ""
}
