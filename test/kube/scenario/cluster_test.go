package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// Cluster is one release of the chart.
type Cluster struct {
	Namespace, Name string
	client          kubernetes.Interface
	http            http.Client
	course          *Course // of what happens, for a step to tell; nil: nobody follows
}

// chart is where the chart lies, seen from this package.
const chart = "../../../deploy/helm/regent"

// limit of every wait: it says nothing about speed, it only ends a test that would go on for ever.
const limit = 5 * time.Minute

// imageName is what test/kube/run node has imported.
var imageName = [2]string{"localhost/regent", "test"}

// Connect is the cluster that KUBECONFIG leads to; the test is skipped where there is no node.
func Connect(t testing.TB, namespace, name string) *Cluster {
	t.Helper()
	path := os.Getenv("REGENT_TEST_KUBECONFIG")
	if path == "" {
		t.Skip("REGENT_TEST_KUBECONFIG is not set: run this with test/kube/run node -- go test ./scenario")
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Namespace: namespace, Name: name, client: kubernetes.NewForConfigOrDie(config), http: http.Client{Timeout: 5 * time.Second}}
	nodes, err := c.client.CoreV1().Nodes().List(t.Context(), meta.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) == 0 {
		t.Skip("this cluster has no node: run this with test/kube/run node, not control")
	}
	return c
}

// Install installs the chart with two instances, or what the values say, and returns at once.
func (c *Cluster) Install(t testing.TB, values ...string) {
	t.Helper()
	args := []string{"upgrade", "--install", c.Name, chart, "--namespace", c.Namespace, "--create-namespace",
		"--set", "image.repository=" + imageName[0] + ",image.tag=" + imageName[1] + ",image.pullPolicy=Never"}
	for _, v := range values {
		args = append(args, "--set", v)
	}
	run(t, "helm", args...)
}

// Uninstall removes everything, volumes included.
func (c *Cluster) Uninstall(t testing.TB) {
	t.Helper()
	run(t, "kubectl", "delete", "namespace", c.Namespace, "--ignore-not-found", "--timeout="+limit.String())
}

// run calls a program and returns what it printed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := try(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is run for what may fail. Warnings, which kubectl prints beside its answer, are no part of that.
func try(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s%s", name, strings.Join(args, " "), err, out, &complaints)
	}
	return string(out), nil
}

func (c *Cluster) kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, "kubectl", append([]string{"-n", c.Namespace}, args...)...)
}

// patronictl runs inside a pod, with no configuration but the container's environment.
func (c *Cluster) patronictl(t testing.TB, pod string, args ...string) string {
	t.Helper()
	return c.kubectl(t, append([]string{"exec", pod, "-c", "patroni", "--", "patronictl"}, args...)...)
}

func (c *Cluster) pods(ctx context.Context) ([]core.Pod, error) {
	list, err := c.client.CoreV1().Pods(c.Namespace).List(ctx, meta.ListOptions{LabelSelector: "cluster-name=" + c.Name})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// password of an account, as the chart's Secret has it.
func (c *Cluster) password(ctx context.Context, account string) (string, error) {
	s, err := c.client.CoreV1().Secrets(c.Namespace).Get(ctx, c.Name, meta.GetOptions{})
	if err != nil {
		return "", err
	}
	return string(s.Data[account+"-password"]), nil
}

// serviceIP is the address of a Service; it is reached from this machine through the cable to the node.
func (c *Cluster) serviceIP(ctx context.Context, name string) (string, error) {
	s, err := c.client.CoreV1().Services(c.Namespace).Get(ctx, name, meta.GetOptions{})
	if err != nil {
		return "", err
	}
	return s.Spec.ClusterIP, nil
}

// Member is one line of GET /cluster.
type Member struct {
	Name, Role, State, Host string
	Timeline                int
	Lag                     any
}

// members asks one pod.
func (c *Cluster) members(ctx context.Context, ip string) ([]Member, error) {
	var body struct{ Members []Member }
	err := c.ask(ctx, ip, "/cluster", &body)
	return body.Members, err
}

// ask one pod for a document.
func (c *Cluster) ask(ctx context.Context, ip, path string, body any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ip+":8008"+path, nil)
	if err != nil {
		return err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s of %s: %s", path, ip, answer.Status)
	}
	return json.NewDecoder(answer.Body).Decode(body)
}

// State is a healed cluster.
type State struct {
	Leader   string
	Timeline int
}

// healed says why the cluster is not whole yet, or its state.
func (c *Cluster) healed(ctx context.Context, instances int) (State, error) {
	pods, err := c.pods(ctx)
	if err != nil {
		return State{}, err
	}
	if len(pods) != instances {
		return State{}, fmt.Errorf("%d pods of %d", len(pods), instances)
	}
	var s State
	address, role := map[string]string{}, map[string]string{}
	for _, p := range pods {
		if p.DeletionTimestamp != nil || !ready(p) {
			return State{}, fmt.Errorf("pod %s is not ready", p.Name)
		}
		address[p.Name], role[p.Name] = p.Status.PodIP, p.Labels["role"]
	}
	for _, p := range pods { // every member sees the same
		members, err := c.members(ctx, p.Status.PodIP)
		if err != nil {
			return State{}, err
		}
		seen, err := judge(members, address, role)
		if err != nil {
			return State{}, fmt.Errorf("%s sees: %w", p.Name, err)
		}
		if s != (State{}) && s != seen {
			return State{}, fmt.Errorf("the members differ: %v, %v", s, seen)
		}
		s = seen
	}
	if !c.primary(ctx, address[s.Leader]) { // what the members have announced may be of before it was killed
		return State{}, fmt.Errorf("%s does not answer as the primary", s.Leader)
	}
	return s, c.leads(ctx, address[s.Leader])
}

// judge wants one leader, everybody else streaming on its timeline at its pod's address, and labels that say so.
func judge(members []Member, address, role map[string]string) (State, error) {
	if len(members) != len(address) {
		return State{}, fmt.Errorf("%d members of %d", len(members), len(address))
	}
	var s State
	for _, m := range members {
		if m.Role == "leader" && m.State == "running" {
			s = State{m.Name, m.Timeline}
		}
	}
	if s.Leader == "" {
		return s, fmt.Errorf("no running leader among %v", members)
	}
	for _, m := range members {
		want := "replica"
		if m.Name == s.Leader {
			want = "primary"
		} else if m.State != "streaming" || m.Timeline != s.Timeline {
			return s, fmt.Errorf("%s is %s on timeline %d", m.Name, m.State, m.Timeline)
		}
		if m.Host != address[m.Name] {
			return s, fmt.Errorf("%s announces %s, its pod has %s", m.Name, m.Host, address[m.Name])
		}
		if role[m.Name] != want {
			return s, fmt.Errorf("%s is labelled %q, want %q", m.Name, role[m.Name], want)
		}
	}
	return s, nil
}

// leads wants the primary Service to lead to an address and to no other.
func (c *Cluster) leads(ctx context.Context, ip string) error {
	slices, err := c.client.DiscoveryV1().EndpointSlices(c.Namespace).List(ctx, meta.ListOptions{LabelSelector: "kubernetes.io/service-name=" + c.Name})
	if err != nil {
		return err
	}
	var have []string
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			have = append(have, e.Addresses...)
		}
	}
	if len(have) != 1 || have[0] != ip {
		return fmt.Errorf("the primary Service leads to %v, want %s", have, ip)
	}
	return nil
}

func ready(p core.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == core.PodReady {
			return c.Status == core.ConditionTrue
		}
	}
	return false
}

// Heal waits until the cluster is whole.
func (c *Cluster) Heal(t testing.TB, instances int) State {
	t.Helper()
	var why error
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		s, err := c.healed(t.Context(), instances)
		if err == nil {
			return s
		}
		why = err
		if time.Now().After(deadline) {
			c.tell(t)
			t.Fatalf("the cluster is not whole after %s: %v", limit, why)
		}
	}
}

// tell logs what a person would look at.
func (c *Cluster) tell(t testing.TB) {
	t.Helper()
	for _, args := range [][]string{
		{"get", "pods", "-L", "role", "-o", "wide"}, {"get", "endpoints", "-o", "yaml"}, {"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "-l", "cluster-name=" + c.Name, "-c", "patroni", "--prefix", "--tail=60"},
	} {
		out, err := try(context.WithoutCancel(t.Context()), "kubectl", append([]string{"-n", c.Namespace}, args...)...)
		if err != nil {
			out = err.Error()
		}
		t.Log(strings.Join(args, " "), "\n", out)
	}
}

// processes of a pod's container, as this machine counts them: the node shares the machine's cgroups.
func processes(p *core.Pod, container string) ([]string, error) {
	for _, s := range p.Status.ContainerStatuses {
		_, id, _ := strings.Cut(s.ContainerID, "://")
		if s.Name != container || id == "" {
			continue
		}
		found, err := filepath.Glob("/sys/fs/cgroup/pids/regent-kube/kubepods/*/pod" + string(p.UID) + "/" + id + "/cgroup.procs")
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("processes of %s: no cgroup of container %s", p.Name, id)
		}
		b, err := os.ReadFile(found[0])
		return strings.Fields(string(b)), err
	}
	return nil, fmt.Errorf("processes of %s: no container %s", p.Name, container)
}
