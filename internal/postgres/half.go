package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// A leader that writes a long record sends it a segment at a time. When it is lost then, its standbys have the begin of a record up to the end
// of a segment. The next leader overwrites that record; a standby that reads it needs the segment after it and asks for WAL from there, which
// is not written yet ("requested starting point is ahead of the WAL flush position"). PostgreSQL never goes back by itself: not after
// a restart, and once the leader has come so far its startup process ends with "PANIC: could not open file". Where the begin of a
// record ends inside of a segment, nothing is wrong: that segment is asked for as a whole.

// longestAnyRecord is PostgreSQL's own limit (XLogRecordMaxSize).
const longestAnyRecord = 1020 << 20

// CutHalfRecord stops a standby and takes the begin of a record away from the end of its WAL, so that it asks the leader for the segment
// where its replay ended. Nothing that was ever whole is touched, and the segment as it was is kept beside, named as PostgreSQL names the last one of
// a timeline that is over (".partial"), which it does not read and removes in time. Before PostgreSQL is stopped, the leader must confirm that
// its history continues ours and that it has less than was received. ErrRewindImpossible: there is no half record; any other error: try again.
func (p *Instance) CutHalfRecord(ctx context.Context, leader Source) error {
	v, err := p.Divergence(ctx, leader, 0)
	if err != nil {
		return fmt.Errorf("cut off half a record: %w", err)
	}
	local, why, err := p.position(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("cut off half a record: %w", err)
	case v.Outcome != NotNeeded || why != "" || !local.standby || p.postmaster() == nil:
		return fmt.Errorf("cut off half a record: want a running standby that could follow %s; %s: %s", leader, v, why)
	}
	if err := p.endsInHalf(local); err != nil {
		return err
	}
	if err := p.asksAhead(ctx, leader); err != nil {
		return err
	}
	// A WAL receiver that waits (17.12) does not end with a fast shutdown. An immediate one costs the way from the last restartpoint.
	if err := p.Stop(ctx, StopOptions{Mode: Fast, ImmediateAfter: 5 * time.Second, KillAfter: 30 * time.Second}); err != nil {
		return fmt.Errorf("cut off half a record: %w", err)
	}
	c, err := p.Control(ctx)
	if err != nil {
		return fmt.Errorf("cut off half a record: %w", err)
	}
	if c.State != cluster.ControlShutDownRecovery && c.State != cluster.ControlArchiveRecovery || c.MinRecovery > local.at {
		return fmt.Errorf("cut off half a record at %s: PostgreSQL is %s and needs WAL up to %s: it has moved on meanwhile; try again", local.at, c.State, c.MinRecovery)
	}
	if err := p.cutSegment(local.at, local.timeline); err != nil {
		return fmt.Errorf("cut off half a record at %s on timeline %d: %w", local.at, local.timeline, err)
	}
	return nil
}

// asksAhead checks that the standby has received more than the leader has. Else the rest of the record is on its way.
func (p *Instance) asksAhead(ctx context.Context, leader Source) error {
	rows, err := p.query(ctx, "SELECT pg_last_wal_receive_lsn()::text")
	received := cluster.LSN(0)
	if err == nil && len(rows) == 1 {
		received, err = cluster.ParseLSN(rows[0].At(0))
	}
	if err != nil {
		return fmt.Errorf("cut off half a record: read what was received: %w", err)
	}
	conn, err := p.replicationConnection(ctx, leader)
	if err != nil {
		return fmt.Errorf("cut off half a record: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	f, err := identifyLeader(ctx, conn)
	if err != nil {
		return fmt.Errorf("cut off half a record: ask %s for its position: %w", leader, err)
	}
	if received <= f.flush {
		return fmt.Errorf("cut off half a record: %s was received and %s is at %s, so that the rest can be sent", received, leader, f.flush)
	}
	return nil
}

// endsInHalf checks that a record begins where replay has come to, and that it is not whole.
func (p *Instance) endsInHalf(end position) error {
	_, err := p.readRecordUpTo(end.at, end.timeline, longestAnyRecord)
	switch {
	case err == nil:
		return fmt.Errorf("cut off half a record at %s: it is whole and will be replayed; is replay paused or delayed?", end.at)
	case errors.Is(err, errNoLength), errors.Is(err, fs.ErrNotExist) && !p.hasSegment(end):
		return fmt.Errorf("cut off half a record at %s: %w: no record begins there", end.at, ErrRewindImpossible)
	}
	return nil
}

func (p *Instance) hasSegment(end position) bool {
	r, err := p.walFile(end.at, end.timeline)
	if err == nil {
		r.close()
	}
	return err == nil
}

// cutSegment replaces a segment by one that ends at a position. A crash leaves the old or the new one; PostgreSQL removes the draft when it starts.
func (p *Instance) cutSegment(at cluster.LSN, tl cluster.Timeline) error {
	r, err := p.walFile(at, tl)
	if err != nil {
		return err
	}
	defer r.close()
	draft := filepath.Join(r.dir, "xlogtemp.half")
	out, err := os.OpenFile(draft, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.MultiReader(io.LimitReader(r.file, int64(at%r.segment)), io.LimitReader(zeros{}, int64(r.segment-at%r.segment))))
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	name := r.file.Name()
	if err := os.Link(name, name+".partial"); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Rename(draft, name); err != nil {
		return err
	}
	return syncDir(r.dir)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
