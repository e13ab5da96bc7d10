package consul

import (
	"context"
	"testing"
)

// Expire ends the store's sessions, as Consul does when their time has come.
func (s *Store) Expire(t testing.TB, at *Store) {
	t.Helper()
	s.mu.Lock()
	all := append([]string{s.hold.session, s.hold.before, s.member.id}, s.hold.tried...)
	s.mu.Unlock()
	for _, id := range all {
		if id == "" {
			continue
		}
		if err := at.client.destroy(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// TakeEndsForNatural makes the store believe that sessions end when their time has come.
func (s *Store) TakeEndsForNatural() {
	s.view.Lock()
	defer s.view.Unlock()
	s.view.lock.off = true
}

// Write changes a key as a stranger would, unconditionally.
func (s *Store) Write(t testing.TB, key, value string) {
	t.Helper()
	if _, err := s.client.transact(context.WithoutCancel(t.Context()), "stranger", op{Verb: "set", Key: s.key(key), Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

// Erase deletes a key if it is there.
func (s *Store) Erase(t testing.TB, key string) {
	t.Helper()
	if _, err := s.client.transact(t.Context(), "stranger", op{Verb: "delete", Key: s.key(key)}); err != nil {
		t.Fatal(err)
	}
}
