package kubetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
)

// Quiet is a logger for stores under test.
var Quiet = slog.New(slog.DiscardHandler)

// Kubeconfig writes one for a server without authentication.
func Kubeconfig(t testing.TB, server string) string {
	c := api.NewConfig()
	c.Clusters["c"] = &api.Cluster{Server: server}
	c.AuthInfos["u"] = &api.AuthInfo{}
	c.Contexts["x"] = &api.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	return writeKubeconfig(t, c)
}

func writeKubeconfig(t testing.TB, c *api.Config) string {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	check(t, clientcmd.WriteToFile(*c, path))
	return path
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// admin does what strangers do to the objects of one namespace.
type admin struct {
	http      *http.Client
	base      string
	namespace string
	layout    kubernetes.Layout
	labels    map[string]string
	scope     string
}

// do sends one request and returns the status code.
func (a *admin) do(t testing.TB, method, path string, body any) (int, string) {
	t.Helper()
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		check(t, err)
		payload = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, a.base+path, payload)
	check(t, err)
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	answer, err := a.http.Do(r)
	check(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	check(t, err)
	return answer.StatusCode, string(text)
}

func (a *admin) path(resource string) string {
	if resource == "leases" {
		return "/apis/coordination.k8s.io/v1/namespaces/" + a.namespace + "/leases"
	}
	return "/api/v1/namespaces/" + a.namespace + "/" + resource
}

// change merges into an object, or creates it.
func (a *admin) change(t testing.TB, resource, name string, patch map[string]any) {
	t.Helper()
	code, text := a.do(t, http.MethodPatch, a.path(resource)+"/"+name, patch)
	if code == http.StatusNotFound {
		patch = merge(map[string]any{"metadata": map[string]any{"name": name, "labels": a.allLabels()}}, patch)
		code, text = a.do(t, http.MethodPost, a.path(resource), patch)
	}
	if code/100 != 2 {
		t.Fatalf("change %s %s: %d %s", resource, name, code, text)
	}
}

func (a *admin) allLabels() map[string]any {
	all := map[string]any{"cluster-name": a.scope}
	for k, v := range a.labels {
		all[k] = v
	}
	return all
}

func annotated(annotations map[string]any) map[string]any {
	return map[string]any{"metadata": map[string]any{"annotations": annotations}}
}

// pod creates a pod, as a StatefulSet would, but that it counts as a member from the beginning: a store wakes its watchers
// when a pod comes, and again when it first says something.
func (a *admin) pod(t testing.TB, name string) {
	t.Helper()
	if code, _ := a.do(t, http.MethodGet, a.path("pods")+"/"+name, nil); code == http.StatusOK {
		return
	}
	a.change(t, "pods", name, map[string]any{"metadata": map[string]any{"annotations": map[string]any{"status": "{}"}}, "spec": map[string]any{
		"automountServiceAccountToken": false,
		"containers":                   []any{map[string]any{"name": "postgres", "image": "none"}},
	}})
	running := map[string]any{"status": map[string]any{"podIP": "10.0.0.1", "podIPs": []any{map[string]any{"ip": "10.0.0.1"}}}}
	if code, text := a.do(t, http.MethodPatch, a.path("pods")+"/"+name+"/status", running); code/100 != 2 {
		t.Fatalf("give pod %s an address: %d %s", name, code, text)
	}
}

// write puts a key where Patroni would; nil removes it.
func (a *admin) write(t testing.TB, key string, value *string) {
	t.Helper()
	resource, main := "configmaps", a.scope+"-leader"
	if a.layout == kubernetes.Endpoints {
		resource, main = "endpoints", a.scope
	}
	optional := func(v *string) any {
		if v == nil {
			return nil
		}
		return *v
	}
	name, isMember := strings.CutPrefix(key, cluster.KeyMembers)
	switch {
	case isMember && strings.Contains(name, "/"): // no pod has such a name
	case isMember && value == nil:
		if code, text := a.do(t, http.MethodDelete, a.path("pods")+"/"+name, map[string]any{"gracePeriodSeconds": 0}); code/100 != 2 {
			t.Fatalf("delete pod %s: %d %s", name, code, text)
		}
	case isMember:
		a.pod(t, name)
		a.change(t, "pods", name, annotated(map[string]any{"status": *value}))
	case key == cluster.KeyLeader && a.layout == kubernetes.Lease:
		a.change(t, "leases", main, map[string]any{"spec": map[string]any{"holderIdentity": optional(value)}})
	case key == cluster.KeyLeader:
		a.change(t, resource, main, annotated(map[string]any{"leader": optional(value)}))
	case key == cluster.KeyStatus:
		a.change(t, resource, main, annotated(scatter(value, "optime", "slots", "retain_slots")))
	case key == cluster.KeyFailsafe:
		a.change(t, resource, main, annotated(map[string]any{key: optional(value)}))
	case key == cluster.KeySync:
		a.change(t, resource, a.scope+"-sync", annotated(scatter(value, "leader", "quorum", "sync_standby")))
	case key == cluster.KeyFailover:
		a.change(t, resource, a.scope+"-failover", annotated(scatter(value, "leader", "member", "scheduled_at")))
	default:
		a.change(t, resource, a.scope+"-config", annotated(map[string]any{key: optional(value)}))
	}
}

// scatter makes annotations of an object's fields. What is no object is put into the first one.
func scatter(value *string, names ...string) map[string]any {
	all := map[string]any{}
	for _, name := range names {
		all[name] = nil
	}
	if value == nil {
		return all
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(*value), &object); err != nil {
		all[names[0]] = *value
	}
	for name, v := range object {
		if v != nil {
			all[name] = fmt.Sprint(v)
		}
	}
	return all
}

// opened is a store with what the tests look at.
type opened interface {
	dcs.Store
	RemoveAll(ctx context.Context) error
	Requests() map[string]uint64
}

// podded is a store whose member's pod is there when it is needed, as in a StatefulSet.
type podded struct {
	opened
	pod func()
}

func (p podded) Announce(ctx context.Context, m cluster.Member, ttl time.Duration) error {
	p.pod()
	return p.opened.Announce(ctx, m, ttl)
}

// Harness is a cluster of its own in a namespace of its own; each member's connection goes through a proxy.
func Harness(t testing.TB, kubeconfig string, layout kubernetes.Layout, moving bool) dcstest.Harness {
	raw, err := clientcmd.LoadFromFile(kubeconfig)
	check(t, err)
	config, err := clientcmd.NewDefaultClientConfig(*raw, nil).ClientConfig()
	check(t, err)
	config.QPS = -1
	client, err := rest.HTTPClientFor(config)
	check(t, err)
	a := &admin{http: client, base: strings.TrimRight(config.Host, "/"), layout: layout, scope: "demo", labels: map[string]string{"application": "regent"}}
	a.namespace = a.newNamespace(t)
	server, err := url.Parse(config.Host)
	check(t, err)
	if server.Scheme == "https" {
		server = &url.URL{Scheme: "http", Host: plain(t, config, server)}
	}
	proxies := dcstest.NewProxies(server.Host)
	through := func(t testing.TB, name string) string {
		own := raw.DeepCopy()
		for _, c := range own.Clusters {
			c.Server, c.CertificateAuthorityData = server.Scheme+"://"+proxies.Of(t, name).Address(), nil
		}
		return writeKubeconfig(t, own)
	}
	return proxies.Break(dcstest.Harness{
		Open: func(t testing.TB, name string) dcs.Store {
			c := kubernetes.Config{
				Access: kubernetes.Access{Kubeconfig: through(t, name)}, Layout: layout, Namespace: a.namespace, Scope: a.scope, Name: name,
				Labels: maps.Clone(a.labels), PodIP: "10.1.2.3", Log: Quiet,
			}
			var store opened
			var err error
			if moving {
				store, err = kubernetes.OpenMoving(t.Context(), c)
			} else {
				store, err = kubernetes.Open(t.Context(), c)
			}
			check(t, err)
			t.Cleanup(func() { store.Close() })
			return podded{store, func() { a.pod(t, name) }}
		},
		Clock: boottime.Now, TTL: 2 * time.Second, Long: 5 * time.Minute, Budget: time.Minute,
		Write:   func(t testing.TB, key, value string) { a.write(t, key, &value) },
		Erase:   func(t testing.TB, key string) { a.write(t, key, nil) },
		Cannot:  "nothing in Kubernetes expires: each observer judges by its own clock",
		Lasting: "its key lasts as long as its pod",
	})
}

// plain is an address where the API server is spoken to without TLS, as the user of config: a proxy that loses answers would
// lose those of a handshake as well, and the request that is to lose its answer would never be sent.
func plain(t testing.TB, config *rest.Config, server *url.URL) string {
	secure, err := rest.TLSConfigFor(config)
	check(t, err)
	secure.ServerName, secure.NextProtos = server.Hostname(), []string{"http/1.1"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				api, err := tls.Dial("tcp", server.Host, secure)
				if err != nil {
					return
				}
				defer api.Close()
				go func() { _, _ = io.Copy(api, client); api.Close() }()
				_, _ = io.Copy(client, api)
			}()
		}
	}()
	return listener.Addr().String()
}

// newNamespace is one that no other test uses. A real API server refuses pods in it until it has a service account.
func (a *admin) newNamespace(t testing.TB) string {
	name := fmt.Sprintf("contract-%d-%d", os.Getpid(), time.Now().UnixNano())
	if code, text := a.do(t, http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name}}); code/100 != 2 {
		t.Fatalf("create namespace: %d %s", code, text)
	}
	t.Cleanup(func() {
		r, err := http.NewRequest(http.MethodDelete, a.base+"/api/v1/namespaces/"+name, nil)
		check(t, err)
		if answer, err := a.http.Do(r); err == nil {
			answer.Body.Close()
		}
	})
	for until := time.Now().Add(30 * time.Second); ; {
		if code, _ := a.do(t, http.MethodGet, "/api/v1/namespaces/"+name+"/serviceaccounts/default", nil); code == http.StatusOK {
			return name
		}
		if time.Now().After(until) {
			t.Fatal("the new namespace got no service account in 30 s: does a controller manager run?")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TokenKubeconfig writes one with a token in a file of its own, which rotate replaces.
func TokenKubeconfig(t testing.TB, server *Server, token string) (path string, rotate func(token string)) {
	file := filepath.Join(t.TempDir(), "token")
	rotate = func(token string) { check(t, os.WriteFile(file, []byte(token), 0o600)) }
	rotate(token)
	c := api.NewConfig()
	c.Clusters["c"] = &api.Cluster{Server: server.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}
	c.AuthInfos["u"] = &api.AuthInfo{TokenFile: file}
	c.Contexts["x"] = &api.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	return writeKubeconfig(t, c), rotate
}
