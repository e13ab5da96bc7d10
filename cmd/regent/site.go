package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/ctl"
	"github.com/regent-ha/regent/internal/dcs/consul"
	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/dcs/zookeeper"
)

// connect reads the configuration of the command line (ctl.md section 1). Nothing is contacted before a
// command opens a cluster.
func connect(environ []string) func(ctl.Options) (*ctl.Site, error) {
	return func(o ctl.Options) (*ctl.Site, error) {
		path, err := configPath(o.ConfigFile)
		if err != nil {
			return nil, err
		}
		file, err := config.Read(path, environ)
		if err != nil {
			return nil, err
		}
		if o.DCS != "" {
			if err := useURL(file.Document, o.DCS); err != nil {
				return nil, err
			}
		}
		return site(file, o)
	}
}

// sentence is an error in Patroni's words, which scripts look for.
func sentence(format string, args ...any) error { return fmt.Errorf(format, args...) }

// configPath is the file that was named, which must be readable, or the default one if it exists.
func configPath(named string) (string, error) {
	if named == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return "", nil // no home, no default file
		}
		path := filepath.Join(dir, "patroni", "patronictl.yaml")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return path, nil
	}
	f, err := os.Open(named)
	if err != nil {
		return "", sentence("Provided config file %s not existing or no read rights. Check the -c/--config-file parameter", named)
	}
	return named, f.Close()
}

// schemes are those of -d, with the default port.
var schemes = map[string]string{"etcd": "2379", "etcd3": "2379", "consul": "8500", "zookeeper": "2181", "exhibitor": "8181"}

// useURL puts a DCS URL in place of the configured stores (ctl.md 1.1).
func useURL(doc *config.Map, text string) error {
	if !strings.Contains(text, "//") {
		text = "//" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("read the DCS URL: %w; want [scheme://][host][:port][/namespace]", err)
	}
	scheme := u.Scheme
	if scheme == "" {
		scheme = map[string]string{"2181": "zookeeper", "8181": "exhibitor", "8500": "consul"}[u.Port()]
	}
	if scheme == "" || scheme == "etcd" {
		scheme = "etcd3" // etcd's v2 protocol is gone
	}
	port, known := schemes[scheme]
	if !known {
		return sentence("Unknown dcs scheme: %s", scheme)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	host := u.Hostname()
	if host == "" {
		host = "localhost"
	}
	section, ok := doc.Get(scheme).(*config.Map)
	if !ok {
		section = config.NewMap()
	}
	for name := range schemes {
		doc.Delete(name)
	}
	for _, key := range []string{"proxy", "url", "hosts", "port", "srv", "discovery_srv", "srv_domain"} {
		section.Delete(key) // what would win over the address
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if scheme == "zookeeper" {
		section.Set("hosts", []any{host + ":" + port})
	} else {
		section.Set("host", host+":"+port)
	}
	doc.Set(scheme, section)
	if path := strings.Trim(u.Path, "/"); path != "" {
		doc.Set("namespace", path)
	}
	return nil
}

// stores are the sections that this build can use.
const stores = "consul, etcd3, kubernetes, raft, zookeeper"

func site(file *config.File, o ctl.Options) (*ctl.Site, error) {
	doc := file.Document.Clone()
	if !hasStore(doc) && doc.Get("postgresql", "data_dir") == nil {
		return nil, sentence("Can not find suitable configuration of distributed configuration store\nAvailable implementations: %s", stores)
	}
	scope, _ := doc.Get("scope").(string)
	group := citusGroup(doc)
	settings, err := withoutMember(doc)
	if err != nil {
		return nil, err
	}
	_, member := file.Document.Get("postgresql", "data_dir").(string)
	var problems []string
	for _, p := range config.Validate(file, config.Options{DocumentOnly: true}) {
		if p.Warning || member { // the rest only an agent needs
			problems = append(problems, strings.TrimSpace(p.String()))
		}
	}
	settings.CTL.Insecure = settings.CTL.Insecure || o.Insecure
	members, err := newMembers(settings.CTL)
	if err != nil {
		return nil, err
	}
	where, open, err := opener(settings)
	if err != nil {
		return nil, err
	}
	var local *config.Settings
	if member {
		local = &settings
	}
	return &ctl.Site{
		Scope: scope, Citus: group != nil, Group: group, Wide: settings.CTL.Layout == "wide",
		Where: where, Caller: members, Open: open, Problems: problems,
		Member: local, Clock: members.Date, Fsyncs: fsyncs(settings),
		Groups: func(context.Context, string) ([]int, error) {
			return nil, errors.New("not supported yet; name one with --group")
		},
	}, nil
}

// withoutMember reads a configuration for whoever is no member: clusters can be looked at without one of one's own, so what only an agent must
// have is made up.
func withoutMember(doc *config.Map) (config.Settings, error) {
	for _, need := range [][]string{{"name"}, {"scope"}, {"restapi", "listen"}, {"postgresql", "data_dir"}, {"postgresql", "listen"}} {
		makeUp(doc, need)
	}
	return (&config.File{Document: doc}).Settings()
}

// fsyncs asks the servers of an etcd how fast their disks are; nil: the store is none, or its servers are not known by address.
func fsyncs(s config.Settings) func(context.Context) []ctl.Fsync {
	if s.DCS.Kind == config.InKubernetes || s.DCS.Kind == config.InZooKeeper || s.DCS.Kind == config.InConsul {
		return nil
	}
	return func(ctx context.Context) (list []ctl.Fsync) {
		c, err := clientConfig(s)
		if err != nil {
			return nil
		}
		for _, server := range c.Endpoints {
			p99, err := c.Fsync(ctx, server)
			list = append(list, ctl.Fsync{Server: server, P99: p99, Err: err})
		}
		return list
	}
}

// opener opens clusters in the configured store, and tells where that is.
func opener(settings config.Settings) (where string, open func(context.Context, string, *int) (ctl.Store, error), err error) {
	quiet := slog.New(slog.DiscardHandler) // what matters comes back as an error
	if settings.DCS.Kind == config.InKubernetes {
		c := kubernetesConfig(&settings)
		c.Name, c.Log = "", quiet
		c.Access.Bypass = false // a tool does not know which of the API servers are behind (dcs.md section 6, pitfall 33)
		return "Kubernetes namespace " + c.Namespace, func(ctx context.Context, scope string, group *int) (ctl.Store, error) {
			c := c
			c.Scope, c.Group = scope, group
			return kubernetes.OpenMoving(ctx, c)
		}, nil
	}
	if settings.DCS.Kind == config.InZooKeeper {
		c := zookeeperConfig(&settings)
		c.Name, c.Log = "", quiet
		return strings.Join(c.Servers, ", "), func(ctx context.Context, scope string, group *int) (ctl.Store, error) {
			c := c
			if c.Scope = scope; group != nil {
				c.Scope += "/" + strconv.Itoa(*group)
			}
			return zookeeper.Open(ctx, c)
		}, nil
	}
	if settings.DCS.Kind == config.InConsul {
		c := consulConfig(&settings, &current{})
		c.Name, c.Log = "", quiet
		return c.Address, func(ctx context.Context, scope string, group *int) (ctl.Store, error) {
			c := c
			if c.Scope = scope; group != nil {
				c.Scope += "/" + strconv.Itoa(*group)
			}
			return consul.Open(ctx, c)
		}, nil
	}
	c, err := clientConfig(settings)
	c.Log = quiet
	where = strings.Join(c.Endpoints, ", ")
	if c.SRV != "" {
		where = "the servers of " + c.SRV
	}
	return where, func(ctx context.Context, scope string, group *int) (ctl.Store, error) {
		c := c
		if c.Scope = scope; group != nil {
			c.Scope += "/" + strconv.Itoa(*group)
		}
		return etcd.Open(ctx, c)
	}, err
}

// citusGroup is the configured group of a Citus cluster; nil: it is none.
func citusGroup(doc *config.Map) *int {
	n, ok := doc.Get("citus", "group").(int64)
	if !ok {
		return nil
	}
	group := int(n)
	return &group
}

func hasStore(doc *config.Map) bool {
	for _, name := range []string{"consul", "etcd", "etcd3", "exhibitor", "kubernetes", "raft", "zookeeper"} {
		if doc.Get(name) != nil {
			return true
		}
	}
	return false
}

func makeUp(doc *config.Map, path []string) {
	for ; len(path) > 1; path = path[1:] {
		if doc.Map(path[0]) == nil {
			doc.Set(path[0], config.NewMap())
		}
		doc = doc.Map(path[0])
	}
	if doc.Get(path[0]) == nil {
		doc.Set(path[0], "none")
	}
}

// clientConfig says how to reach the store of a configuration as a client.
func clientConfig(s config.Settings) (etcd.Config, error) {
	c := etcd.Config{Namespace: s.Namespace, Scope: s.Scope}
	if s.DCS.Kind == config.Embedded {
		var err error
		c.Endpoints, err = embeddedEndpoints(s.DCS.Embed)
		return c, err
	}
	e := s.DCS.Etcd
	c.Endpoints, c.HTTPS = e.Hosts, e.Protocol == "https"
	c.Username, c.Password = e.Username, e.Password.Reveal()
	c.CACert, c.Cert, c.Key = e.CACert, e.Cert, e.Key
	c.SRV, c.SRVSuffix = e.SRV, e.SRVSuffix
	return c, nil
}

// embeddedEndpoints is where the etcd inside agents serves clients: at the port after that for its peers, and
// without peers at etcd's usual one on loopback (package embedded).
func embeddedEndpoints(e config.Embed) ([]string, error) {
	if e.SelfAddr == "" {
		return []string{"127.0.0.1:2379"}, nil
	}
	var list []string
	for _, address := range append([]string{e.SelfAddr}, e.PartnerAddrs...) {
		host, text, err := net.SplitHostPort(address)
		port, bad := strconv.ParseUint(text, 10, 16)
		if err != nil || bad != nil {
			return nil, fmt.Errorf("raft: have address %q, want host:port", address)
		}
		list = append(list, net.JoinHostPort(host, strconv.FormatUint(port+1, 10)))
	}
	return list, nil
}
