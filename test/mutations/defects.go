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
		// /sync still names the leader of before when PostgreSQL is promoted, and is written in the first cycle after that.
		{Name: "D-5 /sync names the dead leader until the first write after the promotion", Args: []string{"--quorum"}, Expect: []string{"V6", "V7"}, Edits: []edit{
			{haSync, "actions := []Action{WriteSync{cluster.Sync{Leader: v.Self, Revision: s.Revision}}}", "actions := []Action{}"},
			{haLeader, "case v.ousted() && !v.Limits.Paused:", "case false:"},
		}},
	}
}

// notPlayed are the defects that no schedule can show.
var notPlayed = []struct{ defect, why string }{
	{"D-4 failsafe accepted after the lock was taken", "no schedule can show it: a promise that comes after the right has ended moves nothing (`TestNothingElseMovesTheDeadline`), and none is given from when the lock is asked for (`TestNoPromiseWhileTheLockIsAskedFor`)"},
	{"D-6 the quorum resolver has no next step", "`TestD6PatronisResolverHasNoStep`, in a model of Patroni's resolver; ours has one from every state, `TestAnyIsTotal`"},
}
