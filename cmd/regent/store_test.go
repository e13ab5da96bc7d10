package main

import (
	"fmt"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
)

// The account of the store and the times are those of the last reload; other settings of the store wait for the next start.
func TestStoreFollowsAReload(t *testing.T) {
	effective := func(password string) *config.Effective {
		doc, err := config.ParseYAML("test", []byte("{name: a, scope: b, restapi: {listen: 'c:1'}, postgresql: {data_dir: /d, listen: 'c:2'}, etcd3: {host: e, username: u, password: "+password+"}}"))
		if err != nil {
			t.Fatal(err)
		}
		e, _, err := config.NewEffective(&config.File{Document: doc.(*config.Map)}, cluster.DynamicConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return &e
	}
	start := effective("old")
	now := &current{}
	c := etcdConfig(&start.Settings, start.DCS.Etcd.Hosts, now, nil)
	want := func(password string) {
		t.Helper()
		if user, have := c.Account(); user != "u" || have != password {
			t.Errorf("have %s, %s, want u, %s", user, have, password)
		}
	}
	want("old")
	next := effective("new")
	next.Timing.TTL *= 2
	now.effective.Store(next)
	want("new")
	if ttl, _, _ := c.Timing(); ttl != next.Timing.TTL {
		t.Errorf("have ttl %s, want %s", ttl, next.Timing.TTL)
	}
}

// Consul's token and what else may change are those of the last reload.
func TestConsulFollowsAReload(t *testing.T) {
	effective := func(token, more string) *config.Effective {
		doc, err := config.ParseYAML("test", []byte("{name: a, scope: b, restapi: {listen: 'c:1'}, postgresql: {data_dir: /d, listen: 'c:2'}, consul: {host: e, token: "+token+more+"}}"))
		if err != nil {
			t.Fatal(err)
		}
		e, _, err := config.NewEffective(&config.File{Document: doc.(*config.Map)}, cluster.DynamicConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return &e
	}
	start, now := effective("old", ""), &current{}
	c := consulConfig(&start.Settings, now)
	if have := c.Live(); have.Token != "old" || have.RegisterService || c.Address != "e:8500" {
		t.Errorf("have %+v at %s, want token old at e:8500", have, c.Address)
	}
	now.effective.Store(effective("new", ", register_service: on, service_tags: [x], dc: east, consistency: stale"))
	if have, want := fmt.Sprint(c.Live()), "{new east stale true [x]}"; have != want {
		t.Errorf("have %s, want %s", have, want)
	}
}
