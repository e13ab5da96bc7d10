package sim

import (
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

// ha0 gives a member its tags. The first has none, so that somebody may lead.
func ha0(r *random, i int) ha.Tags {
	t := ha.Tags{Priority: 1}
	if i == 0 {
		return t
	}
	switch roll := r.below(100); {
	case roll < 6:
		t.NoFailover, t.Priority = true, 0
	case roll < 14:
		t.Priority = 2 + r.below(3)
	}
	if i > 1 && r.chance(6) {
		t.ReplicateFrom = "pg" + string(rune('0'+r.below(i)))
	}
	return t
}

// keyTags are the same as a member key has them.
func keyTags(t ha.Tags) cluster.Tags {
	var tags cluster.Tags
	if t.NoFailover {
		tags = append(tags, cluster.Field{Name: "nofailover", Value: cluster.Flag(true)})
	} else if t.Priority != 1 {
		tags = append(tags, cluster.Field{Name: "failover_priority", Value: cluster.Int(int64(t.Priority))})
	}
	if t.ReplicateFrom != "" {
		tags = append(tags, cluster.Field{Name: "replicatefrom", Value: cluster.Text(t.ReplicateFrom)})
	}
	if t.Site != "" {
		tags = append(tags, cluster.Field{Name: "site", Value: cluster.Text(t.Site)})
	}
	return tags
}
