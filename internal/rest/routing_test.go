package rest

import (
	"net/http"
	"testing"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/agent"
)

// A proxy hears that it may send clients here, then that PostgreSQL is about to stop, which waits for it to hang up.
func TestRouting(t *testing.T) {
	f := recorded(t, "idle", "node1")
	_, address := serve(t, f, Config{})
	c, err := client.New("http://"+address, client.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if code, _, _ := ask(t, "GET", "http://"+address+"/routing", ""); code != http.StatusServiceUnavailable {
		t.Errorf("have %d while PostgreSQL is being stopped, want 503", code)
	}
	told := make(chan struct{})
	f.mu.Lock()
	f.told = told
	f.mu.Unlock()
	if code, _, body := ask(t, "OPTIONS", "http://"+address+"/routing", ""); code != http.StatusOK || body != "" {
		t.Errorf("have %d %q of OPTIONS, want 200 at once", code, body)
	}
	before := f.called()
	stream, err := c.Routing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	select {
	case <-stream.Stopping():
		t.Fatal("told to stop before anything stops")
	case <-stream.Broken():
		t.Fatal("the answer is over")
	default:
	}
	close(told)
	<-stream.Stopping()
	if have := f.called(); have != before {
		t.Errorf("have calls %q before the proxy has hung up, want %q", have, before)
	}
	stream.Close()
	for deadline := time.Now().Add(time.Minute); f.called() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the member has not seen that the proxy hung up")
		}
	}

	f.mu.Lock()
	f.told = make(chan struct{})
	f.mu.Unlock()
	f.publish(func(s *agent.Status) { s.Leader = false })
	if _, err := c.Routing(t.Context()); client.Code(err) != http.StatusServiceUnavailable {
		t.Errorf("have %v of a member that holds no lock, want 503", err)
	}
}

// The end of the server is the end of the answer.
func TestRoutingEndsWithTheServer(t *testing.T) {
	f := recorded(t, "idle", "node1")
	f.told = make(chan struct{})
	var stream *client.Routing
	t.Run("serve", func(t *testing.T) {
		_, address := serve(t, f, Config{})
		c, err := client.New("http://"+address, client.Options{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if stream, err = c.Routing(t.Context()); err == nil {
			t.Cleanup(stream.Close)
		}
	})
}
