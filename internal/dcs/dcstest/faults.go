package dcstest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

func watchWakes(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	changes := []struct {
		name string
		do   func()
	}{
		{"leader created", func() { b.acquire(c.Long) }},
		{"leader replaced", func() { c.Write(t, cluster.KeyLeader, "c") }},
		{"leader deleted", func() { c.Erase(t, cluster.KeyLeader) }},
		{"config", func() { c.Write(t, cluster.KeyConfig, `{"ttl":30}`) }},
		{"config changed", func() { c.Write(t, cluster.KeyConfig, `{"ttl":40}`) }},
		{"failover", func() { c.Write(t, cluster.KeyFailover, `{"member":"b"}`) }},
		{"failover cleared", func() { c.Write(t, cluster.KeyFailover, `{}`) }},
		{"sync", func() { c.Write(t, cluster.KeySync, `{"leader":"b","quorum":0,"sync_standby":null}`) }},
		{"sync deleted", func() { c.Erase(t, cluster.KeySync) }},
		{"initialize", func() { c.Write(t, cluster.KeyInitialize, "") }},
		{"failsafe", func() { c.Write(t, cluster.KeyFailsafe, `{"b":"http://127.0.0.1:8008/patroni"}`) }},
		{"member comes", func() { b.announce(cluster.Running, c.Long) }},
		{"member goes", func() { c.Erase(t, cluster.KeyMembers+"b") }},
	}
	for _, change := range changes {
		after := a.snapshot().Revision
		woken := make(chan error, 1)
		go func() { woken <- a.Watch(c.ctx(), after) }()
		change.do()
		if err := <-woken; err != nil {
			t.Fatalf("%s: have %v, want to be woken", change.name, err)
		}
		// A change that is past already wakes too: nothing is lost between a snapshot and its watch.
		if err := a.Watch(c.ctx(), after); err != nil {
			t.Fatalf("%s, again: have %v", change.name, err)
		}
	}
}

func watchSleeps(t *testing.T, c *env) {
	a, b := c.open("a"), c.open("b")
	lock := b.acquire(c.Long)
	b.announce(cluster.Starting, c.Long)
	c.Write(t, cluster.KeyConfig, `{"ttl":30}`)
	after := a.until("the set-up", func(s *cluster.Snapshot) bool {
		return s.Leader.Name == "b" && len(s.Members) == 1 && s.Config.Revision != 0
	}).Revision
	b.announce(cluster.Running, c.Long)
	b.renew(lock)
	c.Write(t, cluster.KeyHistory, `[]`)
	c.Write(t, cluster.KeyConfig, `{"ttl":30}`) // the same value
	c.Write(t, cluster.KeyMembers+"b", `{"state":"stopped"}`)
	c.Write(t, cluster.KeyStatus, `{"optime":1}`)
	a.until("the news", func(s *cluster.Snapshot) bool { return s.Status.Optime == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := a.Watch(ctx, after); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("have %v, want to sleep until the deadline", err)
	}
}

func watchEnds(t *testing.T, c *env) {
	a := c.open("a")
	after := a.snapshot().Revision
	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan error, 1)
	go func() { woken <- a.Watch(ctx, after) }()
	cancel()
	if err := <-woken; !errors.Is(err, context.Canceled) {
		t.Errorf("have %v, want context.Canceled", err)
	}
}

func cutConnection(t *testing.T, c *env) {
	c.need(c.Cut != nil, "cut a connection")
	a, b := c.open("a"), c.open("b")
	lock := a.acquire(c.Long)
	after := a.snapshot().Revision
	woken := make(chan error, 1)
	go func() { woken <- a.Watch(c.ctx(), after) }()
	heal := c.Cut(t, "a")
	if err := <-woken; !is(err, dcs.ErrUnavailable) {
		t.Errorf("watch: have %v, want ErrUnavailable", err)
	}
	// A watch that begins when the connection is gone already must not wait for a break that is past.
	if err := a.Watch(c.short(), after); !is(err, dcs.ErrUnavailable) {
		t.Errorf("watch without a connection: have %v, want ErrUnavailable", err)
	}
	if s, err := a.Snapshot(c.short()); !is(err, dcs.ErrUnavailable) {
		t.Errorf("snapshot: have %v, %v, want ErrUnavailable", s, err)
	}
	if _, err := a.Renew(c.short(), lock); !is(err, dcs.ErrUnavailable) {
		t.Errorf("renew: have %v, want ErrUnavailable", err)
	}
	if _, err := a.Put(c.short(), cluster.KeyHistory, []byte("[]"), 0); !is(err, dcs.ErrUnavailable) {
		t.Errorf("put: have %v, want ErrUnavailable", err)
	}
	c.Write(t, cluster.KeyConfig, `{"ttl":30}`)
	heal()
	a.until("what changed meanwhile", func(s *cluster.Snapshot) bool { return s.Config.Revision != 0 })
	if err := a.Watch(c.ctx(), after); err != nil {
		t.Errorf("watch over the cut: have %v, want to be woken", err)
	}
	a.renew(lock)
	c.mustHold(a, b)
}

// lostWrite takes the answer of a write away, and gives the connection back once the write is done. A store that
// sent it again would be told of a conflict with itself.
func lostWrite(t *testing.T, c *env) {
	c.need(c.LoseAnswers != nil, "lose answers")
	a, b := c.open("a"), c.open("b")
	a.snapshot()
	heal := c.LoseAnswers(t, "a")
	answer := make(chan error, 1)
	go func() {
		_, err := a.Put(c.ctx(), cluster.KeyHistory, []byte("[]"), 0)
		answer <- err
	}()
	written := b.until("the write", func(s *cluster.Snapshot) bool { return s.History.Present })
	heal()
	if err := <-answer; !is(err, dcs.ErrUnavailable) {
		t.Errorf("put whose answer was lost: have %v, want ErrUnavailable", err)
	}
	have := a.until("the write", func(s *cluster.Snapshot) bool { return s.History.Present })
	if have.History.Revision != written.History.Revision {
		t.Errorf("have revision %d, want %d: it was written twice", have.History.Revision, written.History.Revision)
	}
	if _, err := a.Put(c.ctx(), cluster.KeyHistory, []byte("[]"), 0); !is(err, dcs.ErrConflict) {
		t.Errorf("put again: have %v, want ErrConflict", err)
	}
	a.put(cluster.KeyHistory, "[1]", have.History.Revision)
}

func lostAcquire(t *testing.T, c *env) {
	c.need(c.LoseAnswers != nil, "lose answers")
	a, b := c.open("a"), c.open("b")
	a.announce(cluster.Running, c.Long) // the lease is there, only the acquire itself gets lost
	heal := c.LoseAnswers(t, "a")
	lock, err := a.Acquire(c.short(), "a", c.Long)
	heal()
	if !is(err, dcs.ErrUnavailable) || lock != (dcs.Lock{}) {
		t.Errorf("acquire whose answer was lost: have %+v, %v, want no lock and ErrUnavailable", lock, err)
	}
	// Either way is right, but the store must stand by it.
	if _, err := b.Acquire(c.ctx(), "b", c.Long); err == nil {
		if _, err := a.Acquire(c.ctx(), "a", c.Long); !is(err, dcs.ErrHeld) {
			t.Errorf("acquire again: have %v, want ErrHeld", err)
		}
	} else {
		a.acquire(c.Long)
		c.mustHold(a, b)
	}
}

func lostRenewal(t *testing.T, c *env) {
	c.need(c.LoseAnswers != nil, "lose answers")
	a, b := c.open("a"), c.open("b")
	lock := a.acquire(c.Long)
	heal := c.LoseAnswers(t, "a")
	if renewed, err := a.Renew(c.short(), lock); !is(err, dcs.ErrUnavailable) {
		t.Errorf("have %+v, %v, want ErrUnavailable", renewed, err)
	}
	// The view comes from where no answer came from.
	if s, err := a.Snapshot(c.short()); !is(err, dcs.ErrUnavailable) {
		t.Errorf("snapshot: have %+v, %v, want ErrUnavailable", s, err)
	}
	heal()
	a.renew(lock)
	c.mustHold(a, b)
}

func closed(t *testing.T, c *env) {
	a := c.open("a")
	after := a.snapshot().Revision
	woken := make(chan error, 1)
	go func() { woken <- a.Watch(c.ctx(), after) }()
	if err := a.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-woken; !is(err, dcs.ErrUnavailable) {
		t.Errorf("watch: have %v, want ErrUnavailable", err)
	}
	if _, err := a.Snapshot(c.ctx()); !is(err, dcs.ErrUnavailable) {
		t.Errorf("snapshot: have %v, want ErrUnavailable", err)
	}
	if _, err := a.Acquire(c.ctx(), "a", c.Long); !is(err, dcs.ErrUnavailable) {
		t.Errorf("acquire: have %v, want ErrUnavailable", err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}
