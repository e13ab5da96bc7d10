package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Event is something that happened to our pod, for `kubectl describe pod` and `kubectl get events`.
type Event struct {
	Reason  string // CamelCase, stable: what alerts and scripts look for
	Message string // for people; cut at 1024 bytes, as the API wants it
	Warning bool
}

// Events tells Kubernetes about events of our pod, from a goroutine and over connections of its own: whoever tells one never waits
// and never fails. What does not fit into the queue is dropped and counted. The same reason again counts up the event before, and goes
// out at most every ten seconds.
//
// Source: Kubernetes API reference, "Event v1 core".
type Events struct {
	client  *client
	queue   chan Event
	ended   chan struct{}
	stop    context.CancelFunc
	once    sync.Once
	dropped atomic.Uint64

	// The goroutine's own.
	pod  string // its uid
	told map[string]*toldEvent
	sick bool
}

// toldEvent is the last event of a reason.
type toldEvent struct {
	name  string
	count int
	sent  time.Time
}

const (
	eventsHeld   = 64               // in the queue
	eventsApart  = 10 * time.Second // between two writes for the same reason
	eventsJoined = time.Hour        // after that a reason begins a new event: servers forget events by then
	eventLimit   = 3 * time.Second  // of one write
)

// NewEvents begins to take events. Config must name our pod.
func NewEvents(config Config) (*Events, error) {
	if err := config.complete(); err != nil {
		return nil, fmt.Errorf("tell events: %w", err)
	}
	t, err := newTransport(&config)
	if err != nil {
		return nil, fmt.Errorf("tell events: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &Events{queue: make(chan Event, eventsHeld), ended: make(chan struct{}), stop: stop, told: map[string]*toldEvent{}}
	e.client = &client{transport: t, config: &config, lost: func() {}, closed: ctx, requests: map[string]uint64{}}
	go e.run(ctx)
	return e, nil
}

// Tell queues an event.
func (e *Events) Tell(event Event) {
	select {
	case e.queue <- event:
	default:
		e.dropped.Add(1)
	}
}

// Dropped is how many events did not fit into the queue, or could not be written.
func (e *Events) Dropped() uint64 { return e.dropped.Load() }

// Close gives what is queued two seconds.
func (e *Events) Close() {
	e.once.Do(func() {
		close(e.queue)
		limit := time.AfterFunc(2*time.Second, e.stop)
		<-e.ended
		limit.Stop()
		e.stop()
		e.client.pooled.CloseIdleConnections()
	})
}

func (e *Events) run(ctx context.Context) {
	defer close(e.ended)
	for event := range e.queue {
		if ctx.Err() != nil {
			e.dropped.Add(1)
			continue
		}
		limited, cancel := context.WithTimeout(ctx, eventLimit)
		err := e.send(limited, event)
		cancel()
		if err != nil {
			e.dropped.Add(1)
		}
		if err != nil && !e.sick {
			e.client.config.Log.Warn("write events of our pod: this and later ones are missing until it works; verbs create and patch on events are needed", "error", err)
		}
		e.sick = err != nil
	}
}

// send writes a new event, or counts up the one of the same reason.
func (e *Events) send(ctx context.Context, event Event) error {
	c := e.client.config
	path := "/api/v1/namespaces/" + c.Namespace + "/events"
	now := time.Now().UTC()
	stamp := now.Format(time.RFC3339)
	message := event.Message[:min(len(event.Message), 1024)]
	if last := e.told[event.Reason]; last != nil && now.Sub(last.sent) < eventsJoined {
		last.count++
		if now.Sub(last.sent) < eventsApart {
			return nil
		}
		text, err := json.Marshal(map[string]any{"count": last.count, "lastTimestamp": stamp, "message": message})
		if err != nil {
			return err
		}
		if err = e.client.write(ctx, http.MethodPatch, path+"/"+last.name, text, &struct{}{}); err == nil {
			last.sent = now
		}
		if !says(err, http.StatusNotFound) {
			return err
		} // it has been forgotten
	}
	if e.pod == "" {
		pod := &object{}
		if err := e.client.send(ctx, http.MethodGet, c.path(pods)+"/"+c.Name, nil, nil, pod); err != nil {
			return err
		}
		e.pod = pod.Metadata.UID // `kubectl describe pod` asks for it
	}
	name := fmt.Sprintf("%s.%x", c.Name, now.UnixNano())
	kind := "Normal"
	if event.Warning {
		kind = "Warning"
	}
	text, err := json.Marshal(map[string]any{
		"metadata":       map[string]any{"name": name, "namespace": c.Namespace},
		"involvedObject": map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": c.Namespace, "name": c.Name, "uid": e.pod},
		"reason":         event.Reason, "message": message, "type": kind, "count": 1, "firstTimestamp": stamp, "lastTimestamp": stamp,
		"source": map[string]any{"component": "regent"}, "reportingComponent": "regent", "reportingInstance": c.Name,
	})
	if err != nil {
		return err
	}
	if err := e.client.write(ctx, http.MethodPost, path, text, &struct{}{}); err != nil {
		return err
	}
	e.told[event.Reason] = &toldEvent{name: name, count: 1, sent: now}
	return nil
}
