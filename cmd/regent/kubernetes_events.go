package main

import (
	"log/slog"
	"strings"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/version"
)

// events tells the decisions that people want to know about as events of the member's pod; elsewhere than in Kubernetes nothing.
func events(s *config.Settings, log *slog.Logger) (journaled func(agent.Journaled), end func(), err error) {
	if s.DCS.Kind != config.InKubernetes {
		return nil, func() {}, nil
	}
	c := kubernetesConfig(s)
	c.Log = log
	e, err := kubernetes.NewEvents(c)
	if err != nil {
		return nil, nil, err
	}
	e.Tell(kubernetes.Event{Reason: "AgentStarted", Message: "Regent " + version.Regent})
	last := kubernetes.Event{}
	return func(j agent.Journaled) {
			if event, ok := eventOf(j); ok && event != last { // a decision that is taken again is one event
				last = event
				e.Tell(event)
			}
		}, func() {
			e.Tell(kubernetes.Event{Reason: "AgentStopped", Message: "Regent " + version.Regent})
			e.Close()
			if n := e.Dropped(); n > 0 {
				log.Warn("events of our pod were dropped", "events", n)
			}
		}, nil
}

// eventReasons are the decisions that make an event, and its reason. docs/operations/kubernetes.md has the table.
var eventReasons = map[ha.Reason]string{
	ha.LagTooHigh: "NotElected", ha.TimelineBehind: "NotElected", ha.NoFailoverTag: "NotElected", ha.NoQuorum: "NotElected", ha.PeerIsPrimary: "NotElected",
	ha.PeerAhead: "NotElected", ha.PeerPreferred: "NotElected", ha.NotSyncStandby: "NotElected", ha.RaceBackoff: "NotElected", ha.CandidateIsOther: "NotElected",
	ha.PausedNoRace: "NotElected", ha.AwaitMembers: "NotElected", ha.NotReadyToRace: "NotElected", ha.WatchdogFailed: "NotElected", ha.OldTimeline: "NotElected",
	ha.PromoteNow: "Promoting", ha.HealthyPrimary: "Leading", ha.PromotionFailed: "PromotionFailed",
	ha.LockLost: "LockLost", ha.LockExpiring: "LockExpiring", ha.NoLongerLeader: "NoLongerLeader", ha.LeaderCannotRun: "LeaderCannotRun",
	ha.SwitchoverStart: "Switchover", ha.HandOver: "HandedOver", ha.SwitchoverAbandon: "SwitchoverAbandoned", ha.RequestImpossible: "FailoverImpossible", ha.RequestInvalid: "FailoverRequestInvalid",
	ha.RewindNeeded: "Rewinding", ha.RewindGaveUp: "RewindImpossible", ha.CloneFromLeader: "Cloning", ha.CloneDiverged: "Cloning", ha.Reinitializing: "Reinitializing", ha.CloneAfterFailure: "CloneFailed",
	ha.CrashRestart: "CrashRecovery", ha.CleanUpCrash: "CrashRecovery", ha.CrashFailover: "CrashFailover", ha.StartFailed: "StartFailed",
	ha.BootstrapFailed: "BootstrapFailed", ha.Leaving: "Leaving", ha.FollowNew: "Following",
}

// eventOf is what a decision is told as; ok false: nobody needs to know.
func eventOf(j agent.Journaled) (event kubernetes.Event, ok bool) {
	event = kubernetes.Event{Reason: eventReasons[j.Reason], Message: string(j.Reason), Warning: j.Reason.Trouble()}
	for _, a := range j.Actions {
		switch a.(type) {
		case ha.AcquireLeader:
			if event.Reason = "ElectionWon"; len(j.Errors) > 0 {
				event.Reason = "ElectionLost"
			}
		case ha.Bootstrap:
			if len(j.Errors) == 0 { // else another member was first
				event.Reason = "Bootstrapping"
			}
		case ha.Demote:
			if event.Reason == "" {
				event.Reason = "Demoting"
			}
		}
	}
	if event.Reason == "" && event.Warning {
		event.Reason = "Trouble"
	}
	for _, text := range append([]string{j.Detail}, j.Errors...) {
		if text != "" {
			event.Message += ": " + strings.ReplaceAll(text, "\n", "; ")
		}
	}
	event.Warning = event.Warning || len(j.Errors) > 0 && event.Reason != "ElectionLost"
	return event, event.Reason != ""
}
