package consul_test

import (
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs/consul"
	"github.com/regent-ha/regent/internal/dcs/consul/consultest"
)

// The member is a service with its role as a tag, as Patroni registers it (dcs.md section 3.3).
func TestService(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, nil)
	var live atomic.Pointer[consul.Live] // the store asks from its own goroutines, too
	live.Store(&consul.Live{RegisterService: true, ServiceTags: []string{"blue"}})
	s := open(t, consul.Config{Address: server.Address, Scope: "My.Cluster_1", Name: "a", Live: func() consul.Live { return *live.Load() }})
	type found struct {
		ID, Service, Address string
		Port                 int
		Tags                 []string
		EnableTagOverride    bool
	}
	services := func() (all map[string]found) {
		t.Helper()
		text, err := server.Ask(limited(t, 20*time.Second), http.MethodGet, "/v1/agent/services", "")
		if err == nil {
			err = json.Unmarshal([]byte(text), &all)
		}
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	m := cluster.Member{
		Name: "a", ConnURL: "postgres://127.0.0.1:5433/postgres", APIURL: "http://127.0.0.1:8009/patroni",
		State: cluster.Starting, Role: cluster.Replica, Version: "4.1.4",
	}
	announce := func() {
		t.Helper()
		if err := s.Announce(limited(t, time.Minute), m, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	// announced announces until nothing is left to be told: what the agent did not take in time, it is told again.
	announced := func(what string, want ...found) {
		t.Helper()
		announce()
		for ctx := limited(t, time.Minute); ; {
			before := s.Requests()["service"]
			announce()
			if s.Requests()["service"] == before {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s: the service is told again and again", what)
			}
		}
		have := services()
		if len(have) != len(want) || len(want) == 1 && !reflect.DeepEqual(have[want[0].ID], want[0]) {
			t.Errorf("%s: have %+v, want %+v", what, have, want)
		}
	}
	announced("while it starts")
	m.State = cluster.Running
	want := found{ID: "My.Cluster_1/a", Service: "my-cluster-1", Address: "127.0.0.1", Port: 5433, Tags: []string{"blue", "replica"}, EnableTagOverride: true}
	announced("a replica", want)
	m.Role, want.Tags = cluster.Primary, []string{"blue", "primary", "master"}
	announced("the primary", want)
	text, err := server.Ask(limited(t, 20*time.Second), http.MethodGet, "/v1/agent/checks", "")
	var checks map[string]struct{ ServiceID, Type string }
	if err == nil {
		err = json.Unmarshal([]byte(text), &checks)
	}
	if c := checks["service:"+want.ID]; err != nil || c.ServiceID != want.ID || c.Type != "http" {
		t.Errorf("have checks %+v, %v; want one of type http", checks, err)
	}
	m.State = cluster.Stopped
	announced("stopped")
	m.State = cluster.Running
	announced("running again", want)
	live.Store(&consul.Live{}) // as a reload may
	announced("not to be registered any more")
}

// The names that Patroni gives.
func TestServiceNames(t *testing.T) {
	text, err := os.ReadFile("../../cluster/testdata/dcs-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Names map[string]string `json:"consul_service_names"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors.Names) == 0 {
		t.Fatalf("have %d names, %v", len(vectors.Names), err)
	}
	for scope, want := range vectors.Names {
		if have := consul.ServiceName(scope); have != want {
			t.Errorf("%q: have %s, want %s", scope, have, want)
		}
	}
	if have := len(consul.ServiceName(strings.Repeat("x", 300))); have != 230 {
		t.Errorf("have %d characters, want 230", have)
	}
}
