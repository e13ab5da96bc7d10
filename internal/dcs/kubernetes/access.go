package kubernetes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	credentials "k8s.io/client-go/transport"
)

// Access says how the API server is reached (dcs.md section 3.5.7).
type Access struct {
	Kubeconfig string // file; empty: the pod's service account, or outside of a cluster $KUBECONFIG or ~/.kube/config
	Context    string // of the kubeconfig; empty: kind-kind if there is one, else its current one
	CACert     string // authorities of the API server; empty: the service account's
	Bypass     bool   // talk to the API servers themselves rather than to the Service in front of them
	account    string // of tests: in place of the service account's directory
}

// account is where a pod finds its token and the authorities. The token is replaced while we run; client-go reads it again
// every minute, and after a 401.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// config finds the server and the credentials.
func (a *Access) config() (*rest.Config, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if a.Kubeconfig == "" && host != "" && port != "" {
		dir := account
		if a.account != "" {
			dir = a.account
		}
		c := &rest.Config{Host: "https://" + net.JoinHostPort(host, port), BearerTokenFile: filepath.Join(dir, "token")}
		c.CAFile = filepath.Join(dir, "ca.crt")
		if a.CACert != "" {
			c.CAFile = a.CACert
		}
		if _, err := os.ReadFile(c.BearerTokenFile); err != nil {
			return nil, fmt.Errorf("read the service account's token: %w; is automountServiceAccountToken off?", err)
		}
		return c, nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.Kubeconfig
	raw, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: a.Context}
	if _, ok := raw.Contexts["kind-kind"]; ok && a.Context == "" {
		overrides.CurrentContext = "kind-kind" // Patroni's default
	}
	c, err := clientcmd.NewNonInteractiveClientConfig(*raw, overrides.CurrentContext, overrides, rules).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w; outside of a pod it is looked for in $KUBECONFIG and ~/.kube/config", err)
	}
	return c, nil
}

// transport reaches the API server.
type transport struct {
	http    *http.Client
	base    *url.URL
	pooled  *http.Transport
	timing  func() (ttl, loopWait, retryTimeout time.Duration)
	bypass  bool
	mu      sync.Mutex
	servers []string // host:port of the API servers themselves; the one that answered last is the first
}

// newTransport speaks HTTP/1.1 only: each request under way has a connection of its own, so that giving one up ends its
// connection, and one that hangs does not hold up the watch or the renewal of the lock.
func newTransport(c *Config) (*transport, error) {
	config, err := c.Access.config()
	if err != nil {
		return nil, err
	}
	config.NextProtos = []string{"http/1.1"}
	config.UserAgent = "Regent"
	if config.BearerTokenFile != "" { // read again after a 401 as well, not only every minute
		source := credentials.NewCachedFileTokenSource(config.BearerTokenFile)
		config.Wrap(credentials.ResettableTokenSourceWrapTransport(source))
		config.BearerToken, config.BearerTokenFile = "", ""
	}
	t := &transport{timing: c.Timing, bypass: c.Access.Bypass}
	if t.base, _, err = rest.DefaultServerUrlFor(config); err != nil {
		return nil, fmt.Errorf("read the address of the API server %q: %w", config.Host, err)
	}
	secure, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the certificates for the API server: %w", err)
	}
	proxy := http.ProxyFromEnvironment
	if config.Proxy != nil {
		proxy = config.Proxy
	}
	t.pooled = &http.Transport{
		TLSClientConfig: secure, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, Proxy: proxy, DialContext: t.dial,
		MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second, DisableCompression: true,
		ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
	}
	wrapped, err := rest.HTTPWrappersForConfig(config, t.pooled)
	if err != nil {
		return nil, fmt.Errorf("read the credentials for the API server: %w", err)
	}
	t.http = &http.Client{Transport: wrapped, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return t, nil
}

// dial connects to the first API server that answers. TCP itself notices a watch whose other end is gone, within the ttl
// (dcs.md section 2.1).
func (t *transport) dial(ctx context.Context, network, address string) (net.Conn, error) {
	addresses := []string{address}
	t.mu.Lock()
	if len(t.servers) > 0 {
		addresses = append([]string{}, t.servers...)
	}
	t.mu.Unlock()
	ttl, loopWait, retryTimeout := t.timing()
	idle := loopWait + retryTimeout
	d := net.Dialer{
		Timeout:         max(time.Second, retryTimeout/time.Duration(2*len(addresses))),
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: idle, Interval: max(time.Second, (ttl-idle)/3), Count: 3},
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			if outer := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(min(ttl, time.Hour)/time.Millisecond))
			}); outer != nil {
				return outer
			}
			return err
		},
	}
	var failed []error
	for _, to := range addresses {
		conn, err := d.DialContext(ctx, network, to)
		if err == nil {
			t.prefer(to)
			return conn, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// prefer makes the server that answered the first one.
func (t *transport) prefer(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, s := range t.servers {
		if s == address {
			t.servers[0], t.servers[i] = t.servers[i], t.servers[0]
			return
		}
	}
}

// learn takes the list of API servers in. The certificate is still checked for the name of the Service, which all of
// them bear.
func (t *transport) learn(servers []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(servers) != len(t.servers) {
		defer t.pooled.CloseIdleConnections()
	}
	if len(t.servers) > 0 {
		for i, s := range servers {
			if s == t.servers[0] {
				servers[0], servers[i] = servers[i], servers[0]
			}
		}
	}
	t.servers = servers
}
