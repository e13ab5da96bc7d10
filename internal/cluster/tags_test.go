package cluster

import "testing"

func tags(t testing.TB, text string) Tags {
	t.Helper()
	v, err := DecodeTags([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEffectiveTags(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: `{}`,
		`{"clonefrom":false,"nofailover":false,"noloadbalance":false,"nosync":false,"nostream":false}`: `{}`,
		`{"z":false,"nofailover":false,"failover_priority":5,"a":0}`:                                   `{"z":false,"nofailover":false,"failover_priority":5,"a":0}`,
		`{"nosync":false,"sync_priority":2,"nofailover":false}`:                                        `{"nosync":false,"sync_priority":2}`,
		`{"nofailover":"false"}`: `{"nofailover":"false"}`,
	} {
		if have := string(tags(t, text).Effective().Encode()); have != want {
			t.Errorf("%s: have %s, want %s", text, have, want)
		}
	}
}

func TestTagMeaning(t *testing.T) {
	for text, want := range map[string]struct {
		noFailover bool
		priority   int
		noSync     bool
		syncRank   int
	}{
		`{}`:                     {false, 1, false, 1},
		`{"nofailover":true}`:    {true, 0, false, 1},
		`{"nofailover":"false"}`: {true, 0, false, 1}, // text is true, whatever it says
		`{"nofailover":null,"failover_priority":-1}`: {true, -1, false, 1},
		`{"failover_priority":"0x2"}`:                {false, 2, false, 1},
		`{"failover_priority":true}`:                 {false, 1, false, 1},
		`{"nosync":false,"sync_priority":0}`:         {false, 1, false, 0},
		`{"nosync":1,"sync_priority":4}`:             {false, 1, true, 0},
	} {
		g := tags(t, text)
		have := want
		have.noFailover, have.priority, have.noSync, have.syncRank = g.NoFailover(), g.FailoverPriority(), g.NoSync(), g.SyncPriority()
		if have != want {
			t.Errorf("%s: have %+v, want %+v", text, have, want)
		}
	}
}

func TestTagMatch(t *testing.T) {
	g := tags(t, `{"nofailover":false,"clonefrom":true,"zone":"Paris","n":1.5,"up":"true","off":false}`)
	for _, c := range []struct {
		name, want string
		match      bool
	}{
		{"nofailover", "false", false}, // not published
		{"clonefrom", "true", true},
		{"clonefrom", "True", false},
		{"zone", "Paris", true},
		{"zone", "paris", false},
		{"n", "1.5", true},
		{"up", "true", true},
		{"off", "false", true},
		{"absent", "None", false},
	} {
		if have := g.Match(c.name, c.want); have != c.match {
			t.Errorf("tag_%s=%s: have %v, want %v", c.name, c.want, have, c.match)
		}
	}
}

func TestTagsWith(t *testing.T) {
	g := tags(t, `{"nosync":false,"a":1}`)
	if have := string(g.With("nosync", Flag(true)).With("sync_priority", Int(0)).Encode()); have != `{"nosync":true,"a":1,"sync_priority":0}` {
		t.Errorf("have %s", have)
	}
	if have := string(g.Encode()); have != `{"nosync":false,"a":1}` {
		t.Errorf("the original became %s", have)
	}
}
