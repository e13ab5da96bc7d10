package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	writeEvery   = 10 * time.Millisecond
	writeLimit   = 2 * time.Second // of one insert; its outcome is unknown then
	connectLimit = time.Second
	readLimit    = time.Minute // of what is asked once, of a cluster that is healthy
)

// writer inserts numbered rows, one after the other, wherever the cluster takes writes, as an application would: through
// a connection string that names all members. A number is used once, so that a row that is there and was not
// acknowledged can be told from one that was.
type writer struct {
	dsn string

	mu    sync.Mutex
	acks  []ack // in the order of time
	gone  map[int64]bool
	last  error         // of the last insert or connection; nil when it went well
	acked chan struct{} // closed at the next acknowledgement
}

// ack is a row whose commit was acknowledged.
type ack struct {
	id int64
	at time.Time
}

func newWriter(dsn string) *writer {
	return &writer{dsn: dsn, gone: map[int64]bool{}, acked: make(chan struct{})}
}

// run writes until ctx ends.
func (w *writer) run(ctx context.Context) {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	var conn *pgx.Conn
	defer func() { hangUp(conn) }()
	for id := int64(1); ; id++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var err error
		if conn == nil {
			if conn, err = w.connect(ctx, connectLimit); err != nil {
				w.failed(err)
				continue
			}
		}
		if err := insert(ctx, conn, id); err != nil {
			w.failed(err)
			hangUp(conn)
			conn = nil
			continue
		}
		w.acknowledged(id, time.Now())
	}
}

func (w *writer) connect(ctx context.Context, limit time.Duration) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig(w.dsn)
	if err != nil {
		return nil, err
	}
	c.ConnectTimeout = limit
	ctx, cancel := context.WithTimeout(ctx, 2*limit)
	defer cancel()
	return pgx.ConnectConfig(ctx, c)
}

// prepare makes the table that rows go to.
func (w *writer) prepare(ctx context.Context) error {
	conn, err := w.connect(ctx, readLimit)
	if err != nil {
		return fmt.Errorf("connect the writer: %w", err)
	}
	defer hangUp(conn)
	if _, err := conn.Exec(ctx, "create table if not exists demo (id bigint primary key, at timestamptz not null default now())"); err != nil {
		return fmt.Errorf("make the writer's table: %w", err)
	}
	return nil
}

func insert(ctx context.Context, conn *pgx.Conn, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	_, err := conn.Exec(ctx, "insert into demo (id) values ($1)", id)
	return err
}

func hangUp(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

func (w *writer) acknowledged(id int64, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acks = append(w.acks, ack{id, at})
	w.last = nil
	close(w.acked)
	w.acked = make(chan struct{})
}

func (w *writer) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = err
}

// writes waits until so many more rows are acknowledged.
func (w *writer) writes(ctx context.Context, rows int, limit time.Duration) error {
	timeout := time.After(limit)
	for range rows {
		w.mu.Lock()
		next := w.acked
		w.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout:
			w.mu.Lock()
			defer w.mu.Unlock()
			return fmt.Errorf("write: have less than %d rows acknowledged in %s although the cluster looks healthy; the writer's last error: %v", rows, duration(limit), w.last)
		}
	}
	return nil
}

// outage is the longest time without an acknowledgement that touches the span from begin to end.
func (w *writer) outage(begin, end time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return longestGap(w.acks, begin, end)
}

// worst is the longest time without an acknowledgement since the first one.
func (w *writer) worst() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.acks) == 0 {
		return 0
	}
	return longestGap(w.acks, w.acks[0].at, w.acks[len(w.acks)-1].at)
}

// longestGap is the longest time between two acknowledgements of which the earlier is before end and the later after
// begin. An outage that has not ended by the last acknowledgement counts until end.
func longestGap(acks []ack, begin, end time.Time) time.Duration {
	longest, previous := time.Duration(0), begin
	for _, a := range acks {
		if a.at.Before(begin) {
			previous = a.at
			continue
		}
		longest = max(longest, a.at.Sub(previous))
		if previous = a.at; !a.at.Before(end) {
			return longest
		}
	}
	return max(longest, end.Sub(previous))
}

// state says how many rows were acknowledged, when the last one was, and what went wrong since.
func (w *writer) state() (count int, last time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.acks); n > 0 {
		last = w.acks[n-1].at
	}
	return len(w.acks), last, w.last
}

// missing compares what was acknowledged before now with the table of the primary. A row is reported as missing once.
func (w *writer) missing(ctx context.Context) (missing, acknowledged int, err error) {
	w.mu.Lock()
	want := w.acks[:len(w.acks):len(w.acks)]
	w.mu.Unlock()
	have, err := w.rows(ctx)
	if err != nil {
		return 0, len(want), fmt.Errorf("read back the writer's rows: %w", err)
	}
	return w.compare(want, have), len(want), nil
}

func (w *writer) compare(want []ack, have map[int64]bool) (missing int) {
	for _, a := range want {
		switch {
		case have[a.id]:
			delete(w.gone, a.id) // it is back: lost once, and found on the other member
		case !w.gone[a.id]:
			w.gone[a.id] = true
			missing++
		}
	}
	return missing
}

func (w *writer) rows(ctx context.Context) (map[int64]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*readLimit)
	defer cancel()
	conn, err := w.connect(ctx, readLimit)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	rows, err := conn.Query(ctx, "select id from demo")
	if err != nil {
		return nil, err
	}
	have := map[int64]bool{}
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error { have[id] = true; return nil })
	return have, err
}
