package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/regent-ha/regent/test/chaos/history"
)

const look = 200 * time.Millisecond

// watch notes who holds the lock and what becomes of the data directories, until the context ends.
func (p *play) watch(ctx context.Context) {
	led := ""
	copies := map[string]copyOf{}
	for sleep(ctx, look) {
		if s, err := p.keys.Snapshot(ctx); err == nil && s.Leader.Name != led {
			led = s.Leader.Name
			p.record.Note(history.Event{Leader: &history.Leader{At: p.record.Now(), Member: led}})
		}
		for _, m := range p.site.members {
			had, has := copies[m.name], m.copy()
			if had.inode != 0 && has.inode != had.inode && !m.aside(had.inode) {
				w := history.Wiped{At: p.record.Now(), Member: m.name, Timeline: had.timeline, Others: map[string]uint32{}}
				for _, other := range p.site.members {
					if c := other.copy(); other != m && c.inode != 0 {
						w.Others[other.name] = c.timeline
					}
				}
				p.record.Note(history.Event{Wiped: &w})
				p.say("  %s: the data of %s on timeline %d is gone; others: %v", w.At, m.name, w.Timeline, w.Others)
			}
			copies[m.name] = has
		}
	}
}

// copyOf is a whole data directory; no inode: there is none, or one that is being made.
type copyOf struct {
	inode    uint64
	timeline uint32
}

func (m *member) copy() copyOf {
	tl := m.timeline()
	if tl == 0 {
		return copyOf{}
	}
	return copyOf{inode(m.data), tl}
}

// aside says whether a data directory has only been moved.
func (m *member) aside(number uint64) bool {
	versions, _ := filepath.Glob(filepath.Join(m.disk, "*", "PG_VERSION"))
	for _, v := range versions {
		if inode(filepath.Dir(v)) == number {
			return true
		}
	}
	return false
}

// inode is that of a data directory's control file's directory, which nothing but a new copy replaces.
func inode(data string) uint64 {
	info, err := os.Stat(filepath.Join(data, "global"))
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Ino
}
