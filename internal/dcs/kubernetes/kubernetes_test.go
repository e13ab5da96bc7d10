package kubernetes_test

import (
	"flag"
	"os"
	"testing"

	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/dcs/kubernetes/kubetest"
)

var layouts = []kubernetes.Layout{kubernetes.Endpoints, kubernetes.ConfigMaps, kubernetes.Lease}

// These tests wait for servers and expiries, they do not compute.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestContract(t *testing.T) {
	for _, layout := range layouts {
		t.Run(string(layout), func(t *testing.T) {
			dcstest.Run(t, func(t testing.TB) dcstest.Harness {
				return kubetest.Harness(t, kubetest.Kubeconfig(t, kubetest.Start(t).URL), layout, false)
			})
		})
	}
}

// Members use a store that goes where the cluster goes.
func TestContractOfMoving(t *testing.T) {
	dcstest.Run(t, func(t testing.TB) dcstest.Harness {
		return kubetest.Harness(t, kubetest.Kubeconfig(t, kubetest.Start(t).URL), kubernetes.Endpoints, true)
	})
}

// TestContractOnKubernetes is the same on a real API server.
func TestContractOnKubernetes(t *testing.T) {
	kubeconfig := os.Getenv("REGENT_TEST_KUBECONFIG")
	if kubeconfig == "" {
		t.Skip("REGENT_TEST_KUBECONFIG names no kubeconfig of a real API server; test/kube brings one up")
	}
	for _, layout := range layouts {
		t.Run(string(layout), func(t *testing.T) {
			dcstest.Run(t, func(t testing.TB) dcstest.Harness { return kubetest.Harness(t, kubeconfig, layout, true) })
		})
	}
}
