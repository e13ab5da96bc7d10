package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ZooKeeper is where a ZooKeeper of 3.6 or later is (config.md 2.12).
type ZooKeeper struct {
	Hosts       []string // host:port
	UseSSL      bool     // default false
	Verify      bool     // the servers' certificates, with their names; default true
	CACert      string   // default: the system's authorities
	Cert, Key   string   // client certificate
	KeyPassword Secret
	ACL         []ZooKeeperACL    // of nodes that we create; nil: anyone may do anything
	Auth        map[string]Secret // credentials by scheme
}

// ZooKeeperACL says what somebody may do with a node.
type ZooKeeperACL struct {
	Scheme, ID  string
	Permissions []string // CREATE, READ, WRITE, DELETE, ADMIN, ALL
}

// aclSchemes may stand before an id in set_acls, as in Patroni 4.2; else it is one of x509, whose ids have colons of their own.
var aclSchemes = []string{"world", "auth", "digest", "ip", "sasl", "x509", "host", "super"}

var aclPermissions = []string{"CREATE", "READ", "WRITE", "DELETE", "ADMIN", "ALL"}

func readZooKeeper(m *Map) (ZooKeeper, error) {
	z := ZooKeeper{
		UseSSL: flag(m, "use_ssl", false), Verify: flag(m, "verify", true), CACert: word(m, "cacert", ""),
		Cert: word(m, "cert", ""), Key: word(m, "key", ""), KeyPassword: secret(m, "key_password"),
	}
	for _, h := range words(m, "hosts") {
		if strings.Contains(h, "/") {
			return z, fmt.Errorf("zookeeper.hosts: have %s; a path behind the port is not supported: put it into namespace", h)
		}
		z.Hosts = append(z.Hosts, withPort(h, 2181))
	}
	if len(z.Hosts) == 0 {
		return z, errors.New("zookeeper.hosts is not defined: expected the addresses of its servers")
	}
	acls := m.Map("set_acls")
	for _, who := range acls.Keys() {
		a := ZooKeeperACL{Scheme: "x509", ID: who}
		if scheme, id, ok := strings.Cut(who, ":"); ok && slices.Contains(aclSchemes, scheme) {
			a.Scheme, a.ID = scheme, id
		}
		for _, p := range words(acls, who) {
			p = strings.ToUpper(strings.TrimSpace(p))
			if !slices.Contains(aclPermissions, p) {
				return z, fmt.Errorf("zookeeper.set_acls.%s: have permission %s, want some of %s", who, p, strings.Join(aclPermissions, ", "))
			}
			a.Permissions = append(a.Permissions, p)
		}
		z.ACL = append(z.ACL, a)
	}
	auth := m.Map("auth_data")
	for _, scheme := range auth.Keys() {
		if z.Auth == nil {
			z.Auth = map[string]Secret{}
		}
		z.Auth[scheme] = secret(auth, scheme)
	}
	return z, nil
}

var zookeeperSchema = object(
	required("hosts", reachableAt(2181)), optional("use_ssl", isSwitch), optional("verify", isSwitch), optional("cacert", isText),
	optional("cert", isText), optional("key", isText), optional("key_password", simple), optional("set_acls", dictionary),
	optional("auth_data", dictionary))

// isSwitch is a boolean, which the environment may have left as text.
func isSwitch(v *validation, path string, value any) {
	if !isBoolean(value) {
		v.report(path, value, "is not a boolean")
	}
}
