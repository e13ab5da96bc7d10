package zookeeper

import (
	"context"
	"testing"
	"time"
)

// Expire ends the store's sessions with ephemeral nodes, as the servers would.
func (s *Store) Expire(t testing.TB, servers []string) {
	t.Helper()
	s.mu.Lock()
	all := []session{s.hold, s.member}
	s.mu.Unlock()
	c := s.config
	c.Servers = servers
	for _, one := range all {
		if one.id == 0 {
			continue
		}
		conn, err := newServers(&c).attach(t.Context(), one, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.one(t.Context(), closeSession); err != nil {
			t.Fatal(err)
		}
		conn.close(errDone)
	}
}

// Impatient makes the store forget soon what it has seen, when no server takes it.
func (s *Store) Impatient() {
	s.servers.mu.Lock()
	defer s.servers.mu.Unlock()
	s.servers.patience = time.Second
}

// Stranger changes keys as somebody else would.
type Stranger struct{ s *Store }

// NewStranger opens one; Close ends it.
func NewStranger(s *Store) Stranger { return Stranger{s} }

// Write writes a key unconditionally.
func (x Stranger) Write(t testing.TB, key, value string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for {
		answers, err := x.s.write(ctx, set(x.s.view.path(key), []byte(value), anyone))
		if err != nil {
			t.Fatal(err)
		}
		if answers[0].err == errNoNode {
			if _, err := x.s.create(ctx, key, []byte(value)); err == errNodeExists {
				continue
			} else if err != nil {
				t.Fatal(err)
			}
		} else if answers[0].err != nil {
			t.Fatal(answers[0].err)
		}
		return
	}
}

// Erase deletes a key if it is there.
func (x Stranger) Erase(t testing.TB, key string) {
	t.Helper()
	answers, err := x.s.write(t.Context(), remove(x.s.view.path(key), anyone))
	if err != nil {
		t.Fatal(err)
	}
	if no := answers[0].err; no != nil && no != errNoNode {
		t.Fatal(no)
	}
}
