package kubernetes_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/dcs/kubernetes/kubetest"
)

func member(name string, role cluster.Role, state cluster.State) cluster.Member {
	return cluster.Member{Name: name, ConnURL: "postgres://10.0.0.1:5432/postgres", State: state, Role: role, Version: "4.1.4"}
}

func (b *bench) announce(s *kubernetes.Store, m cluster.Member) {
	b.T.Helper()
	if err := s.Announce(b.ctx(patience), m, time.Minute); err != nil {
		b.Fatal(err)
	}
}

// podLabel waits for a label of a pod, while nobody announces anything.
func (b *bench) podLabel(pod, label, want string) {
	b.T.Helper()
	var o struct {
		Metadata struct{ Labels map[string]string }
	}
	for limit := b.ctx(patience); limit.Err() == nil; <-time.After(10 * time.Millisecond) {
		o.Metadata.Labels = nil
		if err := json.Unmarshal([]byte(b.Get("pods", pod)), &o); err != nil {
			b.Fatal(err)
		}
		if o.Metadata.Labels[label] == want {
			return
		}
	}
	b.Errorf("label %s of pod %s: have %q, want %q", label, pod, o.Metadata.Labels[label], want)
}

// Services select by the role: it must change with the lock, not with the next announcement.
func TestRoleFollowsTheLock(t *testing.T) {
	eachLayout(t, func(b *bench) {
		a := b.open("a", func(c *kubernetes.Config) {
			c.LeaderValue, c.TmpRoleLabel, c.BootstrapLabels = "master", "tmp_role", map[string]string{"booting": "yes"}
		})
		b.announce(a, member("a", cluster.Uninitialized, cluster.CreatingReplica))
		b.podLabel("a", "booting", "yes")
		b.announce(a, member("a", cluster.Replica, cluster.Running))
		b.podLabel("a", "booting", "")
		b.podLabel("a", "role", "replica")
		lock := b.acquire(a, "a")
		b.podLabel("a", "role", "master")
		b.podLabel("a", "tmp_role", "primary")
		if err := a.Release(b.ctx(patience), lock); err != nil {
			b.Fatal(err)
		}
		b.podLabel("a", "role", "replica")
		b.acquire(a, "a")
		b.podLabel("a", "role", "master")
		resource, name := b.object()
		b.Change(resource, name, nil) // the lock is lost in any other way
		b.podLabel("a", "role", "replica")
	})
}

// A leader that leaves releases the lock and ends: its pod may be there for long after that.
func TestRoleIsTrueAfterTheEnd(t *testing.T) {
	eachLayout(t, func(b *bench) {
		a := b.open("a")
		b.announce(a, member("a", cluster.Primary, cluster.Running))
		lock := b.acquire(a, "a")
		b.podLabel("a", "role", "primary")
		if err := a.Release(b.ctx(patience), lock); err != nil {
			b.Fatal(err)
		}
		a.Close()
		b.podLabel("a", "role", "")
	})
}

func addresses(t *testing.T, text string) (ips string) {
	t.Helper()
	var o struct {
		Subsets []struct {
			Addresses []struct {
				IP        string
				TargetRef struct{ Name string }
			}
			Ports []struct{ Port int }
		}
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	for _, s := range o.Subsets {
		for _, a := range s.Addresses {
			ips += a.IP + "/" + a.TargetRef.Name + " "
		}
	}
	return strings.TrimSpace(ips)
}

// A pod that comes back inside the ttl has a new address, though the lock never changed hands.
func TestReturnedPodIsTheLeadersAddressAtOnce(t *testing.T) {
	b := newBench(t, kubernetes.Endpoints)
	old := b.open("a", func(c *kubernetes.Config) { c.PodIP = "10.0.0.1" })
	b.announce(old, member("a", cluster.Primary, cluster.Running))
	b.acquire(old, "a")
	if have := addresses(t, b.Get("endpoints", "demo")); have != "10.0.0.1/a" {
		b.Fatalf("have %s", have)
	}
	old.Close()
	b.Change("pods", "a", nil)
	b.Change("pods", "a", map[string]any{"metadata": map[string]any{"labels": b.labels(), "uid": "second"}, "status": map[string]any{"podIP": "10.0.0.2"}})
	fresh := b.open("a", func(c *kubernetes.Config) { c.PodIP = "10.0.0.2" })
	b.acquire(fresh, "a")
	if have := addresses(t, b.Get("endpoints", "demo")); have != "10.0.0.2/a" && have != "10.0.0.2/" {
		b.Errorf("after the acquisition: have %s, want the new address", have)
	}
}

// A pod that was deleted by force lives on for some seconds. What its agent says about itself does not belong on the new pod of its name.
func TestReplacedPodIsNotLabelled(t *testing.T) {
	for _, seen := range []string{"seen", "not seen yet", "seen by an agent that was restarted meanwhile"} {
		t.Run(seen, func(t *testing.T) {
			b := newBench(t, kubernetes.Endpoints)
			b.Change("pods", "a", map[string]any{"metadata": map[string]any{"uid": "first"}})
			a := b.open("a", func(c *kubernetes.Config) { c.PodIP = "10.0.0.1" })
			b.acquire(a, "a")
			b.announce(a, member("a", cluster.Primary, cluster.Running))
			if seen == "not seen yet" {
				b.SetFault(func(r kubetest.Request) kubetest.Fault {
					return kubetest.Fault{Drop: r.Resource == "pods" && r.Method == http.MethodGet && r.Name == ""}
				})
				b.CutWatches(true)
			}
			b.Change("pods", "a", nil)
			b.Change("pods", "a", map[string]any{"metadata": map[string]any{"labels": b.labels(), "uid": "second"}})
			if seen != "not seen yet" {
				if seen != "seen" {
					a.Close()
					a = b.open("a", func(c *kubernetes.Config) { c.PodIP = "10.0.0.1" })
				}
				b.until(a, "the new pod, which says nothing", func(s *cluster.Snapshot) bool { m, ok := s.Member("a"); return ok && m.ConnURL == "" })
			}
			err := a.Announce(b.ctx(patience), member("a", cluster.Primary, cluster.Stopped), time.Minute)
			if err == nil || !strings.Contains(err.Error(), "replaced") {
				b.Errorf("have %v, want to be told that the pod was replaced", err)
			}
			if pod := b.Get("pods", "a"); strings.Contains(pod, "primary") || strings.Contains(pod, "annotations") {
				b.Errorf("have %s, want it as it was made", pod)
			}
		})
	}
}

// Without pod_ip the address is the pod's, which Kubernetes may tell late.
func TestAddressThatComesLate(t *testing.T) {
	b := newBench(t, kubernetes.Endpoints)
	b.Change("pods", "a", map[string]any{"status": nil})
	a := b.open("a")
	lock := b.acquire(a, "a")
	b.announce(a, member("a", cluster.Primary, cluster.Running))
	if have := addresses(t, b.Get("endpoints", "demo")); have != "" {
		b.Errorf("have %s before there is an address", have)
	}
	b.Change("pods", "a", map[string]any{"status": map[string]any{"podIP": "10.0.0.7"}})
	b.until(a, "the pod", func(s *cluster.Snapshot) bool { _, ok := s.Member("a"); return ok })
	for limit := b.ctx(patience); limit.Err() == nil && addresses(t, b.Get("endpoints", "demo")) == ""; <-time.After(10 * time.Millisecond) {
		b.announce(a, member("a", cluster.Primary, cluster.Running))
	}
	if have := addresses(t, b.Get("endpoints", "demo")); have != "10.0.0.7/a" {
		b.Errorf("have %q, want the new address by the announcement", have)
	}
	if err := a.Release(b.ctx(patience), lock); err != nil {
		b.Fatal(err)
	}
	if have := addresses(t, b.Get("endpoints", "demo")); have != "" {
		b.Errorf("after the release: have %s, want none", have)
	}
}

// The successor's address replaces ours in one change: kube-proxy applies one a second.
func TestAddressStaysForASuccessor(t *testing.T) {
	for candidate, want := range map[string]string{"b": "10.0.0.1", "a": ""} {
		t.Run("asked for "+candidate, func(t *testing.T) {
			b := newBench(t, kubernetes.Endpoints)
			a := b.open("a", func(c *kubernetes.Config) { c.PodIP = "10.0.0.1" })
			lock := b.acquire(a, "a")
			if _, err := a.Put(b.ctx(patience), cluster.KeyFailover, []byte(`{"leader":"a","member":"`+candidate+`"}`), 0); err != nil {
				b.Fatal(err)
			}
			if err := a.Release(b.ctx(patience), lock); err != nil {
				b.Fatal(err)
			}
			if have, _, _ := strings.Cut(addresses(t, b.Get("endpoints", "demo")), "/"); have != want {
				b.Errorf("have %q, want %q", have, want)
			}
		})
	}
}

// Without a Service of their name the control plane may delete Endpoints.
func TestConfigServiceIsCreatedOnce(t *testing.T) {
	for name, status := range map[string]int{"created": 0, "there already": 409, "not allowed": 403} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, kubernetes.Endpoints)
			b.SetFault(func(r kubetest.Request) kubetest.Fault {
				return kubetest.Fault{Status: or(r.Resource == "services", status)}
			})
			a := b.open("a")
			b.announce(a, member("a", cluster.Replica, cluster.Running))
			b.announce(a, member("a", cluster.Replica, cluster.Stopped))
			if have := a.Requests()["post services"]; have != 1 {
				b.Errorf("have %d requests, want 1", have)
			}
			if have := b.Get("services", "demo-config"); status == 0 && !strings.Contains(have, `"clusterIP":"None"`) {
				b.Errorf("have %s, want a headless one", have)
			}
		})
	}
}

func TestBypassTalksToTheServersThemselves(t *testing.T) {
	b := newBench(t, kubernetes.ConfigMaps)
	address := strings.TrimPrefix(b.URL, "http://")
	host, port, _ := strings.Cut(address, ":")
	var n int
	if err := json.Unmarshal([]byte(port), &n); err != nil {
		b.Fatal(err)
	}
	b.Change("endpoints", "kubernetes", map[string]any{"subsets": []any{map[string]any{
		"addresses": []any{map[string]any{"ip": host}}, "ports": []any{map[string]any{"name": "https", "port": n}},
	}}})
	service := dcstest.NewProxy(t, address)
	a := b.open("a", func(c *kubernetes.Config) {
		c.Access = kubernetes.Access{Kubeconfig: kubetest.Kubeconfig(t, "http://"+service.Address()), Bypass: true}
		c.Timing = func() (ttl, loopWait, retryTimeout time.Duration) {
			return 30 * time.Second, time.Second, 10 * time.Second
		}
	})
	// The second look follows the answer to the first one.
	b.until(a, "two looks", func(*cluster.Snapshot) bool { return a.Requests()["get endpoints"] > 1 })
	b.announce(a, member("a", cluster.Replica, cluster.Running))
	defer service.Cut()()
	limit := b.ctx(patience)
	_, err := a.Acquire(limit, "a", time.Minute)
	for limit.Err() == nil && errors.Is(err, dcs.ErrUnavailable) { // on a connection of before the cut
		_, err = a.Acquire(limit, "a", time.Minute)
	}
	if err != nil {
		b.Errorf("without the Service: %v", err)
	}
}

func TestRemoveTakesOurObjectsOnly(t *testing.T) {
	eachLayout(t, func(b *bench) {
		a := b.open("a")
		b.announce(a, member("a", cluster.Replica, cluster.Running))
		b.acquire(a, "a")
		if _, err := a.Put(b.ctx(patience), cluster.KeyInitialize, nil, 0); err != nil {
			b.Fatal(err)
		}
		if _, err := a.Put(b.ctx(patience), cluster.KeyStatus, []byte(`{"optime":7}`), 0); err != nil {
			b.Fatal(err)
		}
		if have := b.until(a, "the keys", func(*cluster.Snapshot) bool { return true }); !have.Initialize.Present || have.Initialize.SystemID != "" {
			b.Errorf("have %+v, want that somebody bootstraps", have.Initialize)
		}
		b.Change("endpoints", "demo-replicas", map[string]any{"metadata": map[string]any{"labels": b.labels()}})
		if err := a.RemoveAll(b.ctx(patience)); err != nil {
			b.Fatal(err)
		}
		have := b.until(a, "an empty cluster", func(s *cluster.Snapshot) bool { return s.Leader.Name == "" })
		if have.Initialize.Present || have.Status.Optime != 0 || len(have.Members) == 0 {
			b.Errorf("have %+v, want the pods only", have)
		}
		if b.Get("endpoints", "demo-replicas") == "" {
			b.Error("the Endpoints of another Service are gone")
		}
	})
}

// An operator blanks annotations instead of removing them.
func TestBlankAnnotations(t *testing.T) {
	eachLayout(t, func(b *bench) {
		rest, status, taken := "configmaps", "demo-leader", []string{`"leader":"a"`, `"transitions":"0"`}
		switch b.layout {
		case kubernetes.Endpoints:
			rest, status = "endpoints", "demo"
		case kubernetes.Lease:
			taken = []string{`"holderIdentity":"a"`}
			b.Change("leases", "demo-leader", map[string]any{"metadata": map[string]any{"labels": b.labels()}, "spec": map[string]any{"holderIdentity": ""}})
		}
		put := func(name string, a map[string]any) {
			b.Change(rest, name, map[string]any{"metadata": map[string]any{"labels": b.labels(), "annotations": a}})
		}
		put(status, map[string]any{"leader": "", "ttl": "", "renewTime": "", "acquireTime": "", "transitions": "", "optime": "", "slots": "", "retain_slots": "", "failsafe": ""})
		put("demo-config", map[string]any{"config": "", "initialize": "", "history": "[]"})
		put("demo-sync", map[string]any{"leader": "", "quorum": "", "sync_standby": ""})
		put("demo-failover", map[string]any{"leader": "", "member": "", "scheduled_at": ""})
		a := b.open("a")
		have := b.until(a, "the objects", func(s *cluster.Snapshot) bool { return s.Initialize.Present })
		if have.Leader.Name != "" || have.Status.Revision != 0 || have.Sync.Revision != 0 || have.Failover.Revision != 0 || have.Failsafe != nil ||
			!have.Config.Usable || !have.History.Present || len(have.Problems) > 0 {
			b.Errorf("have %+v, want nothing but an empty configuration and history", have)
		}
		b.acquire(a, "a")
		resource, name := b.object()
		for _, want := range taken {
			if have := b.Get(resource, name); !strings.Contains(have, want) {
				b.Errorf("after the acquisition: have %s, want %s in it", have, want)
			}
		}
	})
}

// Two members with different layouts would each find their own lock free.
func TestLockOfAnotherLayoutIsRespected(t *testing.T) {
	locks := map[kubernetes.Layout]func(b *bench, holder string){
		kubernetes.Endpoints: func(b *bench, holder string) {
			b.Change("endpoints", "demo", map[string]any{"metadata": map[string]any{"annotations": map[string]any{"leader": holder}}})
		},
		kubernetes.ConfigMaps: func(b *bench, holder string) {
			b.Change("configmaps", "demo-leader", map[string]any{"metadata": map[string]any{"annotations": map[string]any{"leader": holder}}})
		},
		kubernetes.Lease: func(b *bench, holder string) {
			b.Change("leases", "demo-leader", map[string]any{"spec": map[string]any{"holderIdentity": holder}})
		},
	}
	eachLayout(t, func(b *bench) {
		a := b.open("a")
		for layout, hold := range locks {
			if layout == b.layout {
				continue
			}
			hold(b, "b")
			if lock, err := a.Acquire(b.ctx(patience), "a", time.Minute); !errors.Is(err, dcs.ErrHeld) || !strings.Contains(err.Error(), "layout") {
				b.Errorf("held in layout %s: have %+v, %v, want ErrHeld", layout, lock, err)
			}
			hold(b, "")
		}
		b.acquire(a, "a")
	})
}
