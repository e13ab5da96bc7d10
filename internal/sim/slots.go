package sim

import (
	"slices"

	"github.com/regent-ha/regent/internal/cluster"
)

// permanentSlot is the one that the configuration of some seeds has. Its consumer is none of the members.
const permanentSlot = "backup"

// consume is what that one does: after every fifth row it has everything.
func (s *server) consume() {
	if !s.w.slotRun || len(s.dir.wal)%5 != 0 {
		return
	}
	if o := s.dir.slot(permanentSlot); o != nil {
		o.restart = max(o.restart, s.dir.end())
	}
}

// keepsPermanent says whether a member must have the permanent slot.
func (w *World) keepsPermanent(m *Member, leads bool) bool {
	return w.slotRun && w.peek().Config.UseSlots() && (leads || !m.tags.NoFailover)
}

// published notes how far any leader has said that the consumer of the permanent slot is.
func (w *World) published(value []byte) {
	if s, err := cluster.DecodeStatus(value, 1); err == nil {
		w.oracle.consumed = max(w.oracle.consumed, s.Slots[permanentSlot])
	}
}

// toldSlots is published, by a leader without the store.
func (w *World) toldSlots(slots map[string]cluster.LSN) {
	w.oracle.consumed = max(w.oracle.consumed, slots[permanentSlot])
}

// permanentAsked checks what a member does to the permanent slot: V17.
func (w *World) permanentAsked(s *server, want []slotWant, drop []string) {
	leads := w.peek().Leader.Name == s.m.name
	if slices.Contains(drop, permanentSlot) && w.keepsPermanent(s.m, leads) {
		w.violate("V17", "%s drops the permanent slot", s.m.name)
	}
	for _, x := range want {
		if x.name == permanentSlot && x.advance > w.oracle.consumed {
			w.violate("V17", "%s moves the permanent slot to %s, its consumer is at %s at most", s.m.name, x.advance, w.oracle.consumed)
		}
	}
}
