package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/dcs/kubernetes/kubetest"
)

// leader keeps the lock of a cluster in Endpoints until the test ends.
func leader(t *testing.T, server *kubetest.Server, regent string) kubernetes.Config {
	t.Helper()
	status := string(cluster.Member{Name: "a", State: cluster.Running, Role: cluster.Primary, Regent: regent}.Encode())
	server.Change("pods", "a", map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": "x", "cluster-name": "demo"}, "annotations": map[string]any{"status": status}}})
	k := kubernetes.Config{
		Access: kubernetes.Access{Kubeconfig: kubetest.Kubeconfig(t, server.URL)}, Layout: kubernetes.Endpoints, Scope: "demo", Namespace: "default",
		Labels: map[string]string{"app": "x"}, Log: kubetest.Quiet,
	}
	own := k
	own.Name = "a"
	store, err := kubernetes.OpenMoving(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	lock, err := store.Acquire(ctx, "a", 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if next, err := store.Renew(ctx, lock); err == nil {
				lock = next
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { stop(); <-ended; store.Close() })
	return k
}

func migrate(t *testing.T, k kubernetes.Config, m migration) (string, error) {
	var out bytes.Buffer
	m.out = &out
	err := m.run(t.Context(), k)
	return out.String(), err
}

func TestMigrate(t *testing.T) {
	server := kubetest.Start(t)
	k := leader(t, server, "0.1.0")
	out, err := migrate(t, k, migration{to: "configmaps", dry: true, timeout: 2 * time.Minute})
	if err != nil || !strings.Contains(out, "seal endpoint demo") || server.Get("configmaps", "demo-leader") != "" {
		t.Fatalf("dry run: have %s, %v, want the steps and nothing done", out, err)
	}
	for _, to := range []string{"configmaps", "lease", "configmaps", "endpoints"} {
		if out, err = migrate(t, k, migration{to: to, timeout: 2 * time.Minute}); err != nil || !strings.Contains(out, "Moved: the cluster lives in layout "+to) {
			t.Fatalf("to %s: have %s, %v", to, out, err)
		}
	}
	if out, err = migrate(t, k, migration{to: "endpoints", timeout: 2 * time.Minute}); err != nil || !strings.Contains(out, "It is there already.") {
		t.Errorf("once more: have %s, %v", out, err)
	}
}

func TestMigrateRefuses(t *testing.T) {
	t.Run("a member that runs Patroni", func(t *testing.T) {
		server := kubetest.Start(t)
		if _, err := migrate(t, leader(t, server, ""), migration{to: "configmaps", timeout: 2 * time.Minute}); err == nil || !strings.Contains(err.Error(), "a do not run Regent") {
			t.Errorf("have %v", err)
		}
		if strings.Contains(server.Get("endpoints", "demo"), "regent/layout") {
			t.Error("the leader was asked all the same")
		}
	})
	t.Run("a leader that may not create the new objects", func(t *testing.T) {
		server := kubetest.Start(t)
		k := leader(t, server, "0.1.0")
		server.SetFault(func(r kubetest.Request) kubetest.Fault {
			if r.Resource == "configmaps" && r.Method == "POST" {
				return kubetest.Fault{Status: 403}
			}
			return kubetest.Fault{}
		})
		_, err := migrate(t, k, migration{to: "configmaps", timeout: 5 * time.Second})
		var o struct {
			Metadata struct{ Annotations map[string]string }
		}
		if json.Unmarshal([]byte(server.Get("endpoints", "demo")), &o) != nil || err == nil || !strings.Contains(err.Error(), "not asked any more") || o.Metadata.Annotations["regent/layout"] != "" {
			t.Errorf("have %v and %v, want that the request is taken back", err, o)
		}
	})
	if _, err := migrate(t, kubernetes.Config{}, migration{to: "etcd"}); err == nil {
		t.Error("an unknown layout is taken")
	}
}

// Neither a member's name nor its directory is needed, only where the cluster is.
func TestMigratedCluster(t *testing.T) {
	k, err := migrated("", []string{"PATRONI_SCOPE=demo", "PATRONI_KUBERNETES_LABELS={app: x}", "PATRONI_KUBERNETES_NAMESPACE=db", "PATRONI_KUBERNETES_USE_ENDPOINTS=true", "HOME=" + t.TempDir()})
	if err != nil || k.Scope != "demo" || k.Namespace != "db" || k.Layout != kubernetes.Endpoints || k.Name != "" {
		t.Errorf("have %+v, %v", k, err)
	}
	if _, err := migrated("", []string{"PATRONI_SCOPE=demo", "PATRONI_ETCD3_HOST=127.0.0.1:2379"}); err == nil {
		t.Error("a cluster in etcd is taken")
	}
}
