package scenario

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// roles compares what the pods' labels say with who holds the lock, as `kubectl get pods -L role -w` shows it.
type roles struct {
	mu     sync.Mutex
	holder string
	label  map[string]role
	since  time.Time // since when they differ; zero: they do not
	was    string    // how they differed first
	spells []spell   // in which they differed
	trips  []spell   // what a write and its event took, beside them
}

// spell is a while, and what happened then.
type spell struct {
	from, to time.Time
	what     string
}

func (s spell) length() time.Duration { return s.to.Sub(s.from) }

type role struct {
	label       string
	terminating bool
}

// Roles watches, until the test ends, that the labels follow the lock of layout endpoints within a second. A machine that is busy with other
// things lets everybody wait for the API server: a yardstick, which does at the same time what an agent does to follow (it sees an event and
// writes), says for how long, and that much more is allowed.
func (c *Cluster) Roles(t testing.TB) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	locks, err := c.client.CoreV1().Endpoints(c.Namespace).Watch(ctx, forLong(meta.SingleObject(meta.ObjectMeta{Name: c.Name})))
	if err != nil {
		t.Fatal(err)
	}
	pods, err := c.client.CoreV1().Pods(c.Namespace).Watch(ctx, forLong(meta.ListOptions{LabelSelector: "cluster-name=" + c.Name}))
	if err != nil {
		t.Fatal(err)
	}
	yardstick := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: "yardstick"}}
	if _, err := c.client.CoreV1().ConfigMaps(c.Namespace).Create(ctx, yardstick, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	marks, err := c.client.CoreV1().ConfigMaps(c.Namespace).Watch(ctx, forLong(meta.SingleObject(yardstick.ObjectMeta)))
	if err != nil {
		t.Fatal(err)
	}
	r := &roles{label: map[string]role{}}
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		if err := c.measure(ctx, marks, r); err != nil && ctx.Err() == nil {
			t.Errorf("the yardstick has ended: %v", err)
		}
	}()
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
		if !r.since.IsZero() {
			r.spells = append(r.spells, spell{r.since, time.Now(), "at the end " + r.String()})
		}
		longest, late := r.judge()
		t.Logf("labels were behind the lock for %s at most: %s", longest.length(), longest.what)
		for _, s := range late {
			t.Errorf("labels were behind the lock for %s, want a second and what the machine was slow by: %s", s.length(), s.what)
		}
	})
}

// forLong is for a watch that lasts as long as a test: servers end it after half an hour otherwise.
func forLong(o meta.ListOptions) meta.ListOptions {
	o.TimeoutSeconds = new(int64(7200))
	return o
}

// measure writes a number and waits until a watch shows it, again and again.
func (c *Cluster) measure(ctx context.Context, marks watch.Interface, r *roles) error {
	defer marks.Stop()
	for n := 1; ctx.Err() == nil; n++ {
		want := strconv.Itoa(n)
		began := time.Now()
		text := fmt.Appendf(nil, `{"data":{"n":%q}}`, want)
		if _, err := c.client.CoreV1().ConfigMaps(c.Namespace).Patch(ctx, "yardstick", types.MergePatchType, text, meta.PatchOptions{}); err != nil {
			return err
		}
		for shown := false; !shown; {
			e, more := <-marks.ResultChan()
			if !more {
				return errors.New("its watch has ended")
			}
			m, ok := e.Object.(*core.ConfigMap)
			shown = ok && m.Data["n"] == want
		}
		r.mu.Lock()
		r.trips = append(r.trips, spell{from: began, to: time.Now()})
		r.mu.Unlock()
		pause(ctx, 50*time.Millisecond)
	}
	return nil
}

// judge returns the longest spell in which labels were behind, and all that lasted longer than a second and twice the longest trip at that time:
// the old leader and the new one follow the lock, each with a write of its own.
func (r *roles) judge() (longest spell, late []spell) {
	for _, s := range r.spells {
		allowed := time.Duration(0)
		for _, trip := range r.trips {
			if trip.from.Before(s.to) && s.from.Before(trip.to) {
				allowed = max(allowed, 2*trip.length())
			}
		}
		if s.length() > longest.length() {
			longest = s
		}
		if s.length() > time.Second+allowed {
			late = append(late, s)
		}
	}
	return longest, late
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
		r.spells = append(r.spells, spell{r.since, now, fmt.Sprintf("at %s %s, then %s", r.since.Format(time.TimeOnly), r.was, r)})
		r.since = time.Time{}
	case differ && r.since.IsZero():
		r.since, r.was = now, r.String()
	}
}

func (r *roles) String() string {
	return fmt.Sprintf("%s held the lock and labels were %+v", r.holder, r.label)
}
