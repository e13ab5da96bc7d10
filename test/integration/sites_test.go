package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/regent-ha/regent/test/integration/harness"
)

// sited are two sites with two members each: m0 and m1 of site a, m2 and m3 of site b.
func sited(more harness.Map) harness.Options {
	o := harness.Options{Members: 4, Dynamic: harness.Map{"durability": harness.Map{"survive": "one-site"}}}
	for name, value := range more {
		o.Dynamic[name] = value
	}
	o.Member = func(m *harness.Member, config map[string]any) {
		config["tags"] = harness.Map{"site": map[bool]string{true: "a", false: "b"}[m.Name < "m2"]}
	}
	return o
}

// secured waits until the leader says that each commit that it has acknowledged is at the other site as well.
func secured(t *testing.T, leader *harness.Member) {
	t.Helper()
	harness.Eventually(t, harness.Patience, "what "+leader.Name+" acknowledged survives the loss of its site", func() bool {
		s := leader.Status()
		return s != nil && s.Regent.Durability != nil && s.Regent.Durability.Met
	})
}

// A whole site with the leader dies while applications write. The other one goes on by itself with every row that was acknowledged, says that it is alone, and
// is not alone any more when the first one is back. Then it dies itself.
func testSiteDeath(t *testing.T, more harness.Map) {
	c := harness.Start(t, sited(more))
	sites := [][]*harness.Member{c.Members[:2], c.Members[2:]}
	leader := c.Healthy(t, harness.Patience)
	w := c.Write(t)
	for range sites {
		secured(t, leader)
		here, there := sites[0], sites[1]
		if !slices.Contains(here, leader) {
			here, there = there, here
		}
		for _, name := range key(t, c).Standbys {
			if slices.ContainsFunc(here, func(m *harness.Member) bool { return m.Name == name }) {
				t.Fatalf("/sync names %s, which is of the site of the leader %s", name, leader.Name)
			}
		}
		w.AdvanceOn(t, leader, harness.Patience)
		for _, m := range here {
			m.KillAll(t)
		}
		leader = successor(t, c, leader)
		w.AdvanceOn(t, leader, harness.Patience)
		of := func(a harness.Ack) bool {
			return slices.ContainsFunc(here, func(m *harness.Member) bool { return m.Name == a.Member })
		}
		if lost := w.Missing(t, slices.DeleteFunc(w.Acks(), func(a harness.Ack) bool { return !of(a) })); len(lost) > 0 {
			t.Fatalf("%d rows that the lost site acknowledged are missing on %s, the first is %+v", len(lost), leader.Name, lost[0])
		}
		harness.Eventually(t, harness.Patience, leader.Name+" says that its site is alone", func() bool {
			s := leader.Status()
			return s != nil && s.Regent.Durability != nil && !s.Regent.Durability.Met && strings.Contains(s.Regent.Durability.Detail, "alone")
		})
		settled(t, c, leader, 1) // one of its own site
		w.Advance(t, 20, harness.Patience)
		for _, m := range here {
			m.Start(t)
		}
		c.HealthyWith(t, harness.Patience, append(slices.Clone(here), there...)...)
	}
	secured(t, leader)
	w.Audit(t, 0)
}

func TestSiteDeath(t *testing.T) {
	t.Parallel()
	testSiteDeath(t, nil)
}

func TestSiteDeathQuorum(t *testing.T) {
	t.Parallel()
	testSiteDeath(t, harness.Map{"synchronous_mode": "quorum"})
}
