package harness

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/regent-ha/regent/test/rig/rows"
)

// Reached watches how much of what a leader acknowledges has reached one of its standbys, until the leader's PostgreSQL ends. What a crash
// may cost is what was acknowledged after Reached.At: how many rows those are depends on the machine.
type Reached struct {
	leader *Member
	writer *Writer

	mu sync.Mutex
	at time.Time
}

// Reached begins to watch, and returns when something has reached the standby.
func (w *Writer) Reached(t testing.TB, leader, standby *Member) *Reached {
	t.Helper()
	r := &Reached{leader: leader, writer: w}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { stop(); <-ended })
	conn, err := pgx.Connect(ctx, leader.dsn())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		defer rows.HangUp(conn)
		r.watch(ctx, conn, standby.Name)
	}()
	Eventually(t, Patience, "rows of "+leader.Name+" have reached "+standby.Name, func() bool { return !r.At().IsZero() })
	return r
}

func (r *Reached) watch(ctx context.Context, conn *pgx.Conn, standby string) {
	type mark struct {
		at  time.Time
		end uint64 // of the WAL that had been flushed at least then
	}
	var marks []mark
	for rows.Rest(ctx, 20*time.Millisecond) {
		at := time.Now()
		var own, there float64 // numeric; exact up to 2^53
		err := conn.QueryRow(ctx, "select pg_current_wal_flush_lsn() - '0/0', coalesce(max(flush_lsn - '0/0'), 0) from pg_stat_replication where application_name = $1", standby).Scan(&own, &there)
		if err != nil {
			return // it has ended, or is no primary any more
		}
		marks = append(marks, mark{at, uint64(own)})
		for len(marks) > 0 && marks[0].end <= uint64(there) {
			r.mu.Lock()
			r.at = marks[0].at
			r.mu.Unlock()
			marks = marks[1:]
		}
	}
}

// At is a moment: whatever the leader had acknowledged before it has reached the standby's disk.
func (r *Reached) At() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// Since is how many rows the leader has acknowledged after that moment.
func (r *Reached) Since() (rows int) { return AckedBy(r.writer.Acks(), r.leader, r.At()) }

// Unsent is how many rows may be missing on who leads after the leader was told to stop: none if it leads again, or if its PostgreSQL could
// end in order, in time; else as after a crash.
func (r *Reached) Unsent(next *Member) (rows int) {
	if next == r.leader {
		return 0
	}
	for _, cut := range []string{"did not stop in time", "does not take the last WAL", "the guard has killed PostgreSQL"} {
		if r.leader.Logged(cut) {
			return r.Since()
		}
	}
	return 0
}
