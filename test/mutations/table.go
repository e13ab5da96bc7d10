package main

import "slices"

// The files of the core that are mutated.
const (
	haDecide    = "internal/ha/decide.go"
	haDirectory = "internal/ha/directory.go"
	haDown      = "internal/ha/down.go"
	haElection  = "internal/ha/election.go"
	haFailsafe  = "internal/ha/failsafe.go"
	haLeader    = "internal/ha/leader.go"
	haLeaving   = "internal/ha/leaving.go"
	haDecision  = "internal/ha/decision.go"
	haPromise   = "internal/ha/promise.go"
	haReplica   = "internal/ha/replica.go"
	haSites     = "internal/ha/sites.go"
	haSlots     = "internal/ha/slots.go"
	haStandby   = "internal/ha/standby.go"
	haSync      = "internal/ha/sync.go"
	loopLease   = "internal/loop/lease.go"
	loopPromise = "internal/loop/failsafe.go"
	loopLoop    = "internal/loop/loop.go"
	simFailsafe = "internal/sim/failsafe.go"
	simConfig   = "internal/sim/config.go"
	simGuard    = "internal/sim/guard.go"
	simStore    = "internal/sim/store.go"
	simWork     = "internal/sim/work.go"
	position    = "internal/cluster/postgres.go"
	quorumNext  = "internal/quorum/quorum.go"
	quorumAny   = "internal/quorum/anyof.go"
)

// mutations are all of them.
func mutations() []mutation {
	return slices.Concat(ofElection, ofLock, ofFencing, ofLoop, ofLeader, ofHandover, ofDirectory, ofSlots, ofExecutors, ofPause, ofSync, ofQuorum, ofFailsafe, ofStandby, ofSites)
}

// ofElection: who may take a free lock.
var ofElection = []mutation{
	one("lag check removed", haElection,
		"ok := lag <= v.Limits.MaxLag || forced", "ok := true || forced", "V8"),
	one("peers that are ahead ignored", haElection,
		"case a.Position > at && !limited &&", "case false && a.Position > at && !limited &&", "V9"),
	one("peers that are primaries ignored", haElection,
		"case a.Primary:\n\t\t\tgates", "case false && a.Primary:\n\t\t\tgates", "V1"),
	one("peers not asked", haElection,
		"if !v.polled() {\n\t\treturn append(gates, Gate{", "if !v.polled() {\n\t\tv.Poll = &Poll{At: v.Now}\n\t\treturn gates\n\t}\n\tif false {\n\t\treturn append(gates, Gate{", "V9"),
	one("answers of any age accepted", haElection,
		"return v.Poll != nil && !v.Poll.At.Before(v.Memory.Leaderless) && v.since(v.Poll.At) < pollAge && v.asked(v.peers())",
		"return v.Poll != nil && v.asked(v.peers())", "V9"),
	one("members of before not asked", haElection,
		"add(v.Memory.Former)", "add(nil)", "V9"),
	one("everybody discounted after an outage of the store", haElection,
		"return a.Isolated && !known && v.since(v.Memory.Leaderless) >= v.Limits.TTL", "return a.Isolated && !known", "V9"),
	one("fresh agent races before it knows the others", haElection,
		"if v.Memory.FormerName != \"\" ||", "if true ||", "V9"),
	one("replayed instead of received position", position,
		"return max(p.Received, p.Replayed)", "return p.Replayed", "V9"),
	one("timeline check skipped", haElection,
		"ok := !v.comparesTimelines() || have != 0 && have >= tl", "ok := true || have >= tl", "V11"),
	one("primary of an old timeline takes the lock", haElection,
		"case v.Postgres.Timeline < tl:\n\t\tdetail", "case false:\n\t\tdetail", "V11"),
	one("nofailover ignored", haElection,
		"gate(NoFailoverTag, !v.Tags.NoFailover,", "gate(NoFailoverTag, true,", "V10"),
	one("former leader races without looking at its position", haElection,
		"func (v *View) race(gates []Gate) Decision {",
		"func (v *View) race(gates []Gate) Decision {\n\tif v.Memory.FormerName == v.Self {\n\t\treturn v.again(Healthiest, \"we led\", v.takeover()...)\n\t}", "V9"),
	one("back-off after a failed promotion forgotten", haElection,
		"gate(RaceBackoff, !v.Now.Before(v.Memory.NoRaceUntil),", "gate(RaceBackoff, true,", "V18"),
	one("no lock before the promotion", haElection,
		"append([]Action{AcquireLeader{}}, v.claimSync()...)", "v.claimSync()", "V18"),
	{Name: "request that is fulfilled is kept", Expect: []string{"V16"}, Edits: []edit{
		{haElection, "actions = append(actions, WriteFailover{f})", "_ = f"},
		{haLeader, "return v.again(RequestInvalid, \"this member leads already\", clear), true", "return Decision{}, false"},
	}},
	one("another named candidate ignored", haElection,
		"case f.Candidate != \"\" && v.waitsForNamed():", "case false:", "V19"),
}

// ofLock: what the lease keeper believes and does.
var ofLock = []mutation{
	one("deadline counted from the reply", loopLease,
		"l.lock, l.failures = lock, 0\n\t\tl.next", "l.lock, l.failures = lock, 0\n\t\tl.lock.Deadline = lock.Deadline.Add(now.Sub(sent))\n\t\tl.next", "V1", "V3"),
	{Name: "renewed after a refusal", Expect: []string{"V1", "V3"}, Edits: []edit{ // the snapshot tells of another leader, too
		{loopLease, "l.held, l.refused = false, true\n\t\tl.forget()\n\t\treturn true", "l.lock.Deadline, l.next = now.Add(30*time.Second), now.Add(l.Interval)\n\t\treturn false"},
		{haDecide, "case leader != \"\" && leader != v.Self:\n\t\treturn v.fenced", "case false:\n\t\treturn v.fenced"},
	}},
	one("no answer taken for a renewal", loopLease,
		"l.failures++\n", "l.failures++\n\t\tl.lock.Deadline = now.Add(30 * time.Second)\n", "V1", "V3"),
	one("refused acquisition taken for a success", loopLease,
		"case Acquire:\n\t\tif err == nil {", "case Acquire:\n\t\tif errors.Is(err, dcs.ErrHeld) {\n\t\t\terr, lock.Deadline = nil, now.Add(30*time.Second)\n\t\t}\n\t\tif err == nil {", "V1", "V2"),
	{Name: "renewed without the loop's permission", Expect: []string{"V18"}, Edits: []edit{
		{loopLease, "if !l.held || !now.Before(l.Permitted) ||", "if !l.held ||"},
		{loopLease, "return NoRequest, 0, min(wait, l.Permitted.Sub(now))", "return NoRequest, 0, wait"},
	}},
	one("renewed too seldom", loopLease,
		"l.lock, l.failures = lock, 0\n\t\tl.next = sent.Add(l.Interval)", "l.lock, l.failures = lock, 0\n\t\tl.next = sent.Add(4 * l.Interval)", "calm", "guard", "V18"),
	{Name: "lock renewed after it ran out", Expect: []string{"V3"}, Edits: []edit{ // a request that has no time left is none
		{loopLease, " || !now.Before(l.deadline()) {", " {"},
		{loopLease, "return Renew, min(l.Retry, l.deadline().Sub(now)), 0", "return Renew, l.Retry, 0"},
	}},
}

// ofFencing: who writes without a live lock is stopped.
var ofFencing = []mutation{
	one("fencing removed", haDecide,
		"if d, ok := v.fence(); ok {\n\t\treturn d\n\t}\n\tswitch {\n\tcase v.Asked.Leave:", "if d, ok := v.fence(); ok && false {\n\t\treturn d\n\t}\n\tswitch {\n\tcase v.Asked.Leave:", "guard", "V1", "V3"),
	one("demotion begins at the deadline", haDecide,
		"case v.Lock.Held && v.left() <= v.Limits.Reserve:", "case v.Lock.Held && v.left() <= 0:", "guard", "V3"),
	one("demotion begins a ttl late", haDecide,
		"case v.Lock.Held && !v.live():\n\t\treturn v.fenced(LockLost, \"the lock ran out unrenewed\", Demote{Mode: NoLock}), true\n\tcase stopping == Offline:\n\t\treturn Decision{}, false\n\tcase v.Lock.Held && v.left() <= v.Limits.Reserve:",
		"case stopping == Offline:\n\t\treturn Decision{}, false\n\tcase v.Lock.Held && v.left() <= -v.Limits.TTL:", "guard", "V1", "V3"),
	{Name: "neither a refusal nor another's lock is a reason to stop", Expect: []string{"V1", "V3"}, Args: []string{"--no-guard"}, Edits: []edit{
		{haDecide, "case v.Lock.Refused && !v.Lock.Held:", "case false:"},
		{haDecide, "case leader != \"\" && leader != v.Self:\n\t\treturn v.fenced", "case false:\n\t\treturn v.fenced"},
	}},
	{Name: "adopted primary without a lock goes on", Expect: []string{"guard", "V1", "V2"}, Edits: []edit{
		{haDecide, "case !v.Lock.Held && v.Store == nil:", "case false:"},
		{haDecide, "case !v.Lock.Held && v.since(v.Memory.Unlocked) >= v.Limits.TTL-v.Limits.Reserve:", "case false:"},
	}},
	one("promotion under way is not fenced", haDecide,
		"case JobPromote, JobStartPrimary:\n\t\t\treturn true", "case JobPromote, JobStartPrimary:\n\t\t\treturn false", "guard", "V2"),
	one("a server that does not answer is no primary", "internal/ha/view.go",
		"return !p.StandbySignal", "return false", "guard", "V1", "V3"),
}

// ofLoop: facts in the wrong order.
var ofLoop = []mutation{
	// To use what was seen before a job ended (l.outdated) is no mistake that could show: a job's every action is idempotent, what it has started may
	// write by other signs as well, and the next look, a second later where the store is away, puts right what was decided. A look that is a cycle old is one.
	one("what was seen in the cycle before is used", loopLoop,
		"l.gotStore, l.gotPostgres = false, false\n\treturn", "l.gotStore = false\n\treturn", "V17", "guard", "V1", "V2", "V3"),
	{Name: "end of a replaced job believed", Expect: []string{"V1", "V18", "guard"}, Edits: []edit{
		{loopLoop, "if f.ID != l.jobID {", "if false {"},
		{simWork, "if j.alone {\n\t\treturn\n\t}", ""},
	}},
	one("failed action does not drop the rest", loopLoop,
		"l.left = nil\n", "", "V14", "V16"),
	one("store read into the time of a demotion", loopLoop,
		"if last, ok := l.fencing(); ok {", "if last, ok := l.fencing(); ok && false {", "guard", "V3"),
	one("demotion slept over", loopLoop,
		"ok && last.Before(rest) {", "ok && last.Before(rest) && false {", "guard", "V3"),
}

// ofLeader: what a leader owes to the others.
var ofLeader = []mutation{
	one("status not published", haLeader,
		"if a, ok := v.status(); ok {", "if a, ok := v.status(); ok && false {", "complete", "V8"),
	one("history not written", haLeader,
		"if v.historyDue() {", "if false {", "complete", "V11"),
	one("checkpoint after the promotion forgotten", haLeader,
		"add(Checkpoint{})", "_ = add", "complete"),
	one("failed promotion keeps the lock", haLeader,
		"case v.failed(JobPromote) && v.Ended.At.Add(v.Limits.TTL).After(v.Now):", "case false:", "V18"),
	one("lock released while a promotion may still come true", haLeader,
		"v.Ended.At.Add(v.Limits.TTL).After(v.Now) && v.Ended.Untold:", "v.Ended.At.Add(v.Limits.TTL).After(v.Now):", "V1", "V2"),
	one("started when the lock is about to run out", haDown,
		"case v.left() <= v.Limits.Reserve:", "case false:", "guard", "V3", "V18"),
	one("primary that does not start keeps the lock", haDown,
		"case v.startFailed():\n\t\treturn v.letOthersLead", "case false:\n\t\treturn v.letOthersLead", "V18"),
	one("start that takes too long keeps the lock", haDown,
		"case v.Memory.GiveUp:", "case false:", "V18"),
	one("start as a primary without the lock after a crash", haDown,
		"case v.mine():\n\t\treturn v.leaderDown()", "case v.mine() || v.crashed():\n\t\treturn v.leaderDown()", "V18"),
	one("start that is given up goes on", haDecide,
		"return v.again(r, why+\" and \"+detail, Demote{Mode: Immediate})",
		"return v.again(r, why+\" and \"+detail, ReleaseLeader{})", "V1", "V2"),
}

// ofHandover: switchover, failover, and an agent that leaves.
var ofHandover = []mutation{
	one("lock released before anybody has the WAL", haLeader,
		"case at != 0 && a.Position < at:", "case false:", "V19", "V8"),
	one("lock released before PostgreSQL is down", haLeader,
		"if checkpoint == 0 {\n\t\tif v.Job == nil {", "if false {\n\t\tif v.Job == nil {", "V1", "V2"),
	one("switchover to a candidate that lags", haLeader,
		"case at == 0 && v.lastPosition() > a.Position+v.Limits.MaxLag:", "case false:", "V19"),
	// Two members are promoted to a timeline of the same number: the first is frozen before it can write that down, and the guard ends it; the other one
	// was away. It comes back with WAL that the leader has never had, and operators want it to lead.
	{Name: "switchover to a member that is ahead", Expect: []string{"V19"}, Seeds: 2000, Args: []string{"--members", "2", "--schedule",
		`[{"at":20000000000,"for":75000000000,"kind":"slow-promote","member":0,"value":20},{"at":20000000000,"for":75000000000,"kind":"slow-promote","member":1,"value":20},{"at":40000000000,"for":60000000000,"kind":"host-lost","member":-1},{"at":75000000000,"for":65000000000,"kind":"agent-frozen","member":-1},{"at":150000000000,"kind":"switchover","member":-2,"value":1},{"at":162000000000,"kind":"switchover","member":-2,"value":1},{"at":174000000000,"kind":"switchover","member":-2,"value":1},{"at":186000000000,"kind":"switchover","member":-2,"value":1}]`},
		Edits: []edit{{haLeader, "case at != 0 && a.Position > at+checkpointRecord, at == 0 &&", "case false && at == 0 &&"}}},
	one("request that cannot be fulfilled is kept", haLeader,
		"return v.again(RequestImpossible, detail, clear), true", "return v.decide(RequestImpossible, detail), true", "V16"),
	one("request that names another leader is carried out", haLeader,
		"case f.From != \"\" && f.From != v.Self:", "case false:", "V16"),
	one("abandoned switchover keeps its request", haDown,
		"return v.again(SwitchoverAbandon, \"nobody received our last WAL in time\", v.clearFailover(), StartPrimary{})",
		"return v.again(SwitchoverAbandon, \"nobody received our last WAL in time\", StartPrimary{})", "V16", "V18"),
	one("stop that hangs is waited for", haLeader,
		"hangs := v.Job != nil && v.since(v.Job.Since) >= max(v.Limits.PrimaryStart, v.Limits.TTL)", "hangs := false", "V18", "V19"),
	one("leaving leader releases the lock first", haLeaving,
		"return v.again(Leaving, \"hand over first: \"+detail, Demote{Mode: Graceful})",
		"return v.again(Leaving, \"hand over first: \"+detail, ReleaseLeader{}, Demote{Mode: Graceful})", "V1", "V2"),
}

// ofDirectory: what happens to data.
var ofDirectory = []mutation{
	one("data of another cluster joins", haDecide,
		"case validID(key.SystemID) && key.SystemID != local:", "case false:", "V14", "V18"),
	{Name: "initialize overwritten by data of another cluster", Expect: []string{"V14"}, Edits: []edit{
		{haDecide, "case validID(key.SystemID) && key.SystemID != local:", "case false:"},
		{haLeader, "if !validID(s.Initialize.SystemID) && validID(p.SystemID) {", "if s.Initialize.SystemID != p.SystemID && validID(p.SystemID) {"},
	}},
	one("bootstrap beside a living one", haDirectory,
		"case v.Store.Bootstrapper == \"\" && key.Present, v.Store.Bootstrapper != \"\" && v.Store.Bootstrapper != me && v.bootstrapperLives():", "case false:", "V14", "V18"),
	one("wiped on an unknown verdict", haDown,
		"case v.verdict() == Diverged:\n\t\treturn v.diverged", "case v.verdict() != NotDiverged && v.Divergence != nil:\n\t\treturn v.diverged", "V13"),
	{Name: "diverged standby started as it is", Expect: []string{"V12", "V18"}, Edits: []edit{
		{haDown, "case v.verdict() == Diverged:\n\t\treturn v.diverged", "case false:\n\t\treturn v.diverged"},
		{haReplica, "case v.verdict() == Diverged:", "case false:"},
	}},
	one("verdict about an older directory believed", haDown,
		"case d == nil || d.Leader != v.comparedWith() || !d.At.After(v.Memory.Rebuilt):", "case d == nil:", "V12", "V13", "V18"),
	one("standby that does not stream is never compared", haReplica,
		"case v.verdict() == \"\", v.since(v.compareTried()) > compareAgain:", "case false:", "V12", "V18"),
	one("leader reinitialized", haDecide,
		"if !v.rebuildable() {", "if false {", "V13"),
	one("replica follows nobody new", haReplica,
		"case v.elsewhere(up):\n\t\treturn v.again", "case false:\n\t\treturn v.again", "V12", "V18"),
}

// ofSlots: WAL that somebody still needs.
var ofSlots = []mutation{
	one("slot dropped that is needed", haSlots,
		"drops && !wanted && !s.Active", "drops && (wanted || !wanted) && !s.Active", "V17", "complete"),
	one("slot of a member that is away dropped at once", haSlots,
		"if v.since(at) < v.Limits.SlotsTTL {", "if false {", "V17"),
	one("slot advanced past its consumer", haSlots,
		"target := v.Store.Status.Slots[cluster.SlotName(m.Name)]", "target := v.Postgres.Replayed", "V17"),
	one("slot advanced past what is replayed", haSlots,
		"return min(at, v.Postgres.Replayed)", "return at", "V17"),
	one("slot moved backwards", haSlots,
		"case physical && w.advance > s.Restart:", "case physical && w.advance != s.Restart:", "V17"),
	one("permanent slot advanced past its consumer", haSlots,
		"physical(p.Name, leads, v.upTo(published[p.Name]))", "physical(p.Name, leads, v.Postgres.Replayed)", "V17"),
	one("permanent slot not kept by replicas", haSlots,
		"return !other && (v.mine()", "return !other && v.mine() && (v.mine()", "V17", "complete"),
}

// ofExecutors: what carries the decisions out, in the simulator's mirror of the agent.
var ofExecutors = []mutation{
	{Name: "promoted without the lock", Expect: []string{"V2", "V1"}, Edits: []edit{
		{haElection, "append([]Action{AcquireLeader{}}, v.claimSync()...)", "v.claimSync()"},
		{simWork, "if !a.lock.Held || !a.now().Before(a.lock.Deadline) {", "if false {"},
		{simGuard, "if err := a.stillLeader(); err != nil || a.limits.Paused {\n\t\treturn err\n\t}", "if true {\n\t\treturn nil\n\t}"},
	}},
	{Name: "no last look at the lock", Expect: []string{"V2", "V1"}, Args: []string{"--no-guard"}, Edits: []edit{
		{simWork, "if !a.lock.Held || !a.now().Before(a.lock.Deadline) {", "if false {"},
		{simGuard, "if !a.now().Before(at) {", "if false {"},
	}},
	one("guard not armed before the start", simGuard, "a.m.guard.arm(at)\n\ta.fenced", "a.fenced", "V20"),
	one("guard disarmed when the lock is lost", simGuard, "case !guarded:", "case !guarded || !a.lock.Held:", "V1", "V3"),
	one("guard not told of renewals", simGuard, "if a.fenced && a.lock.Held {", "if false {", "calm", "guard"),
	one("guard frozen with the agent", simGuard, "w.at(g.m.clock.when(g.deadline), nil, func() {",
		"var p *process\n\tif g.m.agent != nil {\n\t\tp = &g.m.agent.process\n\t}\n\tw.at(g.m.clock.when(g.deadline), p, func() {", "V1", "V3"),
	one("no reserve for the demotion", simConfig, "return min(max(ttl/4, time.Second), 5*time.Second)", "return 0", "guard", "V3"),
	one("condition of a write ignored", simStore,
		"_, err := a.store.Put(background, key, value, prev)", "_, err := a.store.Put(background, key, value, prev)\n\t\tif err != nil {\n\t\t\ta.w.server.Write(root+\"/\"+key, value)\n\t\t\terr = nil\n\t\t}", "V14", "V16"),
}

// ofPause: the agent keeps its hands off.
var ofPause = []mutation{
	one("replica races in pause", haElection,
		"if v.Limits.Paused {\n\t\treturn v.decide(PausedNoRace", "if false {\n\t\treturn v.decide(PausedNoRace", "V15"),
	one("fenced in pause", haDecide,
		"if v.Limits.Paused || !v.writes() {", "if !v.writes() {", "V15"),
	one("started in pause", haDown,
		"case v.Limits.Paused && v.Memory.HandedOver.IsZero():", "case false:", "V15"),
	one("stopped by an agent that leaves in pause", haLeaving,
		"case v.Limits.Paused:\n\t\treturn v.decide(Left,", "case false:\n\t\treturn v.decide(Left,", "V15"),
	one("stopped leader keeps the lock in pause", haDown,
		"case v.Limits.Paused && v.Lock.Held:", "case false:", "V18"),
}

// ofSync: synchronous mode, in runs that are all in it.
var ofSync = []mutation{
	inSync("/sync not claimed before the promotion", haSync,
		"actions := []Action{WriteSync{cluster.Sync{Leader: v.Self, Revision: s.Revision}}}", "actions := []Action{}", "V5", "V7"),
	inSync("a standby in /sync before commits wait for it", quorumNext,
		"Publish: s.publish(keep), Require", "Publish: s.publish(s.Picked), Require", "V5", "V7"),
	inSync("commits cease to wait before /sync is written", quorumNext,
		"Publish: s.publish(keep), Require", "Require", "V5", "V7"),
	inSync("a checkpointer that is busy ignored", haSync, "!p.Heeded || ", "", "V5", "V7"),
	inSync("a standby in /sync that lacks what was acknowledged before", haSync, "v.syncPosition(s) >= w.Safe && ", "", "V7"),
	inSync("elected without /sync", haElection, "\t\tv.syncGate(),\n", "", "V10", "V7"),
	inSync("promoted although /sync names others by now", haLeader, "case !v.elector(v.Self) && !forced:", "case false && !forced:", "V7", "V5"),
}

// ofQuorum: quorum mode, in runs that are all in it.
var ofQuorum = []mutation{
	inQuorum("elected without votes", haElection, "ok := votes >= s.Quorum || v.syncLeader(v.Self) && !ahead", "ok := votes >= 0 || v.syncLeader(v.Self) && !ahead", "V7"),
	inQuorum("quorum mode: a checkpointer that is busy ignored", haSync, "!p.Heeded || ", "", "V6", "V7"),
	inQuorum("fewer must agree although a voter lacks what was acknowledged before", haSync, "v.syncPosition(s) >= w.Safe && ", "", "V6", "V7"),
	inQuorum("who has been in /sync and may still be counted forgotten", quorumAny, "s.voters(s.Required.rule().beside(want.rule()), !s.Settled)", "s.voters(want.rule(), !s.Settled)", "V6", "V7"),
	inQuorum("a new voter counted as one that has everything", quorumAny, "+len(voters)-len(both(voters, s.Published.Standbys))", "", "V6", "V7"),
}

func inQuorum(name, file, old, new string, expect ...string) mutation {
	m := one(name, file, old, new, expect...)
	m.Args = []string{"--quorum"}
	return m
}

func inSync(name, file, old, new string, expect ...string) mutation {
	m := one(name, file, old, new, expect...)
	m.Args = []string{"--sync"}
	return m
}

// ofFailsafe: who leads on without the store, and what the others have promised. All in failsafe mode.
var ofFailsafe = []mutation{
	inFailsafe("a promise that binds nobody", loopPromise, "l.bound = until", "_ = until", "V1", "V2"),
	{Name: "a refusal counts as a promise", Expect: []string{"failsafe", "V1"}, Args: []string{"--failsafe"}, Edits: []edit{
		{loopPromise, "case promise <= 0:", "case promise < 0:"},
		{loopPromise, "sent.Add(min(promise, l.TTL))", "sent.Add(l.TTL)"},
	}},
	inFailsafe("a promise counted from its answer", loopPromise, "until := sent.Add(", "until := now.Add(", "V3", "V1"),
	// Somebody joins in the midst of a round: a member that was away comes back four times, beside a leader whose lines are slow.
	{Name: "a promise of another circle counts", Expect: []string{"failsafe", "V1"}, Seeds: 2000, Args: []string{"--failsafe", "--members", "3", "--schedule",
		`[{"at":20000000000,"for":300000000000,"kind":"slow-links","member":-1,"value":900},{"at":30000000000,"for":42000000000,"kind":"agent-killed","member":-2},{"at":110000000000,"for":42000000000,"kind":"agent-killed","member":-2},{"at":190000000000,"for":42000000000,"kind":"agent-killed","member":-2},{"at":270000000000,"for":42000000000,"kind":"agent-killed","member":-2}]`},
		Edits: []edit{{loopPromise, "!covers(r.Circle, l.Circle) || ", ""}}},
	inFailsafe("a fresh agent forgets what was promised", haFailsafe, "if standby && v.Fresh.After(until) && !v.waived() {", "if false && standby {", "V1"),
	inFailsafe("a leader by promises counts on nobody", loopPromise, "over(l.Began) && over(l.asked) && !now.Before(l.agreed)", "over(l.Began)", "V1"),
	inFailsafe("one member speaks for all", haFailsafe, "if name != v.Self && !slices.Contains(v.Memory.Waived, name) {", "if name != v.Self && len(v.Memory.Waived) == 0 {", "V1"),
	inFailsafe("who is not listed may lead", haFailsafe, "return !v.Limits.Failsafe || len(v.Store.Failsafe) == 0 || listed", "return true || listed", "V1", "failsafe"),
	inFailsafe("a write whose outcome is not known does not count", haFailsafe, "append(slices.Clone(f.Tried), f.Known)", "[]map[string]string{f.Known}", "failsafe", "V1"),
	inFailsafe("the members are asked too late", loopPromise, "l.confirmed.Add(l.Interval + min(time.Second, l.TTL/10))", "l.confirmed.Add(l.TTL)", "failsafe"),
	inFailsafe("slot moved past what is replayed, as a leader without the store says", haSlots, "to := v.upTo(told.Slots[s.Name])", "to := told.Slots[s.Name]", "V17"),
	inFailsafe("guard not told of promises", simFailsafe, "\t\t\ta.renewed()\n", "", "guard", "failsafe"),
}

func inFailsafe(name, file, old, new string, expect ...string) mutation {
	m := one(name, file, old, new, expect...)
	m.Args = []string{"--failsafe"}
	return m
}

// ofStandby: members of a standby cluster follow another one, and never write. All are such.
var ofStandby = []mutation{
	inStandby("the winner in a standby cluster is promoted", haElection, "if v.primary() || v.standby() {", "if v.primary() {", "V1"),
	inStandby("the lock holder of a standby cluster is promoted", haLeader, "if v.standby() {\n\t\treturn v.asStandbyLeader()", "if false {\n\t\treturn v.asStandbyLeader()", "V1"),
	inStandby("the standby leader follows nobody", haStandby, "return v.standby() && (v.leader() == v.Self ||", "return false && (v.leader() == v.Self ||", "V18"),
	inStandby("the standby leader is never compared with the remote", haStandby, "if v.standby() {\n\t\treturn v.remote()", "if false {\n\t\treturn v.remote()", "V18"),
}

var ofSites = []mutation{
	inSites("a standby of the leader's own site holds commits for it", haSites, "v.Tags.Site != \"\" && site != v.Tags.Site &&", "v.Tags.Site != \"\" &&", "site"),
	inSites("commits go on at once when no other site streams", haSites, "case v.namesElsewhere(required) && len(v.onTheWay()) > 0:", "case false:", "site"),
	inSites("a new leader waits for no other site", haSync, "if v.Limits.Survive == cluster.SurviveSite && (v.Limits.Sync.Strict", "if false && (v.Limits.Sync.Strict", "site"),
	inSites("commits wait for a site that is lost", haSites, "case v.namesElsewhere(required) && len(v.onTheWay()) > 0:", "case v.namesElsewhere(required):", "V18"),
	inSites("what nobody has and nobody acknowledged counts as lag", haElection, "|| v.Limits.Survive.Asked() && v.syncActive()", "", "V18"),
}

func inSites(name, file, old, new string, expect ...string) mutation {
	m := one(name, file, old, new, expect...)
	m.Args = []string{"--sites"}
	return m
}

func inStandby(name, file, old, new string, expect ...string) mutation {
	m := one(name, file, old, new, expect...)
	m.Args = []string{"--standby"}
	return m
}
