package consul

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// An agent that compares its services with the servers' just then puts the old tags back, and would keep them: it is told again until the
// servers have the new ones, and then no more.
func TestOldTagsArePutBack(t *testing.T) {
	told, catalog := 0, registration{}
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/agent/service/register":
			var got registration
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
				t.Error(err)
			}
			if told++; told != 2 {
				catalog = got
			}
		case r.URL.Path == "/v1/catalog/service/demo" && r.URL.Query().Get("dc") == "":
			_ = json.NewEncoder(w).Encode([]map[string]any{{"ServiceID": catalog.ID, "ServiceTags": catalog.Tags}})
		default:
			t.Errorf("have a request of %s", r.URL)
		}
	}))
	defer agent.Close()
	c := Config{Address: strings.TrimPrefix(agent.URL, "http://"), Scope: "demo", Name: "a", Live: func() Live { return Live{RegisterService: true, Datacenter: "east"} }}
	c.complete()
	s := &Store{config: c}
	s.client = newClient(&s.config)
	m := cluster.Member{Name: "a", ConnURL: "postgres://127.0.0.1:5433/postgres", APIURL: "http://127.0.0.1:8009/patroni", State: cluster.Running, Role: cluster.Replica}
	for _, tt := range []struct {
		role cluster.Role
		told int // how often, once all is well
	}{{cluster.Replica, 1}, {cluster.Primary, 3}} {
		m.Role = tt.role
		for range 5 {
			s.tellService(t.Context(), m, time.Minute)
		}
		if told != tt.told || len(catalog.Tags) == 0 || catalog.Tags[0] != string(tt.role) {
			t.Errorf("%s: have been told %d times, and tags %q, want %d times", tt.role, told, catalog.Tags, tt.told)
		}
	}
}
