package agent

import (
	"fmt"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
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
		s, err := instanceSettings(&e, cluster.Replica)
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
