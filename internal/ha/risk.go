package ha

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// Risk is what losing the leader at this moment would cost, as far as the leader itself can tell.
type Risk struct {
	Heir   string      // who would lead; empty: nobody
	Lost   cluster.LSN // bytes of WAL that the leader has written and that it does not know the heir to have
	Synced bool        // synchronous mode: whatever of it is lost was never acknowledged
	Why    string      // why nobody would lead
}

// Risk weighs the others as an election would (ha.md 2.11), by what they confirmed to our walsenders or published last. ok is false when we
// do not lead.
func (v *View) Risk() (r Risk, ok bool) {
	if v.Store == nil || v.leader() != v.Self || !v.primary() || !v.Postgres.Queried {
		return Risk{}, false
	}
	r.Synced = v.syncActive()
	if v.Limits.Paused {
		r.Why = "the cluster is paused"
		return r, true
	}
	heirs := slices.DeleteFunc(slices.Clone(v.Store.Members), func(m cluster.Member) bool {
		return m.Name == v.Self || m.Tags.NoFailover() || !v.elector(m.Name)
	})
	if len(heirs) == 0 {
		r.Why = "no other member may lead"
		return r, true
	}
	best := slices.MaxFunc(heirs, func(a, b cluster.Member) int {
		return cmp.Or(cmp.Compare(v.confirmed(a), v.confirmed(b)), cmp.Compare(a.Tags.FailoverPriority(), b.Tags.FailoverPriority()))
	})
	at, has := v.Postgres.Position(), v.confirmed(best)
	r.Lost = at - min(has, at)
	if has == 0 {
		r.Why = "it is not known that anybody has our WAL"
		return r, true
	}
	if optime := v.Store.Status.Optime; optime > has && optime-has > v.Limits.MaxLag && !r.Synced {
		r.Why = fmt.Sprintf("%s has the most, and is %d bytes behind the published position, more than maximum_lag_on_failover %d", best.Name, optime-has, v.Limits.MaxLag)
		return r, true
	}
	r.Heir = best.Name
	return r, true
}

// confirmed is how much of our WAL a member is known to have. What it has on another timeline may not be ours.
func (v *View) confirmed(m cluster.Member) (at cluster.LSN) {
	if m.Timeline == v.Postgres.Timeline {
		at = max(m.XlogLocation, m.ReceiveLSN, m.ReplayLSN)
	}
	for _, s := range v.Postgres.Walsenders {
		if strings.EqualFold(s.Application, m.Name) {
			at = max(at, s.Write, s.Flush, s.Replay)
		}
	}
	return at
}

// String says it in a line.
func (r Risk) String() string {
	lost := fmt.Sprintf("%d bytes of WAL would be lost", r.Lost)
	switch {
	case r.Heir == "":
		return "nobody would take over: " + r.Why
	case r.Lost == 0:
		lost = "nothing would be lost"
	case r.Synced:
		lost += ", none of it acknowledged (synchronous mode)"
	}
	return r.Heir + " would take over, " + lost
}
