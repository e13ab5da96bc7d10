package quorum

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
)

// settle plays steps until none follows: between two of them everybody reads the names and those that stream catch up. Without catching up only
// what is confirmed counts.
func settleAny(t *testing.T, s State, catchUp bool) (State, string) {
	t.Helper()
	var steps []string
	for range 12 {
		step := s.Next()
		if step.Publish == nil && step.Require == nil {
			if s.Settled && (!step.Pending || !catchUp || len(s.Confirmed) == len(both(s.Required.List, s.Picked))) {
				return s, strings.Join(steps, "; ")
			}
			s.Settled = true
			if catchUp {
				s.Confirmed = both(s.Required.List, s.Picked)
			}
			continue
		}
		steps = append(steps, strings.TrimSuffix(strings.TrimSuffix(step.String(), "again"), "; "))
		if step.Publish != nil {
			s.Published = *step.Publish
		}
		if step.Require != nil {
			s.Required, s.Settled, s.Confirmed = *step.Require, false, nil
		}
	}
	t.Fatalf("the steps do not end: %s", strings.Join(steps, "; "))
	return s, ""
}

// The situations of ha.md 2.17g. The outcome is Patroni's; our steps differ where a WAL sender that has not read the new names yet could end a
// wait early: what is published holds under the old names, the new ones and both at once, so /sync is written before and after the names.
func TestNextAny(t *testing.T) {
	const none = "none"
	cases := []struct {
		name                   string
		published              string // "pg1:a,b 1", leader:voters quorum
		required               string
		confirmed, picked      string
		wanted                 int
		unsettled, noneCatchUp bool
		want                   string // all steps
	}{
		{"the first standby connects", "pg1:", "", "", "a", 1, false, true, "/sync pg1:; names ANY 1 (a)"},
		{"it is confirmed", "pg1:", "ANY 1 (a)", "a", "a", 1, false, false, "/sync pg1:a"},
		{"two connect at once", "pg1:", "", "", "a b", 1, false, true, "/sync pg1:; names ANY 1 (a,b)"},
		{"none is confirmed", "pg1:", "ANY 1 (a,b)", "", "a b", 1, false, true, ""},
		{"one is confirmed", "pg1:", "ANY 1 (a,b)", "a", "a b", 1, false, true, "/sync pg1:a,b quorum 1"},
		{"a second standby joins", "pg1:a 0", "ANY 1 (a)", "a", "a b", 1, false, false, "/sync pg1:a,b quorum 1; names ANY 1 (a,b)"},
		{"a second standby joins, two are wanted", "pg1:a 0", "ANY 1 (a)", "a", "a b", 2, false, false, "/sync pg1:a,b quorum 1; names ANY 2 (a,b); /sync pg1:a,b"},
		{"... and does not catch up", "pg1:a 0", "ANY 1 (a)", "a", "a b", 2, false, true, "/sync pg1:a,b quorum 1; names ANY 2 (a,b)"},
		{"two more join", "pg1:a 0", "ANY 1 (a)", "a", "a b c", 2, false, false, "/sync pg1:a,b,c quorum 2; names ANY 2 (a,b,c); /sync pg1:a,b,c quorum 1"},
		{"one of three dies", "pg1:a,b,c 2", "ANY 1 (a,b,c)", "a b c", "a b", 1, false, false, "/sync pg1:a,b,c quorum 2; names ANY 1 (a,b); /sync pg1:a,b quorum 1"},
		{"one of two dies", "pg1:a,b 1", "ANY 1 (a,b)", "a b", "a", 1, false, false, "/sync pg1:a,b quorum 1; names ANY 1 (a); /sync pg1:a"},
		{"one of two that are both wanted dies", "pg1:a,b 0", "ANY 2 (a,b)", "a b", "a", 2, false, false, "/sync pg1:a,b quorum 1; names ANY 1 (a); /sync pg1:a"},
		{"all die", "pg1:a,b 1", "ANY 1 (a,b)", "", "", 1, false, false, "/sync pg1:; names "},
		{"two are wanted instead of one", "pg1:a,b 1", "ANY 1 (a,b)", "a b", "a b", 2, false, false, "/sync pg1:a,b quorum 1; names ANY 2 (a,b); /sync pg1:a,b"},
		{"one is wanted instead of two", "pg1:a,b 0", "ANY 2 (a,b)", "a b", "a b", 1, false, false, "/sync pg1:a,b quorum 1; names ANY 1 (a,b)"},
		{"another one takes the place of one", "pg1:a,b 1", "ANY 1 (a,b)", "a b", "a c", 1, false, false, "/sync pg1:a,b,c quorum 2; names ANY 1 (a,c); /sync pg1:a,c quorum 1"},
		{"promoted, nobody connected: as before the promotion nobody else may lead", "pg1:", "ANY 1 (b,l)", "", "b", 1, false, false, "/sync pg1:; names ANY 1 (b); /sync pg1:b"},
		{"a crash after the names, before /sync", "pg1:a 0", "ANY 1 (a,b)", "a", "a b", 1, false, false, "/sync pg1:a,b quorum 1"},
		{"a crash after /sync, before the names", "pg1:a,b 1", "ANY 1 (a)", "a", "a b", 1, false, false, "/sync pg1:a,b quorum 1; names ANY 1 (a,b)"},

		{"nobody has written /sync", ":", "", "", "", 1, false, false, "/sync pg1:"},
		{"/sync is another leader's", "pg9:a,b 1", "ANY 1 (a,b)", "", "a b", 1, true, true, "/sync pg1:"},
		{"settled", "pg1:a,b 1", "ANY 1 (a,b)", "a b", "a b", 1, false, false, ""},
		{"an agent that has just started leaves all as it is", "pg1:a,b 1", "ANY 1 (a,b)", "", "a b", 1, true, false, ""},
		{"... and waits before it requires something else, as commits go on", "pg1:a,b 1", "ANY 1 (a,b)", "", "a", 1, true, false, "/sync pg1:a,b quorum 1; names ANY 1 (a); /sync pg1:a"},
		{"... unless they do not", "pg1:a,b 0", "ANY 2 (a,b)", "", "a", 1, true, false, "/sync pg1:; names ANY 1 (a); /sync pg1:a"},
		{"the names were changed by hand", "pg1:a,b 1", "ANY 1 (c)", "", "a b", 1, false, true, "/sync pg1:; names ANY 1 (a,b)"},
		{"anybody is enough, by hand", "pg1:a,b 1", "*", "", "a b", 1, false, true, "/sync pg1:; names ANY 1 (a,b)"},
		{"synchronous_mode on before", "pg1:a 0", "a", "a", "a b", 1, false, false, "/sync pg1:a,b quorum 1; names ANY 1 (a,b)"},
		{"strict: nobody is left", "pg1:a,b 1", "ANY 1 (a,b)", "a b", none, 1, false, false, "/sync pg1:a,b quorum 1; names " + Placeholder},
		{"strict: one is back", "pg1:a,b 1", Placeholder, "", "a strict", 1, false, false, "/sync pg1:a,b quorum 1; names ANY 1 (a); /sync pg1:a"},
		{"D-6 (a): a third joins, and three are wanted", "pg1:a,b 1", "ANY 1 (a,b)", "a b", "a b c", 3, false, false, "/sync pg1:a,b,c quorum 2; names ANY 3 (a,b,c); /sync pg1:a,b,c"},
		{"D-6 (b): an interrupted pass, one is left", "pg1:a,b 1", "ANY 2 (a,b,c)", "a", "a", 1, false, false, "/sync pg1:; names ANY 1 (a); /sync pg1:a"},
		{"D-6 (b): an interrupted pass, two are left", "pg1:a,b 1", "ANY 2 (a,b,c)", "a c", "a c", 2, false, false, "/sync pg1:a,c quorum 1; names ANY 2 (a,c); /sync pg1:a,c"},
		{"D-6 (c): more than there are voters", "pg1:a,b 7", "ANY 1 (a,b)", "a b", "a b", 1, false, false, "/sync pg1:a,b quorum 1"},
	}
	for _, c := range cases {
		required, _ := ParseNames(c.required)
		who, count, _ := strings.Cut(c.published, " ")
		leader, voters, _ := strings.Cut(who, ":")
		q := 0
		fmt.Sscan(count, &q)
		picked := strings.Fields(c.picked)
		strict := slices.Contains(picked, none) || slices.Contains(picked, "strict")
		picked = slices.DeleteFunc(picked, func(n string) bool { return n == none || n == "strict" })
		s := State{
			Settings: Settings{Mode: cluster.SyncQuorum, Strict: strict, Wanted: c.wanted}, Self: "pg1", Required: required,
			Published: cluster.Sync{Leader: leader, Standbys: strings.FieldsFunc(voters, func(r rune) bool { return r == ',' }), Quorum: q},
			Picked:    picked, Confirmed: strings.Fields(c.confirmed), Settled: !c.unsettled,
		}
		if _, have := settleAny(t, s, !c.noneCatchUp); have != c.want {
			t.Errorf("%s:\nhave %s\nwant %s", c.name, have, c.want)
		}
	}
}

// The two modes meet: on may keep in /sync only who has everything.
func TestFromAnyToAll(t *testing.T) {
	for _, c := range []struct{ published, required, picked, want string }{
		{"a b 1", "ANY 1 (a,b)", "a", "/sync pg1:; names a; again"},
		{"a b 1", "ANY 2 (a,b)", "a b", "/sync pg1:; names 2 (a,b); again"},
		{"a b 0", "ANY 2 (a,b)", "a b", "/sync pg1:a,b; names 2 (a,b); again"},
		{"a b 0", "ANY 2 (a,b)", "a", "/sync pg1:; names a; again"},
		{"a b 0", "ANY 2 (a,b)", "a b c", "/sync pg1:; names 3 (a,b,c); again"},
	} {
		fields := strings.Fields(c.published)
		q := 0
		fmt.Sscan(fields[len(fields)-1], &q)
		required, _ := ParseNames(c.required)
		s := State{Settings: Settings{Mode: cluster.SyncOn, Wanted: 3}, Self: "pg1", Required: required, Picked: strings.Fields(c.picked),
			Published: cluster.Sync{Leader: "pg1", Standbys: fields[:len(fields)-1], Quorum: q}}
		if have := s.Next().String(); have != c.want {
			t.Errorf("%s, %s, %s: have %s, want %s", c.published, c.required, c.picked, have, c.want)
		}
	}
}

// set is some of four standbys, a bit each.
type set uint8

func (s set) names() (list []string) {
	for i := range 4 {
		if s&(1<<i) != 0 {
			list = append(list, string(rune('a'+i)))
		}
	}
	return list
}

func asSet(names []string) (s set) {
	for _, n := range names {
		s |= 1 << (n[0] - 'a')
	}
	return s
}

func (s set) size() int { return bits.OnesCount8(uint8(s)) }

// truth is the state of a cluster with one leader, with what nobody can see. It is said in other words than the code: by which standbys each
// single commit may be known.
type truth struct {
	voters    set
	quorum    int
	required  set // ANY count (required); nobody: commits are local
	count     int
	mixed     set // what the processes may follow by now, all values together
	atLeast   int
	known     uint16 // of the sets of standbys, a bit each: the least that know some acknowledged commit
	settled   bool   // the leader has seen that all follow what is required ...
	confirmed set    // ... and who has caught up since
}

// acknowledge adds the commits that may be acknowledged now: known to as few as possible.
func (s truth) acknowledge() truth {
	if s.atLeast > s.mixed.size() {
		return s
	}
	for k := range set(16) {
		if k&^s.mixed == 0 && k.size() == s.atLeast {
			s.known |= 1 << k
		}
	}
	for k := range set(16) { // who knows more is no worse
		for less := range k {
			if less&^k == 0 && s.known&(1<<less) != 0 {
				s.known &^= 1 << k
			}
		}
	}
	return s
}

// missed is a commit that some member could be elected without: a voter and as many others as must agree, and nobody of them knows it.
func (s truth) missed() (commit, electors set, found bool) {
	for commit = range set(16) {
		for electors = range set(16) {
			if s.known&(1<<commit) != 0 && electors != 0 && electors&^s.voters == 0 && electors.size() == s.quorum+1 && electors&commit == 0 {
				return commit, electors, true
			}
		}
	}
	return 0, 0, false
}

func (s truth) state(picked set, wanted int) State {
	return State{
		Settings: Settings{Mode: cluster.SyncQuorum, Wanted: wanted}, Self: "pg1", Picked: picked.names(),
		Published: cluster.Sync{Leader: "pg1", Standbys: s.voters.names(), Quorum: s.quorum},
		Required:  AnyOf(s.count, s.required.names(), false), Confirmed: (s.confirmed & picked).names(), Settled: s.settled,
	}
}

// explore visits every state that can be reached with standbys that come, go and catch up as they like, and with counts that change; whatever is
// lost between two writes, and whatever the leader has forgotten.
func explore(t *testing.T, standbys int, counts ...int) map[truth]bool {
	t.Helper()
	all := set(1<<standbys - 1)
	seen := map[truth]bool{}
	var todo []truth
	visit := func(s truth) {
		s = s.acknowledge()
		if seen[s] {
			return
		}
		if commit, electors, found := s.missed(); found {
			t.Fatalf("V6: %v may elect one of them, and a commit is known to %v alone: %+v", electors.names(), commit.names(), s)
		}
		seen[s] = true
		todo = append(todo, s)
	}
	for required := range all + 1 { // a new leader is the only one that may lead, whatever is required of commits
		for count := range required.size() + 1 {
			if required == 0 || count > 0 {
				visit(truth{required: required, count: count, mixed: required, atLeast: count})
			}
		}
	}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for picked := range all + 1 {
			for _, wanted := range counts {
				step := s.state(picked, wanted).Next()
				after := s
				if step.Publish != nil {
					after.voters, after.quorum = asSet(step.Publish.Standbys), step.Publish.Quorum
					visit(after)
				}
				if step.Require == nil {
					continue
				}
				after.settled, after.confirmed = false, 0
				after.mixed, after.atLeast = after.mixed|asSet(step.Require.List), min(after.atLeast, step.Require.Count)
				visit(after) // the answer got lost, or somebody reads it later
				after.required, after.count = asSet(step.Require.List), step.Require.Count
				visit(after)
			}
		}
		read := s
		read.mixed, read.atLeast, read.settled = s.required, s.count, s.required != 0
		visit(read)
		forgets := s
		forgets.settled, forgets.confirmed = false, 0
		visit(forgets)
		for i := range standbys {
			one := set(1 << i)
			if s.required&one == 0 {
				continue
			}
			after := s
			after.known = 0
			for k := range set(16) {
				if s.known&(1<<k) != 0 {
					after.known |= 1 << (k | one)
				}
			}
			if s.settled {
				after.confirmed |= one
			}
			visit(after)
		}
	}
	return seen
}

func TestEveryOrderOfStepsAny(t *testing.T) {
	for _, c := range []struct {
		standbys int
		counts   []int
	}{{2, []int{1, 2}}, {3, []int{1, 2, 3}}, {4, []int{1, 2}}} {
		if c.standbys > 3 && testing.Short() {
			continue
		}
		seen := explore(t, c.standbys, c.counts...)
		t.Logf("%d standbys: %d states", c.standbys, len(seen))
	}
}

// From any state at all, also from those that nobody would write, there is a way to what is wanted (V18, ha.md G21).
func TestAnyIsTotal(t *testing.T) {
	for voters := range set(8) {
		for quorum := range 5 {
			for required := range set(8) {
				for count := range 4 {
					if (count == 0) != (required == 0) {
						continue
					}
					for picked := range set(8) {
						for wanted := 1; wanted <= 3; wanted++ {
							s := truth{voters: voters, quorum: quorum, required: required, count: count}.state(picked, wanted)
							s.Required = Names{Any: count > 0, Count: count, List: required.names()}
							end, _ := settleAny(t, s, true)
							want := AnyOf(wanted, picked.names(), false)
							if !end.Required.Equal(want) || asSet(end.Published.Standbys) != picked || end.Published.Quorum != picked.size()-want.Count {
								t.Fatalf("from %+v: have /sync %+v and names %s in the end, want all of %v", s, end.Published, end.Required, picked.names())
							}
						}
					}
				}
			}
		}
	}
}
