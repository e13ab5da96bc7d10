package scenario

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience is how long the writer waits for an answer before it connects anew: an application that wants short outages.
const patience = 500 * time.Millisecond

// pace is the pause between two rows.
const pace = 5 * time.Millisecond

// Writer inserts numbered rows through the primary Service and remembers which were acknowledged, and when.
type Writer struct {
	dsn   string
	stop  context.CancelFunc
	ended chan struct{}

	mu    sync.Mutex
	acked map[int]bool
	last  time.Time
	gap   [2]time.Time // the longest time between two acknowledged rows since Mark
	// complain is told what a session ended with.
	complain func(string)
}

// Write begins, on a cluster that is whole.
func (c *Cluster) Write(t testing.TB) *Writer {
	t.Helper()
	ip, err := c.serviceIP(t.Context(), c.Name)
	if err != nil {
		t.Fatal(err)
	}
	password, err := c.password(t.Context(), "superuser")
	if err != nil {
		t.Fatal(err)
	}
	dsn := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", password), Host: ip + ":5432", Path: "/postgres", RawQuery: "sslmode=disable&application_name=writer"}
	w := &Writer{dsn: dsn.String(), ended: make(chan struct{}), acked: map[int]bool{}, last: time.Now()}
	// kube-proxy hears of the leader later than we do.
	c.until(t, "the Service leads to the leader", func() error { return w.prepare(t.Context()) })
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	w.stop = stop
	go w.run(ctx)
	t.Cleanup(w.Stop)
	return w
}

func (w *Writer) prepare(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "create table if not exists written (n int primary key)")
	return err
}

func (w *Writer) run(ctx context.Context) {
	defer close(w.ended)
	for n := 1; ctx.Err() == nil; n++ { // a row whose answer got lost keeps its number to itself
		if err := w.session(ctx, &n); err != nil && ctx.Err() == nil {
			w.mu.Lock()
			if w.complain != nil {
				w.complain("the writer: " + err.Error())
			}
			w.mu.Unlock()
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// session writes until the server refuses or does not answer in time.
func (w *Writer) session(ctx context.Context, n *int) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 50*time.Millisecond)
		defer cancel()
		_ = conn.Close(limited)
	}()
	for ; ctx.Err() == nil; *n++ {
		limited, cancel := context.WithTimeout(ctx, patience)
		_, err := conn.Exec(limited, "insert into written values ($1)", *n)
		cancel()
		if err != nil {
			return err
		}
		w.note(*n)
		pause(ctx, pace)
	}
	return nil
}

// connect is patient only for so long: a connection that began while kube-proxy still led to the old address stays there, and nobody
// answers it any more.
func (w *Writer) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return pgx.Connect(ctx, w.dsn)
}

func (w *Writer) note(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.acked[n] = true
	if now.Sub(w.last) > w.gap[1].Sub(w.gap[0]) {
		w.gap = [2]time.Time{w.last, now}
	}
	w.last = now
}

// Mark begins a measurement.
func (w *Writer) Mark() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gap = [2]time.Time{}
}

// Outage is the longest time without an acknowledged row since Mark; what is going on now counts.
func (w *Writer) Outage() (from, to time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.last) > w.gap[1].Sub(w.gap[0]) {
		return w.last, now
	}
	return w.gap[0], w.gap[1]
}

// Tell lets a course know what the writer meets.
func (w *Writer) Tell(f *Course) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.complain = f.note
}

// Lost counts the acknowledged rows that the primary does not have, of how many.
func (w *Writer) Lost(ctx context.Context) (lost, acked int, err error) {
	w.mu.Lock()
	want := make([]int, 0, len(w.acked))
	for n := range w.acked {
		want = append(want, n)
	}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := w.connect(ctx)
	for err != nil && ctx.Err() == nil {
		conn, err = w.connect(ctx)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("count the rows: %w", err)
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "select count(*) from unnest($1::int[]) n where not exists (select from written w where w.n = n)", want).Scan(&lost)
	return lost, len(want), err
}

// Stop ends the writing.
func (w *Writer) Stop() {
	w.stop()
	<-w.ended
}
