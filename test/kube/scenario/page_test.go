package scenario

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/regent-ha/regent/test/kube/machine"
)

// ttl of the cluster under test: the chart's default.
const ttl = 30 * time.Second

// deletions in the loop at the end of the page; REGENT_KUBE_DELETIONS overrides.
const deletions = 20

// TestPage is the first page of the design, and what it promises: killing either pod may be repeated at will.
func TestPage(t *testing.T) {
	c := Connect(t, "stackgres", "cluster")
	c.Uninstall(t)
	t.Cleanup(func() { cleanUp(t, c) })
	began := time.Now()
	c.Install(t)
	state := c.Heal(t, 2)
	first := row{what: "both pods ready after the first install", whole: time.Since(began), after: state}
	note(first)
	w := c.Write(t)
	c.Sole(t)
	c.Roles(t)
	c.course = c.Follow(t)
	w.Tell(c.course)

	show(t, c, "cluster-0")
	c.step(t, w, 2, "leader's pod deleted", func(s State) { c.kubectl(t, "delete", "pod", s.Leader) })
	show(t, c, "cluster-1")
	c.step(t, w, 2, "leader's pod deleted with --grace-period=0 --force", func(s State) {
		c.kubectl(t, "delete", "pod", s.Leader, "--grace-period=0", "--force")
	})
	c.step(t, w, 2, "replica's pod deleted", func(s State) { c.kubectl(t, "delete", "pod", other(s.Leader)) })

	// The first branch: the leader could not say anything, and its pod is back before the lock expires, however slow this machine is.
	// It keeps the lock.
	c.setTTL(t, 10*ttl)
	c.step(t, w, 2, "leader's container killed, started again by the kubelet", func(s State) {
		c.kill(t, s.Leader)
		c.until(t, "the container is started again", func() error {
			p, err := c.client.CoreV1().Pods(c.Namespace).Get(t.Context(), s.Leader, meta.GetOptions{})
			if err != nil || len(p.Status.ContainerStatuses) == 0 {
				return fmt.Errorf("no container: %w", err)
			}
			if state := p.Status.ContainerStatuses[0]; state.RestartCount == 0 || state.State.Running == nil {
				return fmt.Errorf("%d restarts", state.RestartCount)
			}
			return nil
		})
	})
	c.kept(t)
	c.step(t, w, 2, "leader killed and its pod replaced within the TTL", func(s State) { c.kill(t, s.Leader); c.forget(t, s.Leader) })
	c.kept(t)
	c.setTTL(t, ttl)

	// The second branch: nothing can be scheduled until the lock has expired.
	after := c.step(t, w, 2, "leader killed, its pod held back until the lock expired", func(s State) {
		run(t, "kubectl", "cordon", machine.NodeName)
		defer run(t, "kubectl", "uncordon", machine.NodeName)
		c.lose(t, s.Leader)
		c.until(t, "the other member leads", func() error {
			pods, err := c.pods(t.Context())
			if err != nil {
				return err
			}
			for _, p := range pods {
				if p.Name != other(s.Leader) {
					continue
				}
				if p.Labels["role"] != "primary" {
					return fmt.Errorf("%s is labelled %q", p.Name, p.Labels["role"])
				}
				return c.leads(t.Context(), p.Status.PodIP)
			}
			return fmt.Errorf("%s is gone", other(s.Leader))
		})
	})
	if after.Leader == last().before.Leader {
		t.Errorf("%s leads again, want the other member: the lock expired", after.Leader)
	}

	seed := uint64(time.Now().UnixNano())
	t.Log("seed of the deletions:", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	for i := range count(t) {
		victim := "cluster-" + strconv.Itoa(chance.IntN(2))
		how := [][]string{nil, {"--grace-period=0", "--force"}, {"--now"}}[chance.IntN(3)]
		c.step(t, w, 2, strings.TrimSpace(fmt.Sprintf("deletion %d: %s %s", i+1, victim, strings.Join(how, " "))), func(State) {
			c.kubectl(t, append([]string{"delete", "pod", victim}, how...)...)
		})
	}
	show(t, c, "cluster-0")
}

func count(t testing.TB) int {
	text := os.Getenv("REGENT_KUBE_DELETIONS")
	if text == "" {
		return deletions
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// show prints the table of the page and wants both members in it.
func show(t *testing.T, c *Cluster, pod string) {
	t.Helper()
	out := c.patronictl(t, pod, "list")
	t.Logf("$ kubectl exec %s -n %s -c patroni -- patronictl list\n%s", pod, c.Namespace, out)
	if !strings.Contains(out, "+ Cluster: "+c.Name+" (") || strings.Count(out, "| cluster-") != 2 || strings.Count(out, "Leader") != 1 {
		t.Errorf("expected the table of two members and one leader")
	}
}

func other(pod string) string {
	if pod == "cluster-0" {
		return "cluster-1"
	}
	return "cluster-0"
}

// setTTL changes it, and waits until the leader renews its lock by it.
func (c *Cluster) setTTL(t *testing.T, d time.Duration) {
	t.Helper()
	want := strconv.Itoa(int(d.Seconds()))
	s := c.Heal(t, 2)
	c.patronictl(t, s.Leader, "edit-config", c.Name, "--set", "ttl="+want, "--force")
	c.until(t, "the lock lives for "+d.String(), func() error {
		lock, err := c.client.CoreV1().Endpoints(c.Namespace).Get(t.Context(), c.Name, meta.GetOptions{})
		if have := lock.GetAnnotations()["ttl"]; err == nil && have != want {
			err = fmt.Errorf("have ttl %q, want %q", have, want)
		}
		return err
	})
}

func last() row { return report.rows[len(report.rows)-1] }

// kept wants the same leader as before the last step, on a new timeline. What members have announced may be of before that for a while.
func (c *Cluster) kept(t *testing.T) {
	t.Helper()
	before := last().before
	c.until(t, "the same member leads on the next timeline", func() error {
		after, err := c.healed(t.Context(), 2)
		if want := (State{before.Leader, before.Timeline + 1}); err == nil && after != want {
			err = fmt.Errorf("have %v after %v, want %v", after, before, want)
		}
		return err
	})
}

// step disturbs a cluster that is whole, waits until it is whole again, and notes what it cost.
func (c *Cluster) step(t *testing.T, w *Writer, instances int, what string, disturb func(State)) State {
	t.Helper()
	before := c.Heal(t, instances)
	w.Mark()
	began := time.Now()
	disturb(before)
	after := c.Heal(t, instances)
	whole := time.Since(began)
	c.until(t, "rows are written again", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if time.Since(w.last) > patience {
			return fmt.Errorf("none since %s", w.last)
		}
		return nil
	})
	lost, acked, err := w.Lost(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	from, to := w.Outage()
	r := row{what: what, outage: to.Sub(from), whole: whole, before: before, after: after, lost: lost, acked: acked}
	note(r)
	t.Log(strings.Split(table([]row{r}), "\n")[2])
	if c.course != nil {
		t.Logf("since the last row before the outage:\n%s", c.course.Between(from, to))
	}
	if lost > 0 {
		t.Errorf("%s: %d of %d acknowledged rows are lost", what, lost, acked)
	}
	return after
}

// until repeats a question until there is nothing to complain about.
func (c *Cluster) until(t testing.TB, what string, ask func() error) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.tell(t)
			t.Fatalf("wait until %s: %v", what, err)
		}
	}
}

// kill ends every process of a pod's container at once, as an out-of-memory killer or a power cut would. The kubelet starts it again.
func (c *Cluster) kill(t testing.TB, pod string) {
	t.Helper()
	c.signal(t, pod, syscall.SIGKILL)
}

// lose freezes every process of a pod's container and deletes the pod: the kubelet ends what can neither hand over nor be started again.
func (c *Cluster) lose(t testing.TB, pod string) {
	t.Helper()
	c.signal(t, pod, syscall.SIGSTOP)
	c.forget(t, pod)
}

func (c *Cluster) signal(t testing.TB, pod string, signal syscall.Signal) {
	t.Helper()
	p, err := c.client.CoreV1().Pods(c.Namespace).Get(t.Context(), pod, meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := processes(p, "patroni")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range all {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, signal); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
}

// forget deletes a pod without waiting for its node.
func (c *Cluster) forget(t testing.TB, pod string) {
	t.Helper()
	c.kubectl(t, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
}

func cleanUp(t *testing.T, c *Cluster) {
	if os.Getenv("REGENT_KUBE_KEEP") != "" {
		return
	}
	if t.Failed() {
		c.tell(t)
	}
	ctx := context.WithoutCancel(t.Context()) // it has ended when a test is cleaned up
	if _, err := try(ctx, "kubectl", "delete", "namespace", c.Namespace, "--ignore-not-found", "--timeout="+limit.String()); err != nil {
		t.Error(err)
	}
}
