package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Survival is what an acknowledged commit survives: durability.survive of the dynamic configuration, Regent's own (ADR 24).
type Survival string

const (
	SurviveNone Survival = "none"     // what synchronous_mode gives, as in Patroni
	SurviveNode Survival = "one-node" // the loss of any one member
	SurviveSite Survival = "one-site" // the loss of all members whose tag site is the same
)

// Asked says whether there is something to survive.
func (s Survival) Asked() bool { return s == SurviveNode || s == SurviveSite }

// Survive is none where nothing is said, or nothing that is known.
func (c DynamicConfig) Survive() Survival {
	v, _ := c.Document.Get("durability", "survive")
	if s := Survival(v.String()); s.Asked() {
		return s
	}
	return SurviveNone
}

// CheckDurability says what is wrong with section durability, and what contradicts it.
func (c DynamicConfig) CheckDurability() error {
	section, said := c.Document.Get("durability")
	if !said || section.Kind == Null {
		return nil
	}
	var problems []error
	survive, _ := section.Get("survive")
	switch known := []Survival{SurviveNone, SurviveNode, SurviveSite}; {
	case section.Kind != Object:
		problems = append(problems, fmt.Errorf("durability: have %s, want a mapping such as {survive: %s}", section.Encode(), SurviveSite))
	case !slices.Contains(known, Survival(survive.String())):
		problems = append(problems, fmt.Errorf("durability.survive: have %s, want %s, %s or %s", survive.Encode(), SurviveNone, SurviveNode, SurviveSite))
	}
	if !c.Survive().Asked() {
		return errors.Join(problems...)
	}
	asked := fmt.Sprintf("durability.survive is %s", c.Survive())
	if v, ok := c.Document.Get("synchronous_mode"); ok && v.Kind != Null && c.StandbyCluster() == nil && !c.SynchronousMode().Active() {
		problems = append(problems, fmt.Errorf("synchronous_mode: have %s, want on, quorum or nothing: %s", v.Encode(), asked))
	}
	if c.SynchronousNodeCount() < 1 {
		problems = append(problems, fmt.Errorf("synchronous_node_count: have %d, want at least 1: %s", c.SynchronousNodeCount(), asked))
	}
	return errors.Join(problems...)
}

// CarriesSite says whether this member could hold a commit for the others of its site, and go on with it as the leader.
func (m Member) CarriesSite() bool {
	return m.Tags.Site() != "" && !m.Tags.NoFailover() && !m.Tags.NoSync() && m.Tags.ReplicateFrom() == ""
}

// SiteProblem says why no commit can survive the loss of any one site as long as these are the members; empty: it can.
func SiteProblem(members []Member) string {
	var sites, carry, untagged, barred []string
	for _, m := range members {
		site := m.Tags.Site()
		switch {
		case site == "":
			untagged = append(untagged, m.Name)
		case !m.CarriesSite():
			barred = append(barred, m.Name)
		case !slices.Contains(carry, site):
			carry = append(carry, site)
		}
		if site != "" && !slices.Contains(sites, site) {
			sites = append(sites, site)
		}
	}
	list := func(names []string) string { return strings.Join(names, ", ") }
	switch {
	case len(untagged) > 0:
		return fmt.Sprintf("members without a tag site: %s", list(untagged))
	case len(sites) < 2:
		return fmt.Sprintf("all members are of one site: %s", list(sites))
	case len(carry) < 2:
		return fmt.Sprintf("at no two sites there is a member that may be synchronous and lead: %s (nofailover, nosync or replicatefrom)", list(barred))
	}
	return ""
}

// RefuseDurability says why a change of the dynamic configuration is refused: it is a contradiction, or asks for what these members cannot give. What
// was asked for before is not looked at again: the members of a site may just be away.
func RefuseDurability(before, after DynamicConfig, members []Member) error {
	if err := after.CheckDurability(); err != nil {
		return err
	}
	if after.Survive() != SurviveSite || before.Survive() == SurviveSite {
		return nil
	}
	if problem := SiteProblem(members); problem != "" {
		return fmt.Errorf("durability.survive: have %s, and %s; it needs members of two sites", SurviveSite, problem)
	}
	return nil
}
