package rest

import (
	"net/http"

	"github.com/regent-ha/regent/internal/cluster"
)

// topology answers GET /cluster from a fresh read of the store (rest-api.md section 6).
func (s *Server) topology(w http.ResponseWriter, r *http.Request) {
	snapshot, ok := s.read(w, r)
	if !ok {
		return
	}
	var o object
	members := list()
	for _, m := range snapshot.Members {
		members.Items = append(members.Items, describeMember(snapshot, m))
	}
	o.add("members", members)
	o.flag("pause", snapshot.Config.Paused())
	if f := snapshot.Failover; f.ScheduledAt != nil {
		var at object
		at.text("at", cluster.FormatTime(*f.ScheduledAt))
		at.text("from", f.From)
		at.text("to", f.Candidate)
		o.add("scheduled_switchover", at.value())
	}
	o.text("scope", s.control.Status().Scope)
	s.reply(w, r, http.StatusOK, jsonType, o.value().EncodeSpaced())
}

func describeMember(s *cluster.Snapshot, m cluster.Member) cluster.Value {
	var o object
	o.text("name", m.Name)
	o.text("role", s.ShownRole(m))
	o.add("state", cluster.Text(s.ShownState(m)))
	o.add("api_url", orNull(m.APIURL))
	if host, port, ok := m.HostPort(); ok {
		o.text("host", host)
		o.add("port", number(port))
	}
	if m.Timeline != 0 {
		o.add("timeline", number(m.Timeline))
	}
	o.flag("pending_restart", m.PendingRestart)
	if len(m.PendingRestartReason) > 0 {
		o.add("pending_restart_reason", cluster.EncodePending(m.PendingRestartReason))
	}
	if m.ScheduledRestart != nil {
		o.add("scheduled_restart", m.ScheduledRestart.Value())
	}
	if len(m.Tags) > 0 {
		o.add("tags", cluster.Value{Kind: cluster.Object, Fields: m.Tags})
	}
	if m.Name != s.Leader.Name {
		o.position("receive_", s, m.ReceiveLSN)
		o.position("replay_", s, m.ReplayLSN)
		o.position("", s, m.XlogLocation)
	}
	return o.value()
}

// position adds where a member is and how far behind the leader, "unknown" when it did not say.
func (o *object) position(prefix string, s *cluster.Snapshot, at cluster.LSN) {
	lag, known := s.Lag(at)
	if !known {
		o.text(prefix+"lsn", "unknown")
		o.text(prefix+"lag", "unknown")
		return
	}
	o.add(prefix+"lag", number(lag))
	o.text(prefix+"lsn", at.String())
}

// history answers GET /history, oldest first; entries of old releases keep their length (rest-api.md section 7).
func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	snapshot, ok := s.known(w, r)
	if !ok {
		return
	}
	entries, err := cluster.ParseValue(snapshot.History.Encode())
	if err != nil {
		s.text(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	s.reply(w, r, http.StatusOK, jsonType, entries.EncodeSpaced())
}

// known returns our view of the store while it is usable, else reads the store. When ok is false the request is answered.
func (s *Server) known(w http.ResponseWriter, r *http.Request) (snapshot *cluster.Snapshot, ok bool) {
	if status := s.control.Status(); status.HasView(s.wall()) {
		return status.Snapshot, true
	}
	return s.read(w, r)
}

// read reads the store after the request came, together with others that ask for it. When ok is false the request is answered, with 503 and the reason.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (snapshot *cluster.Snapshot, ok bool) {
	snapshot, err := s.reads.get(r.Context(), orDefault(s.control.Status().Timing.RetryTimeout))
	if err != nil {
		s.text(w, r, http.StatusServiceUnavailable, "read the store: "+err.Error())
		return nil, false
	}
	return snapshot, true
}
