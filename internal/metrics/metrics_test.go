package metrics

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

func TestWrite(t *testing.T) {
	m := New("demo", "pg1", "0.1.0")
	remaining := 7 * time.Second
	m.Lease(func() time.Duration { return remaining })
	heir, leads := "pg2", true
	m.Risk(func() (string, uint64, bool) { return heir, 160, leads })
	loss, known := cluster.Loss{Timeline: 3, Left: 1000, End: 1160, Member: "pg2", Fate: cluster.Rewound}, true
	m.Lost(func() (cluster.Loss, bool) { return loss, known })
	m.Decided("healthiest")
	m.Decided("healthiest")
	m.StoreRequest("renew", 4*time.Millisecond, nil)
	m.StoreRequest("renew", 4*time.Second, fmt.Errorf("renew: %w", dcs.ErrNotHeld))
	m.StoreRequest("put", time.Second, errors.New("connection refused"))

	text := written(t, m)
	for _, want := range []string{
		`regent_info{name="pg1",scope="demo",version="0.1.0"} 1`,
		`regent_lease_remaining_seconds{name="pg1",scope="demo"} 7`,
		`regent_failover_possible{name="pg1",scope="demo"} 1`,
		`regent_failover_loss_bytes{heir="pg2",name="pg1",scope="demo"} 160`,
		`regent_failover_lost_bytes{fate="rewound",member="pg2",name="pg1",scope="demo",timeline="3"} 160`,
		`regent_decisions_total{name="pg1",reason="healthiest",scope="demo"} 2`,
		`regent_store_requests_total{name="pg1",operation="renew",result="ok",scope="demo"} 1`,
		`regent_store_requests_total{name="pg1",operation="renew",result="not_held",scope="demo"} 1`,
		`regent_store_requests_total{name="pg1",operation="put",result="unavailable",scope="demo"} 1`,
		`regent_store_request_duration_seconds_bucket{name="pg1",operation="renew",scope="demo",le="0.01"} 1`,
		`regent_store_request_duration_seconds_count{name="pg1",operation="renew",scope="demo"} 2`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("want %s in\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "regent_") {
			t.Errorf("have the foreign name %q", line)
		}
	}

	remaining = -time.Second
	if text := written(t, m); !strings.Contains(text, `regent_lease_remaining_seconds{name="pg1",scope="demo"} 0`+"\n") {
		t.Error("a lease that ran out is not 0")
	}
	heir = ""
	if text := written(t, m); !strings.Contains(text, `regent_failover_possible{name="pg1",scope="demo"} 0`+"\n") || strings.Contains(text, "loss_bytes{") {
		t.Errorf("nobody would take over, have\n%s", text)
	}
	leads, known = false, false
	if text := written(t, m); strings.Contains(text, "regent_failover_") {
		t.Errorf("not the leader, have\n%s", text)
	}
}

func TestNilCountsNothing(t *testing.T) {
	var m *Metrics
	m.Lease(func() time.Duration { return 0 })
	m.Risk(func() (string, uint64, bool) { return "", 0, true })
	m.Lost(func() (cluster.Loss, bool) { return cluster.Loss{}, true })
	m.Decided("x")
	m.StoreRequest("put", 0, nil)
	if text := written(t, m); text != "" {
		t.Errorf("have %q, want nothing", text)
	}
}

func written(t *testing.T, m *Metrics) string {
	t.Helper()
	var b strings.Builder
	if err := m.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
