package rest

import (
	"net/http"
	"strings"
)

type handler func(*Server, http.ResponseWriter, *http.Request)

// documents are the paths that GET, HEAD and OPTIONS read, besides the health checks. Nothing guards them.
var documents = map[string]handler{
	"/patroni":   (*Server).patroni,
	"/liveness":  (*Server).liveness,
	"/readiness": (*Server).readiness,
	"/cluster":   (*Server).topology,
	"/history":   (*Server).history,
	"/config":    (*Server).config,
	"/failsafe":  (*Server).failsafe,
	"/metrics":   (*Server).metrics,
	"/why":       (*Server).why,
	"/routing":   (*Server).routing,
}

// actions change something. All of them pass the access rules first (rest-api.md section 11).
var actions = map[string]handler{
	"PATCH /config":      (*Server).patchConfig,
	"PUT /config":        (*Server).putConfig,
	"POST /switchover":   (*Server).switchover,
	"DELETE /switchover": (*Server).cancelSwitchover,
	"POST /failover":     (*Server).failover,
	"POST /restart":      (*Server).restart,
	"DELETE /restart":    (*Server).cancelRestart,
	"POST /reload":       (*Server).reload,
	"POST /reinitialize": (*Server).reinitialize,
	"POST /sigterm":      (*Server).sigterm,
	"POST /failsafe":     (*Server).acceptFailsafe,
	"POST /citus":        (*Server).citus,
	"POST /mpp":          (*Server).citus,
}

// ServeHTTP finds the handler: exact paths, one slash at the end is forgiven.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	s.limitBody(w, r)
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		if c, ok := checks[path]; ok {
			s.health(w, r, c)
		} else if h, ok := documents[path]; ok {
			h(s, w, r)
		} else {
			s.page(w, r, http.StatusNotFound)
		}
	default:
		h, ok := actions[r.Method+" "+path]
		if !ok {
			s.unsupported(w, r)
		} else if s.allowed(w, r, path) {
			h(s, w, r)
		}
	}
}
