package cluster

import (
	"reflect"
	"strings"
	"testing"
)

func kv(key, value string) KeyValue { return KeyValue{Key: key, Value: []byte(value), Revision: 3} }

func TestOneUnreadableKeyCostsItself(t *testing.T) {
	good := []KeyValue{kv("leader", "pg1"), kv("config", `{"ttl":30}`), kv("status", `{"optime":1}`), kv("sync", `{"leader":"pg1"}`),
		kv("history", "[]"), kv("failsafe", "{}"), kv("failover", "{}"), kv("initialize", "7711122388908682825"), kv("members/pg1", "{}")}
	if s := NewSnapshot(1, good); len(s.Problems) > 0 {
		t.Fatalf("have problems %q, want none", s.Problems)
	}
	for i := range good {
		bad := append([]KeyValue{}, good...)
		bad[i] = kv(bad[i].Key, "[{")
		if bad[i].Key == KeyLeader {
			continue // any text is a name
		}
		s := NewSnapshot(1, bad)
		if len(s.Problems) != 1 || !strings.HasPrefix(s.Problems[0], "key "+bad[i].Key+": ") || strings.Contains(s.Problems[0], "\n") {
			t.Errorf("%s: have problems %q, want one line about it", bad[i].Key, s.Problems)
		}
		if s.Leader.Name != "pg1" || len(s.Members) != 1 {
			t.Errorf("%s: leader %q, %d members; want pg1, 1", bad[i].Key, s.Leader.Name, len(s.Members))
		}
	}
}

func TestSnapshotKeys(t *testing.T) {
	s := NewSnapshot(7, []KeyValue{kv("members/b", "{}"), kv("members/a", `{"tags":[],"role":"master"}`), kv("members/a/deep", "{}"), kv("members/", "x"),
		kv("unknown", "x"), kv("leader", "gone"), kv(KeyOptime, "123"), kv(KeyBootstrap, "a"), kv("initialize", "")})
	if len(s.Members) != 2 || s.Members[0].Name != "a" || s.Members[0].Role != Primary || s.Members[1].Name != "b" {
		t.Errorf("have members %+v, want a as primary and b", s.Members)
	}
	if !s.Locked() || s.Status.Optime != 123 || s.Status.Revision != 0 || s.OldOptime.Revision != 3 || s.Bootstrapper != "a" || s.BootstrapRevision != 3 || !s.Initialize.Present || s.Initialize.Invalid {
		t.Errorf("have %+v", s)
	}
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "members/a: read tags") {
		t.Errorf("have problems %q, want one about the tags of a", s.Problems)
	}
	if s := NewSnapshot(1, []KeyValue{kv(KeyOptime, "123"), kv(KeyStatus, `{"optime":5}`)}); s.Status.Optime != 5 || s.Status.Revision != 3 {
		t.Errorf("have %+v, want the status key to win", s.Status)
	}
	if s := NewSnapshot(1, []KeyValue{kv("leader", "")}); s.Locked() {
		t.Error("an empty leader name counts as a lock")
	}
}

func TestShownRoleAndState(t *testing.T) {
	member := kv("members/a", `{"state":"running","role":"primary","replication_state":"streaming"}`)
	for _, c := range []struct{ name, leader, sync, config, role, state string }{
		{"leader", "a", "", `{}`, ShownLeader, "running"},
		{"standby leader", "a", "", `{"standby_cluster":{"host":"h"}}`, ShownStandbyLeader, "streaming"},
		{"no leader", "", "", `{}`, ShownReplica, "streaming"},
		{"sync", "b", `{"leader":"b","sync_standby":"A"}`, `{"synchronous_mode":true}`, ShownSyncStandby, "streaming"},
		{"quorum", "b", `{"leader":"b","sync_standby":"a"}`, `{"synchronous_mode":"quorum"}`, ShownQuorumStandby, "streaming"},
		{"sync key left over", "b", `{"leader":"b","sync_standby":"a"}`, `{}`, ShownReplica, "streaming"},
		{"leader of an old sync key", "b", `{"leader":"a"}`, `{"synchronous_mode":true}`, ShownReplica, "streaming"},
	} {
		s := NewSnapshot(1, []KeyValue{member, kv("leader", c.leader), kv("sync", c.sync), kv("config", c.config)})
		m := s.Members[0]
		if have := s.ShownRole(m); have != c.role || s.ShownState(m) != c.state {
			t.Errorf("%s: have %s, %s; want %s, %s", c.name, have, s.ShownState(m), c.role, c.state)
		}
	}
	s := NewSnapshot(1, []KeyValue{kv("members/a", "{}")})
	if have := s.ShownState(s.Members[0]); have != "" {
		t.Errorf("unknown state is shown as %q", have)
	}
}

func TestLag(t *testing.T) {
	s := &Snapshot{Status: Status{Optime: 100}}
	for at, want := range map[LSN]uint64{40: 60, 100: 0, 120: 0} {
		if have, known := s.Lag(at); have != want || !known {
			t.Errorf("at %d: have %d, %v; want %d", at, have, known, want)
		}
	}
	if _, known := s.Lag(0); known {
		t.Error("the lag of an unknown position is known")
	}
}

func TestHostPort(t *testing.T) {
	for text, want := range map[string]struct {
		host string
		port int
		ok   bool
	}{
		"postgres://h:1/db":              {"h", 1, true},
		"postgres://h":                   {"h", 5432, true},
		"postgres://u:p@w@h:2/db?x=@y:3": {"h", 2, true},
		"postgres://[::1]/db":            {"::1", 5432, true},
		"postgres://[::1]:7/db":          {"::1", 7, true},
		"postgres://h:x/db":              {"h", 0, false},
		"postgres://h:70000/db":          {"h", 0, false},
		"":                               {"", 0, false},
		"postgres://":                    {"", 5432, false},
	} {
		host, port, ok := Member{ConnURL: text}.HostPort()
		if host != want.host || port != want.port || ok != want.ok {
			t.Errorf("%q: have %q %d %v, want %+v", text, host, port, ok, want)
		}
	}
}

func TestMemberOfRegent(t *testing.T) {
	m := Member{ConnURL: "postgres://h:1/d", APIURL: "http://h:2/patroni", State: Running, Role: Replica, Version: "4.1.4", Pause: true, Regent: "0.1",
		ScheduledRestart: &ScheduledRestart{Schedule: "2027-01-02T03:04:05+00:00", Timeout: 5, RestartPending: true}}
	const want = `{"conn_url":"postgres://h:1/d","api_url":"http://h:2/patroni","state":"running","role":"replica","version":"4.1.4",` +
		`"scheduled_restart":{"schedule":"2027-01-02T03:04:05+00:00","restart_pending":true,"timeout":5,"postmaster_start_time":null},"pause":true,"regent":"0.1"}`
	if have := string(m.Encode()); have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}

func TestUnusableSchedule(t *testing.T) {
	for text, bad := range map[string]bool{
		`{"leader":"a","scheduled_at":"tomorrow"}`:                  true,
		`{"leader":"a","scheduled_at":"2027-01-02T03:04:05"}`:       true, // which time zone?
		`{"leader":"a","scheduled_at":7}`:                           true,
		`{"leader":"a","scheduled_at":null}`:                        false,
		`{"leader":"a","scheduled_at":"2027-01-02 03:04:05.5 +02"}`: false,
		`{"leader":"a","scheduled_at":"2027-01-02T03:04+0200"}`:     false,
	} {
		f, err := DecodeFailover([]byte(text), 1)
		if err != nil || f.BadSchedule != bad || f.From != "a" || bad && f.ScheduledAt != nil {
			t.Errorf("%s: have %+v, %v; want BadSchedule %v", text, f, err, bad)
		}
	}
}

func TestSyncNames(t *testing.T) {
	s := Sync{Leader: "PG1", Standbys: []string{"pg3", "Pg2"}}
	if !s.Has("pg1") || !s.HasStandby("PG2") || s.HasStandby("pg1") || s.Has("pg4") || (Sync{}).Has("") {
		t.Errorf("membership of %+v is wrong", s)
	}
	if have := string(s.Encode()); have != `{"leader":"PG1","quorum":0,"sync_standby":"Pg2,pg3"}` {
		t.Errorf("have %s", have)
	}
}

// FuzzCodec: no value of any key stops a member, and what was read once is written the same for ever.
func FuzzCodec(f *testing.F) {
	v := load(f)
	for _, s := range v.Etcd3.Snapshots {
		for _, k := range s.Keys {
			f.Add([]byte(k.Value))
		}
	}
	for _, p := range v.Parse {
		f.Add([]byte(p.Input))
	}
	for _, text := range []string{`{"optime":1e400}`, `[[1]]`, `{"tags":{"a":[[[]]]}}`, "\xff", `{"a":"\ud800"}`, `{"xlog_location":-1,"timeline":1e99}`} {
		f.Add([]byte(text))
	}
	codecs := map[string]func(value []byte) []byte{
		KeyInitialize: func(b []byte) []byte { i, _ := DecodeInitialize(b, 1); return i.Encode() },
		KeyConfig:     func(b []byte) []byte { c, _ := DecodeConfig(b, 1); return c.Encode() },
		KeyStatus:     func(b []byte) []byte { s, _ := DecodeStatus(b, 1); return s.Encode() },
		KeyFailover:   func(b []byte) []byte { f, _ := DecodeFailover(b, 1); return f.Encode() },
		KeySync:       func(b []byte) []byte { s, _ := DecodeSync(b, 1); return s.Encode() },
		KeyHistory:    func(b []byte) []byte { h, _ := DecodeHistory(b, 1); return h.Encode() },
		KeyFailsafe:   func(b []byte) []byte { u, o, _ := DecodeFailsafe(b); return EncodeFailsafe(u, o) },
		KeyMembers:    func(b []byte) []byte { m, _ := DecodeMember("m", b, 1, ""); return m.Encode() },
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		for key, recode := range codecs {
			once := recode(value)
			if twice := recode(once); string(twice) != string(once) {
				t.Errorf("key %s, value %q: encoded as %s, then as %s", key, value, once, twice)
			}
			s := NewSnapshot(1, []KeyValue{{Key: strings.TrimSuffix(key, "/") + "/x", Value: value}, {Key: key, Value: value}})
			s.Config.Timing()
			s.Config.SlotRules()
			for _, m := range s.Members {
				s.ShownRole(m)
				m.Tags.FailoverPriority()
				m.HostPort()
			}
		}
	})
}

// Reading on from an older snapshot gives what reading everything gives.
func TestNext(t *testing.T) {
	kv := func(key, value string, rev Revision) KeyValue {
		return KeyValue{Key: key, Value: []byte(value), Revision: rev, Session: "s"}
	}
	steps := [][]KeyValue{
		{kv(KeyConfig, `{"ttl":20}`, 1), kv(KeyMembers+"b", `{"state":"running"}`, 2), kv(KeyInitialize, "7000000000000000001", 3)},
		{kv(KeyConfig, `{"ttl":20}`, 1), kv(KeyMembers+"a", `{"state":"running"}`, 4), kv(KeyMembers+"b", `{"state":"running"}`, 2), kv(KeyStatus, `{"optime":5}`, 5), kv(KeyOptime, `9`, 5)},
		{kv(KeyConfig, `{`, 6), kv(KeyMembers+"b", `{"state":"stopped"}`, 7), kv(KeyOptime, `9`, 5), kv(KeyHistory, `[[1,5,"x"]]`, 8), kv(KeySync, `{"leader":"a"}`, 9), kv(KeyFailover, `{"member":"b"}`, 10)},
		{kv(KeyConfig, `{"ttl":21}`, 11), kv(KeyMembers+"b", `{"state":"stopped"}`, 7), kv(KeyHistory, `[[1,5,"x"]]`, 8), kv(KeySync, `{"leader":"a"}`, 9), kv(KeyFailover, `{"member":"b"}`, 10), kv(KeyLeader, "b", 12)},
		{},
	}
	var last *Snapshot
	for i, keys := range steps {
		last = last.Next(Revision(100+i), keys)
		if want := NewSnapshot(Revision(100+i), keys); !sameSnapshot(last, want) {
			t.Errorf("step %d: have %+v\nwant %+v", i, last, want)
		}
	}
}

// sameSnapshot does not tell a list without items from none.
func sameSnapshot(a, b *Snapshot) bool {
	x, y := *a, *b
	if len(x.Members)+len(y.Members) == 0 {
		x.Members, y.Members = nil, nil
	}
	return reflect.DeepEqual(x, y)
}
