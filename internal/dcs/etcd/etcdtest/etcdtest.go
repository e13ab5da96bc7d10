// Package etcdtest runs etcd servers for tests and hands them to the contract suite.
package etcdtest

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/internal/porttest"
)

// Main raises how many tests run at once: these wait for servers and expiries, they do not compute.
func Main(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// Server is an etcd process.
type Server struct {
	Address string // host:port for clients
	Peer    int    // port for other servers
	args    []string
	cmd     *exec.Cmd
}

// Program is the etcd binary, or skips the test.
func Program(t testing.TB) string {
	program, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("no etcd on this machine (Debian: apt install etcd-server)")
	}
	return program
}

// Start runs one etcd until the test ends. A scheme other than http needs the matching args.
func Start(t testing.TB, scheme string, args ...string) *Server {
	return newServer(t, scheme, "e1", map[string]int{"e1": porttest.Free(t)}, args...)
}

// StartThree runs a cluster of three.
func StartThree(t testing.TB) (servers []*Server) {
	peers := map[string]int{"e1": porttest.Free(t), "e2": porttest.Free(t), "e3": porttest.Free(t)}
	for _, name := range slices.Sorted(maps.Keys(peers)) {
		servers = append(servers, newServer(t, "http", name, peers))
	}
	return servers
}

func newServer(t testing.TB, scheme, name string, peers map[string]int, args ...string) *Server {
	var cluster []string
	for name, port := range peers {
		cluster = append(cluster, fmt.Sprintf("%s=http://127.0.0.1:%d", name, port))
	}
	peerURL := fmt.Sprintf("http://127.0.0.1:%d", peers[name])
	s := &Server{Address: fmt.Sprintf("127.0.0.1:%d", porttest.Free(t)), Peer: peers[name]}
	url := scheme + "://" + s.Address
	s.args = append([]string{Program(t), "--name=" + name, "--data-dir=" + filepath.Join(t.TempDir(), "data"), "--logger=zap", "--log-level=error",
		"--listen-client-urls=" + url, "--advertise-client-urls=" + url, "--initial-cluster=" + strings.Join(cluster, ","),
		"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL}, args...)
	s.Start(t)
	return s
}

// Start runs the server again after Kill, with the same data.
func (s *Server) Start(t testing.TB) {
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stderr = t.Output()
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
}

// Kill ends the server at once.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// WaitReady returns when the server at address answers.
func WaitReady(t testing.TB, address string) {
	conn := connect(t, address)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("x")}, grpc.WaitForReady(true)); err != nil {
		t.Fatalf("wait for etcd %s: %v", address, err)
	}
}

func connect(t testing.TB, address string) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

var scopes atomic.Int64

// Quiet is a logger for stores and servers under test.
var Quiet = slog.New(slog.DiscardHandler)

// Harness is a cluster of its own in the etcd at address; each member's connection goes through a proxy.
func Harness(t testing.TB, address string) dcstest.Harness {
	conn := connect(t, address)
	keys := pb.NewKVClient(conn)
	scope := fmt.Sprintf("scope%d", scopes.Add(1))
	prefix := "/service/" + scope + "/"
	check := func(t testing.TB, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	proxies := dcstest.NewProxies(address)
	return proxies.Break(dcstest.Harness{
		Open: func(t testing.TB, name string) dcs.Store {
			store, err := etcd.Open(t.Context(), etcd.Config{
				Endpoints: []string{proxies.Of(t, name).Address()}, Namespace: "service", Scope: scope, Name: name, Log: Quiet,
			})
			check(t, err)
			t.Cleanup(func() { store.Close() })
			return store
		},
		Clock: boottime.Now, TTL: 2 * time.Second, Long: 5 * time.Minute, Budget: time.Minute,
		Write: func(t testing.TB, key, value string) {
			_, err := keys.Put(t.Context(), &pb.PutRequest{Key: []byte(prefix + key), Value: []byte(value)})
			check(t, err)
		},
		Erase: func(t testing.TB, key string) {
			_, err := keys.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte(prefix + key)})
			check(t, err)
		},
		Expire: func(t testing.TB, name string) {
			all, err := keys.Range(t.Context(), &pb.RangeRequest{Key: []byte(prefix), RangeEnd: []byte("/service/" + scope + "0")})
			check(t, err)
			revoked := map[int64]bool{0: true}
			for _, kv := range all.Kvs {
				if (string(kv.Value) == name || string(kv.Key) == prefix+"members/"+name) && !revoked[kv.Lease] {
					revoked[kv.Lease] = true
					_, err := pb.NewLeaseClient(conn).LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: kv.Lease})
					check(t, err)
				}
			}
		},
	})
}
