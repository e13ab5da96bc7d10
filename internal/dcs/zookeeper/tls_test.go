package zookeeper_test

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/zookeeper"
	"github.com/regent-ha/regent/internal/dcs/zookeeper/zookeepertest"
	"github.com/regent-ha/regent/internal/porttest"
)

// Over TLS, each with a certificate, and with nodes that only the bearer of ours may touch.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, other := dcstest.NewAuthority(t, dir, "ca"), dcstest.NewAuthority(t, dir, "other")
	ca.Issue(t, "server")
	client, foreign := ca.Issue(t, "client"), other.Issue(t, "foreign")
	file := func(name string) string { return filepath.Join(dir, name) }
	address := fmt.Sprintf("127.0.0.1:%d", porttest.Free(t))
	_, port, _ := net.SplitHostPort(address)
	zookeepertest.Start(t, "secureClientPort="+port, "secureClientPortAddress=127.0.0.1", "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
		"ssl.keyStore.location="+file("server.pem"), "ssl.keyStore.type=PEM", "ssl.trustStore.location="+file("ca.crt"), "ssl.trustStore.type=PEM",
		"authProvider.x509=org.apache.zookeeper.server.auth.X509AuthenticationProvider")
	config := zookeeper.Config{
		Servers: []string{address}, TLS: true, CACert: file("ca.crt"), Certificate: client, Namespace: "service", Scope: "safe", Name: "a",
		ACL: []zookeeper.ACL{{Permissions: zookeeper.All, Scheme: "x509", ID: "CN=client"}},
	}
	store := open(t, config)
	ctx := limited(t, patience)
	lock, err := store.Acquire(ctx, "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Renew(ctx, lock); err != nil {
		t.Error(err)
	}
	revision, err := store.Put(ctx, "history", []byte("[]"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*zookeeper.Config){
		"another authority":   func(c *zookeeper.Config) { c.CACert = file("other.crt") },
		"system authorities":  func(c *zookeeper.Config) { c.CACert = "" },
		"no certificate":      func(c *zookeeper.Config) { c.Certificate = nil },
		"foreign certificate": func(c *zookeeper.Config) { c.Certificate = foreign },
		"no TLS":              func(c *zookeeper.Config) { c.TLS = false },
	} {
		c := config
		change(&c)
		if _, err := open(t, c).Put(limited(t, 2*time.Second), "history", []byte("[1]"), revision); !errors.Is(err, dcs.ErrUnavailable) {
			t.Errorf("%s: have %v, want ErrUnavailable", name, err)
		}
	}
	config.CACert, config.Unverified = "", true
	if _, err := open(t, config).Put(ctx, "history", []byte("[1]"), revision); err != nil {
		t.Errorf("unverified: %v", err)
	}
}
