package main

import (
	"encoding/xml"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func moment(ms int) time.Time { return time.UnixMilli(int64(ms)) }

func at(milliseconds ...int) (acks []ack) {
	for i, ms := range milliseconds {
		acks = append(acks, ack{id: int64(i), at: moment(ms)})
	}
	return acks
}

func TestLongestGap(t *testing.T) {
	for _, tt := range []struct {
		name       string
		acks       []ack
		begin, end int
		want       int
	}{
		{"from the last row before to the first after", at(0, 10, 20, 520, 530), 25, 600, 500},
		{"a row on its way at the event still counts as before", at(0, 10, 30, 530), 25, 600, 500},
		{"an outage before does not count", at(0, 900, 910, 960, 970), 905, 970, 50},
		{"an outage after does not count", at(0, 10, 20, 30, 930), 15, 25, 10},
		{"one that has not ended counts until the end", at(0, 10), 15, 400, 390},
		{"the longer one of two", at(0, 100, 110, 400), 5, 400, 290},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := longestGap(tt.acks, moment(tt.begin), moment(tt.end)); got != time.Duration(tt.want)*time.Millisecond {
				t.Errorf("have %s, want %d ms", got, tt.want)
			}
		})
	}
}

func TestMissingRowsAreReportedOnce(t *testing.T) {
	w := &writer{gone: map[int64]bool{}}
	acks, have := at(0, 10, 20), map[int64]bool{0: true, 2: true}
	if got := w.compare(acks, have); got != 1 {
		t.Errorf("have %d missing, want 1", got)
	}
	if got := w.compare(acks, have); got != 0 {
		t.Errorf("have %d missing when asked again, want 0", got)
	}
}

func TestParseStat(t *testing.T) {
	line := []byte("42 (a) b) S 1 40 40 0 -1 4194560 9 9 0 0 100 20 3 4 20 0 5 0 1 1 1\n")
	group, cpu, err := parseStat(line)
	if err != nil || group != 40 || cpu != 1270*time.Millisecond {
		t.Errorf("have group %d, CPU %s, %v, want 40, 1.27s", group, cpu, err)
	}
	if _, _, err := parseStat([]byte("42 (a) S 1 40")); err == nil {
		t.Error("a line that is cut off: have no error")
	}
}

func TestParseMemory(t *testing.T) {
	text := []byte("00400000-7ffd r 0 0 0 [rollup]\nRss:               31250 kB\nPss:               15625 kB\nPss_Anon: 5 kB\n")
	if rss, pss := parseMemory(text, "Rss:"), parseMemory(text, "Pss:"); rss != 32 || pss != 16 {
		t.Errorf("have %g and %g MB, want 32 and 16", rss, pss)
	}
}

func TestParseRequests(t *testing.T) {
	got, err := parseRequests(strings.NewReader(`# HELP grpc_server_msg_received_total Total
grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 70
grpc_server_msg_received_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 7
grpc_server_msg_received_total{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"} 1.2e+03
`))
	if err != nil || len(got) != 2 || got["Put"] != 7 || got["LeaseKeepAlive"] != 1200 {
		t.Errorf("have %v, %v, want 7 Put and 1200 LeaseKeepAlive", got, err)
	}
	if _, err := parseRequests(strings.NewReader("up 1\n")); err == nil {
		t.Error("metrics without such counters: have no error")
	}
}

func TestSeries(t *testing.T) {
	for _, tt := range []struct {
		s    series
		want string
	}{
		{series{}, "not measured"},
		{series{failures: []string{"x"}}, "**1 failed**"},
		{series{values: []float64{2}}, "**2.00** (n=1)"},
		{series{values: []float64{9, 1, 2}}, "**2.00** (1.00 to 9.00, n=3)"},
		{series{values: []float64{9, 1, 2, 3}, failures: []string{"x"}}, "**2.50** (1.00 to 9.00, n=4), **1 failed**"},
	} {
		if got := tt.s.String(); got != tt.want {
			t.Errorf("have %q, want %q", got, tt.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	values := func(v ...float64) series { return series{values: v} }
	for _, tt := range []struct {
		name string
		aim  aim
		ours series
		want string
	}{
		{"the median counts", aim{below: 1}, values(0.1, 0.2, 5), "met"},
		{"the worst counts", aim{below: 1, worst: true}, values(0.1, 0.2, 5), "**not met**"},
		{"at the limit", aim{below: 1}, values(1), "**not met**"},
		{"one failure", aim{below: 1}, series{values: []float64{0.1}, failures: []string{"x"}}, "**not met**"},
		{"nothing measured", aim{below: 1}, series{}, "unknown"},
		{"nothing to compare with", aim{none: true}, values(1), "unknown"},
	} {
		if got := tt.aim.verdict(tt.ours); got != tt.want {
			t.Errorf("%s: have %s, want %s", tt.name, got, tt.want)
		}
	}
}

// Every failure and every lost row must be in the report.
func TestRender(t *testing.T) {
	r := newResults()
	f := facts{date: "today", rounds: 2, settings: allSettings, complete: true}
	k := func(measure, system string) key { return key{measure, "quick", system} }
	r.add(k("switchover", "Regent"), 0.2)
	r.add(k("switchover", "Patroni"), 2)
	r.fail(k("switchover", "Patroni"), errors.New("round 2: nobody leads\nlog"))
	r.add(k("lost-node", "Regent"), 3)
	r.add(k("lost-node", "Regent"), 4)
	r.add(k("rest-new", "Regent"), 5000)
	r.add(k("rest-new", "Patroni"), 1000)
	got := render(f, r)
	for _, want := range []string{
		"| write outage at switchover, s | quick | **0.200** (n=1) | **2.00** (n=1), **1 failed** | 10.0 × | < 0.3 s | met |",
		"| quick | **7** (n=2) | not measured | | | |",
		"| any | **5000** (n=1) | **1000** (n=1) | 5.00 × |  |  |",
		"Failures: 1.\n\n- Patroni quick, switchover: round 2: nobody leads\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("have no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "interrupted") {
		t.Error("a complete run is called interrupted")
	}
	f.complete = false
	if !strings.Contains(render(f, r), "interrupted") {
		t.Error("an interrupted run is not called so")
	}
}

// Every outage is a dot of its system, at its place, and every failure a cross.
func TestPlot(t *testing.T) {
	r := newResults()
	r.add(key{"switchover", "quick", "Regent"}, 1)
	r.add(key{"switchover", "quick", "Regent"}, 0.0001)
	r.add(key{"node", "quick", "Patroni"}, 20)
	r.fail(key{"node", "quick", "Patroni"}, errors.New("nobody leads"))
	r.add(key{"cpu", "quick", "Regent"}, 5)
	got := plot(facts{rounds: 2, settings: allSettings}, r)
	if err := xml.Unmarshal([]byte(got), new(struct{})); err != nil {
		t.Errorf("have %v in\n%s", err, got)
	}
	for want, n := range map[string]int{"fill-opacity": 3, "✕": 1, "at switchover, quick": 1, "at switchover, default": 0, "Regent 1.00 s": 1} {
		if have := strings.Count(got, want); have != n {
			t.Errorf("%q: have it %d times, want %d, in\n%s", want, have, n, got)
		}
	}
	if a, b, c := across(0.01), across(1), across(100); a != plotLeft || c != plotWidth-plotRight || math.Abs(b-(a+c)/2) > 0.01 {
		t.Errorf("have 0.01, 1 and 100 s at %g, %g, %g, want them at equal distances", a, b, c)
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"--quick"})
	if err != nil || o.rounds != 1 || o.idle != 20*time.Second || len(o.settings) != 1 || o.settings[0] != quick {
		t.Errorf("--quick: have %+v, %v", o, err)
	}
	if o, err = parse([]string{"--quick", "--rounds=4", "--settings=default,quick"}); err != nil || o.rounds != 4 || !slices.Equal(o.settings, allSettings) {
		t.Errorf("--quick with others: have %+v, %v, want the others to win", o, err)
	}
	for _, args := range [][]string{{"--rounds=0"}, {"--cases=x"}, {"--settings=x"}, {"--only=x"}, {"--patroni=x"}, {"x"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v: have no error", args)
		}
	}
}
