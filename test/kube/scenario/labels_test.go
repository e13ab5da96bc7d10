package scenario

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// roles compares what the pods' labels say with who holds the lock, as `kubectl get pods -L role -w` shows it.
type roles struct {
	mu     sync.Mutex
	holder string
	label  map[string]role
	since  time.Time // since when they differ; zero: they do not
	was    string    // how they differed first
	behind time.Duration
	worst  string
}

type role struct {
	label       string
	terminating bool
}

// Roles watches, until the test ends, that the labels follow the lock of layout endpoints within a second.
func (c *Cluster) Roles(t testing.TB) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	locks, err := c.client.CoreV1().Endpoints(c.Namespace).Watch(ctx, meta.SingleObject(meta.ObjectMeta{Name: c.Name}))
	if err != nil {
		t.Fatal(err)
	}
	pods, err := c.client.CoreV1().Pods(c.Namespace).Watch(ctx, meta.ListOptions{LabelSelector: "cluster-name=" + c.Name})
	if err != nil {
		t.Fatal(err)
	}
	r := &roles{label: map[string]role{}}
	var done sync.WaitGroup
	for _, follow := range []struct {
		what string
		from watch.Interface
		take func(watch.Event)
	}{{"the lock", locks, r.lock}, {"the pods", pods, r.pod}} {
		done.Add(1)
		go func() {
			defer done.Done()
			for e := range follow.from.ResultChan() {
				r.mu.Lock()
				follow.take(e)
				r.compare(time.Now())
				r.mu.Unlock()
			}
			if ctx.Err() == nil {
				t.Errorf("the watch of %s has ended: how fast labels are is not known from then on", follow.what)
			}
		}()
	}
	t.Cleanup(func() {
		stop()
		done.Wait()
		t.Logf("labels were behind the lock for %s at most: %s", r.behind, r.worst)
		if r.behind > time.Second {
			t.Error("want them true within a second")
		}
	})
}

func (r *roles) lock(e watch.Event) {
	if o, ok := e.Object.(meta.Object); ok {
		r.holder = o.GetAnnotations()["leader"]
	}
}

func (r *roles) pod(e watch.Event) {
	p, ok := e.Object.(*core.Pod)
	switch {
	case !ok:
	case e.Type == watch.Deleted:
		delete(r.label, p.Name)
	default:
		r.label[p.Name] = role{p.Labels["role"], p.DeletionTimestamp != nil}
	}
}

// compare: the holder is a primary by its label and nobody else is. A pod that has none yet has not announced itself: while it is away
// the lock bears its name.
func (r *roles) compare(now time.Time) {
	differ := false
	for pod, is := range r.label {
		differ = differ || r.holder != "" && is.label != "" && (is.label == "primary") != (pod == r.holder)
	}
	switch {
	case !differ && !r.since.IsZero():
		if d := now.Sub(r.since); d > r.behind {
			r.behind, r.worst = d, fmt.Sprintf("at %s %s, then %s", r.since.Format(time.TimeOnly), r.was, r)
		}
		r.since = time.Time{}
	case differ && r.since.IsZero():
		r.since, r.was = now, r.String()
	}
}

func (r *roles) String() string {
	return fmt.Sprintf("%s held the lock and labels were %+v", r.holder, r.label)
}
