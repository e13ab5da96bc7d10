package ha

import (
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
)

// Whom hot_standby_feedback is on for: who has permanent logical slots, and who stands between such a member and the primary.
func TestFeedback(t *testing.T) {
	logical := cluster.SlotRules{Permanent: []cluster.PermanentSlot{{Name: "cdc", Type: cluster.LogicalSlot, Database: "app", Plugin: "test_decoding"}}}
	physical := cluster.SlotRules{Permanent: []cluster.PermanentSlot{{Name: "backup", Type: cluster.PhysicalSlot}}}
	for name, c := range map[string]struct {
		rules  cluster.SlotRules
		own    Tags
		more   func(*Limits)
		change func(*cluster.Snapshot)
		want   bool
	}{
		"a replica":                            {rules: logical, want: true},
		"physical slots alone":                 {rules: physical},
		"never to lead":                        {rules: logical, own: Tags{NoFailover: true}},
		"does not stream":                      {rules: logical, own: Tags{NoStream: true}},
		"a standby cluster":                    {rules: logical, more: func(l *Limits) { l.Type = cluster.FollowsAnother }},
		"without slots":                        {rules: logical, more: func(l *Limits) { l.UseSlots = false }},
		"never to lead, and one streams there": {rules: logical, own: Tags{NoFailover: true}, change: streamsFrom("pg3", "pg2"), want: true},
		"and that one is never to lead, too":   {rules: logical, own: Tags{NoFailover: true}, change: streamsFrom("pg3", "pg2", "nofailover")},
		"below one that does not stream":       {rules: logical, own: Tags{ReplicateFrom: "pg3"}, change: streamsFrom("pg3", "", "nostream")},
		"in a circle":                          {rules: logical, own: Tags{ReplicateFrom: "pg3"}, change: streamsFrom("pg3", "pg2")},
	} {
		t.Run(name, func(t *testing.T) {
			b := builder{v: healthyView(epoch, "pg2")}
			b.store(words{noun: "store", list: []string{"leader=pg1"}})
			s := b.v.Store
			for i := range s.Members {
				if m := &s.Members[i]; m.Name == "pg2" && c.own.ReplicateFrom != "" {
					m.Tags = m.Tags.With("replicatefrom", cluster.Text(c.own.ReplicateFrom))
				}
			}
			if c.change != nil {
				c.change(s)
			}
			l := b.v.Limits
			l.Slots = c.rules
			if c.more != nil {
				c.more(&l)
			}
			if have := Feedback("pg2", c.own, l, s); have != c.want {
				t.Errorf("have %v, want %v", have, c.want)
			}
		})
	}
}

func streamsFrom(name, from string, tags ...string) func(*cluster.Snapshot) {
	return func(s *cluster.Snapshot) {
		for i := range s.Members {
			if m := &s.Members[i]; m.Name == name {
				if from != "" {
					m.Tags = m.Tags.With("replicatefrom", cluster.Text(from))
				}
				for _, tag := range tags {
					m.Tags = m.Tags.With(tag, cluster.Flag(true))
				}
			}
		}
	}
}
