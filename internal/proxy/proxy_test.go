package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
)

// Clients get to the leader; when another one leads, sessions with the old one are cut, and whoever came meanwhile gets to the new one.
func TestChangeOfTheLeader(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.member("a", http.StatusOK), w.member("b", http.StatusServiceUnavailable)
	early := w.later() // before anybody leads
	w.held(primaryPort, 1)
	a.leads()
	if have := <-early; have != "a" {
		t.Errorf("have %q, want the connection that waited to get to a", have)
	}
	one, two := w.must(), w.must()
	if err := one.echo("through"); err != nil || one.member != "a" || two.member != "a" {
		t.Fatalf("have %v, members %s and %s, want a", err, one.member, two.member)
	}
	b.leads() // a does not know yet: it still says that it can be written to, and serves
	one.ends(t)
	two.ends(t)
	waiting := w.later()
	w.held(primaryPort, 1)
	select {
	case have := <-waiting:
		t.Fatalf("have %q while the new leader is not ready", have)
	default:
	}
	b.say(http.StatusOK)
	if have := <-waiting; have != "b" {
		t.Errorf("have %q, want the connection that waited to get to b", have)
	}
	if c := w.must(); c.member != "b" {
		t.Errorf("have a new connection to %s, want b", c.member)
	}
}

// A leader that loses the lock, with nobody to follow, is left at once. It gets its sessions back with the lock.
func TestNobodyLeads(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("a", http.StatusOK)
	a.leads()
	c := w.must()
	w.store.Erase(root + cluster.KeyLeader)
	c.ends(t)
	waiting := w.later()
	w.held(primaryPort, 1)
	a.leads()
	if have := <-waiting; have != "a" {
		t.Errorf("have %q, want a", have)
	}
}

// An agent that is restarted takes its lock again; PostgreSQL has not noticed, and neither do its clients.
func TestSameLeaderAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.config(`{"ttl":2}`) // a put of the same value wakes no watch
	a := w.member("a", http.StatusOK)
	a.leads()
	c := w.must()
	was := w.proxy.primary.state().to
	a.say(http.StatusServiceUnavailable)
	a.leads() // another revision
	w.eventually("another hold on the lock", func(s state) bool { return !s.to.is(was) })
	waiting := w.later()
	w.held(primaryPort, 1)
	if err := c.echo("still there"); err != nil {
		t.Error(err)
	}
	a.say(http.StatusOK)
	if have := <-waiting; have != "a" {
		t.Errorf("have %q, want a", have)
	}
	if err := c.echo("still there"); err != nil {
		t.Error(err)
	}
}

// The same member at another address is another server.
func TestAnotherAddress(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("a", http.StatusOK)
	a.leads()
	c := w.must()
	old := a.pg
	a.listen(free(t))
	old.Close()
	a.publish(cluster.Primary) // which wakes no watch: the refused connection does
	if d := w.must(); d.member != "a" {
		t.Errorf("have %s, want a", d.member)
	}
	c.ends(t)
}

// A Patroni says that it is the primary as soon as it holds the lock. Its member key says when it is.
func TestPatroniLeader(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("a", http.StatusNotFound)
	a.publish(cluster.Promoted)
	a.leads()
	waiting := w.later()
	w.held(primaryPort, 1)
	w.eventually("a leads", func(s state) bool { return s.to.member == "a" })
	a.publish(cluster.Primary)
	if have := <-waiting; have != "a" {
		t.Errorf("have %q, want a", have)
	}
}

// Where the agent does not answer, the lock and the member key say enough.
func TestAgentAway(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("a", http.StatusOK)
	a.leads()
	c := w.must()
	a.api.CloseClientConnections()
	a.api.Close()
	if d := w.must(); d.member != "a" {
		t.Errorf("have %s, want a", d.member)
	}
	if err := c.echo("still there"); err != nil {
		t.Error(err)
	}
}

// A leader that is about to stop gets no new clients; it is told when those that are connecting have got through.
func TestLeaderIsAboutToStop(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("a", http.StatusOK)
	a.leads()
	c := w.must()
	a.stopping()
	<-a.hungUp
	waiting := w.later()
	w.held(primaryPort, 1)
	if err := c.echo("still there"); err != nil {
		t.Error(err)
	}
	b := w.member("b", http.StatusOK)
	b.leads()
	if have := <-waiting; have != "b" {
		t.Errorf("have %q, want b", have)
	}
	c.ends(t)
}

// A client that is connecting when the leader is about to stop gets its time, but not for ever.
func TestConnectingWhileTheLeaderStops(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("a", http.StatusOK)
	a.leads()
	w.must()
	a.mu.Lock()
	a.silence = true
	a.mu.Unlock()
	slow := w.later()
	w.eventually("two sessions", func(state) bool {
		s := w.proxy.primary
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.starting == 1
	})
	begin := boottime.Now()
	a.stopping()
	<-a.hungUp
	if took := boottime.Now().Sub(begin); took < calmTime {
		t.Errorf("have hung up after %s, want the client that connects to get %s", took, calmTime)
	}
	a.crash()
	if have := <-slow; !strings.Contains(have, "EOF") && !strings.Contains(have, "reset") {
		t.Errorf("have %q for the client that was connecting", have)
	}
}

// Nobody waits for ever, nor everybody.
func TestHold(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Hold = 300 * time.Millisecond })
	begin := time.Now()
	if _, err := w.connect(); err == nil || !strings.Contains(err.Error(), "57P03") || !strings.Contains(err.Error(), "no primary within 300ms") {
		t.Errorf("have %v, want a refusal with the reason", err)
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("have waited %s, want 300ms", took)
	}

	w = newWorld(t, func(c *Config) { c.MaxHeld = 2 })
	first, second := w.later(), w.later()
	w.held(primaryPort, 2)
	if _, err := w.connect(); err == nil || !strings.Contains(err.Error(), "too many clients wait") {
		t.Errorf("have %v of the third client that waits", err)
	}
	w.member("a", http.StatusOK).leads()
	if one, two := <-first, <-second; one != "a" || two != "a" {
		t.Errorf("have %q and %q for the two that waited, want a", one, two)
	}
}

// A primary that is down is waited for as one that is to come.
func TestPrimaryDown(t *testing.T) {
	w := newWorld(t, nil)
	a := w.member("a", http.StatusOK)
	a.leads()
	c := w.must()
	address := a.pg.Addr().String()
	a.crash()
	c.ends(t)
	waiting := w.later()
	w.held(primaryPort, 1)
	a.listen(address)
	if have := <-waiting; have != "a" {
		t.Errorf("have %q, want a", have)
	}
}

// While the store is away sessions go on for a ttl. A leader that answers for itself prolongs that, and takes new clients.
func TestStoreAway(t *testing.T) {
	const ttl = 20 * time.Second
	w := newWorld(t, nil)
	w.config(`{"ttl":20}`)
	a := w.member("a", http.StatusNotFound)
	a.leads()
	c := w.must()
	a.say(http.StatusServiceUnavailable) // it does not know, either
	w.storeAway(true)
	w.eventually("the store is away", func(s state) bool { return s.away && !s.usable })
	waiting := w.later()
	w.held(primaryPort, 1)
	w.clock.move(ttl - time.Second)
	time.Sleep(2 * returnTime) // nothing happens: there is nothing to wait for
	if err := c.echo("still there"); err != nil {
		t.Error(err)
	}
	w.clock.move(2 * time.Second)
	c.ends(t)
	w.storeAway(false)
	a.say(http.StatusOK)
	if have := <-waiting; have != "a" {
		t.Errorf("have %q once the store is back, want a", have)
	}

	c = w.must()
	w.storeAway(true)
	w.eventually("the store is away", func(s state) bool { return s.away })
	for range 3 {
		w.clock.move(ttl / 2)
		w.eventually("the leader answers for itself", func(s state) bool { return s.usable && s.confirmed.Equal(w.clock.Now()) })
		if d := w.must(); d.member != "a" {
			t.Errorf("have a new client at %s, want a", d.member)
		}
		if err := c.echo("still there"); err != nil {
			t.Fatal(err)
		}
	}
	a.say(http.StatusServiceUnavailable) // its lock has run out
	w.eventually("the leader says no", func(s state) bool { return !s.usable })
	w.clock.move(ttl)
	c.ends(t)
}

// In pause nobody takes over, so a primary whose agent lets the lock run out keeps its clients.
func TestPause(t *testing.T) {
	w := newWorld(t, nil)
	w.config(`{"pause":true}`)
	a := w.member("a", http.StatusOK)
	a.leads()
	c := w.must()
	w.store.Erase(root + cluster.KeyLeader)
	w.config(`{"pause":true,"ttl":30}`)
	if err := c.echo("still there"); err != nil {
		t.Error(err)
	}
	w.config(`{}`)
	c.ends(t)
}

// The end of the proxy is the end of its sessions.
func TestEnd(t *testing.T) {
	w := newWorld(t, nil)
	w.member("a", http.StatusOK).leads()
	c := w.must()
	w.stop()
	c.ends(t)
	if _, err := w.proxy.ports[primaryPort].listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("have %v, want the port closed", err)
	}
}

// A client that has sent all it has to say still gets the answer.
func TestHalfClosed(t *testing.T) {
	w := newWorld(t, nil)
	w.member("a", http.StatusOK).leads()
	c := w.must()
	if _, err := io.WriteString(c, "last words\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if have, err := io.ReadAll(c.lines); err != nil || string(have) != "last words\n" {
		t.Errorf("have %q, %v", have, err)
	}
}
