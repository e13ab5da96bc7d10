// Package memory is a store inside the process, for tests and for the simulator.
//
// One Server is shared by the stores of all members. It has no goroutine: whatever is due on its clock (sessions that run
// out, requests that arrive late) happens, in order, before the next call is looked at. Faults are injected per call.
package memory

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Server holds the keys of any number of clusters.
type Server struct {
	clock dcs.Clock

	mu       sync.Mutex
	revision cluster.Revision
	keys     map[string]entry // by absolute key
	sessions map[string]*session
	first    string // the session that ends first; empty: look
	serial   int
	news     map[string]cluster.Revision  // by root: the last change that Watch returns for
	read     map[string]*cluster.Snapshot // by root: the last one; none changes later, so all share it
	late     []arrival                    // requests whose senders have gone, by time
	inject   func(Call) Fault
	changed  chan struct{} // closed and replaced when waiting Watch calls must look again
}

type entry struct {
	value    []byte
	revision cluster.Revision
	session  string          // empty: permanent
	member   *cluster.Member // what value says, where it is known; not its revision and session
}

type session struct {
	owner   *Store // chose the session, so it finds it again also when an answer got lost
	serial  int
	ttl     time.Duration
	expires time.Time
}

type arrival struct {
	at    time.Time
	apply func()
}

// NewServer returns an empty server whose time is clock.
func NewServer(clock dcs.Clock) *Server {
	return &Server{
		clock: clock, keys: map[string]entry{}, sessions: map[string]*session{},
		news: map[string]cluster.Revision{}, read: map[string]*cluster.Snapshot{}, changed: make(chan struct{}),
	}
}

// Store opens the part of the member called name in the cluster with that root ("/service/batman/").
func (s *Server) Store(root, name string) *Store {
	root = strings.TrimSuffix(root, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.news[root]; !known {
		s.news[root] = 0
	}
	return &Store{server: s, root: root, name: name, requests: map[string]uint64{}, closed: make(chan struct{})}
}

// Tick lets happen whatever is due now. A simulator calls it after it has moved the clock; every other call does it too.
func (s *Server) Tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
}

// Next is the moment at which something happens by itself; ok is false when nothing will.
func (s *Server) Next() (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next()
}

// Expire ends the sessions of that member now.
func (s *Server) Expire(member string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		if s.sessions[id].owner.name == member {
			s.end(id)
		}
	}
}

// Write puts an absolute key as a stranger would: unconditionally and for good.
func (s *Server) Write(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.put(key, value, "")
}

// Erase removes an absolute key as a stranger would.
func (s *Server) Erase(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.remove(key)
}

// settle carries out what is due, in order of time.
func (s *Server) settle() {
	for {
		at, ok := s.next()
		if !ok || at.After(s.clock()) {
			return
		}
		if len(s.late) > 0 && s.late[0].at.Equal(at) {
			first := s.late[0]
			s.late = s.late[1:]
			first.apply()
			continue
		}
		s.end(s.firstToExpire())
	}
}

func (s *Server) next() (at time.Time, ok bool) {
	if id := s.firstToExpire(); id != "" {
		at, ok = s.sessions[id].expires, true
	}
	if len(s.late) > 0 && (!ok || s.late[0].at.Before(at)) {
		at, ok = s.late[0].at, true
	}
	return at, ok
}

func (s *Server) firstToExpire() (first string) {
	if s.first != "" {
		return s.first
	}
	defer func() { s.first = first }()
	for id, c := range s.sessions {
		best := s.sessions[first]
		if best == nil || c.expires.Before(best.expires) || c.expires.Equal(best.expires) && c.serial < best.serial {
			first = id
		}
	}
	return first
}

// arrive notes a request that is still on its way although nobody waits for its answer.
func (s *Server) arrive(at time.Time, apply func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = append(s.late, arrival{at, apply})
	slices.SortStableFunc(s.late, func(a, b arrival) int { return a.at.Compare(b.at) })
}

// touch prolongs the session of owner by ttl, or begins a new one when there is none.
func (s *Server) touch(owner *Store, ttl time.Duration) string {
	old := s.sessionOf(owner)
	s.first = ""
	if c := s.sessions[old]; c != nil && c.ttl == ttl {
		c.expires = s.clock().Add(ttl)
		return old
	}
	s.serial++
	fresh := fmt.Sprintf("%s/%d", owner.name, s.serial)
	expires := s.clock().Add(ttl)
	if c := s.sessions[old]; c != nil && c.expires.After(expires) {
		expires = c.expires // a shorter ttl ends nothing earlier than was promised
	}
	s.sessions[fresh] = &session{owner, s.serial, ttl, expires}
	if old != "" { // another ttl: the keys move
		for _, key := range slices.Sorted(maps.Keys(s.keys)) {
			if e := s.keys[key]; e.session == old {
				s.put(key, e.value, fresh)
			}
		}
		delete(s.sessions, old)
	}
	return fresh
}

func (s *Server) sessionOf(owner *Store) string {
	for id, c := range s.sessions {
		if c.owner == owner {
			return id
		}
	}
	return ""
}

// end removes a session and its keys, all at one revision.
func (s *Server) end(id string) {
	s.first = ""
	delete(s.sessions, id)
	s.revision++
	for key, e := range s.keys {
		if e.session == id {
			delete(s.keys, key)
			s.note(key, true)
		}
	}
}

// knowing adds to what was read last the members whose keys came from Announce: nobody has to read those.
func (s *Server) knowing(last *cluster.Snapshot, root string) *cluster.Snapshot {
	if last == nil {
		return nil
	}
	known := last
	for key, e := range s.keys {
		if e.member == nil || e.revision <= last.Revision || !strings.HasPrefix(key, root+"/"+cluster.KeyMembers) {
			continue // Next takes over what has not changed
		}
		if known == last {
			c := *last
			c.Members = slices.Clip(c.Members)
			known = &c
		}
		m := *e.member
		m.Revision, m.Session = e.revision, e.session
		known.Members = append(known.Members, m)
	}
	return known
}

// snapshot reads the cluster with that root.
func (s *Server) snapshot(root string) *cluster.Snapshot {
	last := s.read[root]
	if last != nil && last.Revision == s.revision {
		return last
	}
	keys := make([]cluster.KeyValue, 0, len(s.keys))
	for key, e := range s.keys {
		if relative, ok := strings.CutPrefix(key, root+"/"); ok {
			keys = append(keys, cluster.KeyValue{Key: relative, Value: e.value, Revision: e.revision, Session: e.session})
		}
	}
	slices.SortFunc(keys, func(a, b cluster.KeyValue) int { return strings.Compare(a.Key, b.Key) })
	next := s.knowing(last, root).Next(s.revision, keys)
	s.read[root] = next
	return next
}

func (s *Server) put(key string, value []byte, session string) cluster.Revision {
	s.revision++
	old, existed := s.keys[key]
	s.keys[key] = entry{slices.Clone(value), s.revision, session, nil}
	if !existed || string(old.value) != string(value) {
		s.note(key, !existed)
	}
	return s.revision
}

func (s *Server) remove(key string) {
	if _, ok := s.keys[key]; ok {
		s.revision++
		delete(s.keys, key)
		s.note(key, true)
	}
}

func (s *Server) note(key string, existence bool) {
	for root := range s.news {
		if relative, ok := strings.CutPrefix(key, root+"/"); ok && dcs.Wakes(relative, existence) {
			s.news[root] = s.revision
		}
	}
	s.wake()
}

func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// News is the revision of the last change in the cluster with that root that Watch returns for.
func (s *Server) News(root string) cluster.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.news[strings.TrimSuffix(root, "/")]
}

// Backup copies everything as it is now. Calling what it returns restores that, as an operator restores the store from a
// backup: revisions go on from the present ones, and every lease of the backup gets its whole time again.
func (s *Server) Backup() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	keys := maps.Clone(s.keys)
	sessions := map[string]session{}
	for id, c := range s.sessions {
		sessions[id] = *c
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		gone := s.keys
		s.first = ""
		s.keys, s.sessions = map[string]entry{}, map[string]*session{}
		for id, c := range sessions {
			c.expires = s.clock().Add(c.ttl)
			s.sessions[id] = &c
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			s.put(key, keys[key].value, keys[key].session)
		}
		for _, key := range slices.Sorted(maps.Keys(gone)) {
			if _, kept := keys[key]; !kept {
				s.revision++
				s.note(key, true)
			}
		}
	}
}

// remember notes what the value just put says. A member that carries more than its key does is read like any other.
func (s *Server) remember(key string, m cluster.Member) {
	if m.State == "" || m.Role == "" || m.ScheduledRestart != nil || m.PendingRestartReason != nil {
		return
	}
	e := s.keys[key]
	e.member = &m
	s.keys[key] = e
}
