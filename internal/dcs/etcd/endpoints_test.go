package etcd_test

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/internal/dcs/etcd/etcdtest"
	"github.com/regent-ha/regent/internal/porttest"
)

// silent is an address that takes connections and never says a word.
func silent(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

func nowhere(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", porttest.Free(t)) }

func TestDeadEndpoints(t *testing.T) {
	t.Parallel()
	server := start(t)
	for name, endpoints := range map[string][]string{
		"one refuses":      {nowhere(t), server.Address},
		"two refuse":       {nowhere(t), nowhere(t), server.Address},
		"one is silent":    {silent(t), server.Address},
		"one of each kind": {silent(t), nowhere(t), server.Address},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t, etcd.Config{Endpoints: endpoints})
			// Writing comes first: a conditional write must find its way without being sent twice, too.
			if _, err := store.Put(within(t, 12*time.Second), "history", []byte("[]"), 0); err != nil && !errors.Is(err, dcs.ErrConflict) {
				t.Errorf("put: %v", err)
			}
			if _, err := store.Snapshot(within(t, patience)); err != nil {
				t.Errorf("snapshot: %v", err)
			}
			began := time.Now()
			if _, err := store.Snapshot(within(t, patience)); err != nil {
				t.Errorf("snapshot again: %v", err)
			}
			if took := time.Since(began); took > patience/4 { // a silent endpoint is given a third of the time at least
				t.Errorf("the second snapshot took %s: it went to the dead endpoint again", took)
			}
		})
	}
}

// Three servers, of which one is killed: the lock stays.
func TestEndpointIsKilled(t *testing.T) {
	t.Parallel()
	servers := etcdtest.StartThree(t)
	var endpoints []string
	for _, s := range servers {
		endpoints = append(endpoints, s.Address)
	}
	store := open(t, etcd.Config{Endpoints: endpoints})
	lock, err := store.Acquire(within(t, patience), "pg1", ttl)
	if err != nil {
		t.Fatal(err)
	}
	servers[0].Kill() // the one in use
	if lock, err = store.Renew(within(t, patience), lock); err != nil {
		t.Fatalf("renew with one of three dead: %v", err)
	}
	if s, err := store.Snapshot(within(t, patience)); err != nil || s.Leader.Name != "pg1" {
		t.Fatalf("snapshot with one of three dead: have %+v, %v, want leader pg1", s, err)
	}
	servers[1].Kill() // no majority is left
	// A server that was the leader may renew for up to two election timeouts after it lost the others. That is no
	// danger: a newly elected one adds an election timeout to each lease (lease.Lessor, Promote).
	for end := within(t, patience); err == nil; {
		if end.Err() != nil {
			t.Fatal("renewals with two of three dead go on for a minute, want ErrUnavailable")
		}
		_, err = store.Renew(within(t, time.Second), lock)
	}
	if !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("renew with two of three dead: have %v, want ErrUnavailable", err)
	}
	servers[0].Start(t)
	if _, err = store.Renew(within(t, patience), lock); err != nil {
		t.Errorf("renew when one is back: %v", err)
	}
	if s, err := store.Snapshot(within(t, patience)); err != nil || s.Leader.Name != "pg1" {
		t.Errorf("snapshot when one is back: have %+v, %v, want leader pg1", s, err)
	}
}
