package cluster

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// Loss is what a failover has cost: the WAL that a member had written or received on a timeline beyond the point where the next one begins,
// as that member found out when it came back.
type Loss struct {
	Timeline Timeline `json:"timeline"` // that was left
	Left     LSN      `json:"left"`     // where the next one begins
	End      LSN      `json:"end"`      // where the member's WAL ended
	Member   string   `json:"member"`
	Fate     Fate     `json:"fate"`
}

// Fate is what became of it.
type Fate string

const (
	Rewound Fate = "rewound" // pg_rewind has overwritten it
	Removed Fate = "removed" // with the data directory, as the configuration or an operator said
	Kept    Fate = "kept"    // it is still in the member's data directory, which waits for an operator
)

// Bytes is how much it is.
func (l Loss) Bytes() LSN { return l.End - min(l.Left, l.End) }

func (l Loss) String() string {
	fate := map[Fate]string{Rewound: "pg_rewind has overwritten it", Removed: "it was removed with the data directory", Kept: "it is still in the data directory"}[l.Fate]
	return fmt.Sprintf("%s had %d bytes of WAL, %s to %s, that the timeline after %d was begun without; %s", l.Member, l.Bytes(), l.Left, l.End, l.Timeline, fate)
}

// Losses is the key KeyLosses, by timeline: of each the largest that is known.
type Losses struct {
	Entries  []Loss
	Revision Revision
}

// lossesKept is how many are remembered.
const lossesKept = 20

// With has another one noted. The same member may correct what it said; else the larger one counts.
func (l Losses) With(x Loss) []Loss {
	entries := slices.Clone(l.Entries)
	i, found := slices.BinarySearchFunc(entries, x.Timeline, func(e Loss, tl Timeline) int { return cmp.Compare(e.Timeline, tl) })
	switch {
	case !found:
		entries = slices.Insert(entries, i, x)
	case entries[i].Member == x.Member || entries[i].Bytes() < x.Bytes():
		entries[i] = x
	}
	return entries[max(0, len(entries)-lossesKept):]
}

// Of is the loss of the failover that ended a timeline; ok is false when none is known.
func (l Losses) Of(ended Timeline) (loss Loss, ok bool) {
	i := slices.IndexFunc(l.Entries, func(e Loss) bool { return e.Timeline == ended })
	if i < 0 {
		return Loss{}, false
	}
	return l.Entries[i], true
}

// Encode writes the key.
func (l Losses) Encode() []byte {
	text, err := json.Marshal(l.Entries)
	if err != nil {
		panic(err) // numbers and words
	}
	return text
}

// DecodeLosses reads the key.
func DecodeLosses(text []byte, rev Revision) (Losses, error) {
	l := Losses{Revision: rev}
	if err := json.Unmarshal(text, &l.Entries); err != nil {
		return Losses{Revision: rev}, fmt.Errorf("have %q, want a list of losses: %w", text, err)
	}
	slices.SortStableFunc(l.Entries, func(a, b Loss) int { return cmp.Compare(a.Timeline, b.Timeline) })
	return l, nil
}

// LastLoss is what the last failover has cost, if that is known.
func (s *Snapshot) LastLoss() (loss Loss, ok bool) {
	if n := len(s.History.Entries); n > 0 {
		return s.Losses.Of(s.History.Entries[n-1].Timeline)
	}
	return Loss{}, false
}
