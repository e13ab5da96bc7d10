package cluster

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func config(t testing.TB, text string) DynamicConfig {
	t.Helper()
	c, err := DecodeConfig([]byte(text), 1)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	for _, c := range []DynamicConfig{{}, config(t, `{}`), config(t, `{"slots":null,"ttl":[],"maximum_lag_on_failover":"1x","standby_cluster":7}`)} {
		timing, _ := c.Timing()
		slots, problems := c.SlotRules()
		have := []any{timing, c.MaximumLagOnFailover(), c.MaximumLagOnSyncNode(), c.Paused(), c.MaxTimelinesHistory(), c.PrimaryStartTimeout(),
			c.PrimaryStopTimeout(), c.PrimaryRaceBackoff(), c.CheckTimeline(), c.FailsafeMode(), c.SynchronousMode(), c.SynchronousModeStrict(),
			c.SynchronousNodeCount(), c.MemberSlotsTTL(), c.UseSlots(), c.UsePgRewind(), len(slots.Permanent), len(problems), len(slots.Ignored), c.StandbyCluster() == nil}
		want := []any{DefaultTiming, int64(1048576), int64(-1), false, 0, 300 * time.Second,
			time.Duration(0), time.Duration(0), false, false, SyncOff, false,
			1, 30 * time.Minute, true, false, 0, 0, 0, true}
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s:\nhave %v\nwant %v", c.Encode(), have, want)
		}
	}
}

func TestSettings(t *testing.T) {
	tests := []struct {
		text string
		have func(DynamicConfig) any
		want any
	}{
		{`{"maximum_lag_on_failover":"0x10"}`, func(c DynamicConfig) any { return c.MaximumLagOnFailover() }, int64(16)},
		{`{"maximum_lag_on_failover":1.5e3}`, func(c DynamicConfig) any { return c.MaximumLagOnFailover() }, int64(1500)},
		{`{"maximum_lag_on_failover":true}`, func(c DynamicConfig) any { return c.MaximumLagOnFailover() }, int64(1048576)},
		{`{"master_start_timeout":5}`, func(c DynamicConfig) any { return c.PrimaryStartTimeout() }, 5 * time.Second},
		{`{"master_start_timeout":5,"primary_start_timeout":"1min"}`, func(c DynamicConfig) any { return c.PrimaryStartTimeout() }, time.Minute},
		{`{"primary_stop_timeout":-3}`, func(c DynamicConfig) any { return c.PrimaryStopTimeout() }, time.Duration(0)},
		{`{"member_slots_ttl":"30min"}`, func(c DynamicConfig) any { return c.MemberSlotsTTL() }, 30 * time.Minute},
		{`{"member_slots_ttl":0}`, func(c DynamicConfig) any { return c.MemberSlotsTTL() }, time.Duration(0)},
		{`{"pause":"on"}`, func(c DynamicConfig) any { return c.Paused() }, true},
		{`{"pause":"maybe"}`, func(c DynamicConfig) any { return c.Paused() }, false},
		{`{"synchronous_mode":"Quorum"}`, func(c DynamicConfig) any { return c.SynchronousMode() }, SyncQuorum},
		{`{"synchronous_mode":"on"}`, func(c DynamicConfig) any { return c.SynchronousMode() }, SyncOn},
		{`{"synchronous_mode":true}`, func(c DynamicConfig) any { return c.SynchronousMode() }, SyncOn},
		{`{"synchronous_mode":"off"}`, func(c DynamicConfig) any { return c.SynchronousMode() }, SyncOff},
		{`{"synchronous_mode":true,"standby_cluster":{"host":"h"}}`, func(c DynamicConfig) any { return c.SynchronousMode() }, SyncOff},
		{`{"synchronous_node_count":0}`, func(c DynamicConfig) any { return c.SynchronousNodeCount() }, 0},
		{`{"synchronous_node_count":0,"synchronous_mode_strict":true}`, func(c DynamicConfig) any { return c.SynchronousNodeCount() }, 1},
		{`{"postgresql":{"use_slots":false,"use_pg_rewind":true}}`, func(c DynamicConfig) any { return [2]bool{c.UseSlots(), c.UsePgRewind()} }, [2]bool{false, true}},
		{`{"standby_cluster":{"host":"","primary_slot_name":"x"}}`, func(c DynamicConfig) any { return c.StandbyCluster() == nil }, true},
		{`{"standby_cluster":{"port":5433,"create_replica_methods":["basebackup"]}}`, func(c DynamicConfig) any { return *c.StandbyCluster() },
			StandbyCluster{Port: "5433", CreateReplicaMethods: []string{"basebackup"}}},
	}
	for _, c := range tests {
		if have := c.have(config(t, c.text)); !reflect.DeepEqual(have, c.want) {
			t.Errorf("%s: have %v, want %v", c.text, have, c.want)
		}
	}
}

func TestSlots(t *testing.T) {
	c := config(t, `{"slots":{"p":{},"n":null,"l":{"database":"d","plugin":"x"},"t":{"type":"physical","cluster_type":"standby"},
		"Bad":{},"h":{"type":"logical","database":"d"},"y":{"type":"y"},"s":"text","c":{"cluster_type":"other"}},"permanent_slots":{},"ignore_slots":[{"name":"a","type":"logical"}]}`)
	rules, problems := c.SlotRules()
	have := rules.Permanent
	want := []PermanentSlot{{Name: "p", Type: "physical"}, {Name: "n", Type: "physical"}, {Name: "l", Type: "logical", Database: "d", Plugin: "x"},
		{Name: "t", Type: "physical", ClusterType: "standby"}}
	if !reflect.DeepEqual(have, want) || len(problems) != 5 {
		t.Errorf("have %v, problems %q; want %v and 5 problems", have, problems, want)
	}
	if have, want := rules.Unread, []string{"Bad", "h", "y", "s", "c"}; !reflect.DeepEqual(have, want) || rules.Unreadable {
		t.Errorf("have %v left as they are, want %v", have, want)
	}
	if have, want := rules.Ignored, []IgnoredSlot{{Name: "a", Type: "logical"}}; !reflect.DeepEqual(have, want) {
		t.Errorf("have %v ignored, want %v", have, want)
	}
	aliased, _ := config(t, `{"slots":{"a":{}},"permanent_slots":{"b":{}},"permanent_replication_slots":{"c":{}}}`).SlotRules()
	if len(aliased.Permanent) != 1 || aliased.Permanent[0].Name != "c" {
		t.Errorf("have %v, want c alone", aliased)
	}
}

// What is meant to stay is not known: then everything does.
func TestSlotsUnreadable(t *testing.T) {
	for text, unreadable := range map[string]bool{
		`{"slots":["a"]}`: true, `{"slots":"a"}`: true, `{"slots":null}`: false, `{"slots":{}}`: false,
		`{"ignore_slots":{"name":"a"}}`: true, `{"ignore_slots":["a"]}`: true, `{"ignore_slots":[]}`: false,
	} {
		rules, problems := config(t, text).SlotRules()
		if rules.Unreadable != unreadable || rules.Leaves(Slot{Name: "x"}) != unreadable || len(problems) > 0 != unreadable {
			t.Errorf("%s: have %+v, problems %q; want unreadable %v", text, rules, problems, unreadable)
		}
	}
	r := SlotRules{Unread: []string{"a"}}
	if !r.Leaves(Slot{Name: "a"}) || r.Leaves(Slot{Name: "b"}) || !r.Leaves(Slot{Name: "b", Failover: true}) {
		t.Error("want a slot whose entry cannot be used, and a failover slot of PostgreSQL 17, left as they are; no other")
	}
}

func TestIgnoredSlotFits(t *testing.T) {
	s := Slot{Name: "a", Type: "logical", Database: "d", Plugin: "p"}
	for _, c := range []struct {
		ignored IgnoredSlot
		want    bool
	}{
		{IgnoredSlot{Name: "a"}, true},
		{IgnoredSlot{Type: "logical", Plugin: "p"}, true},
		{IgnoredSlot{Name: "a", Database: "other"}, false},
	} {
		if have := c.ignored.Fits(s); have != c.want {
			t.Errorf("%+v: have %v, want %v", c.ignored, have, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := config(t, `{"ttl":"30","postgresql":{"parameters":{}}}`).Check(); err != nil {
		t.Errorf("have %v, want none", err)
	}
	err := config(t, `{"ttl":null,"loop_wait":true,"retry_timeout":"x","postgresql":{"parameters":[]}}`).Check()
	for _, want := range []string{"ttl: have null", "loop_wait: have true", `retry_timeout: have "x"`, "postgresql.parameters: have array"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("have %v, want %q in it", err, want)
		}
	}
}
