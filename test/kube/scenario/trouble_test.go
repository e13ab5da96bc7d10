package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/regent-ha/regent/test/kube/machine"
)

// TestTrouble is what else happens to a cluster: scaling, a rolling restart, an API server that is away, a drain, lost data.
func TestTrouble(t *testing.T) {
	c := Connect(t, "trouble", "cluster")
	c.Uninstall(t)
	t.Cleanup(func() { cleanUp(t, c) })
	c.Install(t, "volume.whenScaled=Delete")
	c.Heal(t, 2)
	w := c.Write(t)
	c.Sole(t)

	c.step(t, w, 2, "rolling restart", func(State) {
		c.kubectl(t, "rollout", "restart", "statefulset/cluster")
		c.kubectl(t, "rollout", "status", "statefulset/cluster", "--timeout="+limit.String())
	})
	c.step(t, w, 2, "volumes opened to the group at each mount, rolled out", func(State) {
		c.kubectl(t, "patch", "statefulset/cluster", "-p", `{"spec":{"template":{"spec":{"securityContext":{"fsGroupChangePolicy":"Always"}}}}}`)
		c.kubectl(t, "rollout", "status", "statefulset/cluster", "--timeout="+limit.String())
	})
	for _, pod := range []string{"cluster-0", "cluster-1"} {
		modes := c.kubectl(t, "exec", pod, "-c", "patroni", "--", "stat", "-c", "%a", "/var/lib/postgresql/data", "/var/lib/postgresql/data/PG_VERSION")
		if modes != "700\n660\n" && modes != "2700\n660\n" {
			t.Errorf("modes of the data directory and of a file in it: have %q, want a file that was opened to the group in a directory that is not", modes)
		}
	}
	c.firstProcess(t, "cluster-0")
	c.step(t, w, 2, "SIGTERM to process 1 of the leader's container", func(s State) { c.kubectl(t, "exec", s.Leader, "-c", "patroni", "--", "kill", "-TERM", "1") })
	c.step(t, w, 2, "scaled 2 → 3 → 2", func(State) {
		c.kubectl(t, "scale", "statefulset/cluster", "--replicas=3")
		c.Heal(t, 3)
		c.kubectl(t, "scale", "statefulset/cluster", "--replicas=2")
	})
	c.step(t, w, 2, "node drained and uncordoned", func(State) {
		defer run(t, "kubectl", "uncordon", machine.NodeName)
		// One node: the first pod cannot come back, so the budget protects the other one, and the drain does not end.
		out, err := try(t.Context(), "kubectl", "drain", machine.NodeName, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=20s")
		if err == nil {
			t.Error("both pods were drained, against the budget:", out)
		}
	})
	c.step(t, w, 2, "leader's volume and pod deleted", func(s State) {
		c.kubectl(t, "delete", "pvc", "data-"+s.Leader, "--wait=false")
		c.kubectl(t, "delete", "pod", s.Leader)
	})
	c.step(t, w, 2, "API server away for longer than the TTL", func(State) { c.withoutAPI(t, ttl+15*time.Second, func() {}) })
}

// firstProcess: the agent is the first process of its container, without a shell in between, and collects what is left to it.
func (c *Cluster) firstProcess(t *testing.T, pod string) {
	t.Helper()
	exec := func(command ...string) string {
		return c.kubectl(t, append([]string{"exec", pod, "-c", "patroni", "--"}, command...)...)
	}
	if have := exec("cat", "/proc/1/cmdline"); !strings.HasPrefix(have, "patroni\x00") {
		t.Errorf("process 1 is %q, want patroni", have)
	}
	orphan := strings.TrimSpace(exec("sh", "-c", "sleep 0.1 >/dev/null 2>&1 & echo $!"))
	c.until(t, "the orphan is collected", func() error {
		if out, err := try(t.Context(), "kubectl", "-n", c.Namespace, "exec", pod, "-c", "patroni", "--", "test", "!", "-e", "/proc/"+orphan); err != nil {
			return fmt.Errorf("process %s is still there: %w: %s", orphan, err, out)
		}
		return nil
	})
}

// TestFullVolume: a leader whose volume is full cannot write; somebody who can must lead.
func TestFullVolume(t *testing.T) {
	c := Connect(t, "full", "cluster")
	c.Uninstall(t)
	t.Cleanup(func() { cleanUp(t, c) })
	c.Install(t, "volume.class=bounded,volume.size=400Mi,dynamic.postgresql.parameters.max_wal_size=64MB")
	c.Heal(t, 2)
	w := c.Write(t)
	c.Sole(t)
	c.step(t, w, 2, "leader's volume full", func(s State) {
		defer func() {
			c.kubectl(t, "exec", s.Leader, "-c", "patroni", "--", "rm", "-f", "/var/lib/postgresql/ballast")
		}()
		// dd ends with an error when the volume is full: that is the aim. Segments of WAL that are there already are used up
		// next: PostgreSQL ends when it cannot make another one.
		const fill = `for i in $(seq 100); do
			dd if=/dev/zero of=/var/lib/postgresql/ballast bs=64k oflag=append conv=notrunc 2>/dev/null
			psql -h /run/postgresql -U postgres -qc "select pg_logical_emit_message(false, 'fill', repeat('x', 1000000)) from generate_series(1, 20)" >/dev/null || exit 0
		done; exit 1`
		c.kubectl(t, "exec", s.Leader, "-c", "patroni", "--", "sh", "-c", fill)
		c.until(t, "the other member leads", func() error {
			p, err := c.client.CoreV1().Pods(c.Namespace).Get(t.Context(), other(s.Leader), meta.GetOptions{})
			if err != nil {
				return err
			}
			return c.leads(t.Context(), p.Status.PodIP)
		})
	})
}

// withoutAPI takes the API server away for a while, and looks around before it comes back.
func (c *Cluster) withoutAPI(t testing.TB, d time.Duration, look func()) {
	t.Helper()
	source, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	m := machine.At(source, "node")
	if err := m.Hold(t.Context(), "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if err := m.Free("kube-apiserver"); err != nil {
				t.Error(err)
			}
		}()
		c.course.note("the API server is gone")
		pause(t.Context(), d) // the time that passes is what is tested
		look()
		c.course.note("the API server may come back")
	}()
	// Who has found no API server may not look again for a minute, and Services and pods stay as they are until then. New ones look at once.
	for _, part := range []string{"kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler"} {
		if err := errors.Join(m.Hold(t.Context(), part), m.Free(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Wait(context.WithoutCancel(t.Context()), limit, "the API server", "get", "--raw", "/readyz"); err != nil {
		t.Fatal(err)
	}
}

// TestFailsafe: with failsafe mode the primary goes on while the API server is away for longer than its lock lives: rows are written, the
// leader stays the same, and so does the timeline, which says that it was never anything else.
func TestFailsafe(t *testing.T) {
	c := Connect(t, "failsafe", "cluster")
	c.Uninstall(t)
	t.Cleanup(func() { cleanUp(t, c) })
	c.Install(t, "dynamic.failsafe_mode=true")
	s := c.Heal(t, 2)
	w := c.Write(t)
	c.Sole(t)
	c.course = c.Follow(t)
	w.Tell(c.course)
	leader, err := c.client.CoreV1().Pods(c.Namespace).Get(t.Context(), s.Leader, meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.until(t, "both members are listed", func() error {
		var listed map[string]string
		if err := c.ask(t.Context(), leader.Status.PodIP, "/failsafe", &listed); err != nil || len(listed) != 2 {
			return fmt.Errorf("have %v: %w", listed, err)
		}
		return nil
	})
	after := c.step(t, w, 2, "API server away for longer than the TTL, failsafe mode", func(s State) {
		c.withoutAPI(t, ttl+15*time.Second, func() {
			now := time.Now()
			c.until(t, "a row is written without the API server", func() error {
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.last.Before(now) {
					return fmt.Errorf("the last one was at %s", w.last)
				}
				return nil
			})
			var said struct {
				Failsafe bool `json:"failsafe_mode_is_active"`
			}
			if err := c.ask(t.Context(), leader.Status.PodIP, "/patroni", &said); err != nil || !said.Failsafe {
				t.Errorf("GET /patroni of %s: have %+v, %v, want it to say that failsafe mode is active", s.Leader, said, err)
			}
		})
	})
	if before := last().before; after != before {
		t.Errorf("have %v after the outage, want %v to have gone on", after, before)
	}
}

// TestEnvironmentOnly: without any file, PATRONI_CONFIGURATION is the whole configuration, and patronictl finds it too.
func TestEnvironmentOnly(t *testing.T) {
	c := Connect(t, "environment", "cluster")
	c.Uninstall(t)
	t.Cleanup(func() { cleanUp(t, c) })
	manifest, err := os.ReadFile("testdata/environment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	run(t, "kubectl", "create", "namespace", c.Namespace)
	text := strings.ReplaceAll(string(manifest), "@IMAGE@", imageName[0]+":"+imageName[1])
	file := filepath.Join(t.TempDir(), "environment.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "apply", "-f", file)
	c.until(t, "the member leads", func() error {
		_, err := c.healed(t.Context(), 1)
		return err
	})
	out := c.patronictl(t, "cluster-0", "list")
	if !strings.Contains(out, "cluster-0") || !strings.Contains(out, "Leader") {
		t.Errorf("have %s, want cluster-0 as the leader", out)
	}
}
