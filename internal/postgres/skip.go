package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/cluster"
)

// PostgreSQL begins the first timeline whose history file it does not find (findNewestTimeLine in timeline.c). A leader that was lost
// may have begun that one already, and nobody here ever heard of its history. Two timelines of the same number cannot be told apart
// by pg_rewind or a WAL receiver, so the number is taken: a history file without any line in it is enough. A standby that looks for newer
// timelines meanwhile finds that this one is no child of its own, and says so. At a start it would refuse to run: what is left of
// a promotion that did not happen is removed before.

var takenMark = []byte("# Regent: another member began this timeline; the file only keeps its number from being used again.\n")

func (p *Instance) historyFile(tl cluster.Timeline) string {
	return filepath.Join(p.Settings().DataDir, "pg_wal", fmt.Sprintf("%08X.history", uint32(tl)))
}

// takeNumbers makes the next promotion begin a timeline above that one. own is the timeline that recovery follows.
func (p *Instance) takeNumbers(own, above cluster.Timeline) error {
	for tl := own + 1; tl <= above; tl++ {
		f, err := os.OpenFile(p.historyFile(tl), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("take the number of timeline %d: %w", tl, err)
		}
		_, err = f.Write(takenMark)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("take the number of timeline %d: %w", tl, err)
		}
	}
	return nil
}

// releaseNumbers removes what takeNumbers left behind.
func (p *Instance) releaseNumbers() error {
	files, err := filepath.Glob(filepath.Join(p.Settings().DataDir, "pg_wal", "*.history"))
	if err != nil {
		return err
	}
	for _, name := range files {
		if text, err := os.ReadFile(name); err == nil && bytes.Equal(text, takenMark) {
			if err := os.Remove(name); err != nil {
				return fmt.Errorf("remove the mark of a timeline: %w", err)
			}
		}
	}
	return nil
}
