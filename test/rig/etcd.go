package rig

import (
	"context"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/regent-ha/regent/internal/dcs/etcd/etcdtest"
)

// Scope is the name of every cluster here; each has an etcd of its own.
const Scope = "demo"

// Root is where its keys are.
const Root = "/service/" + Scope + "/"

// Etcd is one etcd server and a connection to it.
type Etcd struct {
	*etcdtest.Server
	keys pb.KVClient
	auth pb.AuthClient
}

// StartEtcd runs an etcd for this test.
func StartEtcd(t testing.TB) *Etcd {
	t.Helper()
	s := etcdtest.Start(t, "http")
	etcdtest.WaitReady(t, s.Address)
	conn, err := grpc.NewClient("passthrough:///"+s.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &Etcd{Server: s, keys: pb.NewKVClient(conn), auth: pb.NewAuthClient(conn)}
}

// Get reads the value of a key of the cluster; ok is false when it does not exist.
func (e *Etcd) Get(t testing.TB, key string) (value string, ok bool) {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	r, err := e.keys.Range(ctx, &pb.RangeRequest{Key: []byte(Root + key)})
	if err != nil {
		t.Fatalf("read key %s: %v", key, err)
	}
	if len(r.Kvs) == 0 {
		return "", false
	}
	return string(r.Kvs[0].Value), true
}

// Put writes a key of the cluster, without a lease.
func (e *Etcd) Put(t testing.TB, key, value string) {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	if _, err := e.keys.Put(ctx, &pb.PutRequest{Key: []byte(Root + key), Value: []byte(value)}); err != nil {
		t.Fatalf("write key %s: %v", key, err)
	}
}

// Spoil writes a key of the cluster and leaves its lease as it is.
func (e *Etcd) Spoil(t testing.TB, key, value string) {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	r, err := e.keys.Range(ctx, &pb.RangeRequest{Key: []byte(Root + key)})
	if err != nil {
		t.Fatalf("read key %s: %v", key, err)
	}
	put := &pb.PutRequest{Key: []byte(Root + key), Value: []byte(value), IgnoreLease: len(r.Kvs) > 0}
	if _, err := e.keys.Put(ctx, put); err != nil {
		t.Fatalf("write key %s: %v", key, err)
	}
}

// Delete removes a key of the cluster.
func (e *Etcd) Delete(t testing.TB, key string) {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	if _, err := e.keys.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(Root + key)}); err != nil {
		t.Fatalf("delete key %s: %v", key, err)
	}
}

// Dump returns every key of this etcd with its value and version, one a line, to be compared.
func (e *Etcd) Dump(t testing.TB) string {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	r, err := e.keys.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		t.Fatalf("read all keys: %v", err)
	}
	var b strings.Builder
	for _, kv := range r.Kvs {
		fmt.Fprintf(&b, "%s = %s (version %d)\n", kv.Key, kv.Value, kv.Version)
	}
	return b.String()
}

// RequirePassword turns authentication on, with root and this password as the only account.
func (e *Etcd) RequirePassword(t testing.TB, password string) {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	_, err := e.auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: password})
	check("add user", err)
	_, err = e.auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "root"})
	check("add role", err)
	_, err = e.auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	check("grant role", err)
	_, err = e.auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
	check("enable authentication", err)
}

func limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), Patience)
}
