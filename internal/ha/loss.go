package ha

import (
	"fmt"
	"slices"

	"github.com/regent-ha/regent/internal/cluster"
)

// rememberLoss notes what a comparison says about the failover that this member was left behind by. A later one, when the directory fits again,
// must not make it forgotten before it is written down.
func (v *View) rememberLoss() {
	d := v.Divergence
	if d == nil || d.Verdict != Diverged || d.Left == 0 || d.End <= d.Left {
		return
	}
	if l := &v.Memory.Loss; l.Timeline != d.Ended || l.Left != d.Left || l.End < d.End {
		*l = cluster.Loss{Timeline: d.Ended, Left: d.Left, End: d.End, Member: v.Self, Fate: cluster.Kept}
	}
}

// lossDue is the list of losses with ours in it, if it is to be written. A store that does not take it is asked again: nothing waits for that.
func (v *View) lossDue() (WriteLosses, bool) {
	if v.Memory.Loss == (cluster.Loss{}) {
		return WriteLosses{}, false
	}
	l := v.Store.Losses
	entries := l.With(v.Memory.Loss)
	if slices.Equal(entries, l.Entries) {
		return WriteLosses{}, false
	}
	return WriteLosses{cluster.Losses{Entries: entries, Revision: l.Revision}}, true
}

// beyond says it in half a sentence, nothing when nothing is known.
func (v *View) beyond() string {
	d := v.Divergence
	if d.Left == 0 || d.End <= d.Left {
		return ""
	}
	return fmt.Sprintf("; %d bytes of WAL are not part of its history", d.End-d.Left)
}

// fate notes what is about to become of what this member has beyond its leader's history.
func (v *View) fate(f cluster.Fate) {
	if v.Memory.Loss != (cluster.Loss{}) {
		v.Memory.Loss.Fate = f
	}
}
