package cluster

import (
	"fmt"
	"slices"
)

// The types of replication slots.
const (
	PhysicalSlot = "physical"
	LogicalSlot  = "logical"
)

// PermanentSlot is a slot that the configuration wants on every primary (config.md 3.1).
type PermanentSlot struct {
	Name             string
	Type             string // PhysicalSlot or LogicalSlot
	Database, Plugin string // of a logical slot
	ClusterType      Type   // of a physical slot: in which kind of cluster it is; empty: in both
}

// SlotRules is what the configuration says about slots.
type SlotRules struct {
	Permanent  []PermanentSlot
	Ignored    []IgnoredSlot
	Unread     []string // names whose entry cannot be used: what is there under such a name stays as it is
	Unreadable bool     // what is meant to stay is not known: no slot is dropped
}

// Leaves says whether a slot is to stay as it is, whatever else is wanted.
func (r *SlotRules) Leaves(s Slot) bool {
	return r.Unreadable || s.Failover || slices.Contains(r.Unread, s.Name) ||
		slices.ContainsFunc(r.Ignored, func(i IgnoredSlot) bool { return i.Fits(s) })
}

// SlotRules returns what is wanted, and a sentence for each part that cannot be used.
func (c DynamicConfig) SlotRules() (r SlotRules, problems []string) {
	var all Value
	for _, name := range []string{"permanent_replication_slots", "permanent_slots", "slots"} {
		if all, _ = c.Document.Get(name); all.Truthy() {
			break
		}
	}
	if all.Truthy() && all.Kind != Object {
		r.Unreadable = true
		problems = append(problems, fmt.Sprintf("slots: have %s, want a mapping; no slot is dropped", all.Kind))
	}
	for _, f := range all.Fields {
		slot, err := permanentSlot(f)
		if err != nil {
			r.Unread = append(r.Unread, f.Name)
			problems = append(problems, fmt.Sprintf("slots.%s: %s; this slot is left as it is", f.Name, err))
			continue
		}
		r.Permanent = append(r.Permanent, slot)
	}
	ignored, _ := c.Document.Get("ignore_slots")
	if ignored.Truthy() && ignored.Kind != Array {
		r.Unreadable = true
		problems = append(problems, fmt.Sprintf("ignore_slots: have %s, want a list of mappings; no slot is dropped", ignored.Kind))
	}
	for i, v := range ignored.Items {
		if v.Kind != Object {
			r.Unreadable = true
			problems = append(problems, fmt.Sprintf("ignore_slots: entry %d is %s, want a mapping; no slot is dropped", i+1, v.Kind))
			continue
		}
		r.Ignored = append(r.Ignored, IgnoredSlot{v.shown("name"), v.shown("type"), v.shown("database"), v.shown("plugin")})
	}
	return r, problems
}

func permanentSlot(f Field) (PermanentSlot, error) {
	v := f.Value
	s := PermanentSlot{Name: f.Name, Type: v.shown("type"), Database: v.shown("database"), Plugin: v.shown("plugin"), ClusterType: Type(v.shown("cluster_type"))}
	logical := s.Database != "" && s.Plugin != ""
	if s.Type == "" && logical {
		s.Type = LogicalSlot
	} else if s.Type == "" {
		s.Type = PhysicalSlot
	}
	switch {
	case s.ClusterType != "" && s.ClusterType != OwnPrimary && s.ClusterType != FollowsAnother:
		return s, fmt.Errorf("cluster_type: have %q, want primary or standby", s.ClusterType)
	case !ValidSlotName(f.Name):
		return s, fmt.Errorf("the name is not usable in PostgreSQL, want up to %d of a-z, 0-9 and _", maxIdentifier)
	case v.Kind != Object && v.Truthy():
		return s, fmt.Errorf("have %s, want a mapping", v.Kind)
	case s.Type != PhysicalSlot && s.Type != LogicalSlot:
		return s, fmt.Errorf("type: have %q, want %s or %s", s.Type, PhysicalSlot, LogicalSlot)
	case s.Type == LogicalSlot && !logical:
		return s, fmt.Errorf("a logical slot needs both database and plugin")
	default:
		return s, nil
	}
}

// IgnoredSlot describes slots that belong to somebody else; an empty property fits all.
type IgnoredSlot struct{ Name, Type, Database, Plugin string }

// Fits says whether a slot is one of those.
func (i IgnoredSlot) Fits(s Slot) bool {
	fits := func(want, have string) bool { return want == "" || want == have }
	return fits(i.Name, s.Name) && fits(i.Type, s.Type) && fits(i.Database, s.Database) && fits(i.Plugin, s.Plugin)
}
