package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/rest"
	"github.com/regent-ha/regent/internal/version"
)

// members calls the REST API of members for the command line (ctl.md section 3).
type members struct {
	auth config.Credential
	http *http.Client
}

// maxReply bounds what a member may make us hold, in bytes.
const maxReply = 16 << 20

func newMembers(c config.CTL) (*members, error) {
	secure, err := clientTLS(c)
	if err != nil {
		return nil, err
	}
	return &members{auth: c.Auth, http: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:     secure,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			DisableKeepAlives:   true, // each member is asked once or twice
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a member never redirects
	}}, nil
}

// Call sends one request, once.
func (m *members) Call(ctx context.Context, method, url string, body []byte) (status int, reply []byte, err error) {
	var payload io.Reader = http.NoBody
	if len(body) > 0 {
		payload = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, payload)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("User-Agent", "Regent/"+version.Regent)
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if m.auth.Set() {
		req.SetBasicAuth(m.auth.Username, m.auth.Password.Reveal())
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	reply, err = io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return 0, nil, fmt.Errorf("%s %s: read the answer: %w", method, url, err)
	}
	return resp.StatusCode, reply, nil
}

// Date is the clock of the machine that answers at a URL.
func (m *members) Date(ctx context.Context, url string) (time.Time, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return time.Time{}, err
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return time.Time{}, err
	}
	defer resp.Body.Close()
	return http.ParseTime(resp.Header.Get("Date"))
}

// clientTLS says how members are verified, and how we prove who we are. Insecure drops the verification,
// with a client certificate only that of the host name.
func clientTLS(c config.CTL) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CACert != "" {
		text, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("read ctl.cacert: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read ctl.cacert %s: want at least one PEM certificate", c.CACert)
		}
	}
	if c.CertFile != "" {
		pair, err := rest.LoadKeyPair("ctl", c.CertFile, c.KeyFile, c.KeyFilePassword.Reveal())
		if err != nil {
			return nil, err
		}
		out.Certificates = []tls.Certificate{pair}
	}
	if c.Insecure {
		out.InsecureSkipVerify = true // asked for; the chain is checked below where there is a client certificate
		if c.CertFile != "" {
			out.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, out.RootCAs) }
		}
	}
	return out, nil
}

func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the member sent no certificate")
	}
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(o)
	return err
}
