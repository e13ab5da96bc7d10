package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestConsulSettings(t *testing.T) {
	for _, c := range []struct{ name, section, want string }{
		{"nothing but the section", "consul: {verify: on}", "http 127.0.0.1:8500 true default  [] false [] 5s"},
		{"host with its port", "consul: {host: 'a:1'}", "http a:1 true default  [] false [] 5s"},
		{"a port of its own wins", "consul: {host: 'a:1', port: 2}", "http a:2 true default  [] false [] 5s"},
		{"host without one", "consul: {host: '[::1]', scheme: https, verify: 'off'}", "https [::1]:8500 false default  [] false [] 5s"},
		{"url", "consul: {url: 'https://b', host: 'a:1', port: 2}", "https b:8500 true default  [] false [] 5s"},
		{"the rest", "consul: {host: a, dc: east, consistency: stale, checks: [c1], register_service: 'on', service_tags: [x, y], service_check_interval: 1s}",
			"http a:8500 true stale east [c1] true [x y] 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := settings(t, c.section+"\n"+minimal)
			x := s.DCS.Consul
			have := strings.TrimSpace(fmt.Sprintln(x.Scheme, x.Address, x.Verify, x.Consistency, x.Datacenter, x.Checks, x.RegisterService, x.ServiceTags, x.ServiceCheckInterval))
			if have != c.want || s.DCS.Kind != InConsul {
				t.Errorf("have %s of %s\nwant %s", have, s.DCS.Kind, c.want)
			}
		})
	}
}

func TestConsulFromTheEnvironment(t *testing.T) {
	doc, _, problems := FromEnviron([]string{"PATRONI_CONSUL_HOST=a:1", "PATRONI_CONSUL_TOKEN=t", "PATRONI_CONSUL_CHECKS=c1, c2", "PATRONI_CONSUL_REGISTER_SERVICE=on",
		"PATRONI_CONSUL_SERVICE_TAGS=x", "PATRONI_CONSUL_DC=east", "PATRONI_CONSUL_CONSISTENCY=stale", "PATRONI_CONSUL_VERIFY=off", "PATRONI_CONSUL_SCHEME=https"})
	c, err := readConsul(doc.Map("consul"))
	have := fmt.Sprint(c.Scheme, c.Address, c.Token.Reveal(), c.Checks, c.RegisterService, c.ServiceTags, c.Datacenter, c.Consistency, c.Verify)
	if want := "http a:1 t [c1 c2] true [x] east stale false"; err != nil || len(problems) > 0 || have != fmt.Sprint("http", "a:1", "t", []string{"c1", "c2"}, true, []string{"x"}, "east", "stale", false) {
		t.Errorf("have %s, %v, %v; want %s", have, err, problems, want)
	}
}

func TestConsulRefused(t *testing.T) {
	for section, want := range map[string]string{
		"consul: {host: a, scheme: ftp}":          "want http or https",
		"consul: {url: 'a:1'}":                    "consul.url: have a:1",
		"consul: {host: a, consistency: careful}": "want one of default, consistent, stale",
	} {
		_, err := (&File{Document: parse(t, section+"\n"+minimal)}).Settings()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: have %v, want %s", section, err, want)
		}
	}
}
