package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Status is the document of GET /.
type Status struct {
	Primary  *Member  `json:"primary"` // null: nobody leads
	Replicas []Member `json:"replicas"`
	Store    string   `json:"store"` // "read" or "away"
	Held     int64    `json:"held"`  // clients that wait
}

// Member is one that clients are led to.
type Member struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Ready   bool   `json:"ready"` // takes new clients
}

func (p *Proxy) status() Status {
	s := p.primary.state()
	out := Status{Store: "read", Replicas: []Member{}}
	if s.away {
		out.Store = "away"
	}
	if s.to.member != "" {
		out.Primary = &Member{s.to.member, s.to.address, s.usable}
	}
	for _, port := range p.ports {
		out.Held += port.held.Load()
	}
	list, _ := p.replicas.state()
	for _, t := range list {
		out.Replicas = append(out.Replicas, Member{t.member, t.address, true})
	}
	return out
}

// serveStatus answers GET /, /liveness, /readiness and /metrics until ctx ends.
func (p *Proxy) serveStatus(ctx context.Context, l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p.status())
	})
	mux.HandleFunc("GET /liveness", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readiness", func(w http.ResponseWriter, _ *http.Request) {
		if !p.primary.state().usable {
			http.Error(w, "there is no primary to lead clients to", http.StatusServiceUnavailable)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry(), promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second}
	p.tasks.Go(func() {
		<-ctx.Done()
		server.Close()
	})
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		p.Log.Error("serve the status of the proxy", "error", err)
	}
}

// registry reads the numbers when they are asked for.
func (p *Proxy) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	with := prometheus.WrapRegistererWithPrefix("regent_proxy_", r)
	yes := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) {
		with.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f))
	}
	counter := func(name, help string, labels prometheus.Labels, f func() int64) {
		with.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(f()) }))
	}
	gauge("primary_ready", "1: new clients are led to a primary, 0: they wait.", nil, func() float64 { return yes(p.primary.state().usable) })
	gauge("store_away", "1: the store cannot be read.", nil, func() float64 { return yes(p.primary.state().away) })
	gauge("replicas", "Replicas that clients are led to.", nil, func() float64 { list, _ := p.replicas.state(); return float64(len(list)) })
	for name, port := range p.ports {
		l := prometheus.Labels{"port": name}
		gauge("sessions", "Clients that are connected to a member.", l, func() float64 { return float64(port.sessions.Load()) })
		gauge("held", "Clients that wait for a member.", l, func() float64 { return float64(port.held.Load()) })
		counter("sessions_total", "Clients that have been connected to a member.", l, port.total.Load)
		counter("refused_total", "Clients that got nobody.", l, port.refused.Load)
		counter("client_bytes_total", "Bytes of clients, of sessions that have ended.", l, port.up.Load)
		counter("member_bytes_total", "Bytes of members, of sessions that have ended.", l, port.down.Load)
	}
	counter("cut_total", "Sessions that were closed because the leader changed.", nil, p.primary.cuts.Load)
	return r
}
