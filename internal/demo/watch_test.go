package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/cluster"
)

// healthy is a cluster that cluster-0 leads on timeline 2.
func healthy() view {
	return view{
		snapshot: &cluster.Snapshot{
			Leader: cluster.Leader{Name: "cluster-0"}, Status: cluster.Status{Optime: 0x3000000},
			Members: []cluster.Member{
				{Name: "cluster-0", State: cluster.Running, Role: cluster.Primary, Timeline: 2},
				{Name: "cluster-1", State: cluster.Running, Role: cluster.Replica, Timeline: 2, ReceiveLSN: 0x3000000, ReplayLSN: 0x3000000, ReplicationState: "streaming"},
			},
		},
		status: map[string]*client.Status{
			"cluster-0": {State: "running", Role: "primary", Timeline: 2, Xlog: &client.Xlog{Location: 0x3000000}},
			"cluster-1": {State: "running", Role: "replica", Timeline: 2, ReplicationState: "streaming", Xlog: &client.Xlog{ReceivedLocation: 0x3000000}},
		},
	}
}

func TestGoal(t *testing.T) {
	both := []string{"cluster-0", "cluster-1"}
	for _, c := range []struct {
		name  string
		goal  goal
		spoil func(*view)
		want  string // part of what lacks; empty: nothing does
	}{
		{"healthy", goal{leader: "cluster-0", timeline: 2}, func(*view) {}, ""},
		{"any leader, any timeline", goal{}, func(*view) {}, ""},
		{"no store", goal{}, func(v *view) { v.snapshot = nil }, "the store does not answer"},
		{"no leader", goal{}, func(v *view) { v.snapshot.Leader.Name = "" }, "nobody holds"},
		{"another leader", goal{leader: "cluster-1"}, func(*view) {}, "cluster-0 holds the leader lock, want cluster-1"},
		{"an old timeline", goal{timeline: 3}, func(*view) {}, "cluster-0 is on timeline 2, want 3"},
		{"the leader still recovers", goal{}, func(v *view) { v.status["cluster-0"].Role = "replica" }, "want primary"},
		{"the leader is silent", goal{}, func(v *view) { delete(v.status, "cluster-0") }, "cluster-0 does not answer"},
		{"the replica is silent", goal{}, func(v *view) { delete(v.status, "cluster-1") }, "cluster-1 does not answer"},
		{"the replica is silent, which does not matter", goal{alone: true}, func(v *view) { delete(v.status, "cluster-1") }, ""},
		{"the replica does not stream", goal{}, func(v *view) { v.status["cluster-1"].ReplicationState = "" }, "want replica and streaming"},
		{"two primaries", goal{}, func(v *view) { v.status["cluster-1"].Role = "primary" }, "cluster-1 says it is primary"},
		{"the replica is behind its leader's timeline", goal{}, func(v *view) { v.status["cluster-1"].Timeline = 1 }, "cluster-1 is on timeline 1, want 2"},
		{"the table would show an old timeline", goal{}, func(v *view) { v.snapshot.Members[1].Timeline = 1 }, "the store says cluster-1"},
		{"the table would show a lag", goal{}, func(v *view) { v.snapshot.Status.Optime += 1 << 20 }, "lags by 1048576 bytes"},
		{"the table would show no lag", goal{}, func(v *view) { v.snapshot.Members[1].ReceiveLSN, v.snapshot.Members[1].ReplayLSN = 0, 0 }, "does not say how far"},
	} {
		v := healthy()
		c.spoil(&v)
		c.goal.members = both
		have := strings.Join(c.goal.lacks(v), "\n")
		if (have == "") != (c.want == "") || !strings.Contains(have, c.want) {
			t.Errorf("%s: have %q, want %q", c.name, have, c.want)
		}
	}
}

func TestReasons(t *testing.T) {
	have := reasons(&client.Why{
		Verdict: "would not be elected",
		Gates:   []client.Gate{{Name: "lag-too-high", Value: "lag 2000000", Limit: "at most 1048576"}, {Name: "nofailover", Passed: true}},
		Decisions: []client.Decision{
			{At: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC), Reason: "promote", Detail: "the lock is ours", Actions: []string{"promote"}, Errors: []string{"no answer"}},
		},
	})
	want := "would not be elected\n  closed: lag-too-high: have lag 2000000, want at most 1048576\n  03:04:05.006 promote: the lock is ours [promote]\n    no answer"
	if have != want {
		t.Errorf("have\n%s\nwant\n%s", have, want)
	}
}
