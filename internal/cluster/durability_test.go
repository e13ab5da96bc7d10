package cluster

import (
	"strings"
	"testing"
)

func TestDurability(t *testing.T) {
	for _, c := range []struct {
		document string
		mode     SyncMode
		survive  Survival
		problem  string // part of it; empty: none
	}{
		{`{}`, SyncOff, SurviveNone, ""},
		{`{"durability":null}`, SyncOff, SurviveNone, ""},
		{`{"durability":{"survive":"none"}}`, SyncOff, SurviveNone, ""},
		{`{"durability":{"survive":"none"},"synchronous_mode":false}`, SyncOff, SurviveNone, ""},
		{`{"durability":{"survive":"one-node"}}`, SyncOn, SurviveNode, ""},
		{`{"durability":{"survive":"one-site"}}`, SyncOn, SurviveSite, ""},
		{`{"durability":{"survive":"one-site"},"synchronous_mode":true}`, SyncOn, SurviveSite, ""},
		{`{"durability":{"survive":"one-site"},"synchronous_mode":null}`, SyncOn, SurviveSite, ""},
		{`{"durability":{"survive":"one-site"},"synchronous_mode":"quorum"}`, SyncQuorum, SurviveSite, ""},
		{`{"durability":{"survive":"one-site"},"synchronous_mode":"quorum","synchronous_mode_strict":true}`, SyncQuorum, SurviveSite, ""},
		{`{"durability":{"survive":"one-site"},"standby_cluster":{"host":"far"}}`, SyncOff, SurviveSite, ""},
		{`{"durability":{"survive":"one-site"},"synchronous_mode":false}`, SyncOff, SurviveSite, "synchronous_mode: have false, want on, quorum or nothing: durability.survive is one-site"},
		{`{"durability":{"survive":"one-node"},"synchronous_mode":"off"}`, SyncOff, SurviveNode, "durability.survive is one-node"},
		{`{"durability":{"survive":"one-site"},"synchronous_node_count":0}`, SyncOn, SurviveSite, "synchronous_node_count: have 0, want at least 1"},
		{`{"durability":{"survive":"two-sites"}}`, SyncOff, SurviveNone, `durability.survive: have "two-sites", want none, one-node or one-site`},
		{`{"durability":{}}`, SyncOff, SurviveNone, "durability.survive: have null"},
		{`{"durability":"one-site"}`, SyncOff, SurviveNone, `durability: have "one-site", want a mapping`},
	} {
		d := config(t, c.document)
		if d.SynchronousMode() != c.mode || d.Survive() != c.survive {
			t.Errorf("%s: have synchronous mode %s, survive %s, want %s, %s", c.document, d.SynchronousMode(), d.Survive(), c.mode, c.survive)
		}
		err := d.Check()
		if c.problem == "" && err != nil || c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%s: have problem %v, want %q", c.document, err, c.problem)
		}
	}
}

// What members cannot give is refused when it is asked for, and not again later: a site may be away then.
func TestRefuseDurability(t *testing.T) {
	members := func(list string) (out []Member) {
		for text := range strings.FieldsSeq(list) {
			name, tags, _ := strings.Cut(text, ":")
			site, tag, tagged := strings.Cut(tags, ",")
			m := Member{Name: name}
			if site != "" {
				m.Tags = m.Tags.With("site", Text(site))
			}
			if tagged {
				m.Tags = m.Tags.With(tag, Flag(true))
			}
			out = append(out, m)
		}
		return out
	}
	for _, c := range []struct{ members, problem string }{
		{"pg1:a pg2:b", ""},
		{"pg1:a pg2:a pg3:b,nofailover pg4:b", ""},
		{"pg1:a pg2:a", "all members are of one site: a"},
		{"pg1:a", "all members are of one site: a"},
		{"pg1:a pg2:b pg3", "members without a tag site: pg3"},
		{"pg1:a pg2:b,nofailover", "at no two sites there is a member that may be synchronous and lead: pg2"},
		{"pg1:a pg2:b,nosync pg3:b,nofailover", "pg2, pg3"},
		{"pg1:a pg2:b,replicatefrom", "pg2"},
	} {
		after := config(t, `{"durability":{"survive":"one-site"}}`)
		err := RefuseDurability(config(t, `{}`), after, members(c.members))
		if c.problem == "" && err != nil || c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%s: have %v, want %q", c.members, err, c.problem)
		}
		if err := RefuseDurability(after, after, members(c.members)); err != nil {
			t.Errorf("%s: have %v when it was asked for before, want no refusal", c.members, err)
		}
		if err := RefuseDurability(config(t, `{}`), config(t, `{"synchronous_mode":false}`), members(c.members)); err != nil {
			t.Errorf("%s: have %v without durability, want no refusal", c.members, err)
		}
	}
	if RefuseDurability(config(t, `{}`), config(t, `{"durability":{"survive":"one-site"},"synchronous_mode":false}`), members("pg1:a pg2:b")) == nil {
		t.Error("have no refusal of a contradiction, want one")
	}
}
