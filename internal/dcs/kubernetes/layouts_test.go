package kubernetes

import "testing"

func TestLayoutInForce(t *testing.T) {
	at := func(renewed string, m mark) *site {
		s := &site{mark: m}
		if renewed != "" {
			s.record = record{holder: "a", acquired: "2026-11-24T10:00:00+00:00", renewed: "2026-11-24T" + renewed + "+00:00"}
		}
		return s
	}
	none := &site{}
	for _, c := range []struct {
		name                         string
		endpoints, configmaps, lease *site
		want                         Layout
	}{
		{"nobody has led: as configured", none, none, none, ConfigMaps},
		{"the one that was used", none, none, at("10:00:00", ""), Lease},
		{"blank objects of an operator do not count", &site{object: &object{}}, none, at("10:00:00", ""), Lease},
		{"a wish moves nothing", at("10:00:00", wanted(ConfigMaps)), none, none, Endpoints},
		{"prepared is not moved", at("10:00:00", wanted(ConfigMaps)), at("11:00:00", prepared(Endpoints)), none, Endpoints},
		{"the seal moves", at("10:00:00", movedTo(ConfigMaps)), at("09:00:00", prepared(Endpoints)), none, ConfigMaps},
		{"and the first renewal clears up", at("10:00:00", movedTo(ConfigMaps)), at("11:00:00", ""), none, ConfigMaps},
		{"on its way back", at("12:00:00", prepared(ConfigMaps)), at("11:00:00", wanted(Endpoints)), none, ConfigMaps},
		{"prepared from a layout that moved elsewhere", at("12:00:00", prepared(ConfigMaps)), at("11:00:00", movedTo(Lease)), at("10:00:00", ""), Lease},
		{"prepared, and the old lock was deleted", none, at("11:00:00", prepared(Endpoints)), none, Endpoints},
		{"moved, and the new lock was deleted", at("10:00:00", movedTo(Lease)), none, none, Lease},
		{"seen half before and half after: look again", at("10:00:00", movedTo(ConfigMaps)), at("11:00:00", movedTo(Endpoints)), none, ""},
		{"two by hand: renewed last", at("10:00:00", ""), none, at("10:00:01", ""), Lease},
		{"two by hand at the same time: as configured", at("10:00:00", ""), at("10:00:00", ""), none, ConfigMaps},
	} {
		all := map[Layout]*site{Endpoints: c.endpoints, ConfigMaps: c.configmaps, Lease: c.lease}
		if have := inForce(all, ConfigMaps); have != c.want {
			t.Errorf("%s: have %q, want %q", c.name, have, c.want)
		}
	}
}
