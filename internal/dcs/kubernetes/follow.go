package kubernetes

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
)

// errGone: the API server has forgotten the version that the watch was to begin at, so everything is to be read again.
var errGone = errors.New("the version to watch from is gone")

// errRestart: the watch was ended because its view is in doubt.
var errRestart = errors.New("the view is in doubt and is read again")

// follow keeps one kind up to date until ctx ends.
func (s *Store) follow(ctx context.Context, k kind) {
	dcs.Repeat(ctx, s.config.Clock, func() error { return s.followOnce(ctx, k) }, func(err error) bool {
		s.view.stop(k, err)
		s.config.Log.Debug("a watch ended and begins again", "resource", s.config.resource(k), "error", err)
		return errors.Is(err, errGone) || errors.Is(err, errRestart)
	})
}

// followOnce reads everything, then applies events until a watch breaks. One that the API server ends in order, as it does
// now and then, goes on where it was.
func (s *Store) followOnce(ctx context.Context, k kind) error {
	if err := s.list(ctx, k); err != nil {
		return err
	}
	for resumed := false; ; resumed = true {
		if err := s.events(ctx, k, resumed); err != nil {
			return err
		}
	}
}

// list reads all objects of a kind. Without a resourceVersion the answer is at least as new as any finished write
// (Kubernetes, "API concepts", "Resource versions"); a server that breaks this is not believed, for as long as a ttl.
func (s *Store) list(ctx context.Context, k kind) error {
	s.view.Lock()
	floor := s.view.streams[k].at
	for _, o := range s.view.known[k] {
		floor = max(floor, o.version())
	}
	s.view.Unlock()
	_, _, retryTimeout := s.config.Timing()
	ctx, cancel := context.WithTimeout(ctx, retryTimeout)
	defer cancel()
	asked := s.config.Clock()
	var answer struct {
		Metadata metadata  `json:"metadata"`
		Items    []*object `json:"items"`
	}
	if err := s.client.send(ctx, http.MethodGet, s.config.path(k), url.Values{"labelSelector": {s.config.selector()}}, nil, &answer); err != nil {
		return fmt.Errorf("list %s: %w", s.config.resource(k), err)
	}
	at := version(answer.Metadata.ResourceVersion)
	if s.view.load(k, answer.Items, at, floor, asked) {
		s.behind[k] = time.Time{}
		return nil
	}
	if s.behind[k].IsZero() {
		s.behind[k] = asked
	}
	if ttl, _, _ := s.config.Timing(); asked.Sub(s.behind[k]) > ttl {
		s.config.Log.Warn("Kubernetes went back in time: its store was restored from a backup", "resource", s.config.resource(k), "version", at, "known", floor)
		s.view.reset(k)
	}
	return fmt.Errorf("list %s: have version %d, want at least %d: this API server is behind", s.config.resource(k), at, floor)
}

// watchFor is how long one watch lasts at most, in seconds: servers end them anyway, and so all members do not come at once.
func watchFor() string { return strconv.Itoa(300 + rand.N(300)) }

// events applies what one watch tells. It is no error when the API server ends it in order.
func (s *Store) events(outer context.Context, k kind, resumed bool) error {
	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	// A server that takes the request and says nothing must not stop us here for ever.
	_, _, retryTimeout := s.config.Timing()
	overdue := time.AfterFunc(retryTimeout, cancel)
	defer overdue.Stop()
	s.view.Lock()
	from := s.view.streams[k].at
	s.view.Unlock()
	answer, err := s.client.open(ctx, http.MethodGet, s.config.path(k), url.Values{
		"labelSelector": {s.config.selector()}, "watch": {"true"}, "resourceVersion": {strconv.FormatInt(int64(from), 10)},
		"allowWatchBookmarks": {"true"}, "timeoutSeconds": {watchFor()},
	}, nil)
	if says(err, http.StatusGone) {
		return fmt.Errorf("watch %s from %d: %w", s.config.resource(k), from, errGone)
	}
	if err != nil {
		return fmt.Errorf("watch %s from %d: %w", s.config.resource(k), from, err)
	}
	defer answer.Body.Close()
	if !overdue.Stop() {
		return fmt.Errorf("watch %s: the API server took it too late", s.config.resource(k))
	}
	if !s.view.start(k, cancel, resumed) {
		return errRestart
	}
	began := s.config.Clock()
	decoder := json.NewDecoder(bufio.NewReaderSize(answer.Body, 4<<10))
	for {
		var e struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		err := decoder.Decode(&e)
		switch {
		case errors.Is(err, io.EOF) && s.config.Clock().Sub(began) > time.Second:
			return nil
		case ctx.Err() != nil && outer.Err() == nil:
			return errRestart
		case err != nil:
			return fmt.Errorf("watch %s: %w", s.config.resource(k), err)
		}
		if err := s.event(k, e.Type, e.Object); err != nil {
			return fmt.Errorf("watch %s: %w", s.config.resource(k), err)
		}
	}
}

// event applies one event.
func (s *Store) event(k kind, what string, text json.RawMessage) error {
	if what == "ERROR" {
		var status struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}
		_ = json.Unmarshal(text, &status) // an unreadable one ends the watch as well
		if status.Code == http.StatusGone {
			return fmt.Errorf("%w: %s", errGone, status.Message)
		}
		return &refusal{code: status.Code, message: status.Message}
	}
	o := &object{}
	if err := json.Unmarshal(text, o); err != nil {
		return fmt.Errorf("read event %s: %w", what, err)
	}
	switch what {
	case "ADDED", "MODIFIED":
		s.view.apply(k, o, false)
	case "DELETED":
		s.view.remove(k, o.Metadata.Name, o.version())
	case "BOOKMARK":
	default:
		s.config.Log.Warn("an event of the watch is not known and ignored", "type", what)
		return nil
	}
	s.view.reached(k, o.version())
	return nil
}

// fetch reads one object into the view. It is no error when there is none.
func (s *Store) fetch(ctx context.Context, i id) error {
	v := s.view
	v.Lock()
	before := v.known[i.kind][i.name].version()
	v.Unlock()
	asked := s.config.Clock()
	o := &object{}
	err := s.client.read(ctx, s.config.path(i.kind)+"/"+i.name, nil, o)
	switch {
	case says(err, http.StatusNotFound):
		v.Lock()
		if v.known[i.kind][i.name].version() == before { // nothing newer came meanwhile
			v.gone[i.kind][i.name] = before
			v.drop(i.kind, i.name, v.revision)
		}
		v.Tell()
		v.Unlock()
	case err != nil:
		return err
	default:
		v.apply(i.kind, o, false)
	}
	if i == v.lockID {
		v.Lock()
		v.confirm(asked)
		v.Tell()
		v.Unlock()
	}
	return nil
}
