package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/internal/dcs/etcd/etcdtest"
	"github.com/regent-ha/regent/internal/porttest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// limit bounds what is to succeed, also on a machine that is slow or stands still for a while.
const limit = 2 * time.Minute

func run(t *testing.T, c Config) *Server {
	t.Helper()
	c.Log, c.unsafe = etcdtest.Quiet, true
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func address(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", porttest.Free(t)) }

func ready(t *testing.T, servers ...*Server) {
	t.Helper()
	for _, s := range servers {
		select {
		case <-s.Ready():
		case err := <-s.Err():
			t.Fatal(err)
		case <-time.After(limit):
			t.Fatalf("not ready after %s", limit)
		}
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	server := run(t, Config{DataDir: t.TempDir(), ClientAddr: address(t)})
	ready(t, server)
	dcstest.Run(t, func(t testing.TB) dcstest.Harness { return etcdtest.Harness(t, server.Endpoints()[0]) })
}

func store(t *testing.T, servers ...*Server) *etcd.Store {
	t.Helper()
	store, err := etcd.Open(t.Context(), etcd.Config{Endpoints: servers[0].Endpoints(), Scope: "batman", Name: "pg1", Log: etcdtest.Quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func put(t *testing.T, s *etcd.Store, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, err := s.Put(ctx, key, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func wantInitialize(t *testing.T, s *etcd.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	have, err := s.Snapshot(ctx)
	if err != nil || !have.Initialize.Present {
		t.Errorf("have %+v, %v, want the key from before", have, err)
	}
}

func TestSingleKeepsItsData(t *testing.T) {
	t.Parallel()
	c := Config{DataDir: t.TempDir(), ClientAddr: address(t)}
	first := run(t, c)
	ready(t, first)
	put(t, store(t, first), "initialize", "7711122388908682825")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(c.DataDir, dirName))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: have %v, %v, want mode 0700", info, err)
	}
	second := run(t, c)
	ready(t, second)
	wantInitialize(t, store(t, second))
}

func TestPortIsTaken(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	used := listener.Addr().String()
	_, err = Start(t.Context(), Config{DataDir: t.TempDir(), ClientAddr: used, Log: etcdtest.Quiet})
	_, port, _ := net.SplitHostPort(used)
	if err == nil || !strings.Contains(err.Error(), "listen on port "+port) {
		t.Errorf("have %v, want an error that names port %s", err, port)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]Config{
		"no directory":          {},
		"partners without self": {DataDir: t.TempDir(), PartnerAddrs: []string{"127.0.0.1:1"}},
		"no port":               {DataDir: t.TempDir(), SelfAddr: "127.0.0.1"},
		"no room for clients":   {DataDir: t.TempDir(), SelfAddr: "127.0.0.1:65535"},
	} {
		if s, err := Start(t.Context(), c); err == nil {
			s.Close()
			t.Errorf("%s: have no error", name)
		}
	}
}

// three returns the raft sections of three members. Each needs two ports in a row.
func three(t *testing.T) (configs []Config) {
	var addresses []string
	for range 3 {
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", porttest.FreeInRow(t, 2)))
	}
	for i, self := range addresses {
		c := Config{DataDir: t.TempDir(), SelfAddr: self}
		for j, partner := range addresses {
			if i != j {
				c.PartnerAddrs = append(c.PartnerAddrs, partner)
			}
		}
		configs = append(configs, c)
	}
	return configs
}

func TestThree(t *testing.T) {
	t.Parallel()
	configs := three(t)
	servers := make([]*Server, 3)
	for i, c := range configs {
		servers[i] = run(t, c)
	}
	ready(t, servers...)
	s := store(t, servers...)
	put(t, s, "initialize", "7711122388908682825")

	t.Log("a member restarts with its data")
	servers[0].Close()
	put(t, s, "history", "[]")
	servers[0] = run(t, configs[0])
	ready(t, servers[0])

	t.Log("a member loses its data")
	servers[1].Close()
	lost := servers[1].etcd.Server.MemberID()
	if err := os.RemoveAll(filepath.Join(configs[1].DataDir, dirName)); err != nil {
		t.Fatal(err)
	}
	servers[1] = run(t, configs[1])
	ready(t, servers[1])
	if servers[1].etcd.Server.MemberID() == lost {
		t.Error("the lost member came back under its old identity, without what it promised")
	}
	if have := len(servers[0].etcd.Server.Cluster().Members()); have != 3 {
		t.Errorf("have %d members, want 3", have)
	}

	t.Log("another member stops, and the new one counts for the majority")
	servers[2].Close()
	wantInitialize(t, store(t, servers[1]))
	put(t, store(t, servers[1]), "failsafe", "{}")
}

// Alone of three it cannot serve, but it must start, and end when it is told to.
func TestOneOfThree(t *testing.T) {
	t.Parallel()
	s := run(t, three(t)[0])
	select {
	case <-s.Ready():
		t.Error("ready without a majority")
	case <-time.After(time.Second / 2):
	}
	began := time.Now()
	s.Close()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("close took %s", took)
	}
}

func TestAnyPort(t *testing.T) {
	t.Parallel()
	s := run(t, Config{DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0"})
	ready(t, s)
	put(t, store(t, s), "history", "[]")
}

func TestShrink(t *testing.T) {
	t.Parallel()
	s := run(t, Config{DataDir: t.TempDir(), ClientAddr: address(t)})
	ready(t, s)
	server := s.etcd.Server
	big := make([]byte, 256<<10)
	var revision int64
	for range 40 {
		r, err := server.Put(t.Context(), &pb.PutRequest{Key: []byte("big"), Value: big})
		if err != nil {
			t.Fatal(err)
		}
		revision = r.Header.Revision
	}
	if _, err := server.Compact(t.Context(), &pb.CompactionRequest{Revision: revision, Physical: true}); err != nil {
		t.Fatal(err)
	}
	before := server.Backend().Size()
	for end := time.Now().Add(limit); server.Backend().SizeInUse()*2 > before; {
		if time.Now().After(end) {
			t.Fatalf("have %d of %d bytes in use after compaction", server.Backend().SizeInUse(), before)
		}
		server.Backend().ForceCommit() // pages come free with the commit after the last reader
	}
	// The server may commit something of its own meanwhile, so that the file is a page longer; it is shorter only if it was rewritten.
	if err := s.shrink(t.Context(), 1<<40); err != nil || server.Backend().Size() < before {
		t.Errorf("below the limit: have %d bytes, %v, want the %d untouched", server.Backend().Size(), err, before)
	}
	if err := s.shrink(t.Context(), 1<<20); err != nil {
		t.Fatal(err)
	}
	if after := server.Backend().Size(); after > before/2 {
		t.Errorf("have %d bytes, want less than half of %d", after, before)
	}
}

func TestSlowDiskIsSeen(t *testing.T) {
	if _, ok := writes()["etcd_disk_wal_fsync_duration_seconds"]; !ok {
		t.Error("etcd's histogram is not there any more: the warning would never come")
	}
	for _, c := range []struct {
		speed
		bad bool
	}{{speed{0, 0}, false}, {speed{100, 10}, false}, {speed{100, 11}, true}, {speed{1, 1}, true}} {
		if have := c.complaint(); (have != "") != c.bad {
			t.Errorf("%+v: have %q, want a complaint: %v", c.speed, have, c.bad)
		}
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := Start(ctx, Config{DataDir: t.TempDir(), SelfAddr: "no.such.host.invalid:7000", Log: etcdtest.Quiet})
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, context.Canceled) && (err == nil || !strings.Contains(err.Error(), "resolve")) {
		t.Errorf("have %v, want the context's end or a resolver error", err)
	}
}
