package consul_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
	"github.com/regent-ha/regent/internal/dcs/consul"
	"github.com/regent-ha/regent/internal/dcs/consul/consultest"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
)

// works has a store acquire and renew, write and read.
func works(t *testing.T, s *consul.Store, name string) {
	t.Helper()
	lock := acquire(t, s, name, time.Minute)
	if _, err := s.Renew(limited(t, 30*time.Second), lock); err != nil {
		t.Error(err)
	}
	if _, err := s.Put(limited(t, 30*time.Second), "history", []byte("[]"), 0); err != nil {
		t.Error(err)
	}
	awaits(t, s, name)
}

// Over TLS, each with a certificate.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, other := dcstest.NewAuthority(t, dir, "ca"), dcstest.NewAuthority(t, dir, "other")
	ca.Issue(t, "server")
	client, foreign := ca.Issue(t, "client"), other.Issue(t, "foreign")
	file := func(name string) string { return filepath.Join(dir, name) }
	server := consultest.Start(t, consultest.Settings{"cert_file": file("server.crt"), "key_file": file("server.key"), "ca_file": file("ca.crt"), "verify_incoming_https": true})
	config := consul.Config{Address: server.HTTPS, TLS: true, CACert: file("ca.crt"), Cert: client, Scope: "safe", Name: "a"}
	works(t, open(t, config), "a")
	for name, change := range map[string]func(*consul.Config){
		"another authority":   func(c *consul.Config) { c.CACert = file("other.crt") },
		"system authorities":  func(c *consul.Config) { c.CACert = "" },
		"no certificate":      func(c *consul.Config) { c.Cert = nil },
		"another's":           func(c *consul.Config) { c.Cert = foreign },
		"absent file":         func(c *consul.Config) { c.CACert = file("absent") },
		"not TLS on our side": func(c *consul.Config) { c.TLS = false },
	} {
		c := config
		change(&c)
		if _, err := open(t, c).Put(limited(t, 5*time.Second), "config", []byte("{}"), 0); !errors.Is(err, dcs.ErrUnavailable) {
			t.Errorf("%s: have %v, want ErrUnavailable", name, err)
		}
	}
	config.CACert, config.Unverified = "", true
	if _, err := open(t, config).Put(limited(t, 30*time.Second), "config", []byte("{}"), 0); err != nil {
		t.Errorf("unverified: %v", err)
	}
}

// Who has no token, or one that may not do it, is told so.
func TestToken(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, consultest.Settings{"acl": map[string]any{
		"enabled": true, "default_policy": "deny", "tokens": map[string]string{"master": consultest.Management, "agent": consultest.Management},
	}})
	token := func(name, rules string) string {
		t.Helper()
		policy, err := json.Marshal(map[string]string{"Name": name, "Rules": rules})
		if err != nil {
			t.Fatal(err)
		}
		ctx := limited(t, 30*time.Second)
		if _, err := server.Ask(ctx, http.MethodPut, "/v1/acl/policy", string(policy)); err != nil {
			t.Fatal(err)
		}
		text, err := server.Ask(ctx, http.MethodPut, "/v1/acl/token", `{"Policies":[{"Name":"`+name+`"}]}`)
		var made struct{ SecretID string }
		if err == nil {
			err = json.Unmarshal([]byte(text), &made)
		}
		if err != nil {
			t.Fatal(err)
		}
		return made.SecretID
	}
	with := func(token string) *consul.Store {
		return open(t, consul.Config{Address: server.Address, Scope: "ours", Name: "a", Live: func() consul.Live { return consul.Live{Token: token} }})
	}
	works(t, with(token("member", `key_prefix "service/ours/" {policy = "write"} session_prefix "" {policy = "write"}`)), "a")
	for name, token := range map[string]string{
		"none":           "",
		"unknown":        "22222222-2222-2222-2222-222222222222",
		"of another one": token("other", `key_prefix "service/other/" {policy = "write"} session_prefix "" {policy = "write"}`),
	} {
		s := with(token)
		if _, err := s.Acquire(limited(t, time.Minute), "a", time.Minute); !errors.Is(err, dcs.ErrDenied) {
			t.Errorf("%s: acquire: have %v, want ErrDenied", name, err)
		}
		if _, err := s.Put(limited(t, time.Minute), "config", []byte("{}"), 0); !errors.Is(err, dcs.ErrDenied) {
			t.Errorf("%s: put: have %v, want ErrDenied", name, err)
		}
	}
}
