package ha

import (
	"fmt"
	"slices"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/quorum"
)

// Sites (ADR 24). Where an acknowledged commit is to survive the loss of any one site, commits wait for standbys of other sites than the primary's, and for
// those alone: so whatever is read of synchronous_standby_names and when, each commit that was acknowledged is elsewhere as well. Only they may lead after
// the primary, which is what /sync says anyway. The rest is synchronous or quorum mode as it is.
//
// Without such a standby commits wait as long as the store knows a member elsewhere that may come; when it knows none, that site is lost, and what one
// site can give has to do. Whether commits wait now is to be read off the names: so nothing has to be remembered.

// otherSite says whether that member is at another site than this one, and could lead with what it has.
func (v *View) otherSite(m cluster.Member) bool {
	site := m.Tags.Site()
	return site != "" && v.Tags.Site != "" && site != v.Tags.Site && !m.Tags.NoFailover() && !m.Tags.NoSync()
}

// hasData says whether a member has data and can be expected to stream: it is not being made, which can take hours, and does not fail to start.
func hasData(m cluster.Member) bool {
	switch m.State {
	case cluster.CreatingReplica, cluster.InitializingCluster, cluster.InitdbFailed, cluster.CustomBootstrap, cluster.CustomFailed, cluster.StartFailed, cluster.RestartFailed:
		return false
	}
	return m.Role != cluster.Uninitialized
}

// onTheWay are the members elsewhere that may soon stream.
func (v *View) onTheWay() (names []string) {
	for _, m := range v.Store.Members {
		if v.otherSite(m) && m.CarriesSite() && hasData(m) {
			names = append(names, m.Name)
		}
	}
	return names
}

// pickElsewhere says which standbys are to be synchronous, if a site is to be survived. wait: none streams, and commits go on waiting for one.
func (v *View) pickElsewhere(standbys []quorum.Standby, required quorum.Names) (picked []string, wait bool) {
	others := slices.DeleteFunc(slices.Clone(standbys), func(s quorum.Standby) bool {
		m, _ := v.Store.Member(s.Name)
		return !v.otherSite(m)
	})
	switch picked = v.Limits.Sync.Pick(others, v.Postgres.Flush); {
	case len(picked) > 0 || v.Limits.Sync.Strict:
		return picked, len(picked) == 0
	case v.namesElsewhere(required) && len(v.onTheWay()) > 0:
		return nil, true
	}
	return v.Limits.Sync.Pick(standbys, v.Postgres.Flush), false
}

// namesElsewhere says whether commits wait under these names for other sites, or for ever.
func (v *View) namesElsewhere(names quorum.Names) bool {
	near := func(name string) bool {
		m, known := v.Store.Member(name)
		return known && !v.otherSite(m) || name == "*"
	}
	return len(names.List) > 0 && !slices.ContainsFunc(names.List, near)
}

// Durability is whether each commit that this primary has acknowledged would survive the loss of any one site, and somebody could lead with it then.
type Durability struct {
	Met    bool
	Detail string
}

// Durability looks at what the store says: of those in /sync so many more must be elsewhere than may lack a commit. ok is false where nobody asks
// for it, or we do not lead.
func (v *View) Durability() (d Durability, ok bool) {
	if v.Limits.Survive != cluster.SurviveSite || v.Limits.Sync.Mode == cluster.SyncOff || v.Store == nil || v.leader() != v.Self || !v.primary() || !v.Postgres.Queried {
		return d, false
	}
	var have []string
	for _, name := range v.Store.Sync.Standbys {
		if m, known := v.Store.Member(name); known && v.otherSite(m) && hasData(m) {
			have = append(have, fmt.Sprintf("%s (site %s)", name, m.Tags.Site()))
		}
	}
	if d.Met = v.syncLeader(v.Self) && len(have) > v.Store.Sync.Quorum; d.Met {
		d.Detail = fmt.Sprintf("at least %d of %s has each acknowledged commit", len(have)-v.Store.Sync.Quorum, strings.Join(have, ", "))
		return d, true
	}
	required, _ := quorum.ParseNames(v.Postgres.SyncNames)
	problem := cluster.SiteProblem(v.Store.Members)
	if problem == "" {
		problem = "no member of another site streams"
	}
	switch coming := v.onTheWay(); {
	case !v.namesElsewhere(required):
		d.Detail = "commits are acknowledged by site " + orText(v.Tags.Site, "(no tag)") + " alone: " + problem
	case len(coming) > 0:
		d.Detail = "commits wait until another site has what was acknowledged before: " + strings.Join(coming, ", ")
	default:
		d.Detail = "commits wait for another site: " + problem
	}
	return d, true
}

// String says it in a line.
func (d Durability) String() string {
	if d.Met {
		return "no commit is lost with one site: " + d.Detail
	}
	return "if this site is lost, commits may be lost with it, or nobody may lead: " + d.Detail
}
