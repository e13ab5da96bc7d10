package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/internal/cluster"
)

// A standby starts on the newest timeline that it has the history file of, counting up without a gap (findNewestTimeLine in
// timeline.c). A file that it once fetched from a leader whom it could not follow, and who is lost, keeps it from starting:
// "requested timeline 2 is not a child of this server's history". Only a running WAL receiver would fetch the files of the present
// leader. So a stopped instance whose WAL fits gets them before it starts.

var wayMark = []byte("# Regent: nobody has the history of this timeline; the file only leads to a newer one.\n")

// lineage fetches the history files of the timelines after own up to the leader's. One that the leader does not have is a mark.
func lineage(ctx context.Context, conn *pgconn.PgConn, own, leader cluster.Timeline) (map[cluster.Timeline][]byte, error) {
	files := map[cluster.Timeline][]byte{}
	for tl := own + 1; tl <= leader; tl++ {
		text, err := historyText(ctx, conn, tl)
		var refused *pgconn.PgError
		switch {
		case tl < leader && (errors.As(err, &refused) || err == nil && bytes.Equal(text, takenMark)):
			text = wayMark
		case err != nil:
			return nil, fmt.Errorf("fetch the history of timeline %d: %w", tl, err)
		}
		files[tl] = text
	}
	return files, nil
}

// keepLineage writes those that are not here, and moves newer ones aside: a standby would wait for such a timeline, or not start. The newest comes first:
// an older one must not become the newest.
func (p *Instance) keepLineage(files map[cluster.Timeline][]byte, own, leader cluster.Timeline) error {
	for tl := p.newestHistory(leader); tl > leader; tl-- {
		if err := p.moveAside(tl); err != nil {
			return err
		}
	}
	for tl := leader; tl > own; tl-- {
		name := p.historyFile(tl)
		have, err := os.ReadFile(name)
		if err == nil && !bytes.Equal(have, takenMark) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep the history of timeline %d: %w", tl, err)
		}
		if _, err := writeFile(name, string(files[tl]), 0o600); err != nil {
			return fmt.Errorf("keep the history of timeline %d: %w", tl, err)
		}
	}
	return nil
}

// asideMark ends the name of a history file that was moved aside.
const asideMark = ".aside"

// moveHistoriesAside takes away the newest history files until one leads on from what is here. Nobody leads then, so nobody has a file that
// would come after them, and PostgreSQL would never start. One that a restore_command finds again is not helped.
func (p *Instance) moveHistoriesAside(c *cluster.Control) error {
	own := max(c.CheckpointTLI, c.MinRecoveryTLI)
	for tl := p.newestHistory(own); tl > own; tl-- {
		history, err := p.LocalHistory(tl)
		if err != nil {
			return err
		}
		if leadsOn(history, tl, c) {
			return nil
		}
		if err := p.moveAside(tl); err != nil {
			return err
		}
	}
	return nil
}

// newestHistory is the last timeline after that one whose history file is here, counting up without a gap.
func (p *Instance) newestHistory(tl cluster.Timeline) cluster.Timeline {
	for exists(p.historyFile(tl + 1)) {
		tl++
	}
	return tl
}

func (p *Instance) moveAside(tl cluster.Timeline) error {
	if err := os.Rename(p.historyFile(tl), p.historyFile(tl)+asideMark); err != nil {
		return fmt.Errorf("move the history of timeline %d aside, which this server is not on: %w", tl, err)
	}
	return nil
}

// leadsOn says whether a server may start on that timeline, as StartupXLOG checks it.
func leadsOn(history []cluster.HistoryEntry, tl cluster.Timeline, c *cluster.Control) bool {
	on := func(at cluster.LSN) cluster.Timeline {
		for _, h := range history {
			if at < h.LSN {
				return h.Timeline
			}
		}
		return tl
	}
	return on(c.Checkpoint) == c.CheckpointTLI && (c.MinRecovery == 0 || on(c.MinRecovery-1) == c.MinRecoveryTLI)
}

// aside is the newest timeline whose history file was moved aside; 0: none.
func (p *Instance) aside() (newest cluster.Timeline) {
	files, _ := filepath.Glob(filepath.Join(p.Settings().DataDir, "pg_wal", "*.history"+asideMark)) // the pattern is right
	for _, name := range files {
		if n, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".history"+asideMark), 16, 32); err == nil {
			newest = max(newest, cluster.Timeline(n))
		}
	}
	return newest
}
