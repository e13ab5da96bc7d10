package consul_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/consul"
	"github.com/regent-ha/regent/internal/dcs/consul/consultest"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
)

// These tests wait for servers and expiries, they do not compute.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestContract(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, nil)
	for _, mode := range []consul.Consistency{consul.Default, consul.Consistent, consul.Stale} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			dcstest.Run(t, func(t testing.TB) dcstest.Harness { return harness(t, server.Address, mode) })
		})
	}
}

var (
	scopes atomic.Int64
	quiet  = slog.New(slog.DiscardHandler)
)

func open(t testing.TB, c consul.Config) *consul.Store {
	t.Helper()
	if c.Log == nil {
		c.Log = quiet
	}
	if c.Namespace == "" {
		c.Namespace = "service"
	}
	store, err := consul.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func limited(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// harness is a cluster of its own in the Consul at address; each member's connections go through a proxy.
func harness(t testing.TB, address string, mode consul.Consistency) dcstest.Harness {
	scope := fmt.Sprintf("scope%d", scopes.Add(1))
	stranger := open(t, consul.Config{Address: address, Scope: scope})
	var mu sync.Mutex
	proxies, stores := dcstest.NewProxies(address), map[string][]*consul.Store{}
	return proxies.Break(dcstest.Harness{
		Open: func(t testing.TB, name string) dcs.Store {
			store := open(t, consul.Config{Address: proxies.Of(t, name).Address(), Scope: scope, Name: name, Live: func() consul.Live { return consul.Live{Consistency: mode} }})
			mu.Lock()
			defer mu.Unlock()
			stores[name] = append(stores[name], store)
			return store
		},
		Clock: boottime.Now, TTL: 2 * time.Second, Long: 5 * time.Minute, Budget: time.Minute,
		Write: stranger.Write, Erase: stranger.Erase,
		Expire: func(t testing.TB, name string) {
			mu.Lock()
			defer mu.Unlock()
			for _, all := range stores {
				for _, s := range all {
					s.TakeEndsForNatural()
				}
			}
			for _, s := range stores[name] {
				s.Expire(t, stranger)
			}
		},
	})
}
