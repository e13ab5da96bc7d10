package ha

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// SlotNews is what the work on logical slots beside the loop has shown. It is as old as At.
type SlotNews struct {
	At     time.Time
	Broken []string          // logical slots here that cannot be moved any more: WAL or rows of catalogs that they need are gone
	Leader string            // who was asked for its slots; empty: nobody, or there was no answer
	Xmin   map[string]uint32 // catalog_xmin of each of its slots; 0: none
}

// Copies is what is known of the logical slots of a standby. A copy is safe once the primary keeps the rows of catalogs that it needs because
// of us, and has kept them since the time of the copy: it may be promoted without having missed a change of a table's shape.
type Copies struct {
	Leader  string            // what follows holds for this leader ...
	Pid     int               // ... and this run of PostgreSQL
	Primary map[string]uint32 // catalog_xmin of the slots on the primary when ours there first had one
	Safe    []string
	Copied  time.Time // when slots were last copied
	Tried   time.Time // when that was last tried
}

// keepsLogical says whether a member has the permanent logical slots (ha.md 2.21).
func (l *Limits) keepsLogical(name string, tags Tags, s *cluster.Snapshot, leads bool) bool {
	if l.Type == cluster.FollowsAnother || !l.UseSlots {
		return false
	}
	_, streams := chain(name, tags.NoStream, tags.ReplicateFrom, s, nil)
	return leads || !tags.NoFailover && streams
}

// chain follows a member's upstreams to the one that streams from the primary, and returns that one's slot. pass, if given, hears of each on
// the way. ok is false when one of them does not stream, or they go in a circle (ha.md 2.23).
func chain(name string, nostream bool, from string, s *cluster.Snapshot, pass func(name string)) (slot string, ok bool) {
	for range len(s.Members) + 1 {
		if nostream {
			return "", false
		}
		up, known := s.Member(from)
		if from == "" || from == name || !known || from == s.Leader.Name {
			return cluster.SlotName(name), true
		}
		if pass != nil {
			pass(up.Name)
		}
		name, nostream, from = up.Name, up.Tags.NoStream(), up.Tags.ReplicateFrom()
	}
	return "", false
}

// Feedback says whether hot_standby_feedback must be on for a member: it, or one that streams through it, has permanent logical slots, and the
// primary must keep the rows of catalogs that these need.
func Feedback(self string, own Tags, l Limits, s *cluster.Snapshot) bool {
	logical := slices.ContainsFunc(l.Slots.Permanent, func(p cluster.PermanentSlot) bool { return p.Type == cluster.LogicalSlot })
	if !logical || s == nil {
		return false
	}
	if l.keepsLogical(self, own, s, s.Leader.Name == self) {
		return true
	}
	for _, m := range s.Members {
		tags := Tags{NoFailover: m.Tags.NoFailover(), NoStream: m.Tags.NoStream(), ReplicateFrom: m.Tags.ReplicateFrom()}
		through := false
		chain(m.Name, tags.NoStream, tags.ReplicateFrom, s, func(name string) { through = through || name == self })
		if through && l.keepsLogical(m.Name, tags, s, false) {
			return true
		}
	}
	return false
}

// rememberCopies brings what is known of the logical slots here up to date.
func (v *View) rememberCopies() {
	m := &v.Memory.Copies
	if v.Ended != nil && v.Ended.Name == JobCopySlots && v.Ended.At.After(m.Tried) {
		m.Tried = v.Ended.At
		if v.Ended.Error == "" {
			m.Copied = v.Ended.At
		}
	}
	p := &v.Postgres
	if v.Store == nil || v.leader() == "" || !p.Queried {
		return
	}
	if m.Leader != v.leader() || m.Pid != p.Pid {
		m.Leader, m.Pid, m.Primary, m.Safe = v.leader(), p.Pid, nil, nil
	}
	news := v.SlotNews
	if news == nil || news.Leader != m.Leader || !p.InRecovery || news.At.Before(m.Copied) {
		return
	}
	own, ok := chain(v.Self, v.Tags.NoStream, v.Tags.ReplicateFrom, v.Store, nil)
	kept := news.Xmin[own]
	if !ok || kept == 0 {
		return
	}
	if m.Primary == nil {
		m.Primary = news.Xmin
	}
	for name, w := range v.wantedSlots() {
		s := v.slot(name)
		then, there := m.Primary[name]
		if w.Type != cluster.LogicalSlot || s == nil || slices.Contains(m.Safe, name) {
			continue
		}
		if !there { // it was made there since
			m.Primary = maps.Clone(m.Primary)
			then = news.Xmin[name]
			m.Primary[name] = then
		}
		if then != 0 && s.CatalogXmin != 0 && !before(kept, then) && !before(s.CatalogXmin, kept) {
			m.Safe = append(slices.Clone(m.Safe), name)
		}
	}
}

// before compares transaction ids, which go round.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// uselessCopy says whether a logical slot of a standby can never be used and has to be copied anew.
func (v *View) uselessCopy(s *cluster.Slot) bool {
	if s.Type != cluster.LogicalSlot || !v.Postgres.InRecovery || v.mine() {
		return false
	}
	n := v.SlotNews
	told := n != nil && n.At.After(v.Memory.Copies.Copied) && slices.Contains(n.Broken, s.Name)
	return told || s.WALStatus == "lost" || s.Restart == 0
}

// unsafeSlots are the logical slots that are missing here or might miss a change of a table's shape after a promotion.
func (v *View) unsafeSlots() (names []string) {
	if v.Store == nil || !v.Postgres.Queried || !v.Postgres.InRecovery {
		return nil
	}
	for name, w := range v.wantedSlots() {
		if w.Type == cluster.LogicalSlot && (v.slot(name) == nil || !slices.Contains(v.Memory.Copies.Safe, name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// logical is what there is to do about permanent logical slots: what takes long goes on beside the loop, and a copy needs PostgreSQL stopped. They
// are made on the primary, and from there copied and moved (ha.md 2.21).
func (v *View) logical() []Action {
	want := v.wantedSlots()
	var tend TendSlots
	var copies []cluster.PermanentSlot
	checks := false
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w, s := want[name], v.slot(name)
		if w.Type != cluster.LogicalSlot {
			continue
		}
		leads := v.mine()
		safe := slices.Contains(v.Memory.Copies.Safe, name)
		_, published := v.Store.Status.Slots[name]
		switch {
		case s == nil && leads:
			tend.Create = append(tend.Create, w.PermanentSlot)
		case s == nil && published && !v.Limits.Paused && v.since(v.Memory.Copies.Tried) >= copyPause:
			copies = append(copies, w.PermanentSlot)
		case s == nil, leads, v.Limits.Slots.Leaves(*s), w.broken(*s) != "", v.uselessCopy(s):
		default:
			checks = checks || !safe
			if !s.Active && w.advance > s.ConfirmedFlush {
				tend.Advance = append(tend.Advance, SlotMove{PermanentSlot: w.PermanentSlot, To: w.advance})
			}
		}
	}
	leader, known := v.leaderUpstream()
	if len(copies) > 0 && known {
		return []Action{CopySlots{Leader: leader, Slots: copies}}
	}
	if checks && known && (v.SlotNews == nil || v.since(v.SlotNews.At) >= v.Limits.LoopWait/2) {
		tend.Ask = leader
	}
	if len(tend.Create)+len(tend.Advance) == 0 && tend.Ask == (cluster.Upstream{}) {
		return nil
	}
	return []Action{tend}
}

// copyPause is the time between two copies of logical slots: each restarts PostgreSQL.
const copyPause = 30 * time.Second

// lostSlots tells of logical slots of a primary whose WAL is gone. They stay: made anew they would hide from their consumers that changes are missing.
func (v *View) lostSlots() (list []string) {
	for name, w := range v.wantedSlots() {
		if s := v.slot(name); s != nil && w.Type == cluster.LogicalSlot && w.fits(*s) && !v.Postgres.InRecovery && s.WALStatus == "lost" {
			list = append(list, fmt.Sprintf("logical slot %s has lost WAL that its consumer needs: start that one anew, and drop the slot; it is made again", name))
		}
	}
	slices.Sort(list)
	return list
}

// warnOfSlots says which logical slots are not ready for a failover. At a promotion they may have to be made anew; that is no reason against it.
func (v *View) warnOfSlots(d *Decision) {
	d.Unready = v.unsafeSlots()
	promotes := slices.ContainsFunc(d.Actions, func(a Action) bool { _, ok := a.(Promote); return ok })
	if (promotes || d.Reason == Following) && len(d.Unready) > 0 {
		d.Detail += "; logical slots not ready for a failover: " + strings.Join(d.Unready, ", ")
	}
}
