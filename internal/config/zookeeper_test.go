package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestZooKeeperSettings(t *testing.T) {
	for _, c := range []struct{ name, section, want string }{
		{"one text", "zookeeper: {hosts: 'a, b:1,[::1]'}", "[a:2181 b:1 [::1]:2181] false true [] map[]"},
		{"a list, TLS", "zookeeper: {hosts: [a], use_ssl: on, verify: off}", "[a:2181] true false [] map[]"},
		{"switches as text", "zookeeper: {hosts: [a], use_ssl: 'false', verify: 'true'}", "[a:2181] false true [] map[]"},
		{"permissions", "zookeeper: {hosts: [a], set_acls: {'CN=x:y': [ALL], 'digest:u:hash': [read, Write]}, auth_data: {digest: 'u:p'}}",
			"[a:2181] false true [{x509 CN=x:y [ALL]} {digest u:hash [READ WRITE]}] map[digest:***]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := settings(t, c.section+"\n"+minimal)
			z := s.DCS.ZooKeeper
			have := strings.TrimSpace(fmt.Sprintln(z.Hosts, z.UseSSL, z.Verify, z.ACL, z.Auth))
			if have != c.want || s.DCS.Kind != InZooKeeper {
				t.Errorf("have %s of %s\nwant %s", have, s.DCS.Kind, c.want)
			}
			if c.name == "permissions" && z.Auth["digest"].Reveal() != "u:p" {
				t.Errorf("have credential %q, want u:p", z.Auth["digest"].Reveal())
			}
		})
	}
}

func TestZooKeeperRefused(t *testing.T) {
	for section, want := range map[string]string{
		"zookeeper: {use_ssl: on}":                                     "zookeeper.hosts is not defined",
		"zookeeper: {hosts: ['a:1', 'b:1/patroni']}":                   "a path behind the port is not supported",
		"zookeeper: {hosts: [a], set_acls: {'CN=x': [READ, EXECUTE]}}": "have permission EXECUTE",
	} {
		_, err := (&File{Document: parse(t, section+"\n"+minimal)}).Settings()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: have %v, want %s", section, err, want)
		}
	}
}
