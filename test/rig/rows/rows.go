// Package rows is an application that writes numbered rows to every member of a cluster all the time, each by its own address, whoever
// leads: over sessions that it keeps as long as they live, and over fresh ones. A member that accepts a row is writable, whatever
// it says of itself.
package rows

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Create makes the table, in the statements of the simple protocol.
const Create = "create table if not exists numbered (id bigint primary key, member text not null)"

// Target is a member by its address.
type Target struct{ Name, DSN string }

// Outcome says what is known of a write.
type Outcome string

// The outcomes of a write.
const (
	Done    Outcome = "done"    // acknowledged
	Refused Outcome = "refused" // certainly not written
	Unknown Outcome = "unknown" // the answer got lost
)

// Attempt is one row that was sent.
type Attempt struct {
	ID      int64
	Member  string
	Session string // the kind of session, by name
	Outcome Outcome
	Err     error // why it was not acknowledged

	Timeline    uint32 // on which it was accepted; 0 unless acknowledged
	LSN         uint64 // where the WAL ended before its commit was written; 0 unless acknowledged
	Sent, Ended time.Time
}

// Session is a way to write. Each member gets one of each kind.
type Session struct {
	Name  string
	Fresh bool          // a new connection for each row
	Pause time.Duration // between two rows
	Limit time.Duration // of one row; a session that waits longer is given up
}

const (
	refusePause = 80 * time.Millisecond
	connect     = 2 * time.Second
)

// Writer writes until it is stopped.
type Writer struct {
	next atomic.Int64
	stop context.CancelFunc
	done sync.WaitGroup
	note func(Attempt)
}

// Start begins to write, all kinds of session to all members. It calls note for each attempt, from several goroutines.
func Start(targets []Target, sessions []Session, note func(Attempt)) *Writer {
	ctx, stop := context.WithCancel(context.Background())
	w := &Writer{stop: stop, note: note}
	for _, t := range targets {
		for _, s := range sessions {
			w.done.Go(func() { w.write(ctx, t, s) })
		}
	}
	return w
}

// Stop ends the writing. It may be called again.
func (w *Writer) Stop() {
	w.stop()
	w.done.Wait()
}

// write keeps one session to one member, or makes one after the other.
func (w *Writer) write(ctx context.Context, t Target, s Session) {
	var conn *pgx.Conn
	defer func() { HangUp(conn) }()
	for Rest(ctx, s.Pause) {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = Connect(ctx, t.DSN); err != nil {
				Rest(ctx, refusePause)
				continue
			}
		}
		a := w.insert(ctx, conn, t.Name, s)
		w.note(a)
		if s.Fresh {
			HangUp(conn)
			conn = nil
		} else if a.Err != nil {
			Rest(ctx, refusePause)
		}
	}
}

// Connect opens a session; the application is called writer.
func Connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connect)
	defer cancel()
	return pgx.Connect(ctx, dsn+" application_name=writer")
}

// Where is an expression of SQL: the WAL file that is written now, whose name begins with the timeline, and the position in it.
const Where = "pg_walfile_name(pg_current_wal_insert_lsn()), pg_current_wal_insert_lsn() - '0/0'"

// Timeline reads the timeline off the name of a WAL file.
func Timeline(file string) (timeline uint32, err error) {
	if len(file) != 24 {
		return 0, fmt.Errorf("read the timeline of WAL file %q: want a name of 24 digits", file)
	}
	_, err = fmt.Sscanf(file[:8], "%X", &timeline)
	return timeline, err
}

// insert writes one row. A refusal leaves the session open.
func (w *Writer) insert(ctx context.Context, conn *pgx.Conn, member string, s Session) Attempt {
	ctx, cancel := context.WithTimeout(ctx, s.Limit)
	defer cancel()
	a := Attempt{ID: w.next.Add(1), Member: member, Session: s.Name, Sent: time.Now()}
	var file string
	var at float64 // numeric; exact up to 2^53
	err := conn.QueryRow(ctx, "insert into numbered (id, member) values ($1, $2) returning "+Where, a.ID, a.Member).Scan(&file, &at)
	a.Ended = time.Now()
	if err == nil {
		a.LSN = uint64(at)
		a.Timeline, err = Timeline(file)
	}
	a.Err, a.Outcome = err, Judge(err)
	return a
}

// Judge says what an error tells about a statement that writes. A server that is being shut down may have committed before it said so. That the
// driver calls an error safe to retry is not asked for: it does so also of a commit that waited for a standby when the server was shut down.
func Judge(err error) Outcome {
	var said *pgconn.PgError
	switch {
	case err == nil:
		return Done
	case errors.As(err, &said) && said.Code[:min(3, len(said.Code))] != "57P":
		return Refused
	default:
		return Unknown
	}
}

// Rest waits, and says whether it may go on.
func Rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// HangUp closes a session, at most for a moment; nil is allowed.
func HangUp(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}
