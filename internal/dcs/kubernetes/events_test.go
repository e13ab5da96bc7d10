package kubernetes_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/dcs/kubernetes/kubetest"
)

func (b *bench) events() *kubernetes.Events {
	b.T.Helper()
	e, err := kubernetes.NewEvents(kubernetes.Config{
		Access: kubernetes.Access{Kubeconfig: kubetest.Kubeconfig(b.T, b.URL)}, Scope: "demo", Name: "a", Labels: map[string]string{"app": "x"}, Log: kubetest.Quiet,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(e.Close)
	return e
}

// written collects the events that arrive.
func (b *bench) written(status int) chan string {
	all := make(chan string, 100)
	b.SetFault(func(r kubetest.Request) kubetest.Fault {
		if r.Resource != "events" {
			return kubetest.Fault{}
		}
		all <- r.Method + " " + r.Body
		return kubetest.Fault{Status: status}
	})
	return all
}

func TestEventNamesThePod(t *testing.T) {
	b := newBench(t, kubernetes.ConfigMaps)
	all, e := b.written(0), b.events()
	e.Tell(kubernetes.Event{Reason: "NotElected", Message: strings.Repeat("x", 2000), Warning: true})
	var o struct {
		Type, Reason, Message string
		InvolvedObject        struct{ Kind, Name, Namespace, UID string }
	}
	text := strings.TrimPrefix(<-all, "POST ")
	if err := json.Unmarshal([]byte(text), &o); err != nil || o.Type != "Warning" || o.Reason != "NotElected" || len(o.Message) != 1024 ||
		o.InvolvedObject.Kind != "Pod" || o.InvolvedObject.Name != "a" || o.InvolvedObject.Namespace != "default" || o.InvolvedObject.UID != "uid-a" {
		b.Errorf("have %s", text)
	}
}

// The loop decides the same every cycle: that is one event.
func TestSameEventAgainIsNotWrittenAgain(t *testing.T) {
	b := newBench(t, kubernetes.ConfigMaps)
	all, e := b.written(0), b.events()
	for range 20 {
		e.Tell(kubernetes.Event{Reason: "NotElected", Message: "behind"})
	}
	e.Tell(kubernetes.Event{Reason: "Promoting"})
	for _, want := range []string{"NotElected", "Promoting"} {
		if have := <-all; !strings.Contains(have, want) {
			b.Errorf("have %s, want %s", have, want)
		}
	}
	e.Close()
	if len(all) != 0 || e.Dropped() != 0 {
		b.Errorf("have %d more requests and %d dropped, want one for each reason", len(all), e.Dropped())
	}
}

// A server that does not answer, or refuses, costs the events only.
func TestEventsNeverBlock(t *testing.T) {
	b := newBench(t, kubernetes.ConfigMaps)
	asked, answer := make(chan struct{}, 2000), make(chan struct{})
	b.SetFault(func(r kubetest.Request) kubetest.Fault {
		if r.Resource != "events" {
			return kubetest.Fault{}
		}
		asked <- struct{}{}
		<-answer
		return kubetest.Fault{Status: 403}
	})
	e := b.events()
	for i := range 1000 { // or the test would stand still here
		e.Tell(kubernetes.Event{Reason: string(rune('A' + i%26))})
	}
	<-asked
	close(answer)
	e.Close()
	if e.Dropped() != 1000 {
		b.Errorf("have %d dropped of 1000", e.Dropped())
	}
}
