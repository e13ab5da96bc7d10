package scenario

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// Course remembers what happened when, so that it can be told where the time of an outage went.
type Course struct {
	mu   sync.Mutex
	seen []moment
}

type moment struct {
	at   time.Time
	what string
}

// Follow watches, until the test ends, who holds the lock in layout endpoints, where the primary Service leads and how the pods are labelled.
func (c *Cluster) Follow(t testing.TB) *Course {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	f := &Course{}
	options := func(selector string) meta.ListOptions { return forLong(meta.ListOptions{LabelSelector: selector}) }
	locks, err := c.client.CoreV1().Endpoints(c.Namespace).Watch(ctx, options("cluster-name="+c.Name))
	if err != nil {
		t.Fatal(err)
	}
	slices, err := c.client.DiscoveryV1().EndpointSlices(c.Namespace).Watch(ctx, options("kubernetes.io/service-name in ("+c.Name+","+c.Name+"-replicas)"))
	if err != nil {
		t.Fatal(err)
	}
	pods, err := c.client.CoreV1().Pods(c.Namespace).Watch(ctx, options("cluster-name="+c.Name))
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	for _, from := range []watch.Interface{locks, slices, pods} {
		done.Add(1)
		go func() {
			defer done.Done()
			before := map[string]string{}
			for e := range from.ResultChan() {
				name, what := said(e)
				if what != "" && before[name] != what {
					f.note(what)
				}
				before[name] = what
			}
		}()
	}
	t.Cleanup(func() { stop(); done.Wait() })
	return f
}

// said is what an event means, and of what.
func said(e watch.Event) (name, what string) {
	switch o := e.Object.(type) {
	case *discovery.EndpointSlice:
		to := []string{}
		for _, endpoint := range o.Endpoints {
			to = append(to, endpoint.Addresses...)
		}
		return o.Name, fmt.Sprintf("Service %s leads to %v", o.Labels["kubernetes.io/service-name"], to)
	case *core.Pod:
		text := fmt.Sprintf("%s at %s is labelled %q", o.Name, o.Status.PodIP, o.Labels["role"])
		if o.DeletionTimestamp != nil {
			text += " and is to go"
		}
		if e.Type == watch.Deleted {
			text = o.Name + " is gone"
		}
		return o.Name, text
	case meta.Object: // Endpoints, whose type is deprecated
		switch about := o.GetAnnotations(); {
		case about["leader"] != "":
			return o.GetName(), fmt.Sprintf("%s holds the lock", about["leader"])
		case about["ttl"] != "":
			return o.GetName(), "nobody holds the lock"
		}
	}
	return "", ""
}

// note is for what no watch shows. Nobody need listen.
func (f *Course) note(what string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, moment{time.Now(), what})
}

// Between tells what happened from a moment on until another, in seconds since the first; what repeats itself is told once.
func (f *Course) Between(from, to time.Time) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	last := ""
	for _, m := range f.seen {
		if m.what != last && !m.at.Before(from) && !m.at.After(to) {
			fmt.Fprintf(&b, "%+.3f %s\n", m.at.Sub(from).Seconds(), m.what)
			last = m.what
		}
	}
	return b.String()
}
