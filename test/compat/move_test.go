package compat

import (
	"strings"
	"testing"

	"github.com/regent-ha/regent/test/rig"
)

// The way of docs/operations/move-from-patroni.md: a cluster of three changes its agents in pause, and changes them back. PostgreSQL
// never stops, nobody else leads, and an application that writes notices nothing. regent adopt says beforehand that it can be done.
func TestMoveInPlace(t *testing.T) {
	needPatroni(t)
	t.Parallel()
	etcd, members := threePatroni(t)
	moveInPlace(t, members, newCtl(t, etcd, rig.Program()), newCtl(t, etcd, patronictl))
}

// moveInPlace moves a cluster of three Patroni members over and back.
func moveInPlace(t *testing.T, members []*rig.Member, ours, theirs ctl) {
	t.Helper()
	leader := members[0]
	started := func() (list []string) {
		for _, m := range members {
			at, err := m.SQL("select pg_postmaster_start_time() || ' timeline ' || timeline_id from pg_control_checkpoint()")
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, m.Name+" "+at)
		}
		return list
	}
	before := started()
	w := rig.StartWriter(t, leader)
	for _, m := range members {
		adopt := ctl{[]string{rig.Program()}, m.Dir}
		adopt.want(t, []string{
			"ok       cluster " + rig.Scope + ": system identifier", "ok       leader demo-0", "ok       member demo-1", "on the machine of demo-1, then of demo-2, then of demo-0:", "pause " + rig.Scope + " --wait",
		}, "adopt", m.File())
	}
	change := func(c ctl, command func(*rig.Member) []string) {
		t.Helper()
		pause(t, c, members...)
		for _, m := range []*rig.Member{members[1], members[2], leader} {
			m.Stop(t)
			m.Command = command(m)
			m.Start(t)
			rig.Wait(t, m.Name+" is back as what it was", func() bool {
				if m == leader {
					return m.IsPrimary()
				}
				return m.IsStreaming()
			})
			w.Advance(t)
		}
		resume(t, c, members...)
		w.Advance(t)
	}
	change(theirs, func(m *rig.Member) []string { return []string{rig.Program(), "agent", m.File()} })
	adopt := ctl{[]string{rig.Program()}, leader.Dir}
	adopt.want(t, []string{"nothing is left to do: every member is Regent's"}, "adopt", leader.File())
	ours.want(t, []string{"demo-0", "Leader"}, "list", rig.Scope)

	// It is a cluster like any other: somebody takes over and hands back.
	if have := started(); strings.Join(have, "\n") != strings.Join(before, "\n") {
		t.Errorf("PostgreSQL did not just go on: have %q, want %q", have, before)
	}
	change(ours, func(m *rig.Member) []string { return []string{patroni, m.File()} })
	if have := started(); strings.Join(have, "\n") != strings.Join(before, "\n") {
		t.Errorf("PostgreSQL did not just go on: have %q, want %q", have, before)
	}
	w.Check(t, leader)
	if gaps, err := leader.SQL("select max(n) - count(*) from written"); gaps != "0" {
		t.Errorf("the application met %s errors (%v), want none", gaps, err)
	}
}
