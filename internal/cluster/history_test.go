package cluster

import (
	"fmt"
	"testing"
)

func TestContinueHistory(t *testing.T) {
	stored := History{Present: true, Entries: []HistoryEntry{{1, 0x100, "no recovery target specified", "2026-01-01T00:00:00+00:00", "pg1"}, {2, 0x900, "elsewhere", "2026-01-02T00:00:00+00:00", "pg9"}}}
	file := func(entries ...HistoryEntry) []HistoryEntry { return entries }
	for _, c := range []struct {
		name  string
		local []HistoryEntry
		tl    Timeline
		want  []HistoryEntry
	}{
		{"the next one", file(HistoryEntry{1, 0x100, "r", "", ""}, HistoryEntry{2, 0x200, "r", "now", ""}), 3,
			file(HistoryEntry{1, 0x100, "r", "2026-01-01T00:00:00+00:00", "pg1"}, HistoryEntry{2, 0x200, "r", "now", "pg2"})},
		{"two numbers were skipped", file(HistoryEntry{1, 0x150, "r", "now", ""}), 4,
			file(HistoryEntry{1, 0x150, "r", "", ""}, HistoryEntry{2, 0x150, "number skipped", "", ""}, HistoryEntry{3, 0x150, "number skipped", "", "pg2"})},
		{"no history file", nil, 3, nil},
	} {
		have := stored.Continue(c.local, c.tl, "pg2")
		if fmt.Sprint(have) != fmt.Sprint(c.want) {
			t.Errorf("%s: have %v, want %v", c.name, have, c.want)
		}
		if n := (History{Present: true, Entries: have}).ClusterTimeline(); len(have) > 0 && n != c.tl {
			t.Errorf("%s: the history implies timeline %d, want %d", c.name, n, c.tl)
		}
	}
}
