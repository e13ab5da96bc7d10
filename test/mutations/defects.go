package main

// defects are variants of the core that behave as Patroni 4.1.4 does where ha.md section 7 found a defect. Each must fail in the
// simulator within its schedules, where ours, in the same ones, does not.
func defects() []mutation {
	return []mutation{
		// The lock is taken to last a ttl from the answer, and a leader that cannot renew it goes on as long as it believes to have it.
		{Name: "D-1 lock expiry starts at the reply", Expect: []string{"V1", "V3"}, Edits: []edit{
			{loopLease, "l.lock, l.failures = lock, 0\n\t\tl.next", "l.lock, l.failures = lock, 0\n\t\tl.lock.Deadline = lock.Deadline.Add(now.Sub(sent))\n\t\tl.next"},
			{loopLease, "l.held, l.refused, l.lock, l.failures = true, false, lock, 0\n", "l.held, l.refused, l.lock, l.failures = true, false, lock, 0\n\t\t\tl.lock.Deadline = lock.Deadline.Add(now.Sub(sent))\n"},
		}},
		// An agent that ends has left its loop: nothing renews the lock while PostgreSQL stops, and nothing fences it.
		{Name: "D-2 nothing renews the lock while a leaving leader stops", Expect: []string{"V19"}, Args: []string{"--no-guard", "--members", "3", "--schedule",
			`[{"at":40000000000,"for":200000000000,"kind":"slow-stop","member":-1,"value":99},{"at":41000000000,"for":140000000000,"kind":"leave","member":-1}]`}, Seeds: 2000, Edits: []edit{
			{haLeader, "if hangs {\n\t\t\treturn v.again(SwitchoverWait", "if false {\n\t\t\treturn v.again(SwitchoverWait"},
			{haDecide, "case v.Asked.Leave:\n\t\treturn v.leaving()", "case v.Asked.Leave:\n\t\td := v.leaving()\n\t\td.Permit = false\n\t\treturn d"},
			{haDecide, "if d, ok := v.fence(); ok {\n\t\treturn d\n\t}\n\tswitch {\n\tcase v.Asked.Leave:", "if d, ok := v.fence(); ok && !v.Asked.Leave {\n\t\treturn d\n\t}\n\tswitch {\n\tcase v.Asked.Leave:"},
		}},
		// The empty initialize key has no owner: a member that dies in its bootstrap holds up all others for ever.
		// In the faults of a seed every machine comes back in time, and makes the cluster after all; this one stays away for ten minutes.
		{Name: "D-3 a dead bootstrapper blocks the cluster", Seeds: 2000, Args: []string{"--members", "3", "--schedule", `[{"at":3000000000,"for":600000000000,"kind":"host-lost","member":0}]`}, Expect: []string{"V18"}, Edits: []edit{
			{haDirectory, "if v.Store.Bootstrapper == \"\" {\n\t\treturn true", "if true {\n\t\treturn true"},
		}},
		// A heartbeat is refused by a running primary alone, and a leader that cannot reach the store goes on while everybody accepts, however
		// long ago its lock has ended: Patroni looks at no deadline there. Here it wakes up while the next leader is being promoted. Without a
		// guard, as Patroni has none; V3 would tell of the lock that has ended also without any mistake.
		{Name: "D-4 failsafe accepted after the lock was taken", Seeds: 2000, Expect: []string{"V1"}, Args: []string{"--failsafe", "--no-guard", "--ignore", "V3", "--members", "3", "--schedule",
			`[{"at":20000000000,"for":200000000000,"kind":"slow-promote","member":0,"value":45},{"at":20000000000,"for":200000000000,"kind":"slow-promote","member":1,"value":45},{"at":20000000000,"for":200000000000,"kind":"slow-promote","member":2,"value":45},{"at":40000000000,"for":50000000000,"kind":"agent-frozen","member":-1},{"at":41000000000,"for":150000000000,"kind":"cut-store","member":-1}]`},
			Edits: append(goesOnAsPatroni,
				edit{haPromise, "case p.Dir == cluster.DirPresent && !p.StandbySignal && !(p.Queried && p.InRecovery):", "case p.Running() && p.Queried && !p.InRecovery:"},
				edit{haPromise, "case h.Fenced:", "case false:"},
				edit{haPromise, "case h.Promotion:", "case false:"},
				edit{haPromise, "case h.Asking:", "case false:"},
				edit{haPromise, "case h.Lock.Held && h.Now.Before(h.Lock.Deadline):", "case false:"},
				edit{haPromise, "case h.Store != nil && h.Store.Leader.Name != h.From &&", "case false && h.Store.Leader.Name != h.From &&"})},
		// /sync still names the leader of before when PostgreSQL is promoted, and is written in the first cycle after that.
		{Name: "D-5 /sync names the dead leader until the first write after the promotion", Args: []string{"--quorum"}, Expect: []string{"V6", "V7"}, Edits: []edit{
			{haSync, "actions := []Action{WriteSync{cluster.Sync{Leader: v.Self, Revision: s.Revision}}}", "actions := []Action{}"},
			{haLeader, "case v.ousted() && !v.Limits.Paused:", "case false:"},
		}},
	}
}

// goesOnAsPatroni: a leader asks the members once it cannot reach the store, also when its lock has ended, and stops when one refuses.
var goesOnAsPatroni = []edit{
	{haDecide, "case v.Lock.Held && !v.live():", "case v.Lock.Held && v.Store == nil && v.Limits.Failsafe:\n\t\treturn Decision{}, false\n\tcase v.Lock.Held && !v.live():"},
	{haDecision, "Permit: v.live()}", "Permit: v.live() || v.Lock.Held && v.Store == nil}"},
	{loopPromise, "!now.Before(l.Permitted) || !now.Before(l.deadline()) {", "!now.Before(l.Permitted) {"},
	{loopPromise, "min(2*time.Second, often, l.deadline().Sub(now))", "min(2*time.Second, often)"},
	{loopPromise, "case promise <= 0:\n", "case promise <= 0 && !now.Before(l.deadline()):\n\t\tl.held, l.refused = false, true\n\t\treturn false\n\tcase promise <= 0:\n"},
	{loopPromise, "!covers(r.Circle, l.Circle) || !now.Before(l.deadline()):", "!covers(r.Circle, l.Circle):"},
}

// notPlayed are the defects that no schedule can show.
var notPlayed = []struct{ defect, why string }{
	{"D-6 the quorum resolver has no next step", "`TestD6PatronisResolverHasNoStep`, in a model of Patroni's resolver; ours has one from every state, `TestAnyIsTotal`"},
}
