package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/regent-ha/regent/internal/cluster"
)

// Two timelines may bear the same number: PostgreSQL takes the next one that it has no history file of, and a member that is
// promoted need not know what an earlier leader began before it was lost. pg_rewind and the WAL receiver compare numbers only; a
// standby of the wrong one streams for ever without progress, or replays what does not fit.

// noRewindOfTwins is why pg_rewind cannot be used.
const noRewindOfTwins = "pg_rewind takes two timelines of the same number for one"

// compared is how much of the first record of a timeline is compared: its checksum and its time are in it.
const compared = 64

// twins says whether our timeline and the leader's of the same number are two different ones. ok is false when they are one, as far
// as can be told.
func (p *Instance) twins(ctx context.Context, conn *pgconn.PgConn, local position, leader leaderFacts, history []cluster.HistoryEntry) (v Verdict, ok bool) {
	n := local.timeline
	if n > leader.timeline {
		return v, false
	}
	needed := func(format string, args ...any) (Verdict, bool) {
		v := Verdict{Outcome: Needed, Why: local.String() + "; " + fmt.Sprintf(format, args...)}
		if n == leader.timeline {
			v.NoRewind = noRewindOfTwins
		}
		return v, true
	}
	if n == leader.timeline && max(local.at, local.end) > leader.flush {
		return needed("the leader is on the same timeline, and only at %s: nobody can be ahead of his own leader", leader.flush)
	}
	ours, err := p.LocalHistory(n)
	if n <= 1 || err != nil {
		return v, false
	}
	end := leader.flush // of this timeline, where the leader is
	for len(history) > 0 && history[len(history)-1].Timeline >= n {
		end = history[len(history)-1].LSN
		history = history[:len(history)-1]
	}
	if !sameHistory(ours, history) {
		return needed("the leader's timeline %d has another history: two timelines of the same number", n)
	}
	if len(ours) == 0 {
		return v, false
	}
	fork := ours[len(ours)-1].LSN
	length := min(compared, int(max(local.at, local.end)-fork), int(end-fork))
	if local.at <= fork || end <= fork || length <= 0 {
		return v, false
	}
	mine, err := p.rawWAL(fork, n, length)
	if errors.Is(err, fs.ErrNotExist) {
		return v, false // long ago: the segment is gone
	}
	theirs, err2 := streamed(ctx, conn, fork, n, length)
	if err = errors.Join(err, err2); err != nil {
		p.log.Debug("compare the begin of the timeline with the leader's", "timeline", n, "error", err)
		return v, false
	}
	if !bytes.Equal(mine, theirs) {
		return needed("the leader's timeline %d begins at the same %s with other WAL: two timelines of the same number", n, fork)
	}
	return v, false
}

func sameHistory(a, b []cluster.HistoryEntry) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Timeline != b[i].Timeline || a[i].LSN != b[i].LSN {
			return false
		}
	}
	return true
}

// rawWAL reads bytes of a segment as they are, not beyond its end.
func (p *Instance) rawWAL(at cluster.LSN, tl cluster.Timeline, n int) ([]byte, error) {
	r, err := p.walFile(at, tl)
	if err != nil {
		return nil, err
	}
	defer r.close()
	b := make([]byte, min(n, int(r.segment-at%r.segment)))
	if _, err := r.file.ReadAt(b, int64(at%r.segment)); err != nil {
		return nil, fmt.Errorf("read WAL at %s: %w", at, err)
	}
	return b, nil
}

// streamed gets the same bytes from the leader (PostgreSQL documentation, "Streaming Replication Protocol"). The connection is of no
// use afterwards.
func streamed(ctx context.Context, conn *pgconn.PgConn, at cluster.LSN, tl cluster.Timeline, n int) ([]byte, error) {
	deadline, ok := ctx.Deadline()
	if limit := time.Now().Add(3 * time.Second); !ok || deadline.After(limit) {
		deadline = limit
	}
	if err := conn.Conn().SetDeadline(deadline); err != nil {
		return nil, err
	}
	conn.Frontend().Send(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION PHYSICAL %s TIMELINE %d", at, tl)})
	if err := conn.Frontend().Flush(); err != nil {
		return nil, fmt.Errorf("start replication at %s: %w", at, err)
	}
	const head = 25 // 'w', start, end of WAL, time
	var out []byte
	for len(out) < n {
		m, err := conn.Frontend().Receive()
		if err != nil {
			return nil, fmt.Errorf("receive WAL at %s: %w", at, err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return nil, fmt.Errorf("receive WAL at %s: %s", at, m.Message)
		case *pgproto3.CopyDone:
			return nil, fmt.Errorf("receive WAL at %s: the leader is not on timeline %d any more", at, tl)
		case *pgproto3.CopyData:
			if len(m.Data) > head && m.Data[0] == 'w' {
				out = append(out, m.Data[head:]...)
			}
		}
	}
	return out[:n], nil
}
