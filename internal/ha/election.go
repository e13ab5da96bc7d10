package ha

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// pollAge is how old the others' answers may be when the lock is taken on them, counted from when the questions left. It
// must exceed the 2 s that a dead host makes a poll take (ha.md 1.1, I10): else no poll would ever count beside one.
const pollAge = 3 * time.Second

// pollFresh is how old answers may be that speak against taking the lock.
const pollFresh = 800 * time.Millisecond

// Gate is one condition of the election, with its value, its limit and the verdict.
type Gate struct {
	Reason       Reason // what this member waits for when the gate is shut
	Value, Limit string
	Passed       bool
	Unknown      bool // not asked yet
}

// withoutLeader runs for a free lock, but never past a member with more WAL: a faster winner with less
// WAL would lose committed transactions (ha.md 2.9, 2.11a).
func (v *View) withoutLeader() Decision {
	if v.primary() && !v.Limits.Paused {
		return v.primaryWithoutLock()
	}
	if v.Store.Failover.Requested() && v.due() && !v.Now.Before(v.Memory.NoRaceUntil) {
		if d, ok := v.namedCandidate(); ok {
			return d
		}
	}
	if v.primary() {
		return v.primaryWithoutLock()
	}
	if v.Limits.Paused {
		return v.decide(PausedNoRace, "paused: a replica takes the lock only as a named candidate")
	}
	return v.meanwhile(v.race(v.Election()))
}

// race turns the first shut gate into a decision.
func (v *View) race(gates []Gate) Decision {
	for _, g := range gates {
		if g.Passed {
			continue
		}
		d := v.soon(time.Second, g.Reason, g.Value+", need "+g.Limit)
		switch {
		case g.Unknown:
			d = v.again(LockFree, "nobody holds the lock: ask the others", AskPeers{v.peers()})
		case len(v.answersAgainst(gates)) > 0 && v.since(v.Poll.At) >= pollFresh:
			d = v.again(g.Reason, d.Detail+"; ask again", AskPeers{v.peers()})
		}
		if !g.Unknown {
			d.RuledOut = []string{"take the lock: " + string(g.Reason) + ": " + g.Value + ", need " + g.Limit}
		}
		d.Gates = gates
		return d
	}
	d := v.again(Healthiest, v.standing(), v.takeover()...)
	d.Gates = gates
	return d
}

// takeover is what the winner does: the lock, the request that led to it, and the promotion.
func (v *View) takeover() []Action {
	actions := append([]Action{AcquireLeader{}}, v.claimSync()...)
	if v.Store.Failover.Requested() && v.due() {
		f := cluster.Failover{Revision: v.Store.Failover.Revision}
		if v.Limits.Paused && v.Store.Failover.From != "" && v.Store.Failover.Candidate != "" {
			f.Candidate = v.Store.Failover.Candidate
		}
		actions = append(actions, WriteFailover{f})
	}
	if v.primary() || v.standby() {
		return actions
	}
	return append(actions, v.promote())
}

// promote notes that a checkpoint is due on the timeline that begins: pg_rewind on the others needs it.
func (v *View) promote() Promote {
	v.Memory.Promoted = max(v.Postgres.Timeline, 1)
	above := v.Store.History.ClusterTimeline()
	for _, list := range [][]cluster.Member{v.Store.Members, v.Memory.Former} {
		for _, m := range list {
			above = max(above, m.Timeline)
		}
	}
	if above <= v.Postgres.Timeline {
		return Promote{}
	}
	return Promote{Above: above}
}

func (v *View) standing() string {
	var others []string
	for _, name := range v.answered() {
		a := v.Poll.Answers[name]
		if !a.Reachable {
			others = append(others, name+" does not answer")
		} else {
			others = append(others, name+" "+a.Position.String())
		}
	}
	return "nobody is ahead of " + v.Postgres.Position().String() + join(": ", others)
}

func join(prefix string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return prefix + strings.Join(list, ", ")
}

// Election lists the gates in the order in which they are tried, up to the first that needs an
// answer which is not there. It is also what `regent why` shows.
func (v *View) Election() []Gate {
	p := &v.Postgres
	if v.Store == nil {
		return []Gate{gate(StoreAway, false, "the store does not answer", "it answers")}
	}
	gates := []Gate{
		gate(NotReadyToRace, p.Queried, "PostgreSQL "+readiness(p), "it answers queries"),
		gate(RaceBackoff, !v.Now.Before(v.Memory.NoRaceUntil), fmt.Sprintf("%s of back-off after a failed promotion or start", max(v.Memory.NoRaceUntil.Sub(v.Now), 0).Round(time.Second)), "none"),
		gate(NoFailoverTag, !v.Tags.NoFailover, fmt.Sprintf("nofailover is %v", v.Tags.NoFailover), "false"),
		gate(WatchdogFailed, v.Unfenced == "", orText(v.Unfenced, "nothing that is required is missing"), "guard or watchdog where required"),
		v.syncGate(),
		v.lagGate(),
		v.timelineGate(),
		v.awaitGate(),
	}
	if v.Limits.Failsafe || v.bound() > 0 {
		gates = append(gates, v.failsafeGate(), v.promiseGate())
	}
	if !v.polled() {
		return append(gates, Gate{Reason: LockFree, Value: "the others are not asked yet", Limit: "answers of this moment", Unknown: true})
	}
	return append(gates, v.peerGates()...)
}

func gate(r Reason, passed bool, value, limit string) Gate {
	return Gate{Reason: r, Value: value, Limit: limit, Passed: passed}
}

func readiness(p *cluster.Postgres) string {
	if p.Queried {
		return "answers"
	}
	return orText(string(p.Ready), "is not running")
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// syncGate: while /sync names a leader, only its members may lead (ha.md E12).
func (v *View) syncGate() Gate {
	if !v.syncActive() {
		return gate(NotSyncStandby, true, "no synchronous set", "any member")
	}
	return gate(NotSyncStandby, v.elector(v.Self), v.Self, "one of "+v.electors())
}

// lagGate: the last published position less ours (ha.md C1). Not asked of a failover that an operator wants. Who published it is asked
// whether it still has it. Nor of the leader in /sync, who has all that was acknowledged since it wrote that, and may be the only one that may lead: an operator
// wanted it to, for example, and it was lost before it could publish a position of its own. Nor where commits are to survive something: what is
// published may be WAL of commits that wait, and who is in /sync has, or is voted to have, all that were acknowledged. Nor of who streams from another cluster, whose history counts.
func (v *View) lagGate() Gate {
	at, optime := v.Postgres.Position(), v.Store.Status.Optime
	lag := cluster.LSN(0)
	if optime > at {
		lag = optime - at
	}
	f := v.Store.Failover
	forced := f.Requested() && !f.Switchover() && v.due()
	ok := lag <= v.Limits.MaxLag || forced || v.recanted() || v.syncLeader(v.Self) || v.fromRemote() || v.Limits.Survive.Asked() && v.syncActive()
	g := gate(LagTooHigh, ok, fmt.Sprintf("lag %d bytes behind %s", lag, optime), fmt.Sprintf("at most %d", v.Limits.MaxLag))
	published := func(m cluster.Member) bool { return m.Name == v.Memory.Publisher }
	g.Unknown = !ok && !v.polled() && optime == v.Memory.Published && slices.ContainsFunc(v.peers(), published)
	return g
}

// rememberPublished keeps who published the position: a leader under whom it moved. Who takes the lock finds the position of the one before, and
// where it moved while the lock changed hands nobody is held to have published it. Nor where somebody was promoted meanwhile, or the name in the
// lock has not been seen as a primary since: a request of a leader of before came late, and so may what the one after it published.
func (v *View) rememberPublished() {
	m, optime := &v.Memory, v.Store.Status.Optime
	if optime == m.Published {
		return
	}
	m.Published, m.Publisher = optime, ""
	if m.FormerName == v.leader() && m.FormerAt != 0 && m.FormerAt >= v.Store.History.ClusterTimeline() {
		m.Publisher = m.FormerName
	}
}

// recanted: the leader that published the position is back and has no more than we have, so nobody has it. A leader flushes a long record a segment
// at a time; when it is lost before the end, what it published includes half a record, which is gone with it.
//
// Another one may have led meanwhile, while we were away: then the position is not the one that we saw.
func (v *View) recanted() bool {
	switch {
	case v.Memory.Publisher == "" || v.Store.Status.Optime != v.Memory.Published:
		return false
	case v.Memory.Publisher == v.Self:
		return true
	case !v.polled():
		return false
	}
	a := v.Poll.Answers[v.Memory.Publisher]
	return a.Reachable && !a.Primary && a.Position != 0 && a.Position <= v.Postgres.Position()
}

// timelineGate: with check_timeline our timeline must be the cluster's (ha.md C2).
func (v *View) timelineGate() Gate {
	tl, have := v.Store.History.ClusterTimeline(), v.Postgres.Timeline
	ok := !v.comparesTimelines() || have != 0 && have >= tl
	limit := fmt.Sprintf("at least %d", tl)
	switch {
	case v.standby():
		limit = "anything, the timelines are another cluster's"
	case !v.Limits.CheckTimeline:
		limit = "anything, check_timeline is off"
	}
	return gate(TimelineBehind, ok, fmt.Sprintf("timeline %d", have), limit)
}

// polled says whether everybody was asked in this leaderless moment, not long ago.
func (v *View) polled() bool {
	return v.Poll != nil && !v.Poll.At.Before(v.Memory.Leaderless) && v.since(v.Poll.At) < pollAge && v.asked(v.peers())
}

// answered lists the members in the poll by name.
func (v *View) answered() []string {
	names := make([]string, 0, len(v.Poll.Answers))
	for name := range v.Poll.Answers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// peerGates compare with the others (ha.md 2.11b).
func (v *View) peerGates() []Gate {
	var gates []Gate
	at := v.Postgres.Position()
	for _, name := range v.answered() {
		a := v.Poll.Answers[name]
		behind := v.comparesTimelines() && a.Timeline < v.Store.History.ClusterTimeline()
		limited := a.NoFailover || a.WatchdogFailed || behind || !v.elector(name) || !v.inFailsafe(name)
		switch {
		case !a.Reachable:
			gates = append(gates, gate(PeerAhead, true, name+" does not answer", "not ahead of us"))
		case a.Primary:
			gates = append(gates, gate(PeerIsPrimary, false, name+" runs as a primary", "no other primary"))
		case a.Position > at && !limited && !v.syncLeader(name) && !v.discounted(name, a):
			gates = append(gates, gate(PeerAhead, false, fmt.Sprintf("%s is ahead: %s", name, a.Position), "at most our "+at.String()))
		case a.Position == at && at > 0 && a.Priority > v.Tags.Priority && !limited && name != v.Memory.FormerName && v.preferring():
			gates = append(gates, gate(PeerPreferred, false, fmt.Sprintf("%s has failover_priority %d", name, a.Priority), fmt.Sprintf("at most our %d", v.Tags.Priority)))
		default:
			gates = append(gates, gate(PeerAhead, true, fmt.Sprintf("%s at %s", name, a.Position), "not ahead of us"))
		}
	}
	if g, ok := v.quorumGate(); ok {
		gates = append(gates, g)
	}
	// A running primary is the worst to overlook, so it comes first.
	slices.SortStableFunc(gates, func(a, b Gate) int { return rank(a) - rank(b) })
	return gates
}

// preferring: who has a higher failover_priority is waited for as long as it may take to see that the lock is free. It may be unable to lead, and
// then it does not say so: its promotion has failed, and it leaves the race to the others for a while.
func (v *View) preferring() bool {
	return v.since(v.Memory.Leaderless) < v.Limits.LoopWait+v.Limits.RetryTimeout
}

// quorumGate: in quorum mode so many voters must be seen not to be ahead that one of them has every acknowledged
// commit (ha.md C7, C9).
func (v *View) quorumGate() (Gate, bool) {
	s := v.Store.Sync
	if !v.syncActive() || s.Quorum <= 0 {
		return Gate{}, false
	}
	votes, ahead, at := 0, false, v.Postgres.Position()
	for name, a := range v.Poll.Answers {
		switch {
		case !a.Reachable || !v.elector(name) || a.Position == 0:
		case a.Position > at:
			ahead = true
		default:
			votes++
		}
	}
	ok := votes >= s.Quorum || v.syncLeader(v.Self) && !ahead
	return gate(NoQuorum, ok, fmt.Sprintf("%d voters answered that they are not ahead", votes), fmt.Sprintf("at least %d", s.Quorum)), true
}

// voted says whether enough voters have answered.
func (v *View) voted() bool {
	g, needed := v.quorumGate()
	return !needed || g.Passed
}

// answersAgainst are the shut gates that rest on what others answered.
func (v *View) answersAgainst(gates []Gate) []Gate {
	return slices.DeleteFunc(slices.Clone(gates), func(g Gate) bool {
		return g.Passed || g.Reason != PeerIsPrimary && g.Reason != PeerAhead && g.Reason != PeerPreferred && g.Reason != NoQuorum
	})
}

func rank(g Gate) int {
	if g.Reason == PeerIsPrimary {
		return 0
	}
	return 1
}

// discounted: a former leader that cannot reach the store cannot lead either; when its key has gone
// too, its being ahead must not veto the election for ever (ha.md G8). MaxLag still bounds the loss. After an outage of the
// store everybody looks like that: they get a ttl, from when we could read it again, to be seen there.
func (v *View) discounted(name string, a Answer) bool {
	_, known := v.Store.Member(name)
	return a.Isolated && !known && v.since(v.Memory.Leaderless) >= v.Limits.TTL
}

// awaited lists the members that a fresh agent may not know yet. After an outage of everything no leader's key tells who there
// was, but /status has the slots that were kept for them. They get a ttl to announce themselves.
func (v *View) awaited() (slots []string) {
	if v.Memory.FormerName != "" || v.since(v.Memory.Leaderless) >= v.Limits.TTL {
		return nil
	}
	for _, slot := range v.Store.Status.RetainSlots {
		known := func(m cluster.Member) bool { return cluster.SlotName(m.Name) == slot }
		if slot != cluster.SlotName(v.Self) && !slices.ContainsFunc(v.Store.Members, known) {
			slots = append(slots, slot)
		}
	}
	return slots
}

func (v *View) awaitGate() Gate {
	slots := v.awaited()
	if len(slots) == 0 {
		return gate(AwaitMembers, true, "everybody is known", "everybody, or ttl has passed")
	}
	return gate(AwaitMembers, false, "not back yet: "+strings.Join(slots, ", "), "everybody who had a slot, or ttl has passed")
}

// peers are the members to ask: the present ones and those of the last time there was a leader.
func (v *View) peers() []cluster.Member {
	var list []cluster.Member
	add := func(members []cluster.Member) {
		for _, m := range members {
			known := slices.ContainsFunc(list, func(o cluster.Member) bool { return o.Name == m.Name })
			if m.Name != v.Self && m.APIURL != "" && !known {
				list = append(list, m)
			}
		}
	}
	add(v.Store.Members)
	add(v.Memory.Former)
	if v.Limits.Failsafe {
		for _, name := range slices.Sorted(maps.Keys(v.Store.Failsafe)) {
			add([]cluster.Member{{Name: name, APIURL: v.Store.Failsafe[name]}})
		}
	}
	return list
}

// primaryWithoutLock: a running primary takes a free lock, unless history has moved on without it (ha.md E4, E5, L1).
func (v *View) primaryWithoutLock() Decision {
	tl := v.Store.History.ClusterTimeline()
	switch {
	case v.Unfenced != "" && !v.Limits.Paused:
		return v.fenced(WatchdogFailed, v.Unfenced, Demote{Mode: NoLock})
	case v.ousted() && !v.Limits.Paused:
		return v.fenced(NotSyncStandby, "a running primary, and only "+v.electors()+" may lead: others have acknowledged commits since", Demote{Mode: NoLock})
	case v.ousted():
		return v.decide(NotSyncStandby, "paused: a running primary, and only "+v.electors()+" may lead")
	case v.Postgres.Timeline < tl:
		detail := fmt.Sprintf("timeline %d, the cluster is on %d", v.Postgres.Timeline, tl)
		if v.Limits.Paused {
			return v.decide(OldTimeline, detail)
		}
		return v.fenced(OldTimeline, detail, Demote{Mode: NoLock})
	default:
		v.Memory.Unproven = true
		return v.again(RunningPrimary, "a running primary on the cluster's timeline takes the free lock", v.takeover()...)
	}
}

// clearFailover removes the request that this snapshot shows, and no later one.
func (v *View) clearFailover() WriteFailover {
	return WriteFailover{cluster.Failover{Revision: v.Store.Failover.Revision}}
}

// due says whether a scheduled request's time has come; one without schedule is due at once.
func (v *View) due() bool {
	at := v.Store.Failover.ScheduledAt
	return at == nil || !v.Wall.Before(*at)
}

// rememberRequest notes since when people have asked for what the key says.
func (v *View) rememberRequest() {
	m, f := &v.Memory, &v.Store.Failover
	switch {
	case !f.Requested():
		m.Request, m.RequestAt = 0, time.Time{}
	case f.Revision != m.Request:
		m.Request, m.RequestAt = f.Revision, v.Now
	}
}

// waitsForNamed: who is named has a ttl to take the lock, from when that could be done: the lock is free, the request is there, and its time has come.
// Nobody may lead for long already, because all lag too far; then the request lets the others lead as well.
func (v *View) waitsForNamed() bool {
	waited := min(v.since(v.Memory.Leaderless), v.since(v.Memory.RequestAt))
	if at := v.Store.Failover.ScheduledAt; at != nil {
		waited = min(waited, v.Wall.Sub(*at))
	}
	return waited < v.Limits.TTL
}

// namedCandidate applies the rules of a switchover or failover that somebody asked for (ha.md 2.13c).
func (v *View) namedCandidate() (Decision, bool) {
	f := v.Store.Failover
	switch {
	case f.BadSchedule:
		return v.again(RequestInvalid, "its schedule cannot be read", v.clearFailover()), true
	case f.Candidate == v.Self && v.Unfenced != "" && !v.Limits.Paused:
		return v.soon(time.Second, WatchdogFailed, v.Unfenced), true
	case f.Candidate == v.Self && !v.primary() && f.Switchover() && v.Postgres.Position() < v.Store.Status.Optime && !v.standby():
		// It was overwritten while the leader handed over to another member, or the leader was lost before it did. A switchover loses nothing (V19).
		detail := fmt.Sprintf("the switchover names us, but we are at %s and %s was at %s: race instead", v.Postgres.Position(), f.From, v.Store.Status.Optime)
		return v.again(RequestImpossible, detail, v.clearFailover()), true
	case f.Candidate == v.Self && !v.primary() && f.Switchover() && !v.elector(v.Self): // E8
		return v.again(RequestImpossible, "the switchover names us, and /sync only "+v.electors()+": race instead", v.clearFailover()), true
	case f.Candidate == v.Self && !v.primary() && f.Switchover() && v.needsVotes() && !v.polled():
		return v.again(LockFree, "the switchover names us, and /sync has others that may have more: ask them", AskPeers{v.peers()}), true
	case f.Candidate == v.Self && !v.primary() && f.Switchover() && v.needsVotes() && !v.voted(): // the leader was lost before it handed over
		g, _ := v.quorumGate()
		return v.again(RequestImpossible, "the switchover names us, but "+g.Value+", need "+g.Limit+": race instead", v.clearFailover()), true
	case f.Candidate == v.Self && !v.primary():
		return v.again(CandidateIsMe, "asked for by an operator", v.takeover()...), true
	case f.Candidate == v.Self: // only in pause; being named makes no leader of a primary of the past
		return v.primaryWithoutLock(), true
	case f.Candidate != "" && v.Limits.Paused:
		if _, ok := v.Store.Member(f.Candidate); !ok && v.primary() {
			return v.again(RequestInvalid, f.Candidate+" is not a member", v.clearFailover()), true
		}
		return v.decide(CandidateIsOther, f.Candidate+" is to lead"), true
	case f.Candidate != "" && v.waitsForNamed():
		m, ok := v.Store.Member(f.Candidate)
		if !ok || m.APIURL == "" {
			return Decision{}, false
		}
		if !v.polled() {
			return v.again(LockFree, "ask "+f.Candidate+", who is to lead", AskPeers{v.peers()}), true
		}
		if a := v.Poll.Answers[f.Candidate]; a.Reachable && !a.NoFailover && !a.WatchdogFailed {
			return v.soon(time.Second, CandidateIsOther, f.Candidate+" is to lead and answers"), true
		}
	}
	if f.From == v.Self && v.since(v.Memory.HandedOver) < v.Limits.RetryTimeout {
		return v.soon(time.Second, AwaitSuccessor, "the lock was handed over"), true
	}
	return Decision{}, false
}
