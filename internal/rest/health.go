package rest

import (
	"fmt"
	"net/http"

	"github.com/regent-ha/regent/internal/cluster"
)

// check is one health check. It sees the moment and the parameters, nothing else.
type check struct {
	ok   func(m *moment, q query) bool
	tags bool // tag_… parameters count
}

// checks are the paths that load balancers ask (rest-api.md 3.3). Those about synchronous replication need a usable
// view of the store: what it said long ago is no promise.
var checks = map[string]check{
	"/":                      {ok: primaryCheck},
	"/primary":               {ok: primaryCheck},
	"/master":                {ok: primaryCheck},
	"/read-write":            {ok: primaryCheck},
	"/leader":                {ok: func(m *moment, _ query) bool { return m.holder() }},
	"/standby-leader":        {ok: func(m *moment, _ query) bool { return m.standbyLeader() }},
	"/standby_leader":        {ok: func(m *moment, _ query) bool { return m.standbyLeader() }},
	"/replica":               {ok: (*moment).replica, tags: true},
	"/read-only":             {ok: func(m *moment, q query) bool { return m.serving() || m.replica(q) }, tags: true},
	"/health":                {ok: func(m *moment, _ query) bool { return m.state == cluster.Running }, tags: true},
	"/sync":                  {ok: syncCheck, tags: true},
	"/synchronous":           {ok: syncCheck, tags: true},
	"/quorum":                {ok: func(m *moment, q query) bool { return m.quorumStandby() && m.replica(q) }, tags: true},
	"/async":                 {ok: asyncCheck, tags: true},
	"/asynchronous":          {ok: asyncCheck, tags: true},
	"/read-only-sync":        {ok: readOnlySyncCheck, tags: true},
	"/read-only-synchronous": {ok: readOnlySyncCheck, tags: true},
	"/read-only-quorum": {ok: func(m *moment, q query) bool {
		return m.view && (m.serving() || m.quorumStandby() && m.replica(q))
	}, tags: true},
}

func primaryCheck(m *moment, _ query) bool { return m.primary() }
func syncCheck(m *moment, q query) bool    { return m.syncStandby() && m.replica(q) }

func asyncCheck(m *moment, q query) bool {
	return m.view && !m.syncStandby() && !m.quorumStandby() && m.replica(q)
}

func readOnlySyncCheck(m *moment, q query) bool {
	return m.view && (m.serving() || m.syncStandby() && m.replica(q))
}

// serving says whether the leader can be read from.
func (m *moment) serving() bool { return m.primary() || m.standbyLeader() }

// pass runs the check.
func (c check) pass(m *moment, q query) bool {
	return c.ok(m, q) && (!c.tags || q.tags(m.tags))
}

// health answers a load balancer: the verdict as the code, the status document as the body.
func (s *Server) health(w http.ResponseWriter, r *http.Request, c check) {
	ctx, cancel := s.observing(r)
	defer cancel()
	m := s.moment(s.control.Observed(ctx, healthAge))
	code := http.StatusServiceUnavailable
	if c.pass(&m, parseQuery(r.URL.RawQuery)) {
		code = http.StatusOK
	}
	s.reply(w, r, code, jsonType, m.document())
}

// liveness is 200 while the loop is on time, or paused (rest-api.md section 5).
func (s *Server) liveness(w http.ResponseWriter, r *http.Request) {
	m := s.moment(s.control.Status())
	late := 2 * m.Timing.TTL
	if m.role == cluster.Primary && m.State == cluster.Running {
		late = m.Timing.TTL
	}
	if m.Pause || m.NextCycle.Add(late).After(m.now) {
		s.reply(w, r, http.StatusOK, textType, nil)
		return
	}
	s.text(w, r, http.StatusServiceUnavailable,
		fmt.Sprintf("the loop should have run %s ago", m.now.Sub(m.NextCycle).Round(1e6)))
}

// readiness is 200 when the member leads or streams closely enough (rest-api.md section 5).
func (s *Server) readiness(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := s.observing(r)
	defer cancel()
	m := s.moment(s.control.Observed(ctx, healthAge))
	if why := m.unready(parseQuery(r.URL.RawQuery)); why != "" {
		s.text(w, r, http.StatusServiceUnavailable, why)
		return
	}
	s.reply(w, r, http.StatusOK, textType, nil)
}

// unready says why the member is not ready; empty: it is.
func (m *moment) unready(q query) string {
	limit, ok := q.lag()
	if !ok {
		limit = m.Config.MaximumLagOnFailover()
	}
	at, what := m.Postgres.Replayed, "replayed"
	if q.get("mode") == "write" {
		at, what = m.Postgres.Received, "received"
	}
	heard := m.Postgres.Receiver != nil && m.Postgres.Receiver.LatestEnd != 0
	switch lag := int64(m.leaderPosition() - at); {
	case m.leader:
		return ""
	case m.state != cluster.Running:
		return "PostgreSQL is " + string(m.state)
	case m.Postgres.ReplicationState() != cluster.StateStreaming:
		return "replication is not streaming"
	case !m.view && !heard && m.FailsafeActive:
		return ""
	case !m.view && !heard:
		return "the position of the leader is unknown"
	case lag > limit:
		return fmt.Sprintf("%s %d bytes behind the leader, at most %d are wanted", what, lag, limit)
	default:
		return ""
	}
}
