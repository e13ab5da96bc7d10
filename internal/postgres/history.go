package postgres

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/regent-ha/regent/internal/cluster"
)

// LocalHistory reads how the given timeline came about: the ended timelines before it, oldest first, from its history
// file in pg_wal. The newest entry's Timestamp is the file's modification time in local time (dcs.md 1.10). Timeline 1 has
// no history.
func (p *Instance) LocalHistory(tl cluster.Timeline) ([]cluster.HistoryEntry, error) {
	if tl <= 1 {
		return nil, nil
	}
	name := filepath.Join(p.Settings().DataDir, "pg_wal", fmt.Sprintf("%08X.history", uint32(tl)))
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read history of timeline %d: %w", tl, err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read history of timeline %d: %w", tl, err)
	}
	entries, err := parseHistory(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if n := len(entries); n > 0 {
		entries[n-1].Timestamp = cluster.FormatTime(info.ModTime())
	}
	return entries, nil
}
