package rig

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Writer inserts numbered rows, one after the other, into whichever member accepts them, and remembers which were acknowledged.
type Writer struct {
	mu     sync.Mutex
	acked  []int
	stop   context.CancelFunc
	ended  chan struct{}
	target []*Member
}

// StartWriter makes the table on the first member and begins.
func StartWriter(t testing.TB, primary *Member, others ...*Member) *Writer {
	t.Helper()
	if _, err := primary.SQL("create table written (n int primary key)"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &Writer{stop: stop, ended: make(chan struct{}), target: append([]*Member{primary}, others...)}
	go w.run(ctx)
	t.Cleanup(w.Stop)
	return w
}

func (w *Writer) run(ctx context.Context) {
	defer close(w.ended)
	for n, at := 1, 0; ctx.Err() == nil; {
		if err := w.session(ctx, w.target[at], &n); err != nil {
			at = (at + 1) % len(w.target)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond): // between two attempts, as an application would
			}
		}
	}
}

// session writes until the member refuses. A row whose answer got lost keeps its number to itself: a number that is missing is one error.
func (w *Writer) session(ctx context.Context, m *Member, n *int) error {
	conn, err := m.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, 10*time.Second) // a busy machine takes its time, and that is no error
		_, err := conn.Exec(limited, "insert into written values ($1)", *n)
		cancel()
		*n++
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.acked = append(w.acked, *n-1)
		w.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond): // a pace that the machine can follow
		}
	}
	return nil
}

// Acked is how many rows were acknowledged so far.
func (w *Writer) Acked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// Advance waits until more rows are acknowledged.
func (w *Writer) Advance(t testing.TB) {
	t.Helper()
	n := w.Acked()
	Wait(t, "more rows are acknowledged", func() bool { return w.Acked() > n+10 })
}

// Stop ends the writing.
func (w *Writer) Stop() {
	w.stop()
	<-w.ended
}

// Check stops the writing; every acknowledged row must be on the member.
func (w *Writer) Check(t testing.TB, m *Member) {
	t.Helper()
	w.Stop()
	text, err := m.SQL("select n from written")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		have[line] = true
	}
	lost := 0
	for _, n := range w.acked {
		if !have[strconv.Itoa(n)] {
			lost++
		}
	}
	if lost > 0 || len(w.acked) == 0 {
		t.Errorf("%s lacks %d of %d acknowledged rows", m.Name, lost, len(w.acked))
	}
	t.Logf("%d rows acknowledged", len(w.acked))
}
