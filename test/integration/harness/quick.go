package harness

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/regent-ha/regent/test/rig/pressure"
)

// Span is from one moment to another.
type Span struct{ From, To time.Time }

// Since is the span that ends now.
func Since(from time.Time) Span { return Span{from, time.Now()} }

// Took is how long it is.
func (s Span) Took() time.Duration { return s.To.Sub(s.From) }

// Quick fails when something took longer than its limit. The time in which some process of the machine waited for a processor or a
// disk, or in which this one was not run, is taken off: where everything waits most of the time, durations say nothing about the agent.
func Quick(t testing.TB, what string, took Span, limit time.Duration) {
	t.Helper()
	waited := machine.waited(took)
	text := fmt.Sprintf("%s: %s, in which the machine was waited for %s", what, took.Took().Round(time.Millisecond), waited.Round(time.Millisecond))
	switch {
	case took.Took()-waited <= limit:
		t.Log(text)
	case pressure.CPU() > 70:
		t.Logf("%s, want at most %s, but processes wait for a processor %.0f%% of the time: not counted", text, limit, pressure.CPU())
	default:
		t.Errorf("%s, want at most %s", text, limit)
	}
}

// machine notes all the time how long it was waited for.
var machine = ledger{stalled: pressure.Stalled, now: time.Now}

// tick is how often it is looked at.
const tick = 50 * time.Millisecond

// ledger adds up from look to look how long the machine was waited for.
type ledger struct {
	stalled func() time.Duration // since the machine started
	now     func() time.Time
	once    sync.Once

	mu    sync.Mutex
	looks []look
	last  time.Duration // what stalled said at the last look
}

// look is one moment, and how long was waited in total before it.
type look struct {
	at     time.Time
	waited time.Duration
}

// watch begins to look, once; it goes on until this process ends.
func (l *ledger) watch() {
	l.once.Do(func() {
		l.look()
		go func() {
			for {
				time.Sleep(tick)
				l.look()
			}
		}()
	})
}

// look notes how long was waited since the last look: as long as the kernel says that processes waited, but at least for as long as this look
// comes late, since a kernel does not know when its own machine was not run.
func (l *ledger) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, stalled := l.now(), l.stalled()
	if len(l.looks) > 0 {
		before := l.looks[len(l.looks)-1]
		passed := at.Sub(before.at)
		l.looks = append(l.looks, look{at, before.waited + min(max(stalled-l.last, passed-tick, 0), passed)})
	} else {
		l.looks = []look{{at, 0}}
	}
	l.last = stalled
}

// waited is how much of a span was waited for the machine.
func (l *ledger) waited(s Span) time.Duration {
	l.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := time.Duration(0)
	for i := 1; i < len(l.looks); i++ {
		a, b := l.looks[i-1], l.looks[i]
		inside := minTime(b.at, s.To).Sub(maxTime(a.at, s.From))
		if inside > 0 { // what was waited in it may have been all in the part that lies inside
			sum += min(b.waited-a.waited, inside)
		}
	}
	return sum
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
