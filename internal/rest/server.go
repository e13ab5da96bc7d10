package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/boottime"
)

// Limits. A stranger may keep a connection busy for a few seconds, no longer, and cannot take all of them.
const (
	headerTime   = 5 * time.Second  // for TLS and the request's head
	bodyTime     = 10 * time.Second // for the request's body
	writeTime    = 10 * time.Second // for our answer to leave
	idleTime     = 30 * time.Second // between two requests
	maxHeader    = 16 << 10
	maxBody      = 1 << 20
	maxConns     = 1024
	closingTime  = 2 * time.Second
	observeTime  = 1500 * time.Millisecond // for an observation of PostgreSQL, whatever happens
	healthAge    = time.Second             // of an observation that a health check may answer from
	documentAge  = 100 * time.Millisecond  // of one that GET /patroni may answer from
	pollInterval = 200 * time.Millisecond  // between two looks at the outcome of a switchover
)

var (
	jsonType = []string{"application/json"}
	textType = []string{"text/html"} // of short messages, which is what Patroni calls them
	pageType = []string{"text/html;charset=utf-8"}
	promType = []string{"text/plain"}
)

// Server answers the REST API of one member.
type Server struct {
	control agent.Control
	log     *slog.Logger
	clock   func() time.Time // boot-time
	wall    func() time.Time
	http    *http.Server

	bodyTime time.Duration
	reads    *reads

	rules     atomic.Pointer[rules]
	lastFacts atomic.Pointer[facts]
	names     nameCache
	listeners chan net.Listener // the newest one, for Serve to take up
	closing   chan struct{}     // closed when Serve ends, for answers that would go on

	mu       sync.Mutex // guards what follows: Reload and Serve
	listener net.Listener
	listen   string
}

// New opens the listener and loads certificates; it answers nothing before Serve.
func New(cfg Config, ctl agent.Control, log *slog.Logger) (*Server, error) {
	s := &Server{control: ctl, log: log, clock: boottime.Now, wall: time.Now, bodyTime: bodyTime, listeners: make(chan net.Listener, 1), closing: make(chan struct{})}
	s.reads = &reads{read: ctl.Snapshot}
	rules, err := newRules(cfg, ctl.Status(), log)
	if err != nil {
		return nil, err
	}
	s.rules.Store(rules)
	l, err := s.open(cfg.Listen)
	if err != nil {
		return nil, err
	}
	s.use(l, cfg.Listen)
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ConnState:         connState,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(func() { close(s.closing) })
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listener.Addr()
}

// Serve answers requests until ctx ends, then closes within seconds. Call it once.
func (s *Server) Serve(ctx context.Context) error {
	type end struct {
		of  net.Listener
		err error
	}
	ended := make(chan end)
	running := 0
	serve := func(l net.Listener) {
		running++
		go func() { ended <- end{l, s.http.Serve(l)} }()
	}
	var failure error
	serve(<-s.listeners)
	for failure == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case l := <-s.listeners:
			serve(l)
		case e := <-ended:
			running--
			if s.inUse(e.of) { // else it was replaced
				failure = fmt.Errorf("serve the REST API on %s: %w", e.of.Addr(), e.err)
			}
		}
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closingTime)
	defer cancel()
	if err := s.http.Shutdown(closing); err != nil {
		s.http.Close()
	}
	s.mu.Lock()
	s.listener.Close()
	s.mu.Unlock()
	for ; running > 0; running-- {
		<-ended
	}
	return failure
}

// Reload takes over a new configuration: listener, certificates, access rules, headers. Connections that are open keep
// what they were accepted with. After an error the old configuration goes on.
func (s *Server) Reload(cfg Config) error {
	if cfg.Metrics == nil {
		cfg.Metrics = s.rules.Load().Metrics
	}
	rules, err := newRules(cfg, s.control.Status(), s.log)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if cfg.Listen != s.listen {
		if err := s.relisten(cfg.Listen); err != nil {
			return err
		}
	}
	s.rules.Store(rules)
	return nil
}

// relisten replaces the listener. Two addresses of the same port cannot always be open at once, so the old one is
// closed when it is in the way, and opened again when the new one cannot be had.
func (s *Server) relisten(address string) error {
	old := s.listener
	l, err := s.open(address)
	if err == nil {
		s.use(l, address)
		return old.Close()
	}
	old.Close()
	if l, err = s.open(address); err == nil {
		s.use(l, address)
		return nil
	}
	l, again := s.open(s.listen)
	if again == nil {
		s.use(l, s.listen)
	}
	return errors.Join(err, again)
}

func (s *Server) inUse(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l == s.listener
}

// use makes l the listener, in the place of one that Serve may not have seen yet.
func (s *Server) use(l net.Listener, address string) {
	select {
	case <-s.listeners:
	default:
	}
	s.listeners <- l
	s.listener, s.listen = l, address
}

// observing bounds a request that may wait for an observation of PostgreSQL.
func (s *Server) observing(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), observeTime)
}

// bounded limits what a request may wait for the store; without a limit in the settings, ten seconds.
func (s *Server) bounded(r *http.Request, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), orDefault(limit))
}

// orDefault is the limit, or that of an agent that does not know its settings yet.
func orDefault(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 10 * time.Second
	}
	return limit
}

// reply writes a whole answer.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, code int, contentType []string, body []byte) {
	s.extra(w)
	s.write(w, r, code, contentType, body)
}

// text answers with a sentence.
func (s *Server) text(w http.ResponseWriter, r *http.Request, code int, message string) {
	s.reply(w, r, code, textType, []byte(message))
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, code int, contentType []string, body []byte) {
	if r.Method == http.MethodOptions {
		body = nil
	}
	h := w.Header()
	h["Server"] = s.rules.Load().server
	h["Content-Type"] = contentType
	h["Content-Length"] = contentLength(len(body))
	// Errors of a deadline or of writing mean that the client has gone; nobody is left to tell.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// limitBody bounds the time in which the request's body has to come, also where nobody reads it: before the next request,
// and often before our answer, the HTTP server reads the rest itself.
func (s *Server) limitBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.bodyTime))
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		w.Header()["Connection"] = []string{"close"} // then nothing is read, and the answer does not wait
	}
}

// body reads the request's body. ok is false when the request is answered: 413 when it is too large, 400 when it
// does not come.
func (s *Server) body(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		s.page(w, r, http.StatusRequestEntityTooLarge)
	case err != nil:
		s.page(w, r, http.StatusBadRequest)
	default:
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		return body, true
	}
	return nil, false
}
