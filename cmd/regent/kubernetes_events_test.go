package main

import (
	"testing"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/ha"
)

func TestEventOfADecision(t *testing.T) {
	for _, c := range []struct {
		decided agent.Journaled
		want    kubernetes.Event
	}{
		{agent.Journaled{Reason: ha.Healthiest, Actions: []ha.Action{ha.AcquireLeader{}}}, kubernetes.Event{Reason: "ElectionWon", Message: "healthiest"}},
		{agent.Journaled{Reason: ha.Healthiest, Actions: []ha.Action{ha.AcquireLeader{}}, Errors: []string{"held by b"}}, kubernetes.Event{Reason: "ElectionLost", Message: "healthiest: held by b"}},
		{agent.Journaled{Reason: ha.BootstrapClaim, Actions: []ha.Action{ha.ClaimBootstrap{}, ha.Bootstrap{}}}, kubernetes.Event{Reason: "Bootstrapping", Message: "bootstrap-claim"}},
		{agent.Journaled{Reason: ha.BootstrapClaim, Actions: []ha.Action{ha.ClaimBootstrap{}, ha.Bootstrap{}}, Errors: []string{"b was first"}}, kubernetes.Event{}},
		{agent.Journaled{Reason: ha.BootstrapRun, Actions: []ha.Action{ha.Bootstrap{}}}, kubernetes.Event{Reason: "Bootstrapping", Message: "bootstrap"}},
		{agent.Journaled{Reason: ha.PeerAhead, Detail: "b is 16 bytes ahead"}, kubernetes.Event{Reason: "NotElected", Message: "peer-ahead: b is 16 bytes ahead"}},
		{agent.Journaled{Reason: ha.LockLost, Actions: []ha.Action{ha.Demote{Mode: ha.NoLock}}}, kubernetes.Event{Reason: "LockLost", Message: "lock-lost", Warning: true}},
		{agent.Journaled{Reason: ha.StartTooLong, Actions: []ha.Action{ha.Demote{Mode: ha.Immediate}}}, kubernetes.Event{Reason: "Demoting", Message: "start-too-long", Warning: true}},
		{agent.Journaled{Reason: ha.DirUnusable}, kubernetes.Event{Reason: "Trouble", Message: "data-directory-unusable", Warning: true}},
		{agent.Journaled{Reason: ha.Following}, kubernetes.Event{}},
	} {
		have, ok := eventOf(c.decided)
		if ok != (c.want.Reason != "") || ok && have != c.want {
			t.Errorf("%+v: have %+v, %v, want %+v", c.decided, have, ok, c.want)
		}
	}
}
