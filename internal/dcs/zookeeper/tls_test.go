package zookeeper_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/zookeeper"
	"github.com/regent-ha/regent/internal/dcs/zookeeper/zookeepertest"
	"github.com/regent-ha/regent/internal/porttest"
)

// Over TLS, each with a certificate, and with nodes that only the bearer of ours may touch.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, other := authority(t, dir, "ca"), authority(t, dir, "other")
	ca.issue(t, dir, "server")
	client := ca.issue(t, dir, "client")
	foreign := other.issue(t, dir, "foreign")
	file := func(name string) string { return filepath.Join(dir, name+".pem") }
	address := fmt.Sprintf("127.0.0.1:%d", porttest.Free(t))
	_, port, _ := net.SplitHostPort(address)
	zookeepertest.Start(t, "secureClientPort="+port, "secureClientPortAddress=127.0.0.1", "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
		"ssl.keyStore.location="+file("server"), "ssl.keyStore.type=PEM", "ssl.trustStore.location="+file("ca"), "ssl.trustStore.type=PEM",
		"authProvider.x509=org.apache.zookeeper.server.auth.X509AuthenticationProvider")
	config := zookeeper.Config{
		Servers: []string{address}, TLS: true, CACert: file("ca"), Certificate: client, Namespace: "service", Scope: "safe", Name: "a",
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
		"another authority":   func(c *zookeeper.Config) { c.CACert = file("other") },
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

type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func authority(t *testing.T, dir, name string) issuer {
	t.Helper()
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, key := sign(t, name, template, nil, nil)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, dir, name, der, nil)
	return issuer{certificate, key}
}

// issue writes a certificate with its key and the authority's certificate, and returns how to load it.
func (i issuer) issue(t *testing.T, dir, name string) func() (*tls.Certificate, error) {
	t.Helper()
	der, key := sign(t, name, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature}, i.certificate, i.key)
	file := writePEM(t, dir, name, der, key)
	return func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(file, file)
		return &pair, err
	}
}

func sign(t *testing.T, name string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

func writePEM(t *testing.T, dir, name string, der []byte, key *ecdsa.PrivateKey) string {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if key != nil {
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text = append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), text...)
	}
	file := filepath.Join(dir, name+".pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
