package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/ha"
)

// The methods of the configuration reach the instance, and the decisions know what they can do without.
func TestMethodsOfTheConfiguration(t *testing.T) {
	const base = "name: a\nscope: b\nrestapi: {listen: '127.0.0.1:1'}\npostgresql: {data_dir: /nowhere, listen: '127.0.0.1:2', connect_address: '127.0.0.1:2'"
	for _, c := range []struct{ text, restore, methods, limits string }{
		{"}", "<nil>", "[{basebackup  [] false false false}]", "false false false"},
		{"}\nbootstrap: {dcs: {}}", "<nil>", "[{basebackup  [] false false false}]", "true false false"},
		{"}\nbootstrap: {dcs: {}, method: w, w: {command: c, x: 1, recovery_conf: {restore_command: r}}}",
			"&{w c [[x 1]] false false map[restore_command:r]}", "[{basebackup  [] false false false}]", "true true false"},
		{", create_replica_methods: [m, basebackup], m: {command: c, no_leader: on, no_params: on}}",
			"<nil>", "[{m c [] false true true} {basebackup  [] false false false}]", "false false true"},
		{", m: {command: c, no_leader: on}}", "<nil>", "[{basebackup  [] false false false}]", "false false false"}, // it is not on the list
	} {
		doc, err := config.ParseYAML("test", []byte(base+c.text))
		if err != nil {
			t.Fatal(err)
		}
		e, _, err := config.NewEffective(&config.File{Document: doc.(*config.Map)}, cluster.DynamicConfig{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := instanceSettings(&e, cluster.Replica, true, false)
		if err != nil {
			t.Fatal(err)
		}
		l := limits(&e)
		if have := fmt.Sprint(s.Restore); have != c.restore {
			t.Errorf("%s: restore: have %s, want %s", c.text, have, c.restore)
		}
		if have := fmt.Sprint(s.CloneMethods); have != c.methods {
			t.Errorf("%s: clone methods: have %s, want %s", c.text, have, c.methods)
		}
		if have := fmt.Sprint(l.CanBootstrap, l.CustomBootstrap, l.NoLeaderClone); have != c.limits {
			t.Errorf("%s: limits: have %s, want %s", c.text, have, c.limits)
		}
	}
}

// The leader is spared where somebody else offers a copy.
func TestCloneSource(t *testing.T) {
	member := func(name, more string) cluster.Member {
		v, err := cluster.DecodeMember(name, []byte(`{"conn_url":"postgres://`+name+`:5432/postgres","state":"running","role":"replica"`+more+`}`), 1, "")
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const offers = `,"tags":{"clonefrom":true}`
	leader := cluster.Upstream{Name: "pg1", Host: "pg1", Port: 5432}
	for name, c := range map[string]struct {
		members []cluster.Member
		clone   ha.Clone
		want    string
	}{
		"nobody offers":   {[]cluster.Member{member("pg1", ""), member("pg2", "")}, ha.Clone{From: leader}, "pg1 false"},
		"two offer":       {[]cluster.Member{member("pg1", ""), member("pg2", offers), member("pg3", offers)}, ha.Clone{From: leader}, "pg3 false"},
		"the leader does": {[]cluster.Member{member("pg1", offers), member("pg2", "")}, ha.Clone{From: leader}, "pg1 false"},
		"oneself":         {[]cluster.Member{member("me", offers)}, ha.Clone{From: leader}, "pg1 false"},
		"it is down":      {[]cluster.Member{member("pg2", `,"state":"stopped"`+offers)}, ha.Clone{From: leader}, "pg1 false"},
		"as asked for":    {[]cluster.Member{member("pg2", offers)}, ha.Clone{From: leader, FromLeader: true}, "pg1 true"},
		"a remote":        {[]cluster.Member{member("pg2", offers)}, ha.Clone{From: cluster.Upstream{Host: "far", Port: 5432}}, " false"},
		"nobody leads":    {[]cluster.Member{member("pg2", offers)}, ha.Clone{}, " false"},
	} {
		s := cloneSource(c.clone, &cluster.Snapshot{Members: c.members, Leader: cluster.Leader{Name: "pg1"}}, "me", func(n int) int { return n - 1 })
		if have := fmt.Sprint(s.Name, " ", s.BaseBackup); have != c.want {
			t.Errorf("%s: have %s, want %s", name, have, c.want)
		}
	}
}

// Whose synchronous_standby_names is: the leader's in synchronous mode, and as long as /sync may name somebody; people's after that.
func TestWhoseSynchronousStandbyNames(t *testing.T) {
	const text = "name: a\nscope: b\nrestapi: {listen: '127.0.0.1:1'}\n" +
		"postgresql: {data_dir: /nowhere, listen: '127.0.0.1:2', connect_address: '127.0.0.1:2', parameters: {Synchronous_Standby_Names: x}}"
	doc, err := config.ParseYAML("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode           string
		unsynced       bool
		kept, released bool
	}{
		{"off", true, true, true},
		{"off", false, false, false}, // not read yet, or the mode has just been switched off
		{"on", true, false, false},
		{"on", false, false, false},
		{"quorum", true, false, false},
		{"quorum", false, false, false},
	} {
		d := cluster.DynamicConfig{Usable: true, Document: cluster.Value{Kind: cluster.Object}.Set(cluster.Text(c.mode), "synchronous_mode")}
		e, _, err := config.NewEffective(&config.File{Document: doc.(*config.Map)}, d)
		if err != nil {
			t.Fatal(err)
		}
		s, err := instanceSettings(&e, cluster.Primary, c.unsynced, false)
		if err != nil {
			t.Fatal(err)
		}
		kept := false
		for name := range s.Parameters {
			kept = kept || strings.EqualFold(name, "synchronous_standby_names")
		}
		if kept != c.kept || s.UserSyncNames != c.released {
			t.Errorf("%s, unsynced %v: people's value kept %v, the leader's dropped %v; want %v, %v", c.mode, c.unsynced, kept, s.UserSyncNames, c.kept, c.released)
		}
	}
}

// Section standby_cluster reaches the decisions, and its methods the instance.
func TestStandbyClusterSettings(t *testing.T) {
	doc, err := config.ParseYAML("test", []byte("name: a\nscope: b\nrestapi: {listen: '127.0.0.1:1'}\npostgresql: {data_dir: /nowhere, listen: '127.0.0.1:2', connect_address: '127.0.0.1:2', "+
		"create_replica_methods: [local], local: {command: /l}, far: {command: /f, no_leader: true}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	file := &config.File{Document: doc.(*config.Map)}
	for document, want := range map[string]struct {
		kind    cluster.Type
		up      cluster.Upstream
		methods string
		alone   bool
	}{
		`{}`: {cluster.OwnPrimary, cluster.Upstream{}, "local", false},
		`{"standby_cluster":{"host":"h1, h2","port":"5433","primary_slot_name":"My-Slot"}}`: {cluster.FollowsAnother,
			cluster.Upstream{Host: "h1,h2", Port: 5433, Slot: "my_slot"}, "", false},
		`{"standby_cluster":{"host":"h","primary_slot_name":"s","recovery_min_apply_delay":"5min"},"postgresql":{"use_slots":false}}`: {cluster.FollowsAnother,
			cluster.Upstream{Host: "h", Port: 5432, Archive: cluster.Archive{Delay: "5min"}}, "", false},
		`{"standby_cluster":{"restore_command":"get %f","archive_cleanup_command":"drop %r","create_replica_methods":["far","basebackup"]}}`: {cluster.FollowsAnother,
			cluster.Upstream{Archive: cluster.Archive{Restore: "get %f", Cleanup: "drop %r"}}, "far basebackup", true},
		`{"synchronous_mode":true,"standby_cluster":{"port":5433}}`: {cluster.FollowsAnother, cluster.Upstream{}, "", false},
	} {
		d, bad := cluster.DecodeConfig([]byte(document), 1)
		e, _, err := config.NewEffective(file, d)
		if err = errors.Join(err, bad); err != nil {
			t.Fatal(err)
		}
		l := limits(&e)
		if l.Type != want.kind || l.Remote != want.up || l.NoLeaderClone != want.alone || l.Sync.Mode.Active() {
			t.Errorf("%s: have %s, %+v, no leader needed %v, synchronous %v, want %+v", document, l.Type, l.Remote, l.NoLeaderClone, l.Sync.Mode, want)
		}
		s, err := instanceSettings(&e, cluster.Replica, true, false)
		if err != nil {
			t.Fatal(err)
		}
		var methods []string
		for _, m := range s.CloneMethods {
			methods = append(methods, m.Name)
		}
		if have := strings.Join(methods, " "); have != want.methods {
			t.Errorf("%s: have methods %q, want %q", document, have, want.methods)
		}
	}
}
