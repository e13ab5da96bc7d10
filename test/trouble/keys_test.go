package trouble

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/test/rig"
)

// What becomes of a key with a value that nobody should write.
type fate int

const (
	stays   fate = iota // it is ignored: nobody needs it, or nobody may say better
	mended              // its owner writes a good value
	cleared             // a request that cannot be carried out is taken back
)

// Every malformed value of dcs.md 1.3 to 1.11 costs its key and nothing else: the primary serves, its loop goes on, and the key is
// told once, and mended by its owner.
func TestMalformedKeys(t *testing.T) {
	t.Parallel()
	etcd := rig.StartEtcd(t)
	primary, replica := rig.NewMember(t, "demo-0", etcd.Address), rig.NewMember(t, "demo-1", etcd.Address)
	primary.Start(t)
	primary.WaitPrimary(t)
	replica.Start(t)
	replica.WaitStreaming(t)
	// The second timeline has a history to be mended.
	if code, text := primary.Call("POST", "/switchover", `{"leader":"demo-0","candidate":"demo-1"}`); code != 200 {
		t.Fatalf("switchover: have %d %s", code, text)
	}
	primary, replica = replica, primary
	primary.WaitPrimary(t)
	replica.WaitStreaming(t)
	rig.Wait(t, "the history is written", func() bool { h, _ := etcd.Get(t, "history"); return strings.Contains(h, "demo-1") })
	if _, err := primary.SQL("create table t (n serial)"); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		key, value string
		fate       fate
		silent     bool // it can be read, so nothing is wrong with it
	}{
		{key: "initialize", value: "abc", fate: mended},
		{key: "initialize", value: "123", fate: mended},
		{key: "initialize", value: "-7000000000000000001", fate: mended},
		{key: "initialize", value: "", fate: mended, silent: true},
		{key: "config", value: "{", fate: mended},
		{key: "config", value: "[]", fate: mended},
		{key: "config", value: "null", fate: mended},
		{key: "config", value: "", fate: mended},
		{key: "config", value: "{}", fate: mended, silent: true},
		{key: "config", value: `{"ttl":"soon"}`, fate: stays, silent: true}, // refused as a whole, the last good one counts
		{key: "config", value: strings.Repeat("[", 5000), fate: mended},
		{key: "status", value: "", fate: mended},
		{key: "status", value: "{", fate: mended},
		{key: "status", value: "[]", fate: mended},
		{key: "status", value: `"12345"`, fate: mended},
		{key: "status", value: "12345", fate: mended, silent: true},
		{key: "status", value: `{"optime":null,"slots":[],"retain_slots":{}}`, fate: mended, silent: true},
		{key: "status", value: `{"optime":"x","slots":"{","retain_slots":"["}`, fate: mended, silent: true},
		{key: "optime/leader", value: "abc", fate: stays},
		{key: "failover", value: "", fate: stays, silent: true},
		{key: "failover", value: "null", fate: stays, silent: true},
		{key: "failover", value: "[]", fate: stays},
		{key: "failover", value: "{", fate: stays},
		{key: "failover", value: `{"leader":"","member":""}`, fate: stays, silent: true},
		{key: "failover", value: "a:b", fate: cleared, silent: true},
		{key: "failover", value: "a", fate: cleared, silent: true},
		{key: "failover", value: ":b", fate: cleared, silent: true},
		{key: "failover", value: `{"leader":"demo-1","member":"ghost"}`, fate: cleared, silent: true},
		{key: "failover", value: `{"leader":"demo-1","scheduled_at":"tomorrow"}`, fate: cleared, silent: true},
		{key: "failover", value: `{"leader":"demo-1","scheduled_at":"2099-01-02T03:04:05"}`, fate: cleared, silent: true},
		{key: "failover", value: `{"scheduled_at":[1]}`, fate: cleared, silent: true},
		{key: "sync", value: "", fate: stays, silent: true},
		{key: "sync", value: "{", fate: stays},
		{key: "sync", value: "[]", fate: stays},
		{key: "sync", value: `{"leader":"a","quorum":"x"}`, fate: stays},
		{key: "sync", value: `{"leader":null,"sync_standby":"b","quorum":2}`, fate: stays, silent: true},
		{key: "history", value: "{", fate: mended},
		{key: "history", value: "{}", fate: mended},
		{key: "history", value: `[["a"]]`, fate: mended},
		{key: "history", value: "[]", fate: mended, silent: true},
		{key: "failsafe", value: "{", fate: stays},
		{key: "failsafe", value: "[]", fate: stays},
		{key: "members/demo-0", value: "{", fate: mended},
		{key: "members/demo-0", value: "null", fate: mended},
		{key: "members/demo-1", value: "[]", fate: mended},
		{key: "members/demo-1", value: "", fate: mended},
		{key: "members/demo-1", value: `{"conn_url":"postgres://h:port/db","tags":null}`, fate: mended},
		{key: "members/ghost", value: "{", fate: stays},
		{key: "members/ghost/deep", value: "{", fate: stays, silent: true},
		{key: "unknown", value: "\xff\x00", fate: stays, silent: true},
	} {
		name := fmt.Sprintf("%s=%.40q", c.key, c.value)
		logged := len(primary.Log())
		etcd.Spoil(t, c.key, c.value)
		switch c.fate {
		case mended:
			rig.Wait(t, name+" is mended", func() bool { v, _ := etcd.Get(t, c.key); return good(c.key, v) })
		case cleared:
			rig.Wait(t, name+" is cleared", func() bool { v, _ := etcd.Get(t, c.key); return v == "{}" })
		}
		follows(t, etcd, primary, name)
		if v, _ := etcd.Get(t, c.key); c.fate == stays && v != c.value {
			t.Errorf("%s: have become %q, want it left alone", name, v)
		}
		least, most := 1, 1
		if c.silent {
			least, most = 0, 0
		} else if c.key == "members/"+replica.Name {
			least = 0 // mended before the primary looked
		}
		told := func() int { return strings.Count(primary.Log()[logged:], `problem="key `+c.key+`: `) }
		rig.Wait(t, name+" is told", func() bool { return told() >= least }) // what the loop sees of the store may be behind
		if told := told(); told > most {
			t.Errorf("%s: the problem was logged %d times, want %d to %d", name, told, least, most)
		}
	}

	// The cluster is what it was.
	if !primary.IsPrimary() || !replica.IsStreaming() {
		t.Errorf("have primary %v, streaming %v; want both", primary.IsPrimary(), replica.IsStreaming())
	}
	if n, err := primary.SQL("select timeline_id from pg_control_checkpoint()"); n != "2" {
		t.Errorf("have timeline %s (%v), want 2: nothing of this is a reason to promote anybody", n, err)
	}
}

// follows writes a row and waits until the status key and the primary's own tell of it: it serves and its loop goes on. Both have been
// written then, so that the next value that a test writes there is seen before it is overwritten.
func follows(t *testing.T, etcd *rig.Etcd, m *rig.Member, name string) {
	t.Helper()
	at, err := m.SQL("insert into t default values; select pg_current_wal_lsn() - '0/0'")
	if err != nil {
		t.Fatalf("%s: the primary does not serve: %v", name, err)
	}
	rig.Wait(t, name+": the loop goes on", func() bool {
		v, _ := etcd.Get(t, "status")
		var s struct{ Optime json.Number }
		_ = json.Unmarshal([]byte(v), &s)
		v, _ = etcd.Get(t, "members/"+m.Name)
		var own struct {
			At json.Number `json:"xlog_location"`
		}
		_ = json.Unmarshal([]byte(v), &own)
		reached := func(n json.Number) bool { return len(n) > len(at) || len(n) == len(at) && n.String() >= at }
		return reached(s.Optime) && reached(own.At)
	})
}

// good says whether a key can be read and says something.
func good(key, value string) bool {
	s := cluster.NewSnapshot(1, []cluster.KeyValue{{Key: key, Value: []byte(value), Revision: 1}})
	switch {
	case len(s.Problems) > 0 || value == "":
		return false
	case key == "config":
		return len(s.Config.Document.Fields) > 0
	case key == "history":
		return s.History.ClusterTimeline() == 2
	case key == "status":
		return s.Status.Optime > 12345
	case strings.HasPrefix(key, "members/"):
		return s.Members[0].ConnURL != "" && s.Members[0].State != cluster.UnknownState
	}
	return true
}

// A leader key that names nobody, or nothing, while nobody runs.
func TestStrangeLeader(t *testing.T) {
	t.Parallel()
	etcd := rig.StartEtcd(t)
	m := rig.NewMember(t, "demo-0", etcd.Address)
	m.Start(t)
	m.WaitPrimary(t)
	m.Stop(t)

	etcd.Put(t, "leader", "ghost")
	m.Start(t)
	rig.Wait(t, "PostgreSQL runs as a standby", func() bool {
		n, _ := m.SQL("select pg_is_in_recovery()")
		return n == "t"
	})
	time.Sleep(5 * time.Second) // two cycles
	if m.IsPrimary() {
		t.Error("have a primary beside a lock that another member holds")
	}
	if v, _ := etcd.Get(t, "leader"); v != "ghost" {
		t.Errorf("have leader %q, want ghost's lock left alone", v)
	}

	etcd.Put(t, "leader", "") // nobody: the lock is free (dcs.md 1.5)
	m.WaitPrimary(t)
	if v, _ := etcd.Get(t, "leader"); v != "demo-0" {
		t.Errorf("have leader %q, want demo-0", v)
	}
}
