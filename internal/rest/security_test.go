package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// sec is the single member of the recorded security tests.
func sec(t testing.TB) *fake {
	f := recorded(t, "idle", "node1")
	f.status.Name, f.status.Scope = "sec1", "sec"
	return f
}

var secured = Config{Username: "admin", Password: "p@ss:w", ServerTokens: "Minimal", HTTPExtraHeaders: map[string]string{"X-Frame-Options": "SAMEORIGIN"}}

func TestBasicAuth(t *testing.T) {
	files, _ := filepath.Glob("testdata/security/auth-*.txt")
	if len(files) < 20 {
		t.Fatalf("have %d recordings, want 20 at least", len(files))
	}
	_, address := serve(t, sec(t), secured)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		e := readExchange(t, "security/"+filepath.Base(file))
		if strings.Contains(name, "post-mpp") {
			e.code = 401 // Patroni leaves its new name for /citus open; nobody needs that
		}
		code, body := send(t, address, name, e)
		if code != e.code {
			t.Errorf("%s: have %d %q, want %d", name, code, body, e.code)
		}
		if code == 401 && name != "auth-matrix-post-mpp" && body != e.reply {
			t.Errorf("%s: have %q, want %q", name, body, e.reply)
		}
	}
	_, header, _ := ask(t, "POST", "http://"+address+"/reload", "")
	for name, want := range map[string]string{"Server": "Patroni/4.1.4", "X-Frame-Options": "SAMEORIGIN",
		"WWW-Authenticate": `Basic realm="Patroni"`, "Content-Type": "text/html"} {
		if have := header.Get(name); have != want {
			t.Errorf("%s: have %q, want %q", name, have, want)
		}
	}
	if _, header, _ := ask(t, "GET", "http://"+address+"/failsafe", ""); header.Get("X-Frame-Options") != "" {
		t.Error("an error page carries the extra headers")
	}
}

func TestEveryActionIsGuarded(t *testing.T) {
	f := sec(t)
	_, address := serve(t, f, secured)
	for action := range actions {
		method, path, _ := strings.Cut(action, " ")
		for _, p := range []string{path, path + "/"} {
			if code, _, body := ask(t, method, "http://"+address+p, `{"a":1}`); code != 401 {
				t.Errorf("%s %s without a password: have %d %q, want 401", method, p, code, body)
			}
		}
	}
	if f.called() != "" {
		t.Errorf("the agent was asked: %s", f.called())
	}
}

func TestServerTokens(t *testing.T) {
	for tokens, want := range map[string]string{"": "Regent/0.1", "Original": "Regent/0.1", "PRODUCTONLY": "Patroni", "minimal": "Patroni/4.1.4", "none": "Regent/0.1"} {
		_, address := serve(t, sec(t), Config{ServerTokens: tokens})
		if _, header, _ := ask(t, "GET", "http://"+address+"/patroni", ""); header.Get("Server") != want {
			t.Errorf("server_tokens %q: have %q, want %q", tokens, header.Get("Server"), want)
		}
	}
}

func TestAllowlist(t *testing.T) {
	member := func(host string) *fake {
		f := sec(t)
		s := *f.status.Snapshot
		s.Members = []cluster.Member{{Name: "x", APIURL: "http://" + host + ":8008/patroni"}}
		f.status.Snapshot = &s
		return f
	}
	const reload, failsafe = "/reload", "/failsafe"
	tests := map[string]struct {
		f    *fake
		cfg  Config
		path string
		code int
	}{
		"no list":                        {sec(t), Config{}, reload, 202},
		"address":                        {sec(t), Config{Allowlist: []string{"10.0.0.1", "127.0.0.1"}}, reload, 202},
		"network":                        {sec(t), Config{Allowlist: []string{"127.0.0.0/8"}}, reload, 202},
		"network with host bits":         {sec(t), Config{Allowlist: []string{"127.0.0.9/8"}}, reload, 202},
		"name":                           {sec(t), Config{Allowlist: []string{"localhost"}}, reload, 202},
		"not listed":                     {sec(t), Config{Allowlist: []string{"10.0.0.0/8"}}, reload, 403},
		"nonsense admits nobody":         {sec(t), Config{Allowlist: []string{"no such name.invalid"}}, reload, 403},
		"IPv4 on a dual-stack socket":    {sec(t), Config{Listen: "*:0", Allowlist: []string{"127.0.0.1"}}, reload, 202},
		"members":                        {member("127.0.0.1"), Config{AllowlistIncludeMembers: true}, reload, 202},
		"member by name":                 {member("localhost"), Config{AllowlistIncludeMembers: true}, reload, 202},
		"no member":                      {member("10.0.0.7"), Config{AllowlistIncludeMembers: true}, reload, 403},
		"member beside a list":           {member("127.0.0.1"), Config{AllowlistIncludeMembers: true, Allowlist: []string{"10.0.0.1"}}, reload, 202},
		"failsafe ignores members":       {member("127.0.0.1"), Config{AllowlistIncludeMembers: true, Allowlist: []string{"10.0.0.1"}}, failsafe, 403},
		"failsafe without a static list": {member("10.0.0.7"), Config{AllowlistIncludeMembers: true}, failsafe, 502},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := serve(t, tt.f, tt.cfg)
			_, port, _ := net.SplitHostPort(s.Addr().String())
			url := "http://127.0.0.1:" + port
			code, _, body := ask(t, "POST", url+tt.path, `{"name":"x"}`)
			if code != tt.code || code == 403 && body != "Access is denied" {
				t.Errorf("have %d %q, want %d", code, body, tt.code)
			}
			if code, _, _ := ask(t, "GET", url+"/patroni", ""); code != 200 {
				t.Errorf("GET is restricted as well: %d", code)
			}
		})
	}
}

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, file, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return authority{cert, key, file}
}

func writePEM(t *testing.T, file string, blocks ...*pem.Block) {
	t.Helper()
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(b)...)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue writes a certificate with its key into one file and loads it.
func (a authority) issue(t *testing.T, serial int64) (file string, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "member"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "member.pem")
	writePEM(t, file, &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	pair, err = tls.LoadX509KeyPair(file, file)
	if err != nil {
		t.Fatal(err)
	}
	return file, pair
}

// visit asks over TLS with a fresh connection; certificates are those of the client.
func (a authority) visit(t *testing.T, method, address, path string, certificates ...tls.Certificate) (*http.Response, string, error) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certificates}}
	req, err := http.NewRequest(method, "https://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, "", err
	}
	return resp, string(b), nil
}

func TestTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	server, _ := a.issue(t, 2)
	_, client := a.issue(t, 3)
	_, foreign := stranger.issue(t, 4)
	tests := map[string]struct {
		verify, method, path string
		certificates         []tls.Certificate
		code                 int // 0: no connection
		reply                string
	}{
		"none":                                {"none", "POST", "/reload", nil, 202, "reload scheduled"},
		"optional, get":                       {"Optional", "GET", "/patroni", nil, 200, ""},
		"optional, act without":               {"optional", "POST", "/reload", nil, 403, "client certificate required"},
		"optional, act with":                  {"optional", "POST", "/reload", []tls.Certificate{client}, 202, "reload scheduled"},
		"optional, of a stranger's":           {"optional", "GET", "/patroni", []tls.Certificate{foreign}, 0, ""},
		"optional, act with a stranger's":     {"optional", "POST", "/reload", []tls.Certificate{foreign}, 0, ""},
		"required, get without":               {"required", "GET", "/patroni", nil, 0, ""},
		"required, health without":            {"REQUIRED", "GET", "/health", nil, 0, ""},
		"required, get with":                  {"required", "GET", "/health", []tls.Certificate{client}, 200, ""},
		"required, options with a stranger's": {"required", "OPTIONS", "/", []tls.Certificate{foreign}, 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, address := serve(t, sec(t), Config{CertFile: server, CAFile: a.file, VerifyClient: tt.verify,
				HTTPExtraHeaders: map[string]string{"X-A": "b"}, HTTPSExtraHeaders: map[string]string{"Strict-Transport-Security": "max-age=31536000"}})
			resp, body, err := a.visit(t, tt.method, address, tt.path, tt.certificates...)
			if tt.code == 0 {
				if err == nil {
					t.Errorf("have %d, want no connection", resp.StatusCode)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.code || tt.reply != "" && body != tt.reply {
				t.Errorf("have %d %q, want %d %q", resp.StatusCode, body, tt.code, tt.reply)
			}
			if resp.Header.Get("X-A") != "b" || resp.Header.Get("Strict-Transport-Security") != "max-age=31536000" {
				t.Errorf("have the header %v", resp.Header)
			}
		})
	}
}

func TestPlainHTTPToTLS(t *testing.T) {
	a := newAuthority(t)
	file, _ := a.issue(t, 2)
	_, address := serve(t, sec(t), Config{CertFile: file})
	resp, err := http.Get("http://" + address + "/leader")
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("plain HTTP on a TLS port: have %d", resp.StatusCode)
		}
	}
}

func TestReload(t *testing.T) {
	a := newAuthority(t)
	file, _ := a.issue(t, 2)
	f := sec(t)
	s, address := serve(t, f, Config{Metrics: func(w io.Writer) error { _, err := io.WriteString(w, "own 1\n"); return err }})
	cfg := Config{Listen: "127.0.0.1:0", CertFile: file}
	if err := s.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	resp, _, err := a.visit(t, "GET", address, "/leader")
	if err != nil || resp.TLS.PeerCertificates[0].SerialNumber.Int64() != 2 {
		t.Fatalf("after TLS was switched on: %v", err)
	}

	// A renewed certificate under the same name counts from the next connection on.
	newer, _ := a.issue(t, 5)
	if err := os.Rename(newer, file); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	resp, _, err = a.visit(t, "GET", address, "/leader")
	if err != nil || resp.TLS.PeerCertificates[0].SerialNumber.Int64() != 5 {
		t.Fatalf("after the certificate was renewed: %v", err)
	}

	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(cfg); err == nil {
		t.Error("a broken certificate is accepted")
	}
	if _, _, err := a.visit(t, "GET", address, "/leader"); err != nil {
		t.Errorf("after a refused reload: %v", err)
	}

	// Another address: the old one is closed.
	if err := s.Reload(Config{Listen: "localhost:0"}); err != nil {
		t.Fatal(err)
	}
	if code, _, body := ask(t, "GET", "http://"+s.Addr().String()+"/metrics", ""); code != 200 || !strings.HasSuffix(body, "own 1\n") {
		t.Errorf("after moving: have %d, %d bytes", code, len(body))
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the old address still answers")
	}
	for range 3 { // faster than Serve takes them up
		if err := s.Reload(Config{Listen: "localhost:0"}); err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(Config{Listen: "127.0.0.1:0"}); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, _ := ask(t, "GET", "http://"+s.Addr().String()+"/leader", ""); code != 200 {
		t.Errorf("after moving several times: have %d", code)
	}
	if err := s.Reload(Config{Listen: "192.0.2.1:1"}); err == nil {
		t.Error("an address of another machine is accepted")
	}
	if code, _, _ := ask(t, "GET", "http://"+s.Addr().String()+"/leader", ""); code != 200 {
		t.Errorf("after a refused move: have %d", code)
	}
	taken := s.Addr().String()
	if _, err := New(Config{Listen: taken}, f, quiet()); err == nil {
		t.Error("an address in use is accepted")
	}
}

func TestEncryptedKeys(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed; it makes the encrypted keys")
	}
	a := newAuthority(t)
	file, _ := a.issue(t, 2)
	for name, args := range map[string][]string{
		"pkcs8":  {"pkcs8", "-topk8", "-v2", "aes256", "-in", file, "-passout", "pass:geheim"},
		"sha512": {"pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512", "-in", file, "-passout", "pass:geheim"},
		"older":  {"ec", "-aes128", "-in", file, "-passout", "pass:geheim"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "key.pem")
			if text, err := exec.Command(openssl, append(args, "-out", out)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			cfg := Config{CertFile: file, KeyFile: out, KeyFilePassword: "geheim"}
			if _, err := loadCertificate(cfg); err != nil {
				t.Error(err)
			}
			cfg.KeyFilePassword = "falsch"
			if _, err := loadCertificate(cfg); err == nil {
				t.Error("a wrong password is accepted")
			}
		})
	}
}
