package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/memory"
	"github.com/regent-ha/regent/internal/loop"
)

var epoch = time.Unix(1000, 0)

func at(d time.Duration) time.Time { return epoch.Add(d) }

// keeping runs a keeper on a memory store in a bubble of virtual time.
func keeping(t *testing.T, f func(t *testing.T, server *memory.Server, k *keeper)) {
	synctest.Test(t, func(t *testing.T) {
		server := memory.NewServer(time.Now)
		store := server.Store("/service/demo/", "pg1")
		k := newKeeper(store, "pg1", time.Now, slog.New(slog.DiscardHandler), func() {})
		k.timing.Store(&cluster.Timing{TTL: 20 * time.Second, LoopWait: 2 * time.Second, RetryTimeout: 3 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.run(ctx) }()
		f(t, server, k)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		store.Close()
	})
}

func TestKeeperKeepsTheLockWhilePermitted(t *testing.T) {
	keeping(t, func(t *testing.T, server *memory.Server, k *keeper) {
		k.permit(time.Now().Add(time.Hour), nil)
		if err := k.do(t.Context(), loop.Acquire); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if l := k.lock(); !l.Held || time.Until(l.Deadline) < 17*time.Second {
			t.Errorf("have %+v at %s, want a lock renewed every two seconds", l, time.Now())
		}
		other := server.Store("/service/demo/", "pg2")
		defer other.Close()
		if _, err := other.Acquire(t.Context(), "pg2", 20*time.Second); !errors.Is(err, dcs.ErrHeld) {
			t.Errorf("pg2 acquires a kept lock: have %v, want ErrHeld", err)
		}
	})
}

func TestKeeperLosesTheLockOfASilentLoop(t *testing.T) {
	keeping(t, func(t *testing.T, server *memory.Server, k *keeper) {
		k.permit(time.Now().Add(10*time.Second), nil)
		if err := k.do(t.Context(), loop.Acquire); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second)
		other := server.Store("/service/demo/", "pg2")
		defer other.Close()
		if _, err := other.Acquire(t.Context(), "pg2", 20*time.Second); err != nil {
			t.Errorf("31 s after a permission of 10 s with a ttl of 20 s: have %v, want the lock free", err)
		}
		if l := k.lock(); l.Held && time.Now().Before(l.Deadline) {
			t.Errorf("the keeper still counts on the lock: %+v", l)
		}
	})
}

func TestKeeperSeesARefusal(t *testing.T) {
	keeping(t, func(t *testing.T, server *memory.Server, k *keeper) {
		k.permit(time.Now().Add(time.Hour), nil)
		if err := k.do(t.Context(), loop.Acquire); err != nil {
			t.Fatal(err)
		}
		server.Expire("pg1")
		other := server.Store("/service/demo/", "pg2")
		defer other.Close()
		if _, err := other.Acquire(t.Context(), "pg2", 20*time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if l := k.lock(); l.Held || !l.Refused {
			t.Errorf("have %+v, want the refusal", l)
		}
	})
}

func TestKeeperNeverReportsALaterDeadlineThanTheStores(t *testing.T) {
	keeping(t, func(t *testing.T, server *memory.Server, k *keeper) {
		k.permit(time.Now().Add(time.Hour), nil)
		server.Inject(func(memory.Call) memory.Fault { return memory.Fault{After: 2 * time.Second} })
		if err := k.do(t.Context(), loop.Acquire); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(k.lock().Deadline); left > 18*time.Second {
			t.Errorf("have %s left after an answer that took 2 s, want at most ttl - 2 s", left)
		}
	})
}
