package cluster

import "fmt"

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
	ClusterType      string // of a physical slot: "primary", "standby" or empty for both
}

// Slots returns the permanent slots in order, and a sentence for each entry that is none.
func (c DynamicConfig) Slots() (slots []PermanentSlot, problems []string) {
	var all Value
	for _, name := range []string{"permanent_replication_slots", "permanent_slots", "slots"} {
		if all, _ = c.Document.Get(name); all.Truthy() {
			break
		}
	}
	for _, f := range all.Fields {
		slot, err := permanentSlot(f)
		if err != nil {
			problems = append(problems, fmt.Sprintf("slots.%s: %s; this slot is not kept", f.Name, err))
			continue
		}
		slots = append(slots, slot)
	}
	return slots, problems
}

func permanentSlot(f Field) (PermanentSlot, error) {
	v := f.Value
	s := PermanentSlot{Name: f.Name, Type: v.shown("type"), Database: v.shown("database"), Plugin: v.shown("plugin"), ClusterType: v.shown("cluster_type")}
	logical := s.Database != "" && s.Plugin != ""
	if s.Type == "" && logical {
		s.Type = LogicalSlot
	} else if s.Type == "" {
		s.Type = PhysicalSlot
	}
	switch {
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

// IgnoreSlots returns the slots that must never be dropped.
func (c DynamicConfig) IgnoreSlots() []IgnoredSlot {
	var list []IgnoredSlot
	all, _ := c.Document.Get("ignore_slots")
	for _, v := range all.Items {
		if v.Kind == Object {
			list = append(list, IgnoredSlot{v.shown("name"), v.shown("type"), v.shown("database"), v.shown("plugin")})
		}
	}
	return list
}
