package harness

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/regent-ha/regent/test/rig/rows"
)

// Writer is an application that writes numbered rows to every member all the time, whoever leads, over a session that it keeps as
// long as it lives, and over fresh ones.
type Writer struct {
	cluster *Cluster
	rows    *rows.Writer

	mu   sync.Mutex
	acks []Ack
}

// Ack is one row whose commit was acknowledged.
type Ack struct {
	ID          int64
	Member      string
	Timeline    uint32
	Sent, Acked time.Time
	Kept        bool // over the session that stays open
}

const kept, fresh = "kept", "fresh"

// Write makes the table through the leader and begins to write, also to members of other clusters. It stops at the end of the test.
func (c *Cluster) Write(t testing.TB, others ...*Member) *Writer {
	t.Helper()
	c.Healthy(t, Patience).SQL(t, rows.Create)
	w := &Writer{cluster: c}
	var targets []rows.Target
	for _, m := range append(slices.Clone(c.Members), others...) {
		targets = append(targets, rows.Target{Name: m.Name, DSN: m.dsn()})
	}
	w.rows = rows.Start(targets, []rows.Session{
		{Name: kept, Pause: 20 * time.Millisecond, Limit: 3 * time.Second},
		{Name: fresh, Fresh: true, Pause: 400 * time.Millisecond, Limit: 3 * time.Second},
	}, w.note)
	t.Cleanup(w.Stop)
	w.Advance(t, 5, Patience)
	return w
}

func (w *Writer) note(a rows.Attempt) {
	if a.Outcome != rows.Done {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acks = append(w.acks, Ack{ID: a.ID, Member: a.Member, Timeline: a.Timeline, Sent: a.Sent, Acked: a.Ended, Kept: a.Session == kept})
}

// Stop ends the writing. It may be called again.
func (w *Writer) Stop() { w.rows.Stop() }

// Acks are the acknowledged rows so far.
func (w *Writer) Acks() []Ack {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.acks)
}

// Advance waits for so many more acknowledged rows.
func (w *Writer) Advance(t testing.TB, rows int, limit time.Duration) {
	t.Helper()
	want := len(w.Acks()) + rows
	Eventually(t, limit, fmt.Sprintf("%d more rows are acknowledged", rows), func() bool { return len(w.Acks()) >= want })
}

// AdvanceOn waits until a member has acknowledged a row that was sent after this call. The sessions of a PostgreSQL whose main process was
// killed, or that is being stopped, acknowledge rows for a moment yet.
func (w *Writer) AdvanceOn(t testing.TB, m *Member, limit time.Duration) {
	t.Helper()
	begin := time.Now()
	Eventually(t, limit, m.Name+" accepts rows", func() bool {
		return slices.ContainsFunc(w.Acks(), func(a Ack) bool { return a.Member == m.Name && a.Sent.After(begin) })
	})
}

// Audit stops the writing and checks what the application saw: never two writable members, and every acknowledged row is
// there, but for at most lossy ones. It returns how many are missing.
func (w *Writer) Audit(t testing.TB, lossy int) (missing int) {
	t.Helper()
	return w.AuditOn(t, w.cluster, lossy)
}

// AuditOn is Audit with the leader of another cluster.
func (w *Writer) AuditOn(t testing.TB, c *Cluster, lossy int) (missing int) {
	t.Helper()
	w.Stop()
	acks := w.Acks()
	for _, problem := range TwoPrimaries(acks) {
		t.Error(problem)
	}
	lost := c.missing(t, acks)
	if len(lost) > lossy {
		t.Errorf("%d of %d acknowledged rows are missing on the leader, want at most %d: the first is %+v", len(lost), len(acks), lossy, lost[0])
	}
	t.Logf("%d rows acknowledged, %d missing, at most %d expected, longest outage %s", len(acks), len(lost), lossy, Outage(acks).Took().Round(time.Millisecond))
	return len(lost)
}

// Missing are the rows that the leader lacks.
func (w *Writer) Missing(t testing.TB, acks []Ack) (lost []Ack) {
	t.Helper()
	return w.cluster.missing(t, acks)
}

func (c *Cluster) missing(t testing.TB, acks []Ack) (lost []Ack) {
	t.Helper()
	have := c.rows(t)
	for _, a := range acks {
		if !have[a.ID] {
			lost = append(lost, a)
		}
	}
	return lost
}

// rows are the numbered rows that the leader has.
func (c *Cluster) rows(t testing.TB) map[int64]bool {
	t.Helper()
	leader := c.Leader()
	if leader == nil {
		t.Fatal("no leader to ask which rows there are")
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, leader.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.HangUp(conn)
	found, err := conn.Query(ctx, "select id from numbered")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(found, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[int64]bool, len(ids))
	for _, id := range ids {
		have[id] = true
	}
	return have
}
