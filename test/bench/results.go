package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// key says what was measured, of whom, with which settings.
type key struct{ measure, settings, system string }

// series is all that was measured of one thing, failures included.
type series struct {
	values   []float64
	failures []string
}

// results collects every measurement. None is dropped.
type results struct {
	mu      sync.Mutex
	series  map[key]*series
	details map[key]map[string]float64
	order   []key // of failures, as they happened
}

func newResults() *results {
	return &results{series: map[key]*series{}, details: map[key]map[string]float64{}}
}

func (r *results) at(k key) *series {
	if r.series[k] == nil {
		r.series[k] = &series{}
	}
	return r.series[k]
}

// add records a value and says so.
func (r *results) add(k key, value float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.at(k)
	s.values = append(s.values, value)
	say(k, number(value))
}

// fail records that there is no value, or that it is not what it must be.
func (r *results) fail(k key, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.at(k)
	s.failures = append(s.failures, err.Error())
	r.order = append(r.order, k)
	say(k, fmt.Sprintf("FAILED: %v", err))
}

// say shows how the run gets on.
func say(k key, what string) {
	fmt.Fprintf(os.Stderr, "%s %-10s %-8s %-16s %s\n", time.Now().Format(time.TimeOnly), k.system, k.settings, k.measure, what)
}

// detail records a part of a value.
func (r *results) detail(k key, part string, value float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.details[k] == nil {
		r.details[k] = map[string]float64{}
	}
	r.details[k][part] = value
}

// of gathers a measure of a system; without settings, those of all of them.
func (r *results) of(measure, settings, system string) series {
	var all series
	for _, k := range slices.SortedFunc(maps.Keys(r.series), compareKeys) {
		if k.measure == measure && k.system == system && (settings == "" || k.settings == settings) {
			all.values = append(all.values, r.series[k].values...)
			all.failures = append(all.failures, r.series[k].failures...)
		}
	}
	return all
}

func compareKeys(a, b key) int {
	return slices.Compare([]string{a.measure, a.settings, a.system}, []string{b.measure, b.settings, b.system})
}

// median is the middle value, or the mean of the two in the middle; there must be one.
func (s series) median() float64 {
	v := slices.Sorted(slices.Values(s.values))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// total is the sum of all values.
func (s series) total() string {
	if len(s.values) == 0 {
		return s.String()
	}
	total := 0.0
	for _, v := range s.values {
		total += v
	}
	return fmt.Sprintf("**%g** (n=%d)", total, len(s.values))
}

// String is median, extremes, and how many values and failures there are.
func (s series) String() string {
	failed := ""
	if n := len(s.failures); n > 0 {
		failed = fmt.Sprintf(", **%d failed**", n)
	}
	switch len(s.values) {
	case 0:
		if failed == "" {
			return "not measured"
		}
		return failed[2:]
	case 1:
		return fmt.Sprintf("**%s** (n=1)%s", number(s.values[0]), failed)
	default:
		return fmt.Sprintf("**%s** (%s to %s, n=%d)%s", number(s.median()), number(slices.Min(s.values)), number(slices.Max(s.values)), len(s.values), failed)
	}
}

// number writes three significant digits.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 0.1:
		return fmt.Sprintf("%.4f", v)
	case v < 1:
		return fmt.Sprintf("%.3f", v)
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
