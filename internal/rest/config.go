package rest

import (
	"errors"
	"net/http"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// config answers GET /config with the document as stored (rest-api.md section 8).
func (s *Server) config(w http.ResponseWriter, r *http.Request) {
	snapshot, ok := s.known(w, r)
	if !ok {
		return
	}
	if !snapshot.Config.Usable {
		s.page(w, r, http.StatusBadGateway)
		return
	}
	s.reply(w, r, http.StatusOK, jsonType, snapshot.Config.Document.EncodeSpaced())
}

// patchConfig merges the body into the document. Somebody else's change in between is a conflict, not a loss.
func (s *Server) patchConfig(w http.ResponseWriter, r *http.Request) {
	patch, ok := s.object(w, r, mandatory)
	if !ok {
		return
	}
	snapshot, ok := s.read(w, r)
	if !ok {
		return
	}
	if !snapshot.Config.Usable {
		s.page(w, r, http.StatusServiceUnavailable)
		return
	}
	merged, changed := snapshot.Config.Document.Merge(patch)
	if changed {
		if err := cluster.RefuseDurability(snapshot.Config, cluster.DynamicConfig{Document: merged, Usable: true}, snapshot.Members); err != nil {
			s.text(w, r, http.StatusBadRequest, err.Error())
			return
		}
		ctx, cancel := s.bounded(r, s.control.Status().Timing.RetryTimeout)
		defer cancel()
		switch err := s.control.PutConfig(ctx, merged.Encode(), snapshot.Config.Revision); {
		case errors.Is(err, dcs.ErrConflict):
			s.page(w, r, http.StatusConflict)
			return
		case err != nil:
			s.text(w, r, http.StatusServiceUnavailable, "write the configuration: "+err.Error())
			return
		}
	}
	s.reply(w, r, http.StatusOK, jsonType, merged.EncodeSpaced())
}

// putTries is how often PUT /config, which wins over everybody, tries to be the last.
const putTries = 5

// putConfig replaces the document, whatever it is.
func (s *Server) putConfig(w http.ResponseWriter, r *http.Request) {
	doc, ok := s.object(w, r, mandatory)
	if !ok {
		return
	}
	ctx, cancel := s.bounded(r, s.control.Status().Timing.RetryTimeout)
	defer cancel()
	for range putTries {
		snapshot, ok := s.read(w, r)
		if !ok {
			return
		}
		if snapshot.Config.Usable && cluster.DeepEqualLoose(snapshot.Config.Document, doc) {
			s.reply(w, r, http.StatusOK, jsonType, doc.EncodeSpaced())
			return
		}
		if err := cluster.RefuseDurability(snapshot.Config, cluster.DynamicConfig{Document: doc, Usable: true}, snapshot.Members); err != nil {
			s.text(w, r, http.StatusBadRequest, err.Error())
			return
		}
		err := s.control.PutConfig(ctx, doc.Encode(), snapshot.Config.Revision)
		if err == nil {
			s.reply(w, r, http.StatusOK, jsonType, doc.EncodeSpaced())
			return
		}
		if !errors.Is(err, dcs.ErrConflict) {
			break
		}
	}
	s.page(w, r, http.StatusBadGateway)
}

// mandatory and optional say whether a request needs a body that is not empty.
const (
	mandatory = true
	optional  = false
)

// object reads a body that is a JSON object. When ok is false the request is answered: 411 without a length where a body is
// needed, 400 for anything that is no object, or an empty one where a body is needed.
func (s *Server) object(w http.ResponseWriter, r *http.Request, needed bool) (v cluster.Value, ok bool) {
	if needed && r.Body == http.NoBody && r.Header.Get("Content-Length") == "" {
		s.page(w, r, http.StatusLengthRequired)
		return v, false
	}
	body, ok := s.body(w, r)
	if !ok {
		return v, false
	}
	if len(body) == 0 && !needed {
		return cluster.Value{Kind: cluster.Object}, true
	}
	v, err := cluster.ParseValue(body)
	if err != nil || v.Kind != cluster.Object || needed && len(v.Fields) == 0 {
		s.page(w, r, http.StatusBadRequest)
		return v, false
	}
	return v, true
}
