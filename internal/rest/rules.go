package rest

import (
	"crypto/sha256"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/cluster"
)

// Config is section restapi of the configuration (config.md 2.2).
type Config struct {
	Listen string // host:port; host empty or *: all addresses

	Username, Password string // of requests that change something; empty: no authentication

	CertFile        string // PEM with the certificate and its chain; its presence means https
	KeyFile         string // PEM; empty: the key is in CertFile
	KeyFilePassword string
	CAFile          string // PEM, what client certificates are checked against; empty: the authorities of the system
	Ciphers         string // OpenSSL's names, for TLS 1.2 and below; empty: the default
	VerifyClient    string // none, optional (asked for on requests that change something), required (on all)

	Allowlist               []string // host names, addresses, networks that may change something; empty: all
	AllowlistIncludeMembers bool     // and the members of the cluster

	HTTPExtraHeaders  map[string]string
	HTTPSExtraHeaders map[string]string // on https only, after the others
	ServerTokens      string            // original, minimal or productonly: header Server

	// Metrics writes Regent's own metrics after Patroni's, in the text format; nil: there are none. Reload keeps the old one.
	Metrics func(io.Writer) error
}

// rules is a Config made ready for use. It never changes.
type rules struct {
	Config
	server     []string
	headers    http.Header
	tls        *tls.Config // nil: plain http
	auth       [sha256.Size]byte
	restricted bool // there is a static list
	networks   []netip.Prefix
}

const (
	verifyOptional = "optional"
	verifyRequired = "required"
)

// newRules checks cfg. Only what makes serving impossible, or less safe than was asked for, is an error.
func newRules(cfg Config, status *agent.Status, log *slog.Logger) (*rules, error) {
	r := &rules{Config: cfg, headers: http.Header{}, restricted: len(cfg.Allowlist) > 0}
	r.VerifyClient = strings.ToLower(cfg.VerifyClient)
	var err error
	if r.tls, err = loadTLS(cfg, log); err != nil {
		return nil, err
	}
	r.add(cfg.HTTPExtraHeaders)
	if r.tls != nil {
		r.add(cfg.HTTPSExtraHeaders)
	}
	r.auth = credentials(cfg.Username, cfg.Password)
	r.networks = resolve(cfg.Allowlist, log)
	switch strings.ToLower(cfg.ServerTokens) {
	case "minimal":
		r.server = []string{"Patroni/" + status.Version}
	case "productonly":
		r.server = []string{"Patroni"}
	case "", "original":
		r.server = []string{"Regent/" + status.Regent}
	default:
		log.Warn("restapi.server_tokens is not known, using original", "have", cfg.ServerTokens, "want", "original, minimal or productonly")
		r.server = []string{"Regent/" + status.Regent}
	}
	return r, nil
}

func (r *rules) add(headers map[string]string) {
	for name, value := range headers {
		r.headers[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
	}
}

// extra adds the configured headers.
func (s *Server) extra(w http.ResponseWriter) {
	for name, values := range s.rules.Load().headers {
		w.Header()[name] = values
	}
}

// hostOf returns the host of a member's API URL.
func hostOf(m cluster.Member) string {
	_, rest, _ := strings.Cut(m.APIURL, "://")
	rest, _, _ = strings.Cut(rest, "/")
	if i := strings.LastIndex(rest, ":"); i > strings.LastIndex(rest, "]") {
		rest = rest[:i]
	}
	return strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")
}
