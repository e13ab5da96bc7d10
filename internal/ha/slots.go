package ha

import (
	"maps"
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// rememberSlots notes which members' slots are backed by a key, as the lock holder must keep the slot of
// a member for member_slots_ttl after its key is gone (ha.md 2.21, "retention"). The timers start anew when the lock is won from another
// member. It comes before Memory.Former is brought up to date: a new leader keeps the slots of the members that the last one had.
func (v *View) rememberSlots() {
	switch {
	case v.Store == nil:
		return // or a store that is away now and then would keep every slot for ever
	case v.leader() != "" && v.leader() != v.Self:
		v.Memory.SlotSeen = nil
		return
	case !v.mine():
		return
	}
	seen := map[string]time.Time{}
	if v.Memory.SlotSeen == nil {
		for _, name := range v.Store.Status.RetainSlots {
			seen[name] = v.Now
		}
		for _, m := range v.Memory.Former {
			if !m.Tags.NoStream() {
				seen[cluster.SlotName(m.Name)] = v.Now
			}
		}
	}
	for name, at := range v.Memory.SlotSeen {
		if v.since(at) < v.Limits.SlotsTTL {
			seen[name] = at
		}
	}
	for _, m := range v.Store.Members {
		if !m.Tags.NoStream() {
			seen[cluster.SlotName(m.Name)] = v.Now
		}
	}
	v.Memory.SlotSeen = seen
}

// slots compares the physical slots of members with what they should be (ha.md 2.21). A slot that somebody
// uses, a permanent one and one of a stranger's kind is never dropped.
func (v *View) slots() (SyncSlots, bool) {
	want := v.wantedSlots()
	var a SyncSlots
	for _, name := range slices.Sorted(maps.Keys(want)) {
		i := slices.IndexFunc(v.Postgres.Slots, func(s cluster.Slot) bool { return s.Name == name })
		switch {
		case i < 0:
			a.Want = append(a.Want, SlotWant{Name: name, Advance: want[name]})
		case !v.Postgres.Slots[i].Active && want[name] > v.Postgres.Slots[i].Restart && v.Postgres.Slots[i].Type == "physical":
			a.Want = append(a.Want, SlotWant{Name: name, Advance: want[name]})
		}
	}
	if !v.Limits.Paused {
		for _, s := range v.Postgres.Slots {
			_, wanted := want[s.Name]
			if !wanted && s.Type == "physical" && !s.Active && !s.Failover && !slices.Contains(v.Protected, s.Name) {
				a.Drop = append(a.Drop, s.Name)
			}
		}
	}
	return a, len(a.Want)+len(a.Drop) > 0
}

// wantedSlots maps each slot that must be here to the position it may be advanced to (0: leave it alone).
func (v *View) wantedSlots() map[string]cluster.LSN {
	want := map[string]cluster.LSN{}
	if !v.Limits.UseSlots {
		return want
	}
	own := cluster.SlotName(v.Self)
	everywhere := v.Limits.SlotsTTL > 0
	leads := v.mine()
	for _, m := range v.Store.Members {
		if m.Name == v.Self || m.Tags.NoStream() {
			continue
		}
		from := m.Tags.ReplicateFrom()
		_, known := v.Store.Member(from)
		switch {
		case from == v.Self,
			leads && (from == "" || !known || everywhere),
			!leads && everywhere && !v.Tags.NoFailover:
			want[cluster.SlotName(m.Name)] = v.advance(cluster.SlotName(m.Name), from)
		}
	}
	if everywhere {
		for name := range v.Memory.SlotSeen {
			if _, ok := want[name]; !ok {
				want[name] = 0
			}
		}
		if !leads && !v.Tags.NoFailover {
			for _, name := range v.Store.Status.RetainSlots {
				if _, ok := want[name]; !ok {
					want[name] = v.advance(name, "")
				}
			}
		}
	}
	delete(want, own)
	return want
}

// advance is how far a replica may move a slot that nobody uses here: to where its consumer is on the
// leader, never past our own replay (V17).
func (v *View) advance(name, from string) cluster.LSN {
	if v.mine() || from == v.Self {
		return 0
	}
	return min(v.Store.Status.Slots[name], v.Postgres.Replayed)
}

// status is what the lock holder publishes, if it has changed (dcs.md 1.7).
func (v *View) status() (WriteStatus, bool) {
	p := &v.Postgres
	s := cluster.Status{Optime: p.End(), Slots: v.ownSlots()}
	if v.Limits.UseSlots && v.Limits.SlotsTTL > 0 {
		for name := range v.Memory.SlotSeen {
			if !slices.Contains(v.Protected, name) {
				s.RetainSlots = append(s.RetainSlots, name)
			}
		}
		slices.Sort(s.RetainSlots)
	}
	old := v.Store.Status
	same := old.Revision != 0 && old.Optime == s.Optime && maps.Equal(old.Slots, s.Slots) && slices.Equal(old.RetainSlots, s.RetainSlots)
	s.Revision = old.Revision
	return WriteStatus{s}, !same && p.End() != 0
}

// ownSlots maps the slots of this primary to what their consumers need, and our own name to where we are.
func (v *View) ownSlots() map[string]cluster.LSN {
	slots := map[string]cluster.LSN{}
	for _, slot := range v.Postgres.Slots {
		at := slot.Restart
		if slot.Type == "logical" {
			at = slot.ConfirmedFlush
		}
		if at != 0 {
			slots[slot.Name] = at
		}
	}
	if v.Limits.UseSlots && v.Limits.SlotsTTL > 0 {
		slots[cluster.SlotName(v.Self)] = v.Postgres.End()
	}
	return slots
}
