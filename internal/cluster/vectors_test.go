package cluster

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// vectors are values recorded from Patroni 4.1.4 and what Patroni makes of them.
type vectors struct {
	Etcd3 struct {
		Snapshots []struct {
			State string
			Keys  []struct{ Key, Value, Lease string }
		}
		Traces map[string][]struct {
			Key   string
			Value *string
		}
	}
	ZooKeeper struct {
		Nodes []struct{ Path, Value string } `json:"snapshot_after_switchover_sync_off"`
	}
	Parse []struct {
		Kind   string
		Input  json.RawMessage
		Expect map[string]any
	}
	SlotNames         map[string]string                           `json:"slot_names"`
	PrefixRangeEnd    map[string]string                           `json:"prefix_range_end"`
	TimeoutAdjustment []struct{ Input, Effective map[string]int } `json:"timeout_adjustment"`
	DeepCompare       []struct {
		A, B  json.RawMessage
		Equal bool
	} `json:"deep_compare"`
	Paths []struct {
		Namespace *string
		Scope     string
		Group     *int
		Plain     map[string]string `json:"etcd_zookeeper"`
		Consul    string            `json:"consul_leader"`
	}
}

func load(t testing.TB) vectors {
	t.Helper()
	text, err := os.ReadFile("testdata/dcs-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Parse) < 65 || len(v.SlotNames) < 9 || len(v.TimeoutAdjustment) < 5 || len(v.DeepCompare) < 8 || len(v.Paths) < 7 {
		t.Fatal("testdata/dcs-vectors.json: lists are missing or shorter than recorded; restore the file")
	}
	return v
}

// recode decodes the value of a key and encodes it again.
func recode(t testing.TB, key string, value []byte) []byte {
	t.Helper()
	var out []byte
	var err error
	switch key {
	case KeyInitialize:
		var i Initialize
		i, err = DecodeInitialize(value, 1)
		out = i.Encode()
	case KeyConfig:
		var c DynamicConfig
		c, err = DecodeConfig(value, 1)
		out = c.Encode()
	case KeyLeader:
		out = []byte(NewSnapshot(1, []KeyValue{{Key: key, Value: value}}).Leader.Name)
	case KeyStatus:
		var s Status
		s, err = DecodeStatus(value, 1)
		out = s.Encode()
	case KeyOptime:
		var s Status
		s, err = DecodeOptime(value, 1)
		out = EncodeOptime(s.Optime)
	case KeyFailover:
		var f Failover
		f, err = DecodeFailover(value, 1)
		out = f.Encode()
	case KeySync:
		var s Sync
		s, err = DecodeSync(value, 1)
		out = s.Encode()
	case KeyHistory:
		var h History
		h, err = DecodeHistory(value, 1)
		out = h.Encode()
	case KeyFailsafe:
		urls, order, decodeErr := DecodeFailsafe(value)
		err, out = decodeErr, EncodeFailsafe(urls, order)
	default:
		name, ok := strings.CutPrefix(key, KeyMembers)
		if !ok {
			t.Fatalf("no codec for key %s", key)
		}
		var m Member
		m, err = DecodeMember(name, value, 1, "")
		out = m.Encode()
	}
	if err != nil {
		t.Errorf("key %s, value %s: %v", key, value, err)
	}
	return out
}

func relative(key string) string { return strings.SplitN(key, "/", 4)[3] }

func TestRecordedValuesSurviveDecodingAndEncoding(t *testing.T) {
	v := load(t)
	seen := 0
	check := func(where, key, value string) {
		if value == "" {
			return // a parent node of ZooKeeper
		}
		seen++
		if have := recode(t, key, []byte(value)); string(have) != value {
			t.Errorf("%s, key %s:\nhave %s\nwant %s", where, key, have, value)
		}
	}
	for _, s := range v.Etcd3.Snapshots {
		for _, k := range s.Keys {
			check(s.State, relative(k.Key), k.Value)
		}
	}
	for name, trace := range v.Etcd3.Traces {
		for _, e := range trace {
			if e.Value != nil {
				check(name, relative(e.Key), *e.Value)
			}
		}
	}
	for _, n := range v.ZooKeeper.Nodes {
		if strings.Count(n.Path, "/") > 2 {
			check("zookeeper", relative(n.Path), n.Value)
		}
	}
	if seen < 150 {
		t.Errorf("have %d values, want at least 150: the vectors were not read", seen)
	}
}

func TestSnapshotsOfRecordedClusters(t *testing.T) {
	for _, recorded := range load(t).Etcd3.Snapshots {
		var kvs []KeyValue
		members := 0
		for _, k := range recorded.Keys {
			kvs = append(kvs, KeyValue{Key: relative(k.Key), Value: []byte(k.Value), Revision: 5, Session: k.Lease})
			if strings.HasPrefix(relative(k.Key), KeyMembers) {
				members++
			}
		}
		s := NewSnapshot(9, kvs)
		if len(s.Problems) > 0 || s.Revision != 9 || len(s.Members) != members {
			t.Errorf("%s: have revision %d, %d members, problems %q; want 9, %d, none", recorded.State, s.Revision, len(s.Members), s.Problems, members)
		}
		if m, ok := s.Member(s.Leader.Name); s.Locked() && (!ok || m.Session != s.Leader.Session || m.Session == "") {
			t.Errorf("%s: leader's session is %q, its member key's %q; want the same", recorded.State, s.Leader.Session, m.Session)
		}
		if !s.Initialize.Present || s.Initialize.SystemID == "" || !s.Config.Usable || s.Status.Optime == 0 {
			t.Errorf("%s: initialize %+v, config usable %v, status %+v", recorded.State, s.Initialize, s.Config.Usable, s.Status)
		}
	}
}

// unset is null for a zero value, as the vectors have it.
func unset[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// decoders give, by kind, the fields that Patroni expects.
var decoders = map[string]func(value []byte) map[string]any{
	"member": func(value []byte) map[string]any {
		m, _ := DecodeMember("m", value, 1, "")
		host, port, ok := m.HostPort()
		kwargs := map[string]any{}
		if ok {
			kwargs = map[string]any{"host": host, "port": port, "dbname": unset(m.Database())}
		}
		return map[string]any{
			"conn_url": unset(m.ConnURL), "api_url": unset(m.APIURL), "state": m.State, "role": unset(m.Role),
			"tags": json.RawMessage(m.Tags.Encode()), "nofailover": m.Tags.NoFailover(), "failover_priority": m.Tags.FailoverPriority(),
			"nosync": m.Tags.NoSync(), "sync_priority": m.Tags.SyncPriority(), "noloadbalance": m.Tags.NoLoadBalance(),
			"clonefrom": m.Tags.CloneFrom() && m.ConnURL != "", "replicatefrom": unset(m.Tags.ReplicateFrom()), "nostream": m.Tags.NoStream(),
			"lsn": unset(m.XlogLocation), "receive_lsn": unset(m.ReceiveLSN), "replay_lsn": unset(m.ReplayLSN),
			"patroni_version": m.AgentVersion(), "conn_kwargs": kwargs,
		}
	},
	"failover": func(value []byte) map[string]any {
		f, _ := DecodeFailover(value, 1)
		at := ""
		if f.ScheduledAt != nil {
			at = FormatTime(*f.ScheduledAt)
		}
		return map[string]any{"leader": unset(f.From), "candidate": unset(f.Candidate), "scheduled_at": unset(at), "empty": !f.Requested()}
	},
	"sync": func(value []byte) map[string]any {
		s, _ := DecodeSync(value, 1)
		members := slices.Clone(s.Standbys)
		if s.Leader != "" {
			members = append([]string{s.Leader}, members...)
		}
		return map[string]any{"leader": unset(s.Leader), "quorum": s.Quorum, "empty": s.Leader == "",
			"voters": append([]string{}, s.Standbys...), "members": append([]string{}, members...)}
	},
	"status": func(value []byte) map[string]any {
		s, _ := DecodeStatus(value, 1)
		return map[string]any{"optime": s.Optime, "slots": s.Slots, "retain_slots": append([]string{}, s.RetainSlots...)}
	},
	"history": func(value []byte) map[string]any {
		h, _ := DecodeHistory(value, 1)
		return map[string]any{"cluster_timeline": h.ClusterTimeline()}
	},
	"config": func(value []byte) map[string]any {
		c, _ := DecodeConfig(value, 1)
		data := json.RawMessage("{}")
		if c.Usable {
			data = c.Encode()
		}
		return map[string]any{"data": data, "usable": c.Usable}
	},
}

func TestRecordedInterpretations(t *testing.T) {
	for _, p := range load(t).Parse {
		decode := decoders[strings.TrimSuffix(p.Kind, "-from-annotations")]
		if decode == nil {
			t.Errorf("kind %s has no test", p.Kind)
			continue
		}
		input := []byte(p.Input) // annotations: an object of texts
		var text *string
		if !strings.HasSuffix(p.Kind, "-from-annotations") {
			if err := json.Unmarshal(p.Input, &text); err != nil {
				t.Fatal(err)
			}
			input = nil // null: no key
			if text != nil {
				input = []byte(*text)
			}
		}
		have := map[string]any{}
		encoded, err := json.Marshal(decode(input))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(encoded, &have); err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(p.Expect)
		if p.Kind == "member" && want["role"] == "master" {
			want["role"] = "primary" // we translate at once
		}
		// What we do not tell apart: an absent name and an empty one, a slot's number and its text.
		for name, w := range want {
			if h, ok := have[name]; ok && (w == "" && h == nil || slots(w)) {
				want[name] = have[name]
			} else if !ok {
				delete(want, name)
			}
		}
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s %s:\nhave %v\nwant %v", p.Kind, input, have, want)
		}
	}
}

// slots says whether w is the one table with a number as text, which TestSlotPositionAsText covers.
func slots(w any) bool {
	m, ok := w.(map[string]any)
	return ok && m["b"] == "2"
}

func TestSlotPositionAsText(t *testing.T) {
	s, err := DecodeStatus([]byte(`{"slots":{"a":1,"b":"2","c":"x","d":null}}`), 1)
	want := map[string]LSN{"a": 1, "b": 2, "c": 0, "d": 0}
	if err != nil || !maps.Equal(s.Slots, want) {
		t.Errorf("have %v, %v; want %v", s.Slots, err, want)
	}
}

func TestSlotNames(t *testing.T) {
	for member, want := range load(t).SlotNames {
		if have := SlotName(member); have != want || !ValidSlotName(have) {
			t.Errorf("%q: have %q, want %q", member, have, want)
		}
	}
}

func TestPrefixEnd(t *testing.T) {
	ends := load(t).PrefixRangeEnd
	ends["a\xff\xff"], ends["\xff"] = "b", ""
	for prefix, want := range ends {
		if have := PrefixEnd(prefix); have != want {
			t.Errorf("%q: have %q, want %q", prefix, have, want)
		}
	}
}

func TestRoot(t *testing.T) {
	for _, p := range load(t).Paths {
		namespace, scope := DefaultNamespace, p.Scope
		if p.Namespace != nil {
			namespace = *p.Namespace
		}
		if p.Group != nil {
			scope += "/" + string(rune('0'+*p.Group))
		}
		root := Root(namespace, scope)
		for key, rel := range map[string]string{"leader": KeyLeader, "member": KeyMembers + "pg1", "legacy_optime": KeyOptime} {
			if have := root + rel; have != p.Plain[key] {
				t.Errorf("%q %q: have %s, want %s", namespace, scope, have, p.Plain[key])
			}
		}
		if have := strings.TrimPrefix(root, "/") + KeyLeader; have != p.Consul {
			t.Errorf("%q %q: have %s, want %s", namespace, scope, have, p.Consul)
		}
	}
}

func TestTimingAdjustment(t *testing.T) {
	for _, a := range load(t).TimeoutAdjustment {
		text, err := json.Marshal(a.Input)
		if err != nil {
			t.Fatal(err)
		}
		c, err := DecodeConfig(text, 1)
		if err != nil {
			t.Fatal(err)
		}
		timing, changes := c.Timing()
		have := map[string]int{"ttl": int(timing.TTL.Seconds()), "loop_wait": int(timing.LoopWait.Seconds()), "retry_timeout": int(timing.RetryTimeout.Seconds())}
		if !maps.Equal(have, a.Effective) || (len(changes) == 0) != maps.Equal(a.Input, a.Effective) {
			t.Errorf("%s: have %v %q, want %v", text, have, changes, a.Effective)
		}
	}
}

func TestDeepEqualLoose(t *testing.T) {
	for _, c := range load(t).DeepCompare {
		a, errA := ParseValue(c.A)
		b, errB := ParseValue(c.B)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if have := DeepEqualLoose(a, b); have != c.Equal || DeepEqualLoose(b, a) != c.Equal {
			t.Errorf("%s, %s: have %v, want %v", c.A, c.B, have, c.Equal)
		}
	}
}
