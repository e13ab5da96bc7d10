package quorum

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
)

func TestNames(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"pg1":                     "pg1",
		`"pg-1"`:                  `"pg-1"`,
		"*":                       "*",
		"pg1,pg2":                 "1 (pg1,pg2)",
		"2 (pg1, pg2)":            "2 (pg1,pg2)",
		"FIRST 2 (pg1,pg2)":       "2 (pg1,pg2)",
		`any 1 ("a""b", "first")`: `ANY 1 ("a""b","first")`,
		"ANY 1 (pg1)":             "ANY 1 (pg1)",
	} {
		n, ok := ParseNames(text)
		if !ok || n.String() != want {
			t.Errorf("%s: have %q (%v), want %q", text, n, ok, want)
		}
		if again, ok := ParseNames(n.String()); !ok || !again.Equal(n) {
			t.Errorf("%s: have %q when read again, want %q", text, again, n)
		}
	}
	for _, text := range []string{"2 (pg1", "pg1,", ",", "x (pg1)", "ANY (pg1)", `"pg1`, "pg1 pg2", "2 ()", "0 (pg1)", "first"} {
		if n, ok := ParseNames(text); ok {
			t.Errorf("%s: have %q, want a refusal", text, n)
		}
	}
}

func TestPick(t *testing.T) {
	standby := func(name, state string, at cluster.LSN) Standby {
		return Standby{Name: name, State: state, At: at, Priority: 1}
	}
	preferred := standby("b", "async", 100)
	preferred.Priority = 2
	barred := standby("a", "sync", 200)
	barred.NoFailover = true
	cases := []struct {
		name     string
		settings Settings
		standbys []Standby
		want     string
	}{
		{"nobody", Settings{Wanted: 1}, nil, ""},
		{"the synchronous one stays", Settings{Wanted: 1}, []Standby{standby("a", "async", 300), standby("b", "sync", 100)}, "b"},
		{"who has more", Settings{Wanted: 1}, []Standby{standby("a", "async", 100), standby("b", "async", 300)}, "b"},
		{"sync_priority before that", Settings{Wanted: 1}, []Standby{standby("a", "sync", 300), preferred}, "b"},
		{"nofailover last", Settings{Wanted: 1}, []Standby{barred, standby("b", "async", 100)}, "b"},
		{"nofailover, if need be", Settings{Wanted: 2}, []Standby{barred, standby("b", "async", 100)}, "b a"},
		{"two of three", Settings{Wanted: 2}, []Standby{standby("a", "async", 100), standby("b", "sync", 100), standby("c", "potential", 100)}, "b c"},
		{"one lags behind the other", Settings{Wanted: 2, MaxLag: 50}, []Standby{standby("a", "sync", 100), standby("b", "async", 300)}, "b"},
		{"the only one lags", Settings{Wanted: 1, MaxLag: 50}, []Standby{standby("a", "sync", 900)}, ""},
		{"the only one is near enough", Settings{Wanted: 1, MaxLag: 50}, []Standby{standby("a", "sync", 950)}, "a"},
	}
	for _, c := range cases {
		if have := strings.Join(c.settings.Pick(c.standbys, 1000), " "); have != c.want {
			t.Errorf("%s: have %q, want %q", c.name, have, c.want)
		}
	}
}

func TestNext(t *testing.T) {
	cases := []struct {
		name                       string
		leader, published, require string
		picked, confirmed          string
		strict                     bool
		want                       string
	}{
		{"Y1: nobody has written /sync", "", "", "", "", "", false, "/sync pg1:"},
		{"Y1, strict: and commits must wait", "", "", "", "", "", true, "/sync pg1:; names " + Placeholder + "; again"},
		{"Y2: another leader's", "pg9", "a", "a", "a", "a", false, "/sync pg1:a"},
		{"Y2: another leader's standby is not confirmed", "pg9", "a", "a", "a", "", false, "/sync pg1:; again"},
		{"the first standby: commits wait first", "pg1", "", "", "a", "", false, "/sync pg1:; names a; again"},
		{"it has not caught up", "pg1", "", "a", "a", "", false, "again"},
		{"Y9: it has: then it may lead", "pg1", "", "a", "a", "a", false, "/sync pg1:a"},
		{"Y4: done", "pg1", "a", "a", "a", "a", false, ""},
		{"a standby that is listed and published need not be confirmed anew", "pg1", "a", "a", "a", "", false, ""},
		{"Y5: a standby is gone: /sync first", "pg1", "a", "a", "", "", false, "/sync pg1:; names ; again"},
		{"Y6: strict: commits wait for ever", "pg1", "a", "a", "", "", true, "/sync pg1:; names " + Placeholder + "; again"},
		{"strict, settled without a standby", "pg1", "", Placeholder, "", "", true, ""},
		{"another takes its place", "pg1", "a", "a", "b", "", false, "/sync pg1:; names b; again"},
		{"a second one joins", "pg1", "a", "a", "a b", "a", false, "/sync pg1:a; names 2 (a,b); again"},
		{"one of two leaves", "pg1", "a b", "2 (a,b)", "b", "a b", false, "/sync pg1:b; names b; again"},
		{"one of two is confirmed", "pg1", "", "2 (a,b)", "a b", "b", false, "/sync pg1:b; again"},
		{"L53: the names were changed by hand: who is not waited for leaves /sync first", "pg1", "a", "b", "a", "", false, "/sync pg1:; names a; again"},
		{"L53: one of two is enough there", "pg1", "a b", "1 (a,b)", "a b", "a b", false, "/sync pg1:; names 2 (a,b); again"},
		{"L53: anybody is enough there", "pg1", "a", "*", "a", "a", false, "/sync pg1:; names a; again"},
		{"quorum mode before", "pg1", "a b", "ANY 1 (a,b)", "a", "a", false, "/sync pg1:; names a; again"},
		{"names without case", "pg1", "A", "a", "A", "", false, ""},
		{"a crash after the names, before /sync", "pg1", "a", "2 (a,b)", "a b", "b", false, "/sync pg1:a,b"},
		{"a crash after /sync, before the names", "pg1", "b", "2 (a,b)", "b", "", false, "/sync pg1:b; names b; again"},
	}
	for _, c := range cases {
		required, _ := ParseNames(c.require)
		s := State{
			Settings: Settings{Mode: cluster.SyncOn, Strict: c.strict, Wanted: 2}, Self: "pg1", Required: required,
			Published: cluster.Sync{Leader: c.leader, Standbys: strings.Fields(c.published)},
			Picked:    strings.Fields(c.picked), Confirmed: strings.Fields(c.confirmed),
		}
		if have := s.Next().String(); have != c.want {
			t.Errorf("%s: have %q, want %q", c.name, have, c.want)
		}
	}
}

// Of every state that can be reached with three standbys that come, go and confirm as they like, whatever is lost between two writes: who is in
// /sync is waited for by all commits (V5), and from everywhere there is a way to what is wanted (V18).
func TestEveryOrderOfSteps(t *testing.T) {
	sets := subsets("a", "b", "c")
	type key struct{ published, required, acknowledged string }
	show := func(list []string) string { return strings.Join(list, " ") }
	seen := map[key]State{}
	var todo []State
	visit := func(s State) {
		slices.Sort(s.Confirmed)
		k := key{s.Published.Leader + ":" + show(s.Published.Standbys), s.Required.String(), show(s.Confirmed)}
		if _, known := seen[k]; known {
			return
		}
		seen[k] = s
		todo = append(todo, s)
		for _, name := range s.Published.Standbys {
			if s.Published.Leader == s.Self && !has(s.Required.all(), name) {
				t.Fatalf("V5: %v names %s, and commits wait for %q", s.Published, name, s.Required)
			}
			if s.Published.Leader == s.Self && !has(s.Confirmed, name) {
				t.Fatalf("V7: %v names %s, which does not have all that was acknowledged", s.Published, name)
			}
		}
	}
	for _, strict := range []bool{false, true} {
		visit(State{Settings: Settings{Mode: cluster.SyncOn, Strict: strict, Wanted: 2}, Self: "pg1"})
		for len(todo) > 0 {
			s := todo[0]
			todo = todo[1:]
			for _, picked := range sets {
				if len(picked) > s.Wanted {
					continue
				}
				// Confirmed in the state is the truth: who has all that was acknowledged, and for whom commits wait. The primary sees any part of it.
				for _, told := range sets {
					view := s
					view.Picked, view.Confirmed = picked, both(told, s.Confirmed)
					step := view.Next()
					after := s
					if step.Publish != nil {
						after.Published = *step.Publish
						visit(after)
					}
					if step.Require != nil {
						after.Required = *step.Require
						after.Confirmed = both(s.Confirmed, both(s.Required.all(), step.Require.all())) // others may lack what is acknowledged now
						visit(after)
					}
				}
			}
			for _, name := range s.Required.all() { // it catches up
				after := s
				after.Confirmed = union(s.Confirmed, []string{name})
				visit(after)
			}
		}
	}
	for _, s := range seen {
		for _, picked := range sets {
			if len(picked) <= s.Wanted {
				s.Picked = picked
				settles(t, s)
			}
		}
	}
	t.Logf("%d states", len(seen))
}

// settles checks that the steps end, in what is wanted, when nothing else happens.
func settles(t *testing.T, s State) {
	for range 6 {
		step := s.Next()
		if step.Publish != nil {
			s.Published = *step.Publish
		}
		if step.Require != nil {
			s.Required = *step.Require
		}
		s.Confirmed = both(s.Picked, s.Required.all())
		if step == (Step{}) {
			if show := fmt.Sprint(s.Published.Standbys); show != fmt.Sprint(slices.Sorted(slices.Values(s.Picked))) && len(s.Picked) > 0 {
				t.Fatalf("have %s in /sync at the end, want %v", show, s.Picked)
			}
			return
		}
	}
	t.Fatalf("the steps do not end: %+v", s)
}

func subsets(names ...string) [][]string {
	all := map[string][]string{"": nil}
	for _, name := range names {
		for _, set := range slices.Collect(maps.Values(all)) {
			bigger := append(slices.Clone(set), name)
			all[strings.Join(bigger, " ")] = bigger
		}
	}
	var out [][]string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[k])
	}
	return out
}
