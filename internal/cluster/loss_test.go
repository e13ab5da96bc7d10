package cluster

import (
	"slices"
	"testing"
)

func TestLosses(t *testing.T) {
	of := func(tl Timeline, member string, bytes LSN, fate Fate) Loss {
		return Loss{Timeline: tl, Left: 100, End: 100 + bytes, Member: member, Fate: fate}
	}
	l := Losses{Entries: []Loss{of(1, "a", 10, Rewound), of(3, "b", 20, Kept)}, Revision: 7}
	for name, tt := range map[string]struct {
		add  Loss
		want []Loss
	}{
		"of a timeline between":           {of(2, "c", 5, Removed), []Loss{l.Entries[0], of(2, "c", 5, Removed), l.Entries[1]}},
		"of the newest":                   {of(4, "a", 5, Rewound), []Loss{l.Entries[0], l.Entries[1], of(4, "a", 5, Rewound)}},
		"the larger one counts":           {of(1, "c", 11, Rewound), []Loss{of(1, "c", 11, Rewound), l.Entries[1]}},
		"a smaller one does not":          {of(1, "c", 9, Rewound), l.Entries},
		"the same member corrects itself": {of(3, "b", 20, Removed), []Loss{l.Entries[0], of(3, "b", 20, Removed)}},
		"the same again":                  {of(3, "b", 20, Kept), l.Entries},
	} {
		if have := l.With(tt.add); !slices.Equal(have, tt.want) {
			t.Errorf("%s: have %v, want %v", name, have, tt.want)
		}
	}
	many := Losses{}
	for tl := Timeline(1); tl <= lossesKept+5; tl++ {
		many.Entries = many.With(of(tl, "a", 1, Rewound))
	}
	if n := len(many.Entries); n != lossesKept || many.Entries[0].Timeline != 6 {
		t.Errorf("have %d from timeline %d on, want %d from 6 on", n, many.Entries[0].Timeline, lossesKept)
	}
	if have := many.With(of(1, "a", 1, Rewound)); !slices.Equal(have, many.Entries) {
		t.Error("one that is older than all is not left out: it would be written again and again")
	}
	again, err := DecodeLosses(l.Encode(), 7)
	if err != nil || !slices.Equal(again.Entries, l.Entries) || again.Revision != 7 {
		t.Errorf("have %v, %v, want %v", again, err, l)
	}
	if _, err := DecodeLosses([]byte("{"), 1); err == nil {
		t.Error("have no error of half a document")
	}
	s := Snapshot{Losses: l, History: History{Entries: []HistoryEntry{{Timeline: 1}, {Timeline: 2}, {Timeline: 3}}}}
	if loss, ok := s.LastLoss(); !ok || loss != l.Entries[1] {
		t.Errorf("the last failover: have %v, %v, want %v", loss, ok, l.Entries[1])
	}
	s.History.Entries = s.History.Entries[:2]
	if loss, ok := s.LastLoss(); ok {
		t.Errorf("the last failover is one of which nothing is known: have %v", loss)
	}
}
