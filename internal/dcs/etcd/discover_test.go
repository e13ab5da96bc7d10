package etcd_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/internal/dcs/etcd/etcdtest"
)

// names is a name service.
type names struct {
	mu      sync.Mutex
	records map[string][]*net.SRV
	asked   []string
}

func newNames() *names { return &names{records: map[string][]*net.SRV{}} }

func (n *names) set(t *testing.T, name string, addresses ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records[name] = nil
	for _, a := range addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			t.Fatal(err)
		}
		number, _ := strconv.Atoi(port)
		n.records[name] = append(n.records[name], &net.SRV{Target: host + ".", Port: uint16(number)})
	}
}

func (n *names) lookup(_ context.Context, name string) ([]*net.SRV, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, name)
	if r := n.records[name]; len(r) > 0 {
		return r, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// eventually waits for what a server or the store's own goroutine does.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := within(t, patience); !holds(); {
		select {
		case <-end.Done():
			t.Fatalf("have waited %s, want: %s", patience, what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestNameService(t *testing.T) {
	t.Parallel()
	server := start(t)
	for name, address := range map[string]string{
		"_etcd-client._tcp.db.example":      server.Address,
		"_etcd._tcp.db.example":             server.Address,
		"_etcd-server-blue._tcp.db.example": "127.0.0.1:" + strconv.Itoa(server.Peer), // which tells where clients connect
		"_etcd-client-blue._tcp.db.example": server.Address,
	} {
		t.Run(name, func(t *testing.T) {
			n := newNames()
			n.set(t, name, address)
			suffix := ""
			if strings.Contains(name, "blue") {
				suffix = "blue"
			}
			store := open(t, etcd.Config{SRV: "db.example", SRVSuffix: suffix, LookupSRV: n.lookup, Endpoints: []string{nowhere(t)}})
			if _, err := store.Snapshot(within(t, patience)); err != nil {
				t.Errorf("have %v, asked for %v", err, n.asked)
			}
		})
	}
	t.Run("order", func(t *testing.T) {
		n := newNames()
		store := open(t, etcd.Config{SRV: "db.example", LookupSRV: n.lookup})
		_, err := store.Put(within(t, time.Second), "history", []byte("[]"), 0)
		if !errors.Is(err, dcs.ErrUnavailable) || !strings.Contains(err.Error(), "check etcd3.srv") {
			t.Errorf("have %v, want the reason", err)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		want := "_etcd-client-ssl _etcd-client _etcd-ssl _etcd _etcd-server-ssl _etcd-server"
		if have := strings.ReplaceAll(strings.Join(n.asked[:6], " "), "._tcp.db.example", ""); have != want {
			t.Errorf("asked for %s, want %s", have, want)
		}
	})
}

// The name service knows nothing at the start, then a server, then another one.
func TestNameServiceChanges(t *testing.T) {
	t.Parallel()
	first, second := start(t), start(t)
	n := newNames()
	store := open(t, etcd.Config{SRV: "db.example", LookupSRV: n.lookup})
	put := func(want bool) bool {
		_, err := store.Put(within(t, time.Second), "history", []byte("[]"), 0)
		return (err == nil || errors.Is(err, dcs.ErrConflict)) == want
	}
	if !put(false) {
		t.Fatal("a write without a server succeeds")
	}
	const name = "_etcd-client._tcp.db.example"
	n.set(t, name, first.Address)
	eventually(t, "the first server is found", func() bool { return put(true) })
	first.Kill()
	n.set(t, name, second.Address)
	eventually(t, "the second server is found", func() bool { return put(true) })
}

// One server is configured, the others are learned: it may go.
func TestLearnedMembers(t *testing.T) {
	t.Parallel()
	servers := etcdtest.StartThree(t)
	store := open(t, etcd.Config{Endpoints: []string{servers[0].Address}, Learn: true})
	lock, err := store.Acquire(within(t, patience), "pg1", ttl)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all members are known", func() bool { return store.Servers() == 3 })
	servers[0].Kill()
	if _, err := store.Renew(within(t, patience), lock); err != nil {
		t.Errorf("renew without the configured server: %v", err)
	}
}

// A server tells an address that leads to somebody else's cluster, as etcd's default, localhost, may.
func TestForeignAddressIsNotLearned(t *testing.T) {
	t.Parallel()
	foreign := start(t)
	server := start(t, "--advertise-client-urls=http://"+foreign.Address+",http://"+nowhere(t))
	proxied := open(t, etcd.Config{Endpoints: []string{server.Address}})
	store := open(t, etcd.Config{Endpoints: []string{server.Address}, Learn: true})
	lock := acquire(t, store)
	eventually(t, "the members were asked for", func() bool { return store.Requests()["members"] > 0 })
	server.Kill()
	if _, err := store.Renew(within(t, 2*time.Second), lock); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("have %v, want ErrUnavailable: the other cluster must not answer", err)
	}
	if n := store.Servers(); n != 1 {
		t.Errorf("have %d servers, want the configured one", n)
	}
	if asked := proxied.Requests()["members"]; asked != 0 {
		t.Errorf("asked %d times for the members through what may be a proxy", asked)
	}
}
