package demo

import (
	"strings"
	"testing"
	"time"
)

func TestSummary(t *testing.T) {
	var out strings.Builder
	p := &play{screen: &screen{out: &out}}
	var tallies []*tally
	for _, s := range scenes {
		tallies = append(tallies, &tally{scene: s})
	}
	for _, d := range []time.Duration{30, 10, 20, 40} {
		tallies[0].add(outcome{outage: d * time.Second})
	}
	tallies[1].add(outcome{outage: 20200 * time.Millisecond, missing: 1234})
	tallies[2].add(outcome{outage: 87 * time.Millisecond})
	p.summary(tallies)
	for _, want := range []string{
		"rounds       min    median       max  missing\n",
		"a) leader back before its lock expired      4      10 s      20 s      40 s        0\n",
		"b) leader back afterwards                   1    20.2 s    20.2 s    20.2 s    1,234\n",
		"c) replica killed                           1     87 ms     87 ms     87 ms        0\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("have\n%s\nwant %q in it", out.String(), want)
		}
	}
	if strings.Contains(out.String(), "d) ") {
		t.Error("a scene that was not played is summed up")
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 90 {
			t.Errorf("too long for a terminal: %q", line)
		}
	}
}

func TestWhoMayLoseRows(t *testing.T) {
	for _, s := range scenes {
		lost := tally{scene: s, missing: 1}
		if have, want := lost.broken(), s.key != "b"; have != want {
			t.Errorf("scene %s with a missing row: have broken %t, want %t", s.key, have, want)
		}
	}
}

func TestLiveTableIsDrawnInPlace(t *testing.T) {
	var out strings.Builder
	l := &live{screen: &screen{out: &out, terminal: true}}
	l.draw("a\nb\n", "c", view{})
	out.Reset()
	l.draw("a\nb\n", "c\nd", view{})
	if want := "\x1b[3A\x1b[J\x1b[?7la\nb\nc\nd\n\x1b[?7h"; out.String() != want {
		t.Errorf("have %q, want %q", out.String(), want)
	}
}

func TestElsewhereTheTableIsPrintedWhenItChanges(t *testing.T) {
	var out strings.Builder
	l := &live{screen: &screen{out: &out}}
	v := healthy()
	l.draw("first\n", "", v)
	l.draw("the same\n", "", v)
	v.snapshot.Leader.Name = "cluster-1"
	l.draw("second\n", "", v)
	if want := "\nfirst\n\n\nsecond\n\n"; out.String() != want {
		t.Errorf("have %q, want %q", out.String(), want)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if have := number(n); have != want {
			t.Errorf("have %s, want %s", have, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0 ms", 87 * time.Millisecond: "87 ms", 996 * time.Millisecond: "1.0 s", 2 * time.Second: "2 s", 20240 * time.Millisecond: "20.2 s"} {
		if have := duration(d); have != want {
			t.Errorf("have %s, want %s", have, want)
		}
	}
}
