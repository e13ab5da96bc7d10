package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// A stop waits for the proxies that it has told, a second at most, and lets in no new one until it is over.
func TestRouters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r routers
		begin := time.Now()
		r.tell(t.Context())
		if _, _, ok := r.enter(); ok || time.Since(begin) != 0 {
			t.Errorf("have one let in: %t, %s after the stop began; want none, and no wait for nobody", ok, time.Since(begin))
		}
		r.over()

		told, leave, ok := r.enter()
		if !ok {
			t.Fatal("have nobody let in after the stop")
		}
		go func() {
			<-told
			time.Sleep(300 * time.Millisecond)
			leave()
			leave()
		}()
		begin = time.Now()
		r.tell(t.Context())
		if have := time.Since(begin); have != 300*time.Millisecond {
			t.Errorf("have waited %s for one that left after 300ms", have)
		}
		r.over()

		_, last, _ := r.enter()
		begin = time.Now()
		if left, have := r.tell(t.Context()), time.Since(begin); have != routerPatience || left != 1 {
			t.Errorf("have waited %s for %d that do not leave, want %s for 1", have, left, routerPatience)
		}
		last()
		r.over()
		if r.count != 0 {
			t.Errorf("have %d proxies, want 0", r.count)
		}
	})
}
