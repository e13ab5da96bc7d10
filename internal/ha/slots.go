package ha

import (
	"fmt"
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

// wantedSlot is what a slot here should be.
type wantedSlot struct {
	cluster.PermanentSlot
	used    bool        // somebody is expected to use it here: it is not moved, nor made anew for what it holds back
	advance cluster.LSN // where its consumer is, as far as it may be moved here; 0: not known
}

// fits says whether that slot is of the kind that is wanted.
func (w *wantedSlot) fits(s cluster.Slot) bool {
	return s.Type == w.Type && (w.Type == cluster.PhysicalSlot || s.Database == w.Database && s.Plugin == w.Plugin)
}

// broken says why a slot must be made anew; empty: it is all right (ha.md 2.21, "drop & recreate").
func (w *wantedSlot) broken(s cluster.Slot) string {
	switch {
	case !w.fits(s):
		return "it is of another kind"
	case w.Type == cluster.PhysicalSlot && s.WALStatus == "lost":
		return "its WAL is gone"
	case w.Type == cluster.PhysicalSlot && s.Restart == 0:
		return "it reserves no WAL"
	case w.Type == cluster.PhysicalSlot && s.HasXmin && !w.used:
		return "it holds back vacuum for nobody"
	}
	return ""
}

// slots compares the slots here with what they should be (ha.md 2.21). A slot that somebody uses, one that is to be ignored and one whose
// entry cannot be used are never dropped; in pause, and while the configuration is not known, none is.
func (v *View) slots() (SyncSlots, bool) {
	want := v.wantedSlots()
	drops := !v.Limits.Paused && v.Store.Config.Usable
	var a SyncSlots
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w, s := want[name], v.slot(name)
		physical := w.Type == cluster.PhysicalSlot
		if w.used {
			w.advance = 0
		}
		switch {
		case s == nil && physical:
			a.Want = append(a.Want, SlotWant{Name: name, Advance: w.advance})
		case s == nil, s.Active, v.Limits.Slots.Leaves(*s):
		case w.broken(*s) != "" && !drops:
		case w.broken(*s) != "" && physical:
			a.Want = append(a.Want, SlotWant{Name: name, Advance: w.advance, Anew: w.broken(*s)})
		case w.broken(*s) != "", v.uselessCopy(s) && drops:
			a.Drop = append(a.Drop, name)
		case physical && w.advance > s.Restart:
			a.Want = append(a.Want, SlotWant{Name: name, Advance: w.advance})
		}
	}
	for _, s := range v.Postgres.Slots {
		if _, wanted := want[s.Name]; drops && !wanted && !s.Active && !v.Limits.Slots.Leaves(s) {
			a.Drop = append(a.Drop, s.Name)
		}
	}
	return a, len(a.Want)+len(a.Drop) > 0
}

// slot returns the slot of that name, if it is here.
func (v *View) slot(name string) *cluster.Slot {
	i := slices.IndexFunc(v.Postgres.Slots, func(s cluster.Slot) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &v.Postgres.Slots[i]
}

// wantedSlots are the slots that must be here, by name.
func (v *View) wantedSlots() map[string]wantedSlot {
	want := map[string]wantedSlot{}
	if !v.Limits.UseSlots {
		return want
	}
	physical := func(name string, used bool, advance cluster.LSN) {
		if _, ok := want[name]; !ok {
			want[name] = wantedSlot{PermanentSlot: cluster.PermanentSlot{Name: name, Type: cluster.PhysicalSlot}, used: used, advance: advance}
		}
	}
	everywhere := v.Limits.SlotsTTL > 0
	leads := v.mine()
	published := v.Store.Status.Slots
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
			used := from == v.Self || leads && (from == "" || !known)
			physical(cluster.SlotName(m.Name), used, v.advance(m))
		}
	}
	if everywhere {
		for name := range v.Memory.SlotSeen {
			physical(name, true, 0)
		}
		if !leads && !v.Tags.NoFailover {
			for _, name := range v.Store.Status.RetainSlots {
				physical(name, false, v.upTo(published[name]))
			}
		}
	}
	for _, p := range v.Limits.Slots.Permanent {
		_, taken := want[p.Name]
		switch {
		case taken: // a member's slot of that name goes first
		case p.Type == cluster.PhysicalSlot && v.keepsPermanent(p):
			physical(p.Name, leads, v.upTo(published[p.Name]))
		case p.Type == cluster.LogicalSlot && v.Limits.keepsLogical(v.Self, v.Tags, v.Store, leads):
			want[p.Name] = wantedSlot{PermanentSlot: p, used: leads, advance: v.upTo(published[p.Name])}
		}
	}
	delete(want, cluster.SlotName(v.Self))
	return want
}

// keepsPermanent says whether that physical slot belongs here.
func (v *View) keepsPermanent(p cluster.PermanentSlot) bool {
	other := p.ClusterType != "" && (p.ClusterType == cluster.FollowsAnother) != v.standby()
	return !other && (v.mine() || !v.Tags.NoFailover)
}

// advance is how far a slot of a member that does not stream from here may be moved: to where that member is, by what the leader publishes. The
// slot of one that streams from another member is moved on the leader, too: nobody else would, and WAL would pile up there. What its key says of
// it counts as far as it has replayed, which is on its disk, and on our timeline only: what it has beyond the end of another one is to be rewound.
func (v *View) advance(m cluster.Member) cluster.LSN {
	from := m.Tags.ReplicateFrom()
	if from == v.Self {
		return 0
	}
	_, cascades := v.Store.Member(from)
	cascades = cascades && from != "" && from != m.Name
	target := v.Store.Status.Slots[cluster.SlotName(m.Name)]
	if v.mine() {
		target = 0
	}
	leader, _ := v.Store.Member(v.leader())
	if (cascades && from != v.leader() || !v.mine() && olderThan4(leader)) && m.Timeline != 0 && m.Timeline == v.Postgres.Timeline {
		target = max(target, m.ReplayLSN)
	}
	return v.upTo(target)
}

// olderThan4 says whether a leader does not publish the slots of members.
func olderThan4(m cluster.Member) bool {
	version := m.AgentVersion()
	return len(version) > 0 && version[0] < 4
}

// upTo bounds a position to what we have ourselves (V17).
func (v *View) upTo(at cluster.LSN) cluster.LSN {
	if v.Postgres.InRecovery {
		return min(at, v.Postgres.Replayed)
	}
	return min(at, v.Postgres.Flush)
}

// heed moves the slots of a standby to where their consumers are by what a leader without the store has told (ha.md 2.18 O3). None is made and none is
// dropped: what should be here is in the store.
func (v *View) heed(d *Decision) {
	told := v.Lock.Told
	idle := d.Reason == StoreAway || d.Reason == Promised
	if !idle || !told.At.After(v.Memory.Heard) || v.since(told.At) >= v.Limits.TTL || !v.Limits.UseSlots || v.Limits.Paused || v.Job != nil || v.Lock.Held {
		return
	}
	p := &v.Postgres
	if !p.Queried || !p.InRecovery {
		return
	}
	d.Memory.Heard = told.At
	var a SyncSlots
	var tend TendSlots
	for i := range p.Slots {
		s := &p.Slots[i]
		to := v.upTo(told.Slots[s.Name])
		permanent := slices.IndexFunc(v.Limits.Slots.Permanent, func(w cluster.PermanentSlot) bool { return w.Name == s.Name })
		switch {
		case s.Active, s.Restart == 0, s.HasXmin && s.Type == cluster.PhysicalSlot, s.WALStatus == "lost", v.Limits.Slots.Leaves(*s), v.streamsFromHere(s.Name):
		case s.Type == cluster.PhysicalSlot && to > s.Restart:
			a.Want = append(a.Want, SlotWant{Name: s.Name, Advance: to})
		case s.Type == cluster.PhysicalSlot, permanent < 0, v.uselessCopy(s):
		case (&wantedSlot{PermanentSlot: v.Limits.Slots.Permanent[permanent]}).fits(*s) && to > s.ConfirmedFlush:
			tend.Advance = append(tend.Advance, SlotMove{PermanentSlot: v.Limits.Slots.Permanent[permanent], To: to})
		}
	}
	if len(a.Want) > 0 {
		d.Actions = append(d.Actions, a)
	}
	if len(tend.Advance) > 0 {
		d.Actions = append(d.Actions, tend)
	}
}

// streamsFromHere says whether a slot is of a member that streams from us, as far as we know: what the leader knows of it does not count.
func (v *View) streamsFromHere(slot string) bool {
	return slices.ContainsFunc(v.Memory.Former, func(m cluster.Member) bool {
		return cluster.SlotName(m.Name) == slot && m.Tags.ReplicateFrom() == v.Self
	})
}

// status is what the lock holder publishes, if it has changed (dcs.md 1.7).
func (v *View) status() (WriteStatus, bool) {
	p := &v.Postgres
	s := cluster.Status{Optime: p.End(), Slots: v.ownSlots()}
	if v.Limits.UseSlots && v.Limits.SlotsTTL > 0 {
		for name := range v.Memory.SlotSeen {
			if !v.Limits.permanent(name) {
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

// permanent says whether the configuration has a slot of that name.
func (l *Limits) permanent(name string) bool {
	return slices.ContainsFunc(l.Slots.Permanent, func(p cluster.PermanentSlot) bool { return p.Name == name })
}

// ownSlots maps the slots of this primary to what their consumers need, and our own name to where we are. Without retention only the
// permanent ones are published. Failover slots are PostgreSQL's own matter.
func (v *View) ownSlots() map[string]cluster.LSN {
	slots := map[string]cluster.LSN{}
	all := v.Limits.UseSlots && v.Limits.SlotsTTL > 0
	for _, slot := range v.Postgres.Slots {
		at := slot.Restart
		if slot.Type == cluster.LogicalSlot && at != 0 {
			at = slot.ConfirmedFlush
		}
		if at != 0 && !slot.Failover && (all || v.Limits.permanent(slot.Name)) {
			slots[slot.Name] = at
		}
	}
	if all {
		slots[cluster.SlotName(v.Self)] = v.Postgres.End()
	}
	return slots
}

// conflicts tells of permanent logical slots that cannot be made because a member's slot has their name.
func (v *View) conflicts() (list []string) {
	want := v.wantedSlots()
	for _, p := range v.Limits.Slots.Permanent {
		if w, ok := want[p.Name]; ok && w.Type != p.Type {
			list = append(list, fmt.Sprintf("logical slot %s: a member's slot has that name; choose another one", p.Name))
		}
	}
	return list
}
