package demo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// at makes acknowledgements 1, 2, 3 ... at these milliseconds.
func at(milliseconds ...int) (acks []ack) {
	for i, ms := range milliseconds {
		acks = append(acks, ack{int64(i + 1), moment(ms)})
	}
	return acks
}

func moment(ms int) time.Time { return time.UnixMilli(int64(ms)) }

func TestLongestGap(t *testing.T) {
	for _, c := range []struct {
		name       string
		acks       []ack
		begin, end int
		want       time.Duration
	}{
		{"steady", at(0, 10, 20, 30, 40), 15, 25, 10 * time.Millisecond},
		{"the last row before the event counts", at(0, 10, 500, 510), 15, 505, 490 * time.Millisecond},
		{"a gap before the event does not count", at(0, 900, 910, 930, 940), 905, 935, 20 * time.Millisecond},
		{"a gap after the end does not count", at(0, 10, 20, 30, 900), 5, 25, 10 * time.Millisecond},
		{"a gap that reaches past the end counts", at(0, 10, 900), 5, 25, 890 * time.Millisecond},
		{"the longest of two", at(0, 100, 110, 400, 410), 5, 405, 290 * time.Millisecond},
		{"not over yet", at(0, 10), 15, 1010, time.Second},
		{"nothing was ever written", nil, 100, 350, 250 * time.Millisecond},
	} {
		if have := longestGap(c.acks, moment(c.begin), moment(c.end)); have != c.want {
			t.Errorf("%s: have %s, want %s", c.name, have, c.want)
		}
	}
}

func TestMissingRowsAreReportedOnce(t *testing.T) {
	w := newWriter("")
	acks := at(1, 2, 3, 4) // 5 was sent, and its outcome is unknown
	for _, c := range []struct {
		name string
		have map[int64]bool
		want int
	}{
		{"all are there, one that nobody acknowledged too", map[int64]bool{1: true, 2: true, 3: true, 4: true, 5: true}, 0},
		{"two are gone", map[int64]bool{1: true, 2: true}, 2},
		{"they are still gone", map[int64]bool{1: true, 2: true}, 0},
		{"one is back", map[int64]bool{1: true, 2: true, 3: true}, 0},
		{"and gone again, with another", map[int64]bool{1: true}, 2},
	} {
		if have := w.compare(acks, c.have); have != c.want {
			t.Errorf("%s: have %d missing, want %d", c.name, have, c.want)
		}
	}
}

func TestWorst(t *testing.T) {
	w := newWriter("")
	if have := w.worst(); have != 0 {
		t.Errorf("before the first row: have %s, want 0", have)
	}
	w.acks = at(5000, 5010, 5310, 5320)
	if have := w.worst(); have != 300*time.Millisecond {
		t.Errorf("have %s, want 300ms", have)
	}
}

func TestWritesWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriter("")
		go func() {
			for i := range int64(3) {
				time.Sleep(time.Second)
				w.acknowledged(i, time.Now())
			}
			w.failed(errors.New("nobody is at home"))
		}()
		began := time.Now()
		if err := w.writes(t.Context(), 3, 10*time.Second); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("have %v after %s, want three rows after 3s", err, time.Since(began))
		}
		if err := w.writes(t.Context(), 1, 10*time.Second); err == nil || !strings.Contains(err.Error(), "nobody is at home") {
			t.Errorf("have %v, want the writer's last error", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.writes(ctx, 1, 10*time.Second); !errors.Is(err, context.Canceled) {
			t.Errorf("have %v, want that it was cancelled", err)
		}
		if n, last, err := w.state(); n != 3 || !last.Equal(began.Add(3*time.Second)) || err == nil {
			t.Errorf("have %d, %s, %v", n, last, err)
		}
	})
}
