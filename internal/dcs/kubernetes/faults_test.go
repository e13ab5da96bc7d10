package kubernetes_test

import (
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/dcs/kubernetes/kubetest"
)

// patience bounds what is to succeed, also on a machine that is slow or stands still for a while.
const patience = time.Minute

// bench is a fake API server with the pods of a cluster.
type bench struct {
	*testing.T
	*kubetest.Server
	layout kubernetes.Layout
}

func newBench(t *testing.T, layout kubernetes.Layout) *bench {
	t.Parallel()
	b := &bench{t, kubetest.Start(t), layout}
	for _, name := range []string{"a", "b"} {
		b.Change("pods", name, map[string]any{"metadata": map[string]any{"labels": b.labels()}, "status": map[string]any{"podIP": "10.0.0.1"}})
	}
	return b
}

func (b *bench) labels() map[string]any { return map[string]any{"app": "x", "cluster-name": "demo"} }

// object is where the layout keeps the lock.
func (b *bench) object() (resource, name string) {
	switch b.layout {
	case kubernetes.Endpoints:
		return "endpoints", "demo"
	case kubernetes.Lease:
		return "leases", "demo-leader"
	default:
		return "configmaps", "demo-leader"
	}
}

func (b *bench) open(name string, change ...func(*kubernetes.Config)) *kubernetes.Store {
	b.T.Helper()
	c := kubernetes.Config{
		Access: kubernetes.Access{Kubeconfig: kubetest.Kubeconfig(b.T, b.URL)}, Layout: b.layout, Scope: "demo", Name: name,
		Labels: map[string]string{"app": "x"}, Log: kubetest.Quiet,
	}
	for _, f := range change {
		f(&c)
	}
	s, err := kubernetes.Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func (b *bench) ctx(limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), limit)
	b.Cleanup(cancel)
	return ctx
}

func (b *bench) acquire(s *kubernetes.Store, name string) dcs.Lock {
	b.T.Helper()
	lock, err := s.Acquire(b.ctx(patience), name, time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	return lock
}

// until looks at new snapshots until one satisfies ok.
func (b *bench) until(s *kubernetes.Store, what string, ok func(*cluster.Snapshot) bool) *cluster.Snapshot {
	b.T.Helper()
	ctx := b.ctx(patience)
	for {
		have, err := s.Snapshot(ctx)
		if err == nil && ok(have) {
			return have
		}
		if ctx.Err() != nil {
			b.Fatalf("%s: have %+v, %v", what, have, err)
		}
		if have != nil {
			soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			_ = s.Watch(soon, have.Revision)
			cancel()
		}
	}
}

// faultOn answers writes of the lock's object as f says, and counts them.
func (b *bench) faultOn(method string, f func(n int64) kubetest.Fault) *atomic.Int64 {
	resource, name := b.object()
	var n atomic.Int64
	b.SetFault(func(r kubetest.Request) kubetest.Fault {
		if r.Method != method || r.Resource != resource || r.Name != name && r.Name != "" {
			return kubetest.Fault{}
		}
		return f(n.Add(1))
	})
	return &n
}

func eachLayout(t *testing.T, test func(b *bench)) {
	for _, layout := range layouts {
		t.Run(string(layout), func(t *testing.T) { test(newBench(t, layout)) })
	}
}

// The status lies beside the lock: its writes move the version that a renewal is based on.
func TestRenewalThatLosesARaceLooksAgain(t *testing.T) {
	eachLayout(t, func(b *bench) {
		a := b.open("a")
		lock := b.acquire(a, "a")
		resource, name := b.object()
		races := 0
		sent := b.faultOn("PATCH", func(n int64) kubetest.Fault {
			if n == 1 { // a write of another comes first
				races++
				b.Change(resource, name, map[string]any{"metadata": map[string]any{"annotations": map[string]any{"optime": "17"}}})
			}
			return kubetest.Fault{}
		})
		renewed, err := a.Renew(b.ctx(patience), lock)
		if err != nil || !renewed.Deadline.After(lock.Deadline) || renewed.Session != lock.Session {
			b.Errorf("have %+v, %v, want the same lock for longer than %+v", renewed, err, lock)
		}
		if races != 1 || sent.Load() != 2 {
			b.Errorf("have %d races and %d patches, want 1 and 2", races, sent.Load())
		}
		if b.layout != kubernetes.Lease && !strings.Contains(b.Get(resource, name), `"optime":"17"`) {
			b.Errorf("the other's write is gone: %s", b.Get(resource, name))
		}
	})
}

// A process of our name that came after us holds the lock now, and two of one name must not both write.
func TestOlderProcessOfOurNameLosesTheLock(t *testing.T) {
	eachLayout(t, func(b *bench) {
		old := b.open("a")
		before := b.acquire(old, "a")
		fresh := b.open("a")
		after := b.acquire(fresh, "a")
		if _, err := old.Renew(b.ctx(patience), before); !errors.Is(err, dcs.ErrNotHeld) {
			b.Errorf("renewal by the old process: have %v, want ErrNotHeld", err)
		}
		if _, err := fresh.Renew(b.ctx(patience), after); err != nil {
			b.Errorf("renewal by the new process: %v", err)
		}
	})
}

func TestRefusalsOfARenewal(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(n int64) kubetest.Fault
		want  error
		sent  func(n int64) bool
		limit time.Duration
	}{
		{"403 that passes", func(n int64) kubetest.Fault { return kubetest.Fault{Status: or(n < 3, 403)} }, nil, func(n int64) bool { return n == 3 }, patience},
		{"403 that stays", func(int64) kubetest.Fault { return kubetest.Fault{Status: 403} }, dcs.ErrUnavailable, func(n int64) bool { return n > 2 }, 5 * time.Second},
		{"429 that passes", func(n int64) kubetest.Fault { return kubetest.Fault{Status: or(n < 2, 429)} }, nil, func(n int64) bool { return n == 2 }, patience},
		{"500: nobody knows", func(n int64) kubetest.Fault { return kubetest.Fault{Status: 500, Done: true} }, dcs.ErrUnavailable, func(n int64) bool { return n == 1 }, patience},
		{"no answer", func(n int64) kubetest.Fault { return kubetest.Fault{Drop: true, Done: true} }, dcs.ErrUnavailable, func(n int64) bool { return n == 1 }, patience},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, kubernetes.Endpoints)
			a := b.open("a")
			lock := b.acquire(a, "a")
			sent := b.faultOn("PATCH", c.fault)
			if _, err := a.Renew(b.ctx(c.limit), lock); !errors.Is(err, c.want) || errors.Is(err, dcs.ErrNotHeld) {
				b.Errorf("have %v, want %v", err, c.want)
			}
			if !c.sent(sent.Load()) {
				b.Errorf("have %d requests", sent.Load())
			}
			b.SetFault(nil)
			if renewed, err := a.Renew(b.ctx(patience), lock); err != nil || renewed.Session != lock.Session {
				b.Errorf("afterwards: have %+v, %v, want the lock", renewed, err)
			}
		})
	}
}

func or(b bool, code int) int {
	if b {
		return code
	}
	return 0
}

func TestAnswersToAWrite(t *testing.T) {
	for _, c := range []struct {
		name    string
		fault   func(n int64) kubetest.Fault
		codes   []int
		want    error
		sent    int64
		written bool
	}{
		{"429 with Retry-After is refused and goes out again", func(n int64) kubetest.Fault { return kubetest.Fault{Status: or(n < 2, 429), RetryAfter: 1} }, nil, nil, 2, true},
		{"500 after the write", func(int64) kubetest.Fault { return kubetest.Fault{Status: 500, Done: true} }, nil, dcs.ErrUnavailable, 1, true},
		{"503 before the write", func(int64) kubetest.Fault { return kubetest.Fault{Status: 503, RetryAfter: 1} }, nil, dcs.ErrUnavailable, 1, false},
		{"answer lost", func(int64) kubetest.Fault { return kubetest.Fault{Drop: true, Done: true} }, nil, dcs.ErrUnavailable, 1, true},
		{"403 stays", func(int64) kubetest.Fault { return kubetest.Fault{Status: 403} }, nil, dcs.ErrDenied, 1, false},
		{"401 once: the token was replaced", func(n int64) kubetest.Fault { return kubetest.Fault{Status: or(n < 2, 401)} }, nil, nil, 2, true},
		{"418 is not known", func(n int64) kubetest.Fault { return kubetest.Fault{Status: or(n < 2, 418)} }, nil, dcs.ErrUnavailable, 1, false},
		{"418 as configured", func(n int64) kubetest.Fault { return kubetest.Fault{Status: or(n < 2, 418)} }, []int{418}, nil, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, kubernetes.Endpoints)
			a := b.open("a", func(k *kubernetes.Config) { k.RetriableCodes = c.codes })
			b.acquire(a, "a")
			before, err := a.Snapshot(b.ctx(patience))
			if err != nil {
				b.Fatal(err)
			}
			sent := b.faultOn("PATCH", c.fault)
			if _, err := a.Put(b.ctx(patience), cluster.KeyStatus, []byte(`{"optime":7}`), before.Status.Revision); !errors.Is(err, c.want) {
				b.Errorf("have %v, want %v", err, c.want)
			}
			b.SetFault(nil)
			if sent.Load() != c.sent {
				b.Errorf("have %d requests, want %d", sent.Load(), c.sent)
			}
			if c.written {
				b.until(a, "the write", func(s *cluster.Snapshot) bool { return s.Status.Optime == 7 })
			} else if have := b.Get("endpoints", "demo"); strings.Contains(have, "optime") {
				b.Errorf("have %s, want nothing written", have)
			}
		})
	}
}

// An operator creates the objects, and lets the members patch them only.
func TestPatchWithoutCreate(t *testing.T) {
	b := newBench(t, kubernetes.Endpoints)
	b.SetFault(func(r kubetest.Request) kubetest.Fault { return kubetest.Fault{Status: or(r.Method == "POST", 403)} })
	a := b.open("a")
	if _, err := a.Put(b.ctx(patience), cluster.KeySync, []byte(`{"leader":"a","quorum":0,"sync_standby":null}`), 0); !errors.Is(err, dcs.ErrDenied) {
		b.Errorf("put into an object that is not there: have %v, want ErrDenied", err)
	}
	// They are not found by the labels before they are patched.
	b.Change("endpoints", "demo", map[string]any{"metadata": map[string]any{"annotations": map[string]any{"leader": "", "renewTime": ""}}})
	b.Change("endpoints", "demo-sync", map[string]any{})
	if _, err := a.Put(b.ctx(patience), cluster.KeySync, []byte(`{"leader":"a","quorum":0,"sync_standby":null}`), 0); err != nil {
		b.Error(err)
	}
	b.acquire(a, "a")
	have := b.until(a, "lock and sync", func(s *cluster.Snapshot) bool { return s.Leader.Name == "a" && s.Sync.Leader == "a" })
	if have.Sync.Quorum != 0 || !strings.Contains(b.Get("endpoints", "demo"), `"cluster-name":"demo"`) {
		b.Errorf("have %+v and %s, want our labels", have.Sync, b.Get("endpoints", "demo"))
	}
}

func TestTokenIsReadAgain(t *testing.T) {
	t.Parallel()
	b := &bench{t, kubetest.StartTLS(t), kubernetes.ConfigMaps}
	var valid atomic.Value
	valid.Store("Bearer one")
	b.SetFault(func(r kubetest.Request) kubetest.Fault {
		return kubetest.Fault{Status: or(r.Token != valid.Load(), 401)}
	})
	config, rotate := kubetest.TokenKubeconfig(t, b.Server, "one")
	a := b.open("a", func(k *kubernetes.Config) { k.Access.Kubeconfig = config })
	lock := b.acquire(a, "a")
	rotate("two")
	valid.Store("Bearer two")
	if _, err := a.Renew(b.ctx(patience), lock); err != nil {
		b.Errorf("renewal after the token was replaced: %v", err)
	}
}

// In a pod the address comes from the environment, token and authorities from the service account.
func TestInAPod(t *testing.T) {
	b := &bench{t, kubetest.StartTLS(t), kubernetes.ConfigMaps}
	b.SetFault(func(r kubetest.Request) kubetest.Fault {
		return kubetest.Fault{Status: or(r.Token != "Bearer one", 401)}
	})
	dir := b.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate().Raw})
	for name, text := range map[string][]byte{"token": []byte("one\n"), "ca.crt": ca} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	host, port, _ := strings.Cut(strings.TrimPrefix(b.URL, "https://"), ":")
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	a := b.open("a", func(c *kubernetes.Config) { c.Access = kubernetes.Access{}.InAccount(dir) })
	b.acquire(a, "a")
	if _, err := kubernetes.Open(b.Context(), kubernetes.Config{
		Access: kubernetes.Access{}.InAccount(b.TempDir()), Scope: "demo", Labels: map[string]string{"app": "x"},
	}); err == nil || !strings.Contains(err.Error(), "automountServiceAccountToken") {
		b.Errorf("without a token: have %v, want a hint", err)
	}
}
