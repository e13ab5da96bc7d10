package scenario

import (
	"strings"
	"testing"
	"time"
)

// TestLateLabels: a second is allowed, and what the machine was slow by at that time.
func TestLateLabels(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	for name, test := range map[string]struct {
		spell [2]int
		trip  [2]int
		late  bool
	}{
		"in time":                   {[2]int{0, 1000}, [2]int{}, false},
		"too late":                  {[2]int{0, 1001}, [2]int{}, true},
		"the machine was slow":      {[2]int{0, 2000}, [2]int{-400, 100}, false},
		"slower than the machine":   {[2]int{0, 2001}, [2]int{-400, 100}, true},
		"slow at another time only": {[2]int{0, 2000}, [2]int{3000, 4000}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := roles{spells: []spell{{at(test.spell[0]), at(test.spell[1]), name}}, trips: []spell{{at(test.trip[0]), at(test.trip[1]), ""}}}
			if _, late := r.judge(); (len(late) > 0) != test.late {
				t.Errorf("have late %v, want %v", late, test.late)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	leader := Member{Name: "a", Role: "leader", State: "running", Host: "1", Timeline: 2}
	replica := Member{Name: "b", Role: "replica", State: "streaming", Host: "2", Timeline: 2}
	with := func(m Member, change func(*Member)) Member { change(&m); return m }
	for name, test := range map[string]struct {
		members []Member
		labelB  string
		want    string // "" or a word of the complaint
	}{
		"whole":            {[]Member{leader, replica}, "replica", ""},
		"one is missing":   {[]Member{leader}, "replica", "1 members"},
		"no leader":        {[]Member{with(leader, func(m *Member) { m.State = "starting" }), replica}, "replica", "no running leader"},
		"not streaming":    {[]Member{leader, with(replica, func(m *Member) { m.State = "running" })}, "replica", "b is running"},
		"another timeline": {[]Member{leader, with(replica, func(m *Member) { m.Timeline = 1 })}, "replica", "timeline 1"},
		"an old address":   {[]Member{leader, with(replica, func(m *Member) { m.Host = "9" })}, "replica", "announces 9"},
		"an old label":     {[]Member{leader, replica}, "primary", "labelled"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := judge(test.members, map[string]string{"a": "1", "b": "2"}, map[string]string{"a": "primary", "b": test.labelB})
			if test.want == "" && (err != nil || s != State{"a", 2}) {
				t.Errorf("have %v, %v", s, err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("have %v, want a word about %s", err, test.want)
			}
		})
	}
}
