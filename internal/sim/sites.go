package sim

import (
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// A run with sites (ADR 24): each member is of one of two or three sites, and an acknowledged commit is to survive the loss of any one. Sites are lost and
// cut off from each other on the way; and in the end, when all is well, the leader's whole site is lost with its disks. Then somebody of another one
// leads by itself, with every row that was acknowledged.

// sites is what the oracle knows of them.
type sites struct {
	away  map[string]moment // when the store last knew nobody who could hold a commit for that site's leader
	gone  map[string]bool   // ... it knows nobody now
	bound []moment          // by member: when commits of its rule came to have to wait for another site
}

// place gives each member its site, by chances of its own, so that all else about the seed stays.
func (w *World) placeSites() {
	r := newRandom(w.options.Seed ^ 0x517e)
	count := 2
	if len(w.Members) > 2 && r.chance(30) {
		count = 3
	}
	for i, m := range w.Members {
		m.tags.Site = string(rune('a' + i%count))
		m.keyTags = keyTags(m.tags)
	}
	w.sites = &sites{away: map[string]moment{}, gone: map[string]bool{}, bound: make([]moment, len(w.Members))}
	w.bootstrapConfig.Document = w.bootstrapConfig.Document.Set(cluster.Text(string(cluster.SurviveSite)), "durability", "survive")
}

// carries says whether that member may hold commits for another site's leader, and lead with them.
func carries(m *Member, site string) bool { return m.tags.Site != site && !m.tags.NoFailover }

// siteOf are the members of that one's site.
func (w *World) siteOf(m *Member) (list []*Member) {
	for _, o := range w.Members {
		if o.tags.Site == m.tags.Site {
			list = append(list, o)
		}
	}
	return list
}

// look notes for whom the store knows nobody at another site, after each change of the store.
func (s *sites) look(w *World) {
	key := w.peek()
	for _, site := range []string{"a", "b", "c"} {
		there := slices.ContainsFunc(key.Members, func(k cluster.Member) bool {
			o := w.member(k.Name)
			made := k.State == cluster.CreatingReplica || k.State == cluster.StartFailed || k.State == cluster.RestartFailed || k.Role == cluster.Uninitialized
			return o != nil && carries(o, site) && o.tags.ReplicateFrom == "" && !made
		})
		if !there || s.gone[site] {
			s.away[site] = w.now
		}
		s.gone[site] = !there
	}
	if m := w.member(key.Sync.Leader); m != nil && w.secured(m) {
		s.bound[m.place] = w.now
	}
}

// secured says whether, by /sync, each commit that this leader has acknowledged is with somebody of another site who could lead.
func (w *World) secured(m *Member) bool {
	key, carriers := w.peek().Sync, 0
	for _, name := range key.Standbys {
		if o := w.member(name); o != nil && carries(o, m.tags.Site) {
			carriers++
		}
	}
	return key.Leader == m.name && carriers > key.Quorum
}

// checkRow: a row is acknowledged only once another site has it, unless the store has known nobody there since that was so last, or since the promotion, or for some
// time before: what a leader knows of the store may be that old.
func (s *sites) checkRow(w *World, m *Member, r row) {
	for _, o := range w.Members {
		if carries(o, m.tags.Site) && holds(&o.dir, r) {
			return
		}
	}
	if s := m.server; s == nil || !s.waits.on && len(s.dir.standbys().List) > 0 {
		return // the checkpointer has not read the names yet: it may be at work when its standby is promoted, and nobody can see that
	}
	if since := s.bound[m.place]; since != 0 && !s.gone[m.tags.Site] && s.away[m.tags.Site] < since-int64(30*time.Second) && !w.restored {
		w.violate("site", "%s acknowledges row %d, which no other site than %s has, and there was somebody all the time since %s", m.name, r.id, m.tags.Site, time.Duration(since))
	}
}

// promoted: a new leader waits for other sites from the begin on.
func (s *sites) promoted(w *World, m *Member) { s.bound[m.place] = w.now }

// siteLost takes all hosts of a site away.
func siteLost(w *World, m *Member, f *Fault) func() {
	list := w.siteOf(m)
	for _, o := range list {
		o.lose()
	}
	return func() {
		for _, o := range list {
			o.comeBack(f.Value&1 == 1)
		}
	}
}

// cutSite cuts a site off from the others, but not from the store.
func cutSite(w *World, m *Member, _ *Fault) func() {
	var ways [][2]int
	for _, here := range w.siteOf(m) {
		for _, there := range w.Members {
			if there.tags.Site != m.tags.Site {
				ways = append(ways, [2]int{here.place, there.place}, [2]int{there.place, here.place})
			}
		}
	}
	return w.cuts(ways...)
}

// siteFaults are such troubles.
func (w *World) siteFaults(r *random, span time.Duration) (list []Fault) {
	for range 1 + r.below(3) {
		k := choose(r, "site-lost", "site-lost", "cut-site")
		f := Fault{At: r.between(0, span).Truncate(time.Millisecond), Kind: k, Member: r.below(len(w.Members)), Value: r.below(10000)}
		if r.chance(60) {
			f.Member = Leader
		}
		f.For = r.between(5*time.Second, 2*time.Minute).Truncate(time.Millisecond)
		list = append(list, f)
	}
	return list
}

// siteTrouble is what keeps the loss of the leader's site from losing nothing, although somebody elsewhere could hold commits.
func (w *World) siteTrouble(leader *Member) string {
	if leader.server == nil || w.secured(leader) {
		return ""
	}
	for _, t := range leader.server.senders {
		o := t.to.m
		if _, known := w.peek().Member(o.name); known && carries(o, leader.tags.Site) && (o.tags.ReplicateFrom == "" || o.tags.ReplicateFrom == leader.name) {
			return o.name + " is of another site and could have every commit, and /sync does not say so"
		}
	}
	return ""
}

// loseSite is the end of such a run: the leader's site is lost for good, with its disks, while all was well.
func (w *World) loseSite() {
	leader := w.primary()
	if leader == nil || w.oracle.violation != nil || w.restored || w.siteTrouble(leader) != "" || !w.secured(leader) {
		return
	}
	var rows []row
	for _, r := range w.oracle.rows {
		if holds(&leader.dir, r) && !w.oracle.explained[r.id] {
			rows = append(rows, r)
		}
	}
	timing, _ := w.peek().Config.Timing()
	strict := w.peek().Config.SynchronousModeStrict()
	lost := w.siteOf(leader)
	w.note("site %s is lost", leader.tags.Site)
	for _, m := range lost {
		m.lose()
		m.dir = directory{state: cluster.DirEmpty}
		m.wiped = true
	}
	next := func() *Member {
		if m := w.primary(); m != nil && m.tags.Site != leader.tags.Site {
			return m
		}
		return nil
	}
	if !w.until(2*timing.TTL+2*timing.LoopWait+90*time.Second, func() bool { return next() != nil }) {
		w.wedged("nobody leads after the loss of site " + leader.tags.Site)
		return
	}
	if w.oracle.violation != nil {
		return
	}
	for _, r := range rows {
		if m := next(); m != nil && !holds(&m.dir, r) {
			w.violate("site", "%s leads after the loss of site %s and lacks row %d, which %s acknowledged at %s", m.name, leader.tags.Site, r.id, r.by.name, time.Duration(r.at))
			return
		}
	}
	before := w.oracle.acknowledged
	stuck := slices.ContainsFunc(w.Members, func(o *Member) bool { return o.down == 0 && o.resigned() }) // commits wait for it, and people have to help it
	if !strict && !stuck && !w.until(timing.TTL+2*timing.LoopWait+90*time.Second, func() bool { return w.oracle.acknowledged > before }) {
		w.wedged("commits do not go on after the loss of site " + leader.tags.Site)
		return
	}
	for _, m := range lost {
		m.comeBack(false)
	}
	if !w.until(5*time.Minute, func() bool { return w.trouble() == "" }) {
		w.wedged("not everybody streams after the loss of site " + leader.tags.Site)
	}
}
