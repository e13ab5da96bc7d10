package zookeeper_test

import (
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
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/zookeeper"
	"github.com/regent-ha/regent/internal/dcs/zookeeper/zookeepertest"
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
	server := zookeepertest.Start(t)
	dcstest.Run(t, func(t testing.TB) dcstest.Harness { return harness(t, server.Address) })
}

var (
	scopes atomic.Int64
	quiet  = slog.New(slog.DiscardHandler)
)

func open(t testing.TB, c zookeeper.Config) *zookeeper.Store {
	t.Helper()
	if c.Log == nil {
		c.Log = quiet
	}
	store, err := zookeeper.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// harness is a cluster of its own in the ZooKeeper at address; each member's connections go through a proxy.
func harness(t testing.TB, address string) dcstest.Harness {
	scope := fmt.Sprintf("scope%d", scopes.Add(1))
	stranger := zookeeper.NewStranger(open(t, zookeeper.Config{Servers: []string{address}, Namespace: "service", Scope: scope}))
	proxies := dcstest.NewProxies(address)
	var mu sync.Mutex
	stores := map[string][]*zookeeper.Store{}
	return proxies.Break(dcstest.Harness{
		Open: func(t testing.TB, name string) dcs.Store {
			store := open(t, zookeeper.Config{Servers: []string{proxies.Of(t, name).Address()}, Namespace: "service", Scope: scope, Name: name})
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
			for _, s := range stores[name] {
				s.Expire(t, []string{address})
			}
		},
	})
}
