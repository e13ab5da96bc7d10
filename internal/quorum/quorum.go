// Package quorum is the arithmetic of synchronous commit. Three places must agree: key /sync, which says who may lead; the primary's
// synchronous_standby_names, which says for whom a commit waits; and pg_stat_replication, which says who has what. They change one after the
// other, and whoever changes them may be lost in between, so each step must leave a state that loses nothing:
//
//	a standby is in /sync only while every commit waits for it, and only once it has all that was acknowledged before
//
// In quorum mode, where a commit waits for some of them, /sync says how many of those in it may lack one (anyof.go).
//
// Next is that order as a function. It is asked anew after each step with what is there then, so a crash between two steps is nothing special.
//
// Sources: ha.md 2.17; PostgreSQL, "Synchronous Replication" and src/backend/replication/syncrep.c.
package quorum

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// Settings are what people ask for.
type Settings struct {
	Mode   cluster.SyncMode
	Strict bool        // rather no commit than one on the primary alone
	Wanted int         // synchronous_node_count
	MaxLag cluster.LSN // maximum_lag_on_syncnode, bytes; 0: any
}

// State is what the three places say.
type State struct {
	Settings
	Self      string       // the primary
	Published cluster.Sync // /sync
	Required  Names        // synchronous_standby_names
	Picked    []string     // standbys that are to be synchronous (Pick)
	Confirmed []string     // those for which commits wait now and that have all that was acknowledged before
	Settled   bool         // everybody who ends the waiting of commits has read Required
}

// Step is what to do next. Publish comes first, and Require only after it has succeeded: that nobody else has written the key since proves
// that Published is not out of date, and a commit must never cease to wait for who is still in the key.
type Step struct {
	Publish *cluster.Sync // on the condition that the key still has this revision
	Require *Names
	Pending bool // something is to follow that no write brings about: look again soon
}

// Next returns the next step of the primary that holds the lock (ha.md 2.17d, 2.17g).
func (s State) Next() Step {
	if s.Mode == cluster.SyncQuorum {
		return s.nextAny()
	}
	want := Everybody(s.Picked, s.Strict)
	var keep []string
	if strings.EqualFold(s.Published.Leader, s.Self) && s.Published.Quorum == 0 {
		keep = both(both(s.Published.Standbys, s.Required.all()), s.Picked)
	}
	if s.Required.Any && s.Required.rule().beside(want.rule()).lacking(keep) > 0 { // quorum mode before
		keep = nil
	}
	if !s.Required.Equal(want) {
		return Step{Publish: s.publish(keep), Require: &want, Pending: true}
	}
	grown := union(keep, both(s.Confirmed, s.Picked))
	step := Step{Pending: len(grown) < len(s.Picked)}
	if next := s.publish(grown); !same(*next, s.Published) {
		step.Publish = next
	}
	return step
}

func (s State) publish(standbys []string) *cluster.Sync {
	slices.Sort(standbys)
	return &cluster.Sync{Leader: s.Self, Standbys: standbys, Revision: s.Published.Revision}
}

func same(a, b cluster.Sync) bool {
	return a.Leader == b.Leader && a.Quorum == b.Quorum && slices.Equal(a.Standbys, b.Standbys)
}

// Standby is one that could be synchronous.
type Standby struct {
	Name       string
	Priority   int    // sync_priority
	State      string // sync_state
	At         cluster.LSN
	NoFailover bool
}

// Pick returns those that are to be synchronous, best first: who is preferred, who is synchronous already, who has more, and who could not
// lead last (ha.md 2.17b, S4 to S6). In quorum mode that is all of them, but who could not lead only if need be. flushed is the primary's own position.
func (s Settings) Pick(standbys []Standby, flushed cluster.LSN) []string {
	list := slices.Clone(standbys)
	slices.SortStableFunc(list, func(a, b Standby) int {
		// sync, quorum, potential, async: also the order of the words
		return -cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.State, b.State), cmp.Compare(a.At, b.At))
	})
	slices.SortStableFunc(list, func(a, b Standby) int { return cmp.Compare(boolInt(a.NoFailover), boolInt(b.NoFailover)) })
	best := flushed
	if len(list) > 1 {
		best = slices.MaxFunc(list, func(a, b Standby) int { return cmp.Compare(a.At, b.At) }).At
	}
	var names []string
	for _, o := range list {
		room := len(names) < s.Wanted || s.Mode == cluster.SyncQuorum && !o.NoFailover
		if room && (s.MaxLag == 0 || o.At+s.MaxLag >= best) {
			names = append(names, o.Name)
		}
	}
	return names
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Names compare without case, as PostgreSQL compares them.

func has(list []string, name string) bool {
	return slices.ContainsFunc(list, func(n string) bool { return strings.EqualFold(n, name) })
}

func both(a, b []string) (out []string) {
	for _, name := range a {
		if has(b, name) {
			out = append(out, name)
		}
	}
	return out
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, name := range b {
		if !has(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// String is the step in short: "/sync pg1:pg2; names pg2; again".
func (s Step) String() string {
	var parts []string
	if s.Publish != nil {
		text := "/sync " + s.Publish.Leader + ":" + strings.Join(s.Publish.Standbys, ",")
		if s.Publish.Quorum > 0 {
			text += " quorum " + strconv.Itoa(s.Publish.Quorum)
		}
		parts = append(parts, text)
	}
	if s.Require != nil {
		parts = append(parts, "names "+s.Require.String())
	}
	if s.Pending {
		parts = append(parts, "again")
	}
	return strings.Join(parts, "; ")
}
