package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Consul is where a Consul's agent is (config.md 2.11).
type Consul struct {
	Address   string // host:port; from url, or host and port; default 127.0.0.1:8500
	Scheme    string // http or https; default http
	Verify    bool   // the agent's certificate, with its name; default true
	CACert    string // default: the system's authorities
	Cert, Key string // client certificate

	Token       Secret
	Datacenter  string // default: the agent's
	Consistency string // of the reads that the view rests on: default, consistent or stale

	Checks                    []string // health checks that the member's session depends on; default none
	RegisterService           bool     // default false
	ServiceTags               []string
	ServiceCheckInterval      string // default 5s
	ServiceCheckTLSServerName string
}

var consistencies = []string{"default", "consistent", "stale"}

func readConsul(m *Map) (Consul, error) {
	c := Consul{
		Scheme: word(m, "scheme", "http"), Verify: flag(m, "verify", true), CACert: word(m, "cacert", ""), Cert: word(m, "cert", ""), Key: word(m, "key", ""),
		Token: secret(m, "token"), Datacenter: word(m, "dc", ""), Consistency: word(m, "consistency", "default"),
		Checks: words(m, "checks"), RegisterService: flag(m, "register_service", false), ServiceTags: words(m, "service_tags"),
		ServiceCheckInterval: word(m, "service_check_interval", "5s"), ServiceCheckTLSServerName: word(m, "service_check_tls_server_name", ""),
	}
	host := word(m, "host", "127.0.0.1")
	c.Address = withPort(host, number(m, "port", 8500))
	if m.Get("port") != nil && c.Address == host { // the port of its own wins
		bare, _, err := SplitHostPort(host, 8500)
		if err != nil {
			return c, fmt.Errorf("consul.host: have %s, want host:port", host)
		}
		c.Address = withPort(bare, number(m, "port", 8500))
	}
	if text := word(m, "url", ""); text != "" {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return c, fmt.Errorf("consul.url: have %s, want one such as http://host:8500", text)
		}
		c.Scheme, c.Address = u.Scheme, withPort(u.Host, 8500)
	}
	if c.Scheme != "http" && c.Scheme != "https" {
		return c, fmt.Errorf("consul.scheme: have %s, want http or https", c.Scheme)
	}
	if !slices.Contains(consistencies, c.Consistency) {
		return c, fmt.Errorf("consul.consistency: have %s, want one of %s", c.Consistency, strings.Join(consistencies, ", "))
	}
	return c, nil
}

var consulSchema = object(
	optional("host", hostAt(8500)), optional("url", isText), optional("port", between(1, 65535, "")), optional("scheme", enum("http", "https")),
	optional("token", simple), optional("verify", isSwitch), optional("cacert", isText), optional("cert", isText), optional("key", isText),
	optional("dc", isText), optional("consistency", enum("default", "consistent", "stale")), optional("checks", listOf(isText)),
	optional("register_service", isSwitch), optional("service_tags", listOf(isText)), optional("service_check_interval", isText),
	optional("service_check_tls_server_name", isText))
