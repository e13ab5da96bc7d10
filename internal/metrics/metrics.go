// Package metrics counts what one agent does, for Prometheus. All names begin with regent_; every sample
// carries the labels scope and name, as Patroni's metrics do. Patroni's own metrics are not here: package
// rest writes them from the published status (rest-api.md section 13).
//
//	regent_info                              gauge, 1; label version
//	regent_lease_remaining_seconds           gauge; how long the leader lock is certainly ours, 0 when it is not
//	regent_guard_alive                       gauge; 1: the process that kills PostgreSQL when the lock runs out lives
//	regent_guard_armed                       gauge; 1: it will, unless the lock is renewed
//	regent_guard_deadline_seconds            gauge; in how many seconds, 0 when it is not armed
//	regent_guard_kills_total                 counter; how often it has killed since the machine started
//	regent_failover_possible                 gauge, of the leader; 1: another member would lead if this one were lost now, 0: nobody would
//	regent_failover_loss_bytes               gauge, of the leader; WAL that would be lost then; label heir: who would lead
//	regent_failover_lost_bytes               gauge; WAL that the last failover has lost, once the member that has it is back; labels timeline, member, fate
//	regent_watchdog_active                   gauge; 1: a hardware watchdog resets the machine unless the lock is renewed
//	regent_decisions_total                   counter; label reason
//	regent_store_requests_total              counter; labels operation and result
//	regent_store_request_duration_seconds    histogram; label operation
//	regent_go_*, regent_process_*            what the Go runtime and the kernel say about this process
//
// Methods may be called from any goroutine; those of a nil *Metrics do nothing.
package metrics

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Metrics are the counters of one agent.
type Metrics struct {
	registry  *prometheus.Registry
	own       prometheus.Registerer // prefixes and labels what is registered
	decisions *prometheus.CounterVec
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

// New makes the counters of the member name of the cluster scope, run by that version of Regent.
func New(scope, name, version string) *Metrics {
	registry := prometheus.NewRegistry()
	own := prometheus.WrapRegistererWith(prometheus.Labels{"scope": scope, "name": name},
		prometheus.WrapRegistererWithPrefix("regent_", registry))
	m := &Metrics{
		registry: registry,
		own:      own,
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "decisions_total", Help: "Decisions of the loop, by their reason.",
		}, []string{"reason"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "store_requests_total", Help: "Requests to the distributed configuration store, by operation and result.",
		}, []string{"operation", "result"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "store_request_duration_seconds", Help: "How long requests to the distributed configuration store took.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}, []string{"operation"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "info", Help: "Always 1; the label tells the version of Regent.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	own.MustRegister(info, m.decisions, m.requests, m.durations,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Lease names the function that tells how long the lock is still ours; at most 0: it is not. Call it once.
func (m *Metrics) Lease(remaining func() time.Duration) {
	if m == nil {
		return
	}
	m.own.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lease_remaining_seconds", Help: "How long the leader lock is certainly held by this member, 0 when it is not.",
	}, func() float64 { return max(remaining(), 0).Seconds() }))
}

// Guard is what is told of guard and watchdog.
type Guard struct {
	Alive, Armed, Watchdog bool
	Kills                  int
	Left                   time.Duration
}

// Guard names the function that tells of the guard. Call it once.
func (m *Metrics) Guard(now func() Guard) {
	if m == nil {
		return
	}
	gauge := func(name, help string, value func(Guard) float64) {
		m.own.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(now()) }))
	}
	bit := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge("guard_alive", "Value is 1 if the guard, which kills PostgreSQL when the leader lock runs out, is alive, 0 otherwise.", func(g Guard) float64 { return bit(g.Alive) })
	gauge("guard_armed", "Value is 1 if the guard kills PostgreSQL unless the leader lock is renewed, 0 otherwise.", func(g Guard) float64 { return bit(g.Armed) })
	gauge("guard_deadline_seconds", "How long until the guard kills PostgreSQL unless the leader lock is renewed, 0 if it is not armed.", func(g Guard) float64 { return max(g.Left, 0).Seconds() })
	gauge("watchdog_active", "Value is 1 if a hardware watchdog is active, 0 otherwise.", func(g Guard) float64 { return bit(g.Watchdog) })
	m.own.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "guard_kills_total", Help: "How often the guard has killed PostgreSQL since the machine started.",
	}, func() float64 { return float64(now().Kills) }))
}

// Risk names the function that tells what losing this leader would cost: who would lead, empty when nobody would, and the bytes of WAL that
// would be lost; ok is false when it does not lead. Call it once.
func (m *Metrics) Risk(now func() (heir string, bytes uint64, ok bool)) {
	if m != nil {
		m.own.MustRegister(risk(now))
	}
}

// risk is there only on the leader, and the loss only when there is an heir: a value that means nothing would be summed up by somebody.
type risk func() (heir string, bytes uint64, ok bool)

var (
	possible = prometheus.NewDesc("failover_possible", "Value is 1 if another member would lead if this one were lost now, 0 if nobody would.", nil, nil)
	loss     = prometheus.NewDesc("failover_loss_bytes", "Bytes of WAL that would be lost if this leader were lost now, as it knows itself.", []string{"heir"}, nil)
)

func (now risk) Describe(to chan<- *prometheus.Desc) { to <- possible; to <- loss }

func (now risk) Collect(to chan<- prometheus.Metric) {
	heir, bytes, ok := now()
	switch {
	case !ok:
	case heir == "":
		to <- prometheus.MustNewConstMetric(possible, prometheus.GaugeValue, 0)
	default:
		to <- prometheus.MustNewConstMetric(possible, prometheus.GaugeValue, 1)
		to <- prometheus.MustNewConstMetric(loss, prometheus.GaugeValue, float64(bytes), heir)
	}
}

// Lost names the function that tells what the last failover has cost; ok is false when that is not known. Call it once.
func (m *Metrics) Lost(now func() (l cluster.Loss, ok bool)) {
	if m != nil {
		m.own.MustRegister(lost(now))
	}
}

// lost is there only when it is known: that nobody has said so does not mean that nothing was lost.
type lost func() (cluster.Loss, bool)

var lostBytes = prometheus.NewDesc("failover_lost_bytes", "Bytes of WAL that the last failover has lost, as the member found out that has, or had, them.", []string{"timeline", "member", "fate"}, nil)

func (now lost) Describe(to chan<- *prometheus.Desc) { to <- lostBytes }

func (now lost) Collect(to chan<- prometheus.Metric) {
	if l, ok := now(); ok {
		to <- prometheus.MustNewConstMetric(lostBytes, prometheus.GaugeValue, float64(l.Bytes()), strconv.Itoa(int(l.Timeline)), l.Member, string(l.Fate))
	}
}

// Decided counts a decision. Reasons are few and stable words.
func (m *Metrics) Decided(reason string) {
	if m != nil {
		m.decisions.WithLabelValues(reason).Inc()
	}
}

// StoreRequest counts a request to the store, named after the method of dcs.Store in lower case, and how it ended.
func (m *Metrics) StoreRequest(operation string, took time.Duration, err error) {
	if m != nil {
		m.requests.WithLabelValues(operation, result(err)).Inc()
		m.durations.WithLabelValues(operation).Observe(took.Seconds())
	}
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, dcs.ErrHeld):
		return "held"
	case errors.Is(err, dcs.ErrNotHeld):
		return "not_held"
	case errors.Is(err, dcs.ErrConflict):
		return "conflict"
	case errors.Is(err, dcs.ErrDenied):
		return "denied"
	case errors.Is(err, context.Canceled):
		return "canceled"
	default:
		return "unavailable"
	}
}

// Write writes everything in Prometheus' text format.
func (m *Metrics) Write(w io.Writer) error {
	if m == nil {
		return nil
	}
	families, err := m.registry.Gather() // what could be gathered comes with the error
	for _, f := range families {
		if _, e := expfmt.MetricFamilyToText(w, f); e != nil {
			return errors.Join(err, e)
		}
	}
	return err
}
