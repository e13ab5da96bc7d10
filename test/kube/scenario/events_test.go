package scenario

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/regent-ha/regent/test/kube/machine"
)

// TestEvents: what a member decided, and what it refuses and why, is read back with kubectl from the events of its pod.
func TestEvents(t *testing.T) {
	c := Connect(t, "events", "cluster")
	c.Uninstall(t)
	t.Cleanup(func() { cleanUp(t, c) })
	c.Install(t, "dynamic.ttl=20,dynamic.loop_wait=2,dynamic.retry_timeout=3")
	s := c.Heal(t, 2)
	old, heir := s.Leader, other(s.Leader)
	c.told(t, old, "AgentStarted", "Bootstrapping", "ElectionWon", "Leading")
	c.told(t, heir, "AgentStarted", "Cloning")

	c.patronictl(t, heir, "switchover", "cluster", "--leader", old, "--candidate", heir, "--force")
	c.Heal(t, 2)
	c.told(t, old, "Switchover", "HandedOver")
	c.told(t, heir, "ElectionWon", "Leading")

	c.patronictl(t, heir, "reinit", "cluster", old, "--force")
	c.told(t, old, "Reinitializing")
	c.Heal(t, 2)

	// The leader is gone and nobody may follow it.
	c.patronictl(t, heir, "pause", "cluster", "--wait")
	run(t, "kubectl", "cordon", machine.NodeName)
	defer run(t, "kubectl", "uncordon", machine.NodeName)
	c.lose(t, heir)
	if why := c.told(t, old, "NotElected")["NotElected"]; !strings.Contains(why, "paused") {
		t.Errorf("NotElected: have %q, want the reason, that the cluster is paused", why)
	}
	c.patronictl(t, old, "resume", "cluster")
	c.told(t, old, "ElectionWon", "Leading")
	if text := c.kubectl(t, "describe", "pod", old); !strings.Contains(text, "ElectionWon") || !strings.Contains(text, "regent") {
		t.Errorf("kubectl describe pod shows no events:\n%s", text)
	}
}

// told waits until a pod has events for all these reasons, and returns the last message of each.
func (c *Cluster) told(t testing.TB, pod string, reasons ...string) map[string]string {
	t.Helper()
	messages := map[string]string{}
	c.until(t, pod+" has told "+strings.Join(reasons, ", "), func() error {
		out, err := try(t.Context(), "kubectl", "-n", c.Namespace, "get", "events", "--sort-by=.lastTimestamp", "--field-selector=involvedObject.name="+pod+",source=regent",
			`-o=jsonpath={range .items[*]}{.reason}={.message}{"\n"}{end}`)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			reason, message, _ := strings.Cut(strings.TrimSpace(line), "=")
			messages[reason] = message
		}
		if i := slices.IndexFunc(reasons, func(r string) bool { return messages[r] == "" }); i >= 0 {
			return fmt.Errorf("have no %s among\n%s", reasons[i], out)
		}
		return nil
	})
	return messages
}
