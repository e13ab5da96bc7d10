package rest

import (
	"net/http"
	"time"
)

// routing answers GET /routing, of a proxy that sends clients who write: 503, or 200 and then nothing until PostgreSQL is about to stop on
// purpose. Then comes the line "stopping", and the stop waits, a second at most, until the proxy hangs up.
func (s *Server) routing(w http.ResponseWriter, r *http.Request) {
	told, leave, ok := s.control.Route()
	if !ok {
		s.text(w, r, http.StatusServiceUnavailable, "PostgreSQL is about to stop")
		return
	}
	defer leave()
	ctx, cancel := s.observing(r)
	m := s.moment(s.control.Observed(ctx, 0)) // what it was a second ago may be over
	cancel()
	switch {
	case !m.primary():
		s.text(w, r, http.StatusServiceUnavailable, "this member cannot be written to")
		return
	case r.Method != http.MethodGet:
		s.text(w, r, http.StatusOK, "")
		return
	}
	s.extra(w)
	w.Header()["Server"] = s.rules.Load().server
	w.Header()["Content-Type"] = textType
	stream := http.NewResponseController(w)
	say := func(text string) bool {
		_ = stream.SetWriteDeadline(time.Now().Add(writeTime))
		_, err := w.Write([]byte(text))
		return err == nil && stream.Flush() == nil
	}
	if !say("") {
		return
	}
	select {
	case <-r.Context().Done():
		return
	case <-s.closing:
		return
	case <-told:
	}
	if !say("stopping\n") {
		return
	}
	select {
	case <-r.Context().Done():
	case <-s.closing:
	case <-time.After(writeTime):
	}
}
