package rest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// loadTLS returns nil for plain http.
func loadTLS(cfg Config, log *slog.Logger) (*tls.Config, error) {
	if cfg.CertFile == "" {
		return nil, nil
	}
	certificate, err := loadCertificate(cfg)
	if err != nil {
		return nil, err
	}
	t := &tls.Config{
		Certificates: []tls.Certificate{certificate},
		NextProtos:   []string{"http/1.1"},
		CipherSuites: cipherSuites(cfg.Ciphers, log),
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read restapi.cafile: %w", err)
		}
		t.ClientCAs = x509.NewCertPool()
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read restapi.cafile %s: no certificate in it; want PEM", cfg.CAFile)
		}
	}
	switch strings.ToLower(cfg.VerifyClient) {
	case verifyRequired:
		t.ClientAuth = tls.RequireAndVerifyClientCert
	case verifyOptional:
		t.ClientAuth = tls.VerifyClientCertIfGiven
	case "", "none":
		return t, nil
	default:
		return nil, fmt.Errorf("restapi.verify_client: have %q, want none, optional or required", cfg.VerifyClient)
	}
	return t, nil
}

func loadCertificate(cfg Config) (tls.Certificate, error) {
	return LoadKeyPair("restapi", cfg.CertFile, cfg.KeyFile, cfg.KeyFilePassword)
}

// LoadKeyPair reads a certificate with its chain and the key, which is in the same file when no key file is named. A password
// decrypts it. The section is that of the settings, for messages.
func LoadKeyPair(section, certFile, keyFile, password string) (tls.Certificate, error) {
	chain, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read %s.certfile: %w", section, err)
	}
	key, name := chain, certFile
	if keyFile != "" {
		name = keyFile
		if key, err = os.ReadFile(keyFile); err != nil {
			return tls.Certificate{}, fmt.Errorf("read %s.keyfile: %w", section, err)
		}
	}
	if key, err = decryptKey(key, password); err != nil {
		return tls.Certificate{}, fmt.Errorf("decrypt the key in %s with %s.keyfile_password: %w", name, section, err)
	}
	certificate, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("load the certificate %s with the key in %s: %w", certFile, name, err)
	}
	return certificate, nil
}

// cipherNames are OpenSSL's names of what Go offers for TLS 1.2; those of TLS 1.3 cannot be chosen.
var cipherNames = map[string]uint16{
	"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-RSA-AES128-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	"ECDHE-RSA-AES256-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	"ECDHE-ECDSA-AES128-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	"ECDHE-ECDSA-AES256-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
}

// cipherSuites reads a list of ciphers. Groups and exclusions of OpenSSL's language are not understood: when the list
// names nothing that we have, Go's default counts, which holds no weak cipher.
func cipherSuites(text string, log *slog.Logger) []uint16 {
	var suites []uint16
	var unknown []string
	for _, name := range strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == ',' || r == ' ' }) {
		if id, ok := cipherNames[strings.ToUpper(name)]; ok {
			suites = append(suites, id)
		} else {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		log.Warn("restapi.ciphers has names without an equivalent here, they are left out",
			"names", strings.Join(unknown, ":"), "default", len(suites) == 0)
	}
	return suites
}
