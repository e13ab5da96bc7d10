package scenario

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
)

// Sole watches, until the test ends, that no two members are a primary with the lock at the same time, by their own word: one that
// says so before and after another one does leads beside it.
func (c *Cluster) Sole(t testing.TB) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		var pods []core.Pod
		for ; ctx.Err() == nil; pause(ctx, 20*time.Millisecond) {
			if now, err := c.pods(ctx); err == nil { // else those that were known last
				pods = now
			}
			first := ""
			for _, p := range pods {
				switch {
				case !c.primary(ctx, p.Status.PodIP):
				case first == "":
					first = p.Status.PodIP
				case c.primary(ctx, first):
					t.Errorf("two primaries with the lock at %s: %s and %s", time.Now().Format(time.StampMilli), first, p.Status.PodIP)
				}
			}
		}
	}()
	t.Cleanup(func() { stop(); done.Wait() })
}

// primary says whether the pod at that address answers as the primary. One that is gone answers nothing at all.
func (c *Cluster) primary(ctx context.Context, ip string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ip+":8008/primary", nil)
	if err != nil {
		return false
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}
