package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/cluster"
)

// reload answers POST /reload: the loop does it next.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	s.control.Reload()
	s.text(w, r, http.StatusAccepted, "reload scheduled")
}

// sigterm answers POST /sigterm, which does nothing: Patroni has it for test runs on Windows.
func (s *Server) sigterm(w http.ResponseWriter, r *http.Request) {
	s.text(w, r, http.StatusAccepted, "shutdown scheduled")
}

// citus answers POST /citus and /mpp as a member that is no coordinator: understood, ignored.
func (s *Server) citus(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.object(w, r, mandatory); ok {
		s.text(w, r, http.StatusOK, "OK")
	}
}

// failsafe answers GET /failsafe with the members that have to agree, as last read (rest-api.md section 10).
func (s *Server) failsafe(w http.ResponseWriter, r *http.Request) {
	snapshot := s.control.Status().Snapshot
	if snapshot == nil || snapshot.Failsafe == nil {
		s.page(w, r, http.StatusBadGateway)
		return
	}
	var o object
	for _, name := range snapshot.FailsafeOrder {
		o.add(name, orNull(snapshot.Failsafe[name]))
	}
	s.reply(w, r, http.StatusOK, jsonType, o.value().EncodeSpaced())
}

// promiseHeader says for how many seconds an accepted heartbeat binds us. Patroni sends none, and keeps to its ttl.
const promiseHeader = "Regent-Promise"

// acceptFailsafe answers POST /failsafe: a leader that has lost the store asks whether we let it lead on.
func (s *Server) acceptFailsafe(w http.ResponseWriter, r *http.Request) {
	body, ok := s.object(w, r, mandatory)
	if !ok {
		return
	}
	text := func(name string) string {
		v, _ := body.Get(name)
		return v.Text
	}
	h := agent.Heartbeat{Name: text("name"), ConnURL: text("conn_url"), APIURL: text("api_url"), Scope: text("scope"), To: text("to")}
	slots, _ := body.Get("slots")
	h.Slots, _ = slots.Slots()
	if !s.control.Status().Config.FailsafeMode() {
		s.page(w, r, http.StatusBadGateway)
		return
	}
	if h.Name == "" || h.ConnURL == "" || h.APIURL == "" {
		s.page(w, r, http.StatusBadRequest)
		return
	}
	promise, err := s.control.AcceptFailsafe(h)
	switch {
	case errors.Is(err, agent.ErrNoFailsafe):
		s.page(w, r, http.StatusBadGateway)
	case err != nil:
		s.log.Warn("refuse to let a leader go on without the store", "leader", h.Name, "error", err)
		text := err.Error()
		if errors.Is(err, agent.ErrMayLead) {
			text = agent.ErrMayLead.Error()
		}
		s.text(w, r, http.StatusInternalServerError, text)
	default:
		w.Header()["Lsn"] = []string{strconv.FormatUint(uint64(promise.At), 10)}
		w.Header()[promiseHeader] = []string{strconv.FormatInt(int64(promise.For/time.Second), 10)}
		s.text(w, r, http.StatusOK, "Accepted")
	}
}

const (
	whyLimit    = 20 // decisions, when the request does not say
	whyMost     = 1000
	whyWaitTime = 10 * time.Second // for peers, which are asked
)

// why answers GET /why?at=&limit=: the gates of the election and the last decisions, now or at a past moment.
func (s *Server) why(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r.URL.RawQuery)
	var at time.Time
	if text := q.get("at"); text != "" {
		t, zone, ok := parseMoment(cluster.Text(text))
		if !ok || !zone {
			s.text(w, r, http.StatusBadRequest, fmt.Sprintf("at: have %q, want ISO 8601 with an offset, such as 2027-01-02T03:04:05+02:00", text))
			return
		}
		at = t
	}
	limit := whyLimit
	if text := q.get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > whyMost {
			s.text(w, r, http.StatusBadRequest, fmt.Sprintf("limit: have %q, want 1 to %d", text, whyMost))
			return
		}
		limit = n
	}
	ctx, cancel := s.bounded(r, whyWaitTime)
	defer cancel()
	report, err := s.control.Why(ctx, at, limit)
	if err != nil {
		s.text(w, r, http.StatusServiceUnavailable, err.Error())
		return
	}
	text, err := json.Marshal(report)
	if err != nil {
		s.text(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	body, err := cluster.ParseValue(text)
	if err != nil {
		s.text(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	s.reply(w, r, http.StatusOK, jsonType, body.EncodeSpaced())
}
