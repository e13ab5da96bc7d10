package etcd_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/internal/dcs/etcd/etcdtest"
)

// A lock outlasts any test, and patience bounds what is to succeed, also on a machine that is slow or stands still for a while.
const (
	ttl      = 10 * time.Minute
	patience = time.Minute
)

func open(t *testing.T, config etcd.Config) *etcd.Store {
	t.Helper()
	config.Namespace, config.Scope, config.Log = "service", "batman", etcdtest.Quiet
	if config.Name == "" {
		config.Name = "pg1"
	}
	store, err := etcd.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, args ...string) *etcdtest.Server {
	server := etcdtest.Start(t, "http", args...)
	etcdtest.WaitReady(t, server.Address)
	return server
}

func acquire(t *testing.T, store *etcd.Store) dcs.Lock {
	t.Helper()
	lock, err := store.Acquire(within(t, patience), "pg1", ttl)
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

// Alone in its etcd, a leader's loop costs one keep-alive, and a replica's none.
func TestRequestsOfAnIdleLoop(t *testing.T) {
	t.Parallel()
	server := start(t)
	store := open(t, etcd.Config{Endpoints: []string{server.Address}})
	lock := acquire(t, store)
	member := cluster.Member{Name: "pg1", State: cluster.Running, Role: cluster.Primary}
	loop := func() {
		t.Helper()
		ctx := within(t, patience)
		if _, err := store.Snapshot(ctx); err != nil {
			t.Fatal(err)
		}
		var err error
		if lock, err = store.Renew(ctx, lock); err != nil {
			t.Fatal(err)
		}
		if err := store.Announce(ctx, member, ttl); err != nil {
			t.Fatal(err)
		}
	}
	loop()
	before := store.Requests()
	for range 10 {
		loop()
	}
	after := store.Requests()
	after["keepalive"] -= 10
	for kind := range after {
		if after[kind] != before[kind] {
			t.Errorf("%s: have %d requests more than ten loops should cost", kind, after[kind]-before[kind])
		}
	}
}

// In an etcd shared with others, revisions pass that our watch does not see: a renewal then asks once more.
func TestRenewInASharedEtcd(t *testing.T) {
	t.Parallel()
	server := start(t)
	store := open(t, etcd.Config{Endpoints: []string{server.Address}})
	lock := acquire(t, store)
	before := store.Requests()["txn"]
	if _, err := client(t, server.Address).Put(t.Context(), &pb.PutRequest{Key: []byte("/registry/x"), Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Renew(within(t, patience), lock); err != nil {
		t.Fatal(err)
	}
	if have := store.Requests()["txn"] - before; have != 1 {
		t.Errorf("have %d transactions, want 1", have)
	}
}

func TestServerRestart(t *testing.T) {
	t.Parallel()
	server := start(t)
	store := open(t, etcd.Config{Endpoints: []string{server.Address}})
	lock := acquire(t, store)
	after, err := store.Snapshot(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	broken := make(chan error, 1)
	go func() { broken <- store.Watch(t.Context(), after.Revision) }()
	server.Kill()
	if err := <-broken; !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("watch: have %v, want ErrUnavailable", err)
	}
	if _, err := store.Renew(within(t, time.Second/2), lock); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("renew while it is down: have %v, want ErrUnavailable", err)
	}
	server.Start(t)
	if _, err := store.Renew(within(t, patience), lock); err != nil {
		t.Errorf("renew when it is back: %v", err)
	}
	if s, err := store.Snapshot(within(t, patience)); err != nil || s.Leader.Name != "pg1" {
		t.Errorf("snapshot: have %+v, %v, want leader pg1", s, err)
	}
}

// A connection on which nothing comes back must not pass for a cluster in which nothing happens.
func TestSnapshotOfASilentConnection(t *testing.T) {
	t.Parallel()
	server := start(t)
	proxy := dcstest.NewProxy(t, server.Address)
	var slept atomic.Int64
	store := open(t, etcd.Config{Endpoints: []string{proxy.Address()}, Clock: func() time.Time {
		return boottime.Now().Add(time.Duration(slept.Load()))
	}})
	if _, err := store.Snapshot(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	asked := store.Requests()["range"]
	if _, err := store.Snapshot(within(t, patience)); err != nil || store.Requests()["range"] != asked {
		t.Errorf("second snapshot: have %v and %d requests more, want none", err, store.Requests()["range"]-asked)
	}
	heal := proxy.LoseAnswers()
	slept.Store(int64(30 * time.Second))
	if s, err := store.Snapshot(within(t, time.Second)); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("after a silent ttl: have %+v, %v, want ErrUnavailable", s, err)
	}
	heal()
	if _, err := store.Snapshot(within(t, patience)); err != nil {
		t.Errorf("when answers come again: %v", err)
	}
}

func TestOpenWithoutServer(t *testing.T) {
	t.Parallel()
	server := start(t)
	server.Kill()
	began := time.Now()
	store := open(t, etcd.Config{Endpoints: []string{server.Address}})
	if took := time.Since(began); took > 8*time.Second { // of ten that a request would have
		t.Errorf("open took %s", took)
	}
	if _, err := store.Snapshot(within(t, time.Second/2)); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("snapshot: have %v, want ErrUnavailable", err)
	}
	if _, err := store.Put(within(t, time.Second/2), "history", []byte("[]"), 0); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("put: have %v, want ErrUnavailable", err)
	}
	server.Start(t)
	if _, err := store.Snapshot(within(t, patience)); err != nil {
		t.Errorf("snapshot when it is there: %v", err)
	}
}

func TestRemoveAll(t *testing.T) {
	t.Parallel()
	server := start(t)
	store := open(t, etcd.Config{Endpoints: []string{server.Address}})
	acquire(t, store)
	keys := client(t, server.Address)
	if _, err := keys.Put(t.Context(), &pb.PutRequest{Key: []byte("/service/batman2/leader"), Value: []byte("pg9")}); err != nil {
		t.Fatal(err)
	}
	if err := store.RemoveAll(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if s, err := store.Snapshot(within(t, patience)); err != nil || s.Leader.Name != "" {
		t.Errorf("have %+v, %v, want nothing", s, err)
	}
	if r, err := keys.Range(t.Context(), &pb.RangeRequest{Key: []byte("/service/batman2/leader")}); err != nil || r.Count != 1 {
		t.Errorf("the cluster with a longer name: have %v, %v, want it untouched", r, err)
	}
}

func client(t *testing.T, address string) pb.KVClient {
	return pb.NewKVClient(connect(t, address))
}

func connect(t *testing.T, address string) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestPassword(t *testing.T) {
	t.Parallel()
	server := start(t, "--bcrypt-cost=4")
	auth := pb.NewAuthClient(connect(t, server.Address))
	ctx := within(t, patience)
	steps := []func() error{
		func() error { _, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "root"}); return err },
		func() error {
			_, err := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "secret", Options: nil})
			return err
		},
		func() error {
			_, err := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
			return err
		},
		func() error { _, err := auth.AuthEnable(ctx, &pb.AuthEnableRequest{}); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	endpoints := []string{server.Address}
	slow := func() (ttl, loopWait, retryTimeout time.Duration) {
		return 30 * time.Second, 10 * time.Second, 10 * patience
	}
	if _, err := etcd.Open(ctx, etcd.Config{Endpoints: endpoints, Scope: "batman", Username: "root", Password: "wrong", Timing: slow}); !errors.Is(err, dcs.ErrDenied) {
		t.Errorf("wrong password: have %v, want ErrDenied", err)
	}
	nobody := open(t, etcd.Config{Endpoints: endpoints})
	if _, err := nobody.Put(ctx, "history", []byte("[]"), 0); !errors.Is(err, dcs.ErrDenied) {
		t.Errorf("no user: have %v, want ErrDenied", err)
	}
	if _, err := nobody.Snapshot(within(t, 5*time.Second)); !errors.Is(err, dcs.ErrDenied) || !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("no user: have %v, want to be told that it is denied", err)
	}
	var password atomic.Value
	password.Store("secret")
	store := open(t, etcd.Config{Endpoints: endpoints, Account: func() (string, string) { return "root", password.Load().(string) }})
	lock := acquire(t, store)
	server.Kill() // it forgets all tokens
	server.Start(t)
	if _, err := store.Renew(within(t, patience), lock); err != nil {
		t.Errorf("renew after the restart: %v", err)
	}
	if _, err := store.Put(within(t, patience), "history", []byte("[]"), 0); err != nil {
		t.Errorf("put after the restart: %v", err)
	}
	if s, err := store.Snapshot(within(t, patience)); err != nil || s.Leader.Name != "pg1" {
		t.Errorf("snapshot: have %+v, %v, want leader pg1", s, err)
	}
	// The password is changed in etcd, then in the configuration.
	rooted := metadata.AppendToOutgoingContext(within(t, patience), "token", token(t, server.Address, "secret"))
	if _, err := auth.UserChangePassword(rooted, &pb.AuthUserChangePasswordRequest{Name: "root", Password: "renewed"}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(within(t, patience), "sync", []byte("{}"), 0); !errors.Is(err, dcs.ErrDenied) {
		t.Errorf("old password: have %v, want ErrDenied", err)
	}
	password.Store("renewed")
	if _, err := store.Put(within(t, patience), "sync", []byte("{}"), 0); err != nil {
		t.Errorf("new password: %v", err)
	}
	if _, err := store.Renew(within(t, patience), lock); err != nil {
		t.Errorf("renew with the new password: %v", err)
	}
}

func token(t *testing.T, address, password string) string {
	t.Helper()
	answer, err := pb.NewAuthClient(connect(t, address)).Authenticate(within(t, patience), &pb.AuthenticateRequest{Name: "root", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Token
}

func TestUserOfAnOpenServer(t *testing.T) {
	t.Parallel()
	server := start(t)
	acquire(t, open(t, etcd.Config{Endpoints: []string{server.Address}, Username: "root", Password: "secret"}))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := dcstest.NewAuthority(t, dir, "ca")
	ca.Issue(t, "server")
	ca.Issue(t, "client")
	dcstest.NewAuthority(t, dir, "other")
	file := func(name string) string { return filepath.Join(dir, name) }
	server := etcdtest.Start(t, "https", "--cert-file="+file("server.crt"), "--key-file="+file("server.key"),
		"--client-cert-auth", "--trusted-ca-file="+file("ca.crt"))
	endpoints := []string{"https://" + server.Address}
	store := open(t, etcd.Config{Endpoints: endpoints, CACert: file("ca.crt"), Cert: file("client.crt"), Key: file("client.key")})
	if _, err := store.Acquire(within(t, patience), "pg1", ttl); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]etcd.Config{
		"another authority":  {CACert: file("other.crt"), Cert: file("client.crt"), Key: file("client.key")},
		"system authorities": {Cert: file("client.crt"), Key: file("client.key")},
		"no certificate":     {CACert: file("ca.crt")},
	} {
		config.Endpoints = endpoints
		if _, err := open(t, config).Put(within(t, time.Second), "history", []byte("[]"), 0); !errors.Is(err, dcs.ErrUnavailable) {
			t.Errorf("%s: have %v, want ErrUnavailable", name, err)
		}
	}
	if _, err := etcd.Open(t.Context(), etcd.Config{Endpoints: endpoints, Scope: "batman", CACert: file("absent")}); err == nil {
		t.Error("absent cacert: have no error")
	}

	// Everything is replaced, by another authority's.
	server.Kill()
	ca = dcstest.NewAuthority(t, dir, "ca")
	ca.Issue(t, "server")
	ca.Issue(t, "client")
	server.Start(t)
	// A write over the connection of before may be the first to learn that it has gone, and then nobody knows what became of it.
	for ctx := within(t, patience); ; {
		_, err := store.Put(ctx, "history", []byte("[]"), 0)
		if err == nil || errors.Is(err, dcs.ErrConflict) {
			break
		}
		if !errors.Is(err, dcs.ErrUnavailable) || ctx.Err() != nil {
			t.Fatalf("with renewed certificates: %v", err)
		}
	}
}
