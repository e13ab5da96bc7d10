package quorum

import (
	"math"
	"slices"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// Quorum mode (ha.md 2.17g). A commit waits for any Count of the standbys, and /sync names them as voters, with how many of them at most lack
// something that was acknowledged: its quorum q. A voter may lead when q others of the voters and the leader are not ahead of it, since then one of these
// q + 1 has every acknowledged commit. Whatever is written, in whatever order, and wherever it ends, this holds:
//
//	of the voters in /sync at most q lack any one commit that was acknowledged
//
// Patroni's resolver goes from one named transition to the next, and some states have none (ha.md D-6). Here each step is judged by that
// sentence alone, so every state has one: nobody but the leader in /sync is always right.

// rule is what is certain of a commit that was acknowledged under some value of synchronous_standby_names: so many of these have it.
type rule struct {
	count int
	of    []string
}

// never is the count of a rule under which nothing is acknowledged.
const never = math.MaxInt

func (n Names) rule() rule {
	of := slices.DeleteFunc(slices.Clone(n.List), func(name string) bool { return strings.EqualFold(name, Placeholder) })
	switch {
	case len(n.List) == 0 || slices.Contains(n.List, "*"): // it may be anybody
		return rule{}
	case len(of) == 0:
		return rule{count: never}
	}
	return rule{count: n.Count, of: of}
}

// beside is what is certain while one value is replaced by another: each WAL sender ends the waiting by the number that it has read itself, and
// counts all that are in the list as they have read it themselves (syncrep.c).
func (r rule) beside(other rule) rule {
	return rule{count: min(r.count, other.count), of: union(r.of, other.of)}
}

// lacking is how many of the voters at most lack a commit.
func (r rule) lacking(voters []string) int {
	elsewhere := len(r.of) - len(both(r.of, voters))
	return max(len(voters)-max(r.count-elsewhere, 0), 0)
}

// AnyOf waits for so many of these, as far as there are. With nobody to wait for, commits are local, or in strict mode blocked.
func AnyOf(count int, names []string, strict bool) Names {
	if count = min(count, len(names)); count < 1 {
		return Everybody(nil, strict)
	}
	return Names{Any: true, Count: count, List: slices.Sorted(slices.Values(names))}
}

// nextAny returns the next step in quorum mode.
func (s State) nextAny() Step {
	want := AnyOf(s.Wanted, s.Picked, s.Strict)
	if !s.Required.Equal(want) {
		if goesOn := len(both(s.Required.List, s.Picked)) >= s.Required.Count; goesOn && !s.Settled && s.trusted() && len(s.Published.Standbys) > 0 {
			return Step{Pending: true} // first let everybody read what is required now: to require something else meanwhile would cost all voters
		}
		voters := s.voters(s.Required.rule().beside(want.rule()), !s.Settled)
		return Step{Publish: voters, Require: &want, Pending: true}
	}
	next := s.voters(want.rule(), false)
	done := len(s.Picked) == 0 || len(next.Standbys) == len(s.Picked) && len(both(next.Standbys, s.Picked)) == len(s.Picked) && next.Quorum == want.rule().lacking(s.Picked)
	step := Step{Pending: !done}
	if !same(*next, s.Published) {
		step.Publish = next
	}
	return step
}

// trusted says whether what is published holds under what is required: it is ours, and nobody has changed the names by hand.
func (s State) trusted() bool {
	return strings.EqualFold(s.Published.Leader, s.Self) && s.Required.rule().lacking(s.Published.Standbys) <= s.Published.Quorum
}

// voters returns what /sync may say while commits are acknowledged under that rule: of all that is right, what keeps a leader electable with most
// of those that stream now. unknown: older rules may still be followed, so nobody knows what holds after the next change.
func (s State) voters(r rule, unknown bool) *cluster.Sync {
	best := s.publish(nil)
	if unknown {
		return best
	}
	now := s.Published.Standbys
	for _, list := range [][]string{s.Picked, now, union(now, s.Picked), both(now, s.Picked), both(s.Confirmed, s.Picked)} {
		q := s.lacking(list, r)
		if q >= len(list) {
			continue // that all others agree is as good as nobody
		}
		spare := func(c *cluster.Sync) int { return len(both(c.Standbys, s.Picked)) - c.Quorum }
		c := s.publish(slices.Clone(list))
		c.Quorum = q
		if len(best.Standbys) == 0 || spare(c) > spare(best) {
			best = c
		}
	}
	return best
}

// lacking is how many of these voters at most lack one commit that was acknowledged, or will be under that rule.
func (s State) lacking(voters []string, r rule) int {
	before := len(voters)
	if s.trusted() { // who is new may lack it as well
		before = min(before, s.Published.Quorum+len(voters)-len(both(voters, s.Published.Standbys)))
	}
	if s.Settled {
		before = min(before, len(voters)-len(both(voters, s.Confirmed)))
	}
	return max(before, r.lacking(voters))
}
