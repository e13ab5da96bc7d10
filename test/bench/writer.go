package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	writeEvery     = 10 * time.Millisecond
	reconnectEvery = 5 * time.Millisecond
	writeLimit     = 2 * time.Second // of one insert; its outcome is unknown then
	connectLimit   = time.Second     // for each host
)

// writer inserts numbered rows, one after the other, wherever the cluster takes writes, as an application would: through a connection
// string that names all members. A number is used once, so an acknowledged row that is missing later is lost.
type writer struct {
	dsn string

	mu    sync.Mutex
	acks  []ack // in the order of time
	gone  map[int64]bool
	last  error
	acked chan struct{} // closed at the next acknowledgement
	stop  context.CancelFunc
	ended chan struct{}
}

// ack is a row whose commit was acknowledged.
type ack struct {
	id   int64
	at   time.Time
	on   int // the port of the server that did
	conn int // the how-manieth connection it was
}

// prepare waits until the cluster takes a table, and returns when that was.
func prepare(ctx context.Context, dsn string) (time.Time, error) {
	var last error
	for {
		if conn, err := connect(ctx, dsn); err != nil {
			last = err
		} else {
			_, last = conn.Exec(ctx, "create table if not exists bench (id bigint primary key, at timestamptz not null default clock_timestamp())")
			hangUp(conn)
			if last == nil {
				return time.Now(), nil
			}
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("make the writer's table: %w; the last attempt: %w", context.Cause(ctx), last)
		case <-time.After(reconnectEvery):
		}
	}
}

// write starts a writer, which ends with halt.
func write(ctx context.Context, dsn string) *writer {
	w := &writer{dsn: dsn, gone: map[int64]bool{}, acked: make(chan struct{}), ended: make(chan struct{})}
	ctx, w.stop = context.WithCancel(ctx)
	go func() {
		defer close(w.ended)
		w.run(ctx)
	}()
	return w
}

func (w *writer) halt() {
	w.stop()
	<-w.ended
}

func (w *writer) run(ctx context.Context) {
	var conn *pgx.Conn
	defer func() { hangUp(conn) }()
	next := time.NewTimer(0)
	made, port := 0, 0
	for id := int64(1); ; id++ {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		begun := time.Now()
		if conn == nil {
			var err error
			if conn, err = connect(ctx, w.dsn); err != nil {
				w.failed(err)
				next.Reset(reconnectEvery)
				continue
			}
			made++
			port = conn.PgConn().Conn().RemoteAddr().(*net.TCPAddr).Port
		}
		if err := insert(ctx, conn, id); err != nil {
			w.failed(err)
			hangUp(conn)
			conn = nil
			next.Reset(reconnectEvery)
			continue
		}
		w.acknowledged(ack{id, time.Now(), port, made})
		next.Reset(max(0, writeEvery-time.Since(begun)))
	}
}

// connect finds the member that takes writes.
func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	c.ConnectTimeout = connectLimit
	c.DefaultQueryExecMode = pgx.QueryExecModeExec // one round trip, also on a new connection
	ctx, cancel := context.WithTimeout(ctx, 2*connectLimit)
	defer cancel()
	return pgx.ConnectConfig(ctx, c)
}

func insert(ctx context.Context, conn *pgx.Conn, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	_, err := conn.Exec(ctx, "insert into bench (id) values ($1)", id)
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

func (w *writer) acknowledged(a ack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acks = append(w.acks, a)
	w.last = nil
	close(w.acked)
	w.acked = make(chan struct{})
}

func (w *writer) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = err
}

// latest is the last acknowledgement so far; zero before the first.
func (w *writer) latest() ack {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.acks) == 0 {
		return ack{}
	}
	return w.acks[len(w.acks)-1]
}

// until waits for an acknowledgement that is as wanted.
func (w *writer) until(ctx context.Context, want func(ack) bool, limit time.Duration) error {
	timeout := time.After(limit)
	for {
		w.mu.Lock()
		next := w.acked
		w.mu.Unlock()
		if want(w.latest()) {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout:
			w.mu.Lock()
			defer w.mu.Unlock()
			return fmt.Errorf("write: have waited %s; the writer's last error: %w", limit, errors.Join(w.last, errSlow))
		}
	}
}

// rows waits for so many more rows.
func (w *writer) rows(ctx context.Context, count int, limit time.Duration) error {
	have := 0
	return w.until(ctx, func(ack) bool { have++; return have > count }, limit)
}

var errSlow = errors.New("the cluster takes no writes, or takes them too slowly")

// outage is the longest time without an acknowledgement that touches the span from begin to end.
func (w *writer) outage(begin, end time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return longestGap(w.acks, begin, end)
}

// longestGap is the longest time between two acknowledgements of which the earlier is before end and the later after begin. An
// outage that has not ended by the last acknowledgement counts until end.
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

// missing counts the rows that were acknowledged before now and are not in the primary's table. Each is reported once.
func (w *writer) missing(ctx context.Context) (missing, acknowledged int, err error) {
	w.mu.Lock()
	want := w.acks[:len(w.acks):len(w.acks)]
	w.mu.Unlock()
	conn, err := connect(ctx, w.dsn)
	if err != nil {
		return 0, len(want), fmt.Errorf("read back the writer's rows: %w", err)
	}
	defer hangUp(conn)
	rows, err := conn.Query(ctx, "select id from bench")
	if err != nil {
		return 0, len(want), fmt.Errorf("read back the writer's rows: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return 0, len(want), fmt.Errorf("read back the writer's rows: %w", err)
	}
	have := make(map[int64]bool, len(ids))
	for _, id := range ids {
		have[id] = true
	}
	return w.compare(want, have), len(want), nil
}

func (w *writer) compare(want []ack, have map[int64]bool) (missing int) {
	for _, a := range want {
		if !have[a.id] && !w.gone[a.id] {
			w.gone[a.id] = true
			missing++
		}
	}
	return missing
}
