// Package kubetest is an API server that breaks on demand, and hands stores in it, or in a real one, to the contract suite.
package kubetest

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Server keeps objects as the Kubernetes API does: versions, conditional merge patches, selectors, watches with bookmarks.
type Server struct {
	*httptest.Server

	mu      sync.Mutex
	version int64
	objects map[string]map[string]any // by resource and name
	events  []event
	floor   int64 // watches from before it are refused with 410
	frozen  *freeze
	fault   func(Request) Fault
	changed chan struct{}
	cuts    int // watches of before the last cut end
	abrupt  bool
}

// Request is one request as a fault sees it.
type Request struct {
	Method, Resource, Name string
	Watch                  bool
	Token                  string // of the Authorization header
	Body                   string
}

// Fault is what happens to a request; the zero value is nothing.
type Fault struct {
	Status     int  // answered instead; 0: the true answer
	RetryAfter int  // seconds, a header of that answer; 0: none
	Done       bool // the request is carried out all the same
	Drop       bool // the connection ends without an answer
}

type event struct {
	version  int64
	resource string
	what     string
	object   map[string]any
}

type freeze struct {
	version int64
	objects map[string]map[string]any
}

// Start runs a server until the test ends.
func Start(t testing.TB) *Server { return start(t, httptest.NewServer) }

// StartTLS is Start with a certificate: clients send credentials to no other server.
func StartTLS(t testing.TB) *Server { return start(t, httptest.NewTLSServer) }

func start(t testing.TB, listen func(http.Handler) *httptest.Server) *Server {
	s := &Server{version: 1000, objects: map[string]map[string]any{}, changed: make(chan struct{})}
	s.Server = listen(http.HandlerFunc(s.serve))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // broken connections are what it is for
	t.Cleanup(func() {
		s.CutWatches(true)
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// SetFault puts a hook before every request; nil: none.
func (s *Server) SetFault(fault func(Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// CutWatches ends all watches, abruptly or in order.
func (s *Server) CutWatches(abrupt bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cuts++
	s.abrupt = abrupt
	s.tell()
}

// Compact forgets all events.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor, s.events = s.version, nil
}

// Freeze answers lists from now on with what there is now, as a server that lags behind does, until heal.
func (s *Server) Freeze() (heal func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = &freeze{s.version, maps.Clone(s.objects)}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.frozen = nil
	}
}

// Restore goes back to what there was at Freeze, as from a backup.
func (s *Server) Restore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.objects, s.frozen = s.frozen.version, s.frozen.objects, nil
	s.events = slices.DeleteFunc(s.events, func(e event) bool { return e.version > s.version })
}

// Bookmark tells all watches of a resource how far they are: at that version.
func (s *Server) Bookmark(resource string) (version cluster.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.events = append(s.events, event{s.version, resource, "BOOKMARK", map[string]any{"metadata": map[string]any{"resourceVersion": fmt.Sprint(s.version)}}})
	s.tell()
	return cluster.Revision(s.version)
}

// Change does to one object what a stranger would; a nil patch deletes it. It is created when it is missing.
func (s *Server) Change(resource, name string, patch map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := resource + "/" + name
	if patch == nil {
		s.remove(key)
		return
	}
	before := s.objects[key]
	if before == nil {
		before = map[string]any{"metadata": map[string]any{"name": name, "uid": "uid-" + name}}
	}
	s.put(key, merge(before, patch))
}

// Get returns an object as JSON; empty: there is none.
func (s *Server) Get(resource, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[resource+"/"+name]
	if o == nil {
		return ""
	}
	text, _ := json.Marshal(o)
	return string(text)
}

func (s *Server) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) put(key string, o map[string]any) map[string]any {
	what := "MODIFIED"
	if before := s.objects[key]; before == nil {
		what = "ADDED"
	} else if same(before, o) {
		return before
	}
	s.version++
	o = merge(o, map[string]any{"metadata": map[string]any{"resourceVersion": fmt.Sprint(s.version)}})
	s.objects[key] = o
	s.events = append(s.events, event{s.version, strings.SplitN(key, "/", 2)[0], what, o})
	s.tell()
	return o
}

func (s *Server) remove(key string) {
	o := s.objects[key]
	if o == nil {
		return
	}
	s.version++
	delete(s.objects, key)
	o = merge(o, map[string]any{"metadata": map[string]any{"resourceVersion": fmt.Sprint(s.version)}})
	s.events = append(s.events, event{s.version, strings.SplitN(key, "/", 2)[0], "DELETED", o})
	s.tell()
}

func same(a, b map[string]any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// merge is a strategic merge patch, as far as our objects go: null removes, lists are replaced.
func merge(into, patch map[string]any) map[string]any {
	out := maps.Clone(into)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(out, k)
		case map[string]any:
			inner, _ := out[k].(map[string]any)
			out[k] = merge(inner, v)
		default:
			out[k] = v
		}
	}
	return out
}

func matches(o map[string]any, selector string) bool {
	meta, _ := o["metadata"].(map[string]any)
	labels, _ := meta["labels"].(map[string]any)
	for term := range strings.SplitSeq(selector, ",") {
		name, value, _ := strings.Cut(term, "=")
		if term != "" && labels[name] != value {
			return false
		}
	}
	return true
}

// parse splits /api/v1/namespaces/default/pods/a.
func parse(r *http.Request) (q Request) {
	q = Request{Method: r.Method, Watch: r.URL.Query().Has("watch"), Token: r.Header.Get("Authorization")}
	parts := strings.Split(r.URL.Path, "/namespaces/")
	rest := strings.Split(parts[len(parts)-1], "/")
	if len(rest) > 1 {
		q.Resource = rest[1]
	}
	if len(rest) > 2 {
		q.Name = rest[2]
	}
	return q
}

func fail(w http.ResponseWriter, code int, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "status": "Failure", "code": code, "message": message})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/v1/namespaces" || strings.Contains(r.URL.Path, "/serviceaccounts/") {
		_, _ = w.Write([]byte("{}")) // one server is one namespace
		return
	}
	q := parse(r)
	var body map[string]any
	if r.ContentLength > 0 {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		text, _ := json.Marshal(body)
		q.Body = string(text)
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	var f Fault
	if fault != nil {
		f = fault(q)
	}
	if f.Status != 0 || f.Drop {
		if f.Done {
			s.answer(httptest.NewRecorder(), r, q, body)
		}
		if f.Drop {
			panic(http.ErrAbortHandler)
		}
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		fail(w, f.Status, "as the test wants it")
		return
	}
	if q.Watch {
		s.watch(w, r, q)
		return
	}
	s.answer(w, r, q, body)
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, q Request, body map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := q.Resource + "/" + q.Name
	have := s.objects[key]
	switch {
	case q.Method == http.MethodGet && q.Name == "":
		s.list(w, r, q)
	case q.Method == http.MethodDelete:
		name, selected := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
		if !selected {
			name = q.Name
		}
		if o := s.objects[q.Resource+"/"+name]; o != nil && matches(o, r.URL.Query().Get("labelSelector")) {
			s.remove(q.Resource + "/" + name)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status"})
	case q.Method == http.MethodPost:
		meta, _ := body["metadata"].(map[string]any)
		key = fmt.Sprint(q.Resource, "/", meta["name"])
		if s.objects[key] != nil {
			fail(w, http.StatusConflict, key+" already exists")
			return
		}
		meta["uid"] = fmt.Sprint("uid-", meta["name"])
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(s.put(key, body))
	case have == nil:
		fail(w, http.StatusNotFound, key+" not found")
	case q.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(have)
	case q.Method == http.MethodPatch:
		meta, _ := body["metadata"].(map[string]any)
		at, _ := have["metadata"].(map[string]any)
		if v, ok := meta["resourceVersion"]; ok && v != at["resourceVersion"] {
			fail(w, http.StatusConflict, fmt.Sprintf("%s is at %v, the request is for %v", key, at["resourceVersion"], v))
			return
		}
		if v, ok := meta["uid"]; ok && v != at["uid"] {
			fail(w, http.StatusUnprocessableEntity, fmt.Sprintf("%s: metadata.uid: Invalid value: %q: field is immutable", key, v))
			return
		}
		_ = json.NewEncoder(w).Encode(s.put(key, merge(have, body)))
	default:
		fail(w, http.StatusMethodNotAllowed, q.Method)
	}
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, q Request) {
	version, all := s.version, s.objects
	if s.frozen != nil {
		version, all = s.frozen.version, s.frozen.objects
	}
	items := []any{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(key, q.Resource+"/") && matches(all[key], r.URL.Query().Get("labelSelector")) {
			items = append(items, all[key])
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"resourceVersion": fmt.Sprint(version)}, "items": items})
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request, q Request) {
	after, _ := strconv.ParseInt(r.URL.Query().Get("resourceVersion"), 10, 64)
	selector := r.URL.Query().Get("labelSelector")
	s.mu.Lock()
	cuts, floor := s.cuts, s.floor
	s.mu.Unlock()
	if after < floor {
		fail(w, http.StatusGone, "too old resource version")
		return
	}
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	out := json.NewEncoder(w)
	for {
		s.mu.Lock()
		changed, cut, abrupt := s.changed, s.cuts != cuts, s.abrupt
		var news []event
		for _, e := range s.events {
			if e.version > after && e.resource == q.Resource && (e.what == "BOOKMARK" || matches(e.object, selector)) {
				news = append(news, e)
			}
		}
		s.mu.Unlock()
		if cut && abrupt {
			panic(http.ErrAbortHandler)
		} else if cut {
			return
		}
		for _, e := range news {
			if err := out.Encode(map[string]any{"type": e.what, "object": e.object}); err != nil {
				return
			}
			after = e.version
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-time.After(time.Minute):
		}
	}
}
