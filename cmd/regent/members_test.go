package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
)

// issue makes a certificate for the host, signed by the given one (nil: by itself, as an authority), in one file with its key. A
// password encrypts the key.
func issue(t *testing.T, by *tls.Certificate, host, password string) (file string, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: by == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	block := &pem.Block{Type: "EC PRIVATE KEY", Bytes: text}
	if pair, err = tls.X509KeyPair(cert, pem.EncodeToMemory(block)); err != nil {
		t.Fatal(err)
	}
	if password != "" {
		//lint:ignore SA1019 it is how OpenSSL's older files are written
		if block, err = x509.EncryptPEMBlock(rand.Reader, block.Type, text, []byte(password), x509.PEMCipherAES128); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(t.TempDir(), "pair.pem")
	if err := os.WriteFile(file, append(cert, pem.EncodeToMemory(block)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, pair
}

func TestClientCertificates(t *testing.T) {
	authority, ca := issue(t, nil, "authority.test", "")
	stranger, _ := issue(t, nil, "stranger.test", "")
	client, _ := issue(t, &ca, "client.test", "")
	locked, _ := issue(t, &ca, "client.test", "geheim")
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	for name, c := range map[string]struct {
		ctl  config.CTL
		host string // that the member's certificate is for
		want int    // the answer; 0: none
	}{
		"of a known authority":                   {config.CTL{CACert: authority, CertFile: client}, "127.0.0.1", 200},
		"of nobody known":                        {config.CTL{CertFile: client}, "127.0.0.1", 0},
		"of another authority":                   {config.CTL{CACert: stranger, CertFile: client}, "127.0.0.1", 0},
		"of another host":                        {config.CTL{CACert: authority, CertFile: client}, "elsewhere.test", 0},
		"of another host, insecure":              {config.CTL{CACert: authority, CertFile: client, Insecure: true}, "elsewhere.test", 200},
		"of another authority, insecure":         {config.CTL{CACert: stranger, CertFile: client, Insecure: true}, "127.0.0.1", 0},
		"a key with a password":                  {config.CTL{CACert: authority, CertFile: locked, KeyFilePassword: config.NewSecret("geheim")}, "127.0.0.1", 200},
		"without a client certificate":           {config.CTL{CACert: authority}, "127.0.0.1", 403},
		"without a client certificate, insecure": {config.CTL{Insecure: true}, "elsewhere.test", 403},
	} {
		t.Run(name, func(t *testing.T) {
			_, pair := issue(t, &ca, c.host, "")
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if len(r.TLS.VerifiedChains) == 0 {
					w.WriteHeader(http.StatusForbidden)
				}
			}))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.StartTLS()
			defer server.Close()
			m, err := newMembers(c.ctl)
			if err != nil {
				t.Fatal(err)
			}
			if code, _, err := m.Call(t.Context(), http.MethodPost, server.URL+"/reload", nil); code != c.want {
				t.Errorf("have %d, %v, want %d", code, err, c.want)
			}
		})
	}
	if _, err := newMembers(config.CTL{CertFile: locked, KeyFilePassword: config.NewSecret("falsch")}); err == nil {
		t.Error("a wrong password is accepted")
	}
	if _, err := newPeers(&config.Settings{CTL: config.CTL{CertFile: "/nowhere"}}); err == nil {
		t.Error("members ask one another without the certificate that they were given")
	}
}

// Whose promises count is said by the member that is meant only: an address may have become somebody else's.
func TestWhoWaives(t *testing.T) {
	for name, c := range map[string]struct {
		header, body string
		want         bool
	}{
		"the member that is meant":  {"nobody", `{"patroni": {"scope": "demo", "name": "pg2"}}`, true},
		"one that counts on us":     {"", `{"patroni": {"scope": "demo", "name": "pg2"}}`, false},
		"another member":            {"nobody", `{"patroni": {"scope": "demo", "name": "pg3"}}`, false},
		"a member of another scope": {"nobody", `{"patroni": {"scope": "other", "name": "pg2"}}`, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.header != "" {
				w.Header().Set("Regent-Counts-On", c.header)
			}
			io.WriteString(w, c.body)
		}))
		p, err := newPeers(&config.Settings{Scope: "demo"})
		if err != nil {
			t.Fatal(err)
		}
		if s := p.ask(t.Context(), cluster.Member{Name: "pg2", APIURL: server.URL + "/patroni"}); !s.Alive || s.Waives != c.want {
			t.Errorf("%s: have %+v, want waives %t", name, s, c.want)
		}
		server.Close()
	}
}
