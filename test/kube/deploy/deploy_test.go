package deploy

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write deploy/kustomize/base/cluster.yaml anew, from the chart")

const (
	chart = "../../../deploy/helm/regent"
	base  = "../../../deploy/kustomize/base"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("REGENT_TEST_KUBECONFIG") == "" {
		os.Stdout.WriteString("skipped: REGENT_TEST_KUBECONFIG is not set; run this with test/kube/run control -- go test ./deploy\n")
		return
	}
	os.Exit(m.Run())
}

// try calls a program and returns all that it printed.
func try(input, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func run(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	out, err := try(input, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// variants of values that change which objects there are, or what is in them.
var variants = map[string][]string{
	"defaults":      nil,
	"configmaps":    {"store=configmaps"},
	"lease":         {"store=lease"},
	"made before":   {"rbac.allowCreate=false"},
	"made, lease":   {"rbac.allowCreate=false", "store=lease"},
	"own accounts":  {"secret.existing=mine", "serviceAccount.create=false", "serviceAccount.name=mine"},
	"nothing extra": {"rbac.create=false", "disruptionBudget=null", "handover=false", "spread=null"},
	"everything": {
		"scope=other", "volume.class=fast", "image.pullSecrets={one,two}", "nodeSelector.disk=ssd", "priorityClassName=high",
		"tags.nofailover=true", "podLabels.a=b", "podAnnotations.c=d", "tolerations[0].operator=Exists", "environment[0].name=A",
		"environment[0].value=b", "service.type=LoadBalancer", "service.annotations.e=f", "affinity.nodeAffinity.x=null",
	},
}

func set(values []string) []string {
	var args []string
	for _, v := range values {
		args = append(args, "--set", v)
	}
	return args
}

func TestChartIsAccepted(t *testing.T) {
	run(t, "", "kubectl", "create", "namespace", "variants")
	for name, values := range variants {
		t.Run(name, func(t *testing.T) {
			// 1.33 calls Endpoints deprecated; they are what Patroni keeps its state in.
			run(t, "", "helm", append([]string{"lint", "--strict", "--kube-version", "1.32.0", chart}, set(values)...)...)
			text := run(t, "", "helm", append([]string{"template", "cluster", chart, "--namespace", "variants"}, set(values)...)...)
			out := run(t, text, "kubectl", "apply", "--dry-run=server", "--validate=strict", "-n", "variants", "-f", "-")
			if want := strings.Count("\n"+text, "\nkind: "); strings.Count(out, "server dry run") != want {
				t.Errorf("want %d objects, have %s", want, out)
			}
		})
	}
}

func TestSchemaRefuses(t *testing.T) {
	for name, test := range map[string]struct{ value, word string }{
		"unknown key":       {"instance=2", "instance"},
		"unknown inner key": {"volume.sise=1Gi", "sise"},
		"store":             {"store=etcd", "store"},
		"instances":         {"instances=two", "instances"},
		"size":              {"volume.size=big", "size"},
		"short grace":       {"gracePeriod=1", "gracePeriod"},
		"root":              {"user=0", "user"},
		"budget":            {"disruptionBudget.minAvailable=1", "disruptionBudget"}, // beside the default maxUnavailable
	} {
		t.Run(name, func(t *testing.T) {
			out, err := try("", "helm", "template", "cluster", chart, "--set", test.value)
			if err == nil || !strings.Contains(out, test.word) {
				t.Errorf("%s: have %v: %s, want it to be refused with a word about %s", test.value, err, out, test.word)
			}
		})
	}
}

// TestBaseIsTheChart: whoever does not use Helm gets the same objects; passwords come from elsewhere.
func TestBaseIsTheChart(t *testing.T) {
	text := run(t, "", "helm", "template", "cluster", chart, "--namespace", "default")
	var objects []string
	for _, o := range strings.Split(text, "\n---\n") {
		if o = strings.TrimPrefix(o, "---\n"); strings.Contains("\n"+o, "\nkind: Secret\n") {
			continue
		}
		var lines []string
		for line := range strings.Lines(o) {
			if !strings.HasPrefix(line, "# Source: ") && !strings.Contains(line, "helm.sh/chart:") && !strings.Contains(line, "app.kubernetes.io/managed-by:") {
				lines = append(lines, line)
			}
		}
		objects = append(objects, strings.TrimSpace(strings.Join(lines, ""))+"\n")
	}
	want := "# Generated from the chart: test/kube/run control -- go test ./deploy -rewrite\n" + strings.Join(objects, "---\n")
	file := filepath.Join(base, "cluster.yaml")
	if *rewrite {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("%s is not what the chart says; rewrite it and read the diff", file)
	}
}

func TestBaseIsAccepted(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "kustomize"), os.DirFS(filepath.Dir(base))); err != nil {
		t.Fatal(err)
	}
	example := filepath.Join(dir, "kustomize", "example")
	passwords := "superuser-password=a\nreplication-password=b\nrestapi-password=c\n"
	if err := os.WriteFile(filepath.Join(example, "passwords.env"), []byte(passwords), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", "kubectl", "create", "namespace", "stackgres")
	text := run(t, "", "kubectl", "kustomize", example)
	if !strings.Contains(text, "- kind: ServiceAccount\n  name: cluster\n  namespace: stackgres") {
		t.Error("the binding of the role must name the account of the overlay's namespace; have", text)
	}
	run(t, text, "kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-")
}

// TestInstall: the objects make Kubernetes do what is meant: pods with their volumes, a budget that counts them.
func TestInstall(t *testing.T) {
	run(t, "", "helm", "install", "cluster", chart, "--namespace", "installed", "--create-namespace")
	read := func(path string, args ...string) string {
		out, _ := try("", "kubectl", append(append([]string{"-n", "installed", "get", "-o", "jsonpath=" + path}, args...), "--ignore-not-found")...)
		return out
	}
	wait(t, "pods with volumes", "cluster-0 cluster-1", func() string { return read("{.items[*].metadata.name}", "pods") })
	wait(t, "claims", "data-cluster-0 data-cluster-1", func() string { return read("{.items[*].metadata.name}", "pvc") })
	wait(t, "the budget's count", "2", func() string { return read("{.status.expectedPods}", "pdb", "cluster") })
	first := read("{.data.superuser-password}", "secret", "cluster")
	run(t, "", "helm", "upgrade", "cluster", chart, "--namespace", "installed", "--set", "instances=3")
	wait(t, "a third pod", "cluster-0 cluster-1 cluster-2", func() string { return read("{.items[*].metadata.name}", "pods") })
	if second := read("{.data.superuser-password}", "secret", "cluster"); second != first || first == "" {
		t.Error("an upgrade changed the passwords")
	}
	// The agents' account may do what an agent must, and nothing more.
	for call, want := range map[string]string{
		"patch endpoints": "yes", "create endpoints": "yes", "watch pods": "yes", "patch pods": "yes", "get lease/cluster-leader": "yes", "get configmap/cluster-leader": "yes",
		"delete endpoints": "no", "get secrets": "no", "get configmap/other": "no", "patch lease/cluster-leader": "no", "delete pods": "no", "create services": "no", "update pods": "no",
	} {
		args := append(append([]string{"auth", "can-i"}, strings.Fields(call)...), "-n", "installed", "--as", "system:serviceaccount:installed:cluster")
		if out, _ := try("", "kubectl", args...); strings.TrimSpace(out) != want {
			t.Errorf("may the agent %s: have %q, want %q", call, out, want)
		}
	}
}

func wait(t *testing.T, what, want string, ask func() string) {
	t.Helper()
	have := ""
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if have = ask(); have == want {
			return
		}
	}
	t.Fatalf("wait for %s: have %q, want %q", what, have, want)
}
