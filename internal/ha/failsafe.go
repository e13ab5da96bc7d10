package ha

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Circle is who has to agree that a primary leads on without the store (ha.md 2.18). It holds all that may be listed in /failsafe, except us:
// nobody else takes the lock. Empty: we are alone.
type Circle struct {
	Members []cluster.Member       // name and API URL, by name
	Slots   map[string]cluster.LSN // what they are told of our slots
}

// Lists says whether that member is in the circle.
func (c *Circle) Lists(name string) bool {
	return slices.ContainsFunc(c.Members, func(m cluster.Member) bool { return m.Name == name })
}

// Failsafe is what the lock holder knows of key /failsafe. A member that is listed there and was not asked could lead beside us, so
// what we have written counts from when it left, and what a leader before us may still write must have become impossible.
type Failsafe struct {
	Known map[string]string   // the key as it was read last: API URLs by name
	Tried []map[string]string // what we meant to write and nobody knows whether it came to be: at most one of them will
	Base  cluster.Revision    // ... the revision that it was based on: at another one it is decided
	Mine  bool                // Known is by us, since we hold the lock: late writes of others find another revision
}

// rememberFailsafe keeps who is listed, as long as we hold the lock.
func (v *View) rememberFailsafe() {
	f := &v.Memory.Failsafe
	switch {
	case !v.Limits.Failsafe || !v.Lock.Held, v.leader() != "" && v.leader() != v.Self:
		*f = Failsafe{}
	case v.leader() == v.Self:
		if f.Tried != nil && v.Store.FailsafeRevision != f.Base {
			f.Mine = slices.ContainsFunc(f.Tried, func(urls map[string]string) bool { return maps.Equal(urls, v.Store.Failsafe) })
			f.Tried = nil
		}
		f.Known = v.Store.Failsafe
	}
}

// failsafeKey is the leader's next write of the key, if one is due (dcs.md 1.11): the first one even if nothing changes, since it ends what may be
// on its way from others. Never while our own leading rests on a promise: who is added has given none.
func (v *View) failsafeKey(d *Decision) (WriteFailsafe, bool) {
	if !v.Limits.Failsafe || v.Lock.Agreed {
		return WriteFailsafe{}, false
	}
	urls := map[string]string{}
	for _, m := range v.Store.Members {
		if m.APIURL != "" {
			urls[m.Name] = m.APIURL
		}
	}
	f := &d.Memory.Failsafe
	if urls[v.Self] == "" || f.Mine && f.Tried == nil && maps.Equal(urls, v.Store.Failsafe) {
		return WriteFailsafe{}, false
	}
	if !slices.ContainsFunc(f.Tried, func(t map[string]string) bool { return maps.Equal(t, urls) }) {
		f.Tried = append(slices.Clone(f.Tried), urls)
	}
	f.Base = v.Store.FailsafeRevision
	return WriteFailsafe{URLs: urls, Revision: f.Base}, true
}

// circle is who has to agree from now on; nil: this is no primary that could lead on.
func (v *View) circle(d *Decision) *Circle {
	f := &d.Memory.Failsafe
	stopping := v.Job != nil && (v.Job.Name == JobDemote || v.Job.Name == JobSwitchover)
	if !f.Mine || !d.Permit || v.Limits.Paused || stopping || !v.primary() {
		return nil
	}
	urls := map[string]string{}
	for _, list := range append(slices.Clone(f.Tried), f.Known) {
		for name, url := range list {
			if name != v.Self {
				urls[name] = url
			}
		}
	}
	c := &Circle{Slots: v.ownSlots()}
	for _, name := range slices.Sorted(maps.Keys(urls)) {
		c.Members = append(c.Members, cluster.Member{Name: name, APIURL: urls[name]})
	}
	return c
}

// promisedFor is how long members may be bound by what we asked them, so that nobody could take the lock from us.
func (v *View) promisedFor() time.Duration {
	if v.Lock.Asked.IsZero() {
		return 0
	}
	return v.Lock.Asked.Add(v.Limits.TTL).Sub(v.Now)
}

// unlisted says whether the leader of before does not know of us: it would not ask us whether it may lead on without the store. That
// holds for whomever people name, too (ha.md E11, A-6).
func (v *View) unlisted() bool { return !v.inFailsafe(v.Self) }

// inFailsafe says whether that member may lead by /failsafe.
func (v *View) inFailsafe(name string) bool {
	_, listed := v.Store.Failsafe[name]
	return !v.Limits.Failsafe || len(v.Store.Failsafe) == 0 || listed
}

func (v *View) listed() string {
	return "/failsafe lists only " + strings.Join(slices.Sorted(maps.Keys(v.Store.Failsafe)), ", ")
}

// bound is how long a leader that has lost the store may count on us (ha.md A-6, G19). An agent that has just started does not know what was
// promised before, unless nobody counts on it; who had a primary has promised nothing.
func (v *View) bound() time.Duration {
	until := v.Lock.Bound
	standby := v.Postgres.StandbySignal || v.Postgres.Dir != cluster.DirPresent || v.Postgres.Queried && v.Postgres.InRecovery
	if standby && v.Fresh.After(until) && !v.waived() {
		until = v.Fresh
	}
	if until.IsZero() {
		return 0
	}
	return until.Sub(v.Now)
}

// rememberWaived keeps who has said, since this agent began, that it counts on no promise from before.
func (v *View) rememberWaived() {
	m := &v.Memory
	if !v.Fresh.After(v.Now) {
		m.Waived = nil
		return
	}
	if v.Poll == nil {
		return
	}
	for _, name := range v.answered() {
		if v.Poll.Answers[name].Waives && !slices.Contains(m.Waived, name) {
			m.Waived = append(slices.Clone(m.Waived), name)
		}
	}
}

// waived says whether nobody who may lead without the store counts on what the agent before us may have promised. Whoever does is listed.
func (v *View) waived() bool {
	if v.Store == nil || len(v.Store.Failsafe) == 0 {
		return false
	}
	for name := range v.Store.Failsafe {
		if name != v.Self && !slices.Contains(v.Memory.Waived, name) {
			return false
		}
	}
	return true
}

// unsure says whether we are bound only because we do not know what was promised before.
func (v *View) unsure() bool { return v.bound() > 0 && !v.Lock.Bound.After(v.Now) }

// askWaivers lets a fresh agent that follows a leader find out whether it is bound, before anybody wants it to lead.
func (v *View) askWaivers(d *Decision) {
	if d.Reason == Following && v.unsure() && (v.Poll == nil || v.since(v.Poll.At) >= pollAge) {
		d.Actions = append([]Action{AskPeers{v.peers()}}, d.Actions...)
	}
}

func (v *View) failsafeGate() Gate {
	if !v.Limits.Failsafe || len(v.Store.Failsafe) == 0 {
		return gate(NotInFailsafe, true, "no failsafe mode", "any member")
	}
	return gate(NotInFailsafe, !v.unlisted(), v.listed(), "us in it")
}

func (v *View) promiseGate() Gate {
	left := v.bound()
	if left <= 0 {
		return gate(Promised, true, "nothing is promised", "no leader that may count on us")
	}
	g := gate(Promised, false, fmt.Sprintf("a leader without the store may count on us for another %s", left.Round(time.Second)), "none")
	g.Unknown = v.unsure() && (v.Poll == nil || v.since(v.Poll.At) >= pollAge)
	return g
}

// unbound is the last look at a decision: none takes the lock against a promise, or as a member that the leader of before need not ask.
func (v *View) unbound(d Decision) Decision {
	if !slices.ContainsFunc(d.Actions, func(a Action) bool { _, ok := a.(AcquireLeader); return ok }) {
		return d
	}
	for _, g := range []Gate{v.promiseGate(), v.failsafeGate()} {
		_, released := d.Actions[len(d.Actions)-1].(ReleaseLeader)
		switch {
		case g.Passed:
		case g.Reason == NotInFailsafe && released:
		case v.writes() && !v.Limits.Paused:
			return v.fenced(g.Reason, "a running primary without the lock; "+g.Value, Demote{Mode: NoLock})
		case g.Reason == NotInFailsafe && v.leader() == v.Self && !v.Limits.Paused:
			// By a request that came late. While the key bears our name nobody else can lead.
			return v.again(g.Reason, "the lock bears our name, and "+g.Value+": take it to release it", AcquireLeader{}, ReleaseLeader{})
		case g.Unknown:
			w := v.again(g.Reason, "does anybody count on us? It would "+string(d.Reason), AskPeers{v.peers()})
			w.Gates = d.Gates
			return w
		default:
			w := v.soon(time.Second, g.Reason, g.Value+"; it would "+string(d.Reason))
			w.Gates = d.Gates
			return w
		}
	}
	return d
}
