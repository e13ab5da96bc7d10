package proxy

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// replicas are where clients that only read go, one after the other.
type replicas struct {
	clock dcs.Clock
	nudge func() // asks for another look at the store

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when there are others
	list     []target
	turn     int
	refused  map[string]time.Time // by address: when it did not take a connection
	sessions map[*session]struct{}
}

func newReplicas(clock dcs.Clock, nudge func()) *replicas {
	return &replicas{clock: clock, nudge: nudge, changed: make(chan struct{}), refused: map[string]time.Time{}, sessions: map[*session]struct{}{}}
}

// readable are the members that serve reads: replicas that stream, and are not spared by the tag noloadbalance. A lag of at most that many bytes is
// wanted, as far as they publish it; negative: any. Patroni members before 3.0 do not say whether they stream.
func readable(s *cluster.Snapshot, lag int64) (list []target) {
	for _, m := range s.Members {
		host, port, ok := m.HostPort()
		streams := m.ReplicationState == cluster.StateStreaming || m.ReplicationState == "" && m.Regent == ""
		if !ok || m.Name == s.Leader.Name || m.Role != cluster.Replica || m.State != cluster.Running || !streams || m.Tags.NoLoadBalance() {
			continue
		}
		at := m.ReplayLSN
		if at == 0 {
			at = m.XlogLocation
		}
		if behind, known := s.Lag(at); lag >= 0 && (!known || behind > uint64(lag)) {
			continue
		}
		list = append(list, target{member: m.Name, address: net.JoinHostPort(host, strconv.Itoa(port))})
	}
	return list
}

func (r *replicas) set(list []target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = list
	close(r.changed)
	r.changed = make(chan struct{})
}

// rest is how long a replica that refused a connection gets none, as long as others do.
const rest = time.Second

func (r *replicas) await(ctx context.Context) (t target, life context.Context, ok bool) {
	for {
		r.mu.Lock()
		t, ok = r.pick()
		changed := r.changed
		r.mu.Unlock()
		if ok {
			return t, context.Background(), true
		}
		select {
		case <-ctx.Done():
			return target{}, nil, false
		case <-changed:
		case <-time.After(rest):
			r.nudge() // a replica that begins to stream wakes no watch
		}
	}
}

// pick takes the next one, in turn; one that has just refused comes last.
func (r *replicas) pick() (t target, ok bool) {
	now := r.clock()
	for range r.list {
		r.turn++
		t = r.list[r.turn%len(r.list)]
		if last, bad := r.refused[t.address]; !bad || now.Sub(last) >= rest {
			delete(r.refused, t.address)
			return t, true
		}
	}
	return t, len(r.list) > 0
}

func (r *replicas) doubt(t target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[t.address] = r.clock()
}

// join always succeeds: what a replica has to say stays true when it is promoted.
func (r *replicas) join(_ target, s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[s] = struct{}{}
	s.started = func(*session) {}
	return true
}

func (r *replicas) part(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
}

// end cuts all sessions.
func (r *replicas) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.sessions {
		s.cut()
	}
}

func (r *replicas) state() (list []target, sessions int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list, len(r.sessions)
}
