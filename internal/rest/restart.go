package rest

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/cluster"
)

// maxRestart is the longest time that a start can be given; more is a mistake.
const maxRestart = 365 * 24 * time.Hour

// stopTime is what a restart may take beside the time that its start has.
const stopTime = 5 * time.Minute

// restart answers POST /restart: now, or later (rest-api.md 9.3). An immediate one is answered when PostgreSQL has
// restarted; it goes on when the client does not wait for it.
func (s *Server) restart(w http.ResponseWriter, r *http.Request) {
	body, ok := s.object(w, r, optional)
	if !ok {
		return
	}
	seeing, cancel := s.observing(r)
	defer cancel()
	status := s.control.Observed(seeing, documentAge)
	if at, _ := body.Get("schedule"); at.Kind != cluster.Null && status.Pause {
		s.text(w, r, http.StatusInternalServerError, "Can't schedule restart in the paused state")
		return
	}
	request, no := s.parseRestart(body)
	if no != nil {
		s.text(w, r, no.code, no.text)
		return
	}
	switch {
	case !request.Schedule.IsZero():
	case !matches(newFacts(status), request):
		s.text(w, r, http.StatusServiceUnavailable, "restart conditions are not satisfied")
		return
	case status.Job != nil:
		s.text(w, r, http.StatusServiceUnavailable, busy(status.Job))
		return
	}
	limit := request.Timeout
	if limit == 0 {
		limit = status.Config.PrimaryStartTimeout()
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit+stopTime)
	defer cancel()
	err := s.control.Restart(ctx, request)
	switch {
	case err == nil && !request.Schedule.IsZero():
		s.text(w, r, http.StatusAccepted, "Restart scheduled")
	case err == nil:
		s.text(w, r, http.StatusOK, "restarted successfully")
	case errors.Is(err, agent.ErrScheduled):
		s.text(w, r, http.StatusConflict, "Another restart is already scheduled")
	case errors.Is(err, context.DeadlineExceeded):
		s.text(w, r, http.StatusServiceUnavailable, "postgres is still starting")
	default:
		s.refuse(w, r, "restart failed: ", err)
	}
}

// parseRestart reads the filters in the order in which they were written; the first bad one answers.
func (s *Server) parseRestart(body cluster.Value) (request agent.RestartRequest, no *refusal) {
	for _, f := range body.Fields {
		v := f.Value
		switch f.Name {
		case "schedule":
			if request.Schedule, no = s.schedule(v, "restart"); no != nil {
				return request, no
			}
		case "role":
			switch role := cluster.Role(v.Text); role {
			case cluster.Primary, cluster.StandbyLeader, cluster.Replica:
				request.Role = role
			default:
				return request, &refusal{http.StatusBadRequest, "PostgreSQL role should be either primary, standby_leader, or replica"}
			}
		case "postgres_version":
			if no = checkVersion(v.String()); no != nil {
				return request, no
			}
			request.PostgresVersion = v.String()
		case "timeout":
			seconds, ok := cluster.ParseInt(v.String(), "s")
			if !ok || seconds <= 0 || seconds > int64(maxRestart/time.Second) {
				return request, &refusal{http.StatusBadRequest, "Timeout should be a positive number of seconds"}
			}
			request.Timeout = time.Duration(seconds) * time.Second
		case "restart_pending": // that it is there counts, whatever its value
			request.RestartPending = true
		default:
			return request, &refusal{http.StatusBadRequest, "Unknown filter for the scheduled restart: " + f.Name}
		}
	}
	return request, nil
}

var numericVersion = regexp.MustCompile(`^\d+(\.\d+)*$`)

func checkVersion(text string) *refusal {
	if !numericVersion.MatchString(text) {
		return &refusal{http.StatusBadRequest, "Invalid PostgreSQL version: " + text}
	}
	if _, ok := agent.VersionNumber(text); !ok {
		return &refusal{http.StatusBadRequest, "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: " + text}
	}
	return nil
}

// matches says whether the filters let the restart happen now.
func matches(f *facts, r agent.RestartRequest) bool {
	if r.Role != "" && r.Role != f.Role {
		return false
	}
	if want, ok := agent.VersionNumber(r.PostgresVersion); ok && f.Postgres.Version >= want {
		return false
	}
	return !r.RestartPending || len(f.Postgres.Pending) > 0
}

// cancelRestart answers DELETE /restart.
func (s *Server) cancelRestart(w http.ResponseWriter, r *http.Request) {
	switch dropped, err := s.control.CancelRestart(r.Context()); {
	case err != nil:
		s.text(w, r, http.StatusServiceUnavailable, err.Error())
	case !dropped:
		s.text(w, r, http.StatusNotFound, "no restarts are scheduled")
	default:
		s.text(w, r, http.StatusOK, "scheduled restart deleted")
	}
}

// schedule reads when something is to happen (rest-api.md 9.5).
func (s *Server) schedule(v cluster.Value, action string) (time.Time, *refusal) {
	t, zone, ok := parseMoment(v)
	switch {
	case !ok:
		return t, &refusal{http.StatusUnprocessableEntity,
			"Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601"}
	case !zone:
		return t, &refusal{http.StatusBadRequest, "Timezone information is mandatory for the scheduled " + action}
	case t.Before(s.wall()):
		return t, &refusal{http.StatusUnprocessableEntity, "Cannot schedule " + action + " in the past"}
	default:
		return t, nil
	}
}

// otherLayouts are unambiguous ways to write a moment besides ISO 8601.
var otherLayouts = []string{
	time.RFC1123Z, time.RFC1123, time.RFC850, "Mon Jan _2 15:04:05 -0700 2006", "2 Jan 2006 15:04:05 -0700",
	"2 Jan 2006 15:04 -0700", "2006-01-02 15:04:05 MST", "2006-01-02 15:04 MST", "20060102T150405Z0700",
}

// parseMoment reads a moment; zone is false when it does not say in which zone.
func parseMoment(v cluster.Value) (t time.Time, zone, ok bool) {
	if v.Kind != cluster.String {
		return t, false, false
	}
	text := strings.TrimSpace(v.Text)
	if t, err := cluster.ParseTime(text); err == nil {
		return t, true, true
	}
	for _, layout := range otherLayouts {
		t, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		// Go takes any abbreviation for a zone without offset; only UTC means one and the same everywhere.
		name, offset := t.Zone()
		known := offset != 0 || name == "" || name == "UTC" || name == "GMT"
		return t, known, true
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, false, true
		}
	}
	return t, false, false
}
