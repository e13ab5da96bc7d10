package main

// defects are variants of the core that behave as Patroni 4.1.4 does where ha.md section 7 found a defect. Each must fail in the
// simulator within its schedules, where ours, in the same ones, does not.
//
// D-4 needs failsafe mode and D-5 quorum mode; neither is built yet, so neither can be shown. D-6 is shown in a model of
// Patroni's resolver, in resolver_test.go.
func defects() []mutation {
	return []mutation{
		// The lock is taken to last a ttl from the answer, and a leader that cannot renew it goes on as long as it believes to have it.
		{Name: "D-1 lock expiry starts at the reply", Expect: []string{"V1", "V3"}, Edits: []edit{
			{loopLease, "l.lock, l.failures = lock, 0\n\t\tl.next", "l.lock, l.failures = lock, 0\n\t\tl.lock.Deadline = lock.Deadline.Add(now.Sub(sent))\n\t\tl.next"},
			{loopLease, "l.held, l.refused, l.lock, l.failures = true, false, lock, 0\n", "l.held, l.refused, l.lock, l.failures = true, false, lock, 0\n\t\t\tl.lock.Deadline = lock.Deadline.Add(now.Sub(sent))\n"},
		}},
		// An agent that ends has left its loop: nothing renews the lock while PostgreSQL stops, and nothing fences it.
		{Name: "D-2 nothing renews the lock while a leaving leader stops", Expect: []string{"V1", "V2", "V3", "V19"}, Edits: []edit{
			{haDecide, "case v.Asked.Leave:\n\t\treturn v.leaving()", "case v.Asked.Leave:\n\t\td := v.leaving()\n\t\td.Permit = false\n\t\treturn d"},
			{haDecide, "if d, ok := v.fence(); ok {\n\t\treturn d\n\t}\n\tswitch {\n\tcase v.Asked.Leave:", "if d, ok := v.fence(); ok && !v.Asked.Leave {\n\t\treturn d\n\t}\n\tswitch {\n\tcase v.Asked.Leave:"},
		}},
		// The empty initialize key has no owner: a member that dies in its bootstrap holds up all others for ever.
		{Name: "D-3 a dead bootstrapper blocks the cluster", Expect: []string{"V18"}, Edits: []edit{
			{haDirectory, "if v.Store.Bootstrapper == \"\" {\n\t\treturn true", "if true {\n\t\treturn true"},
		}},
	}
}
