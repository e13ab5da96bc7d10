package memory_test

import (
	"sync"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/memory"
)

const root = "/service/batman"

func TestContract(t *testing.T) {
	dcstest.RunInBubble(t, func(t testing.TB) dcstest.Harness {
		server := memory.NewServer(time.Now)
		faults := &faults{by: map[string]memory.Fault{}}
		server.Inject(faults.of)
		set := func(fault memory.Fault) func(testing.TB, string) func() {
			return func(_ testing.TB, name string) func() {
				faults.set(name, fault)
				server.Inject(faults.of) // wakes those who wait
				return func() { faults.set(name, memory.Fault{}) }
			}
		}
		return dcstest.Harness{
			Open: func(t testing.TB, name string) dcs.Store {
				store := server.Store(root, name)
				t.Cleanup(func() { store.Close() })
				return store
			},
			Clock: time.Now, TTL: 2 * time.Second, Long: time.Hour, Budget: time.Minute,
			Write:       func(_ testing.TB, key, value string) { server.Write(root+"/"+key, []byte(value)) },
			Erase:       func(_ testing.TB, key string) { server.Erase(root + "/" + key) },
			Expire:      func(_ testing.TB, name string) { server.Expire(name) },
			Cut:         set(memory.Fault{Lose: memory.Refuse}),
			LoseAnswers: set(memory.Fault{Lose: memory.Answer}),
			DelayAnswers: func(t testing.TB, name string, d time.Duration) func() {
				return set(memory.Fault{After: d})(t, name)
			},
		}
	})
}

type faults struct {
	mu sync.Mutex
	by map[string]memory.Fault
}

func (f *faults) of(c memory.Call) memory.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.by[c.Member]
}

func (f *faults) set(name string, fault memory.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.by[name] = fault
}
