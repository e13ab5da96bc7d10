package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// sentence is what Patroni logs where it decides the same: operators and their tools look for it. Words in braces are filled in.
type sentence struct {
	reason Reason
	when   circumstance
	text   string // its last line is the decision's own; lines before it stand alone
}

// circumstance narrows a reason down where Patroni has more than one sentence.
type circumstance string

const (
	anyhow     circumstance = ""
	acquiring  circumstance = "the lock is taken"
	standing   circumstance = "in a standby cluster"
	taking     circumstance = "in a standby cluster; the lock is taken"
	leading    circumstance = "in a standby cluster; the lock is this member's"
	founds     circumstance = "a new standby cluster is made"
	promoting  circumstance = "PostgreSQL is promoted"
	demoting   circumstance = "PostgreSQL is stopped"
	releasing  circumstance = "the lock is released"
	bootstraps circumstance = "a new cluster is made"
	cloning    circumstance = "from a leader"
	rewinding  circumstance = "pg_rewind is run"
	holding    circumstance = "the lock is held"
	otherLeads circumstance = "another member has the lock"
	requested  circumstance = "a switchover or failover is asked for"
	paused     circumstance = "paused"
	broken     circumstance = "the data directory has a problem"
	waiting    circumstance = "nothing is done"
)

// sentences are tried in this order. Reasons that are not among them are ours alone.
var sentences = []sentence{
	{HealthyPrimary, anyhow, "no action. I am ({me}), the leader with the lock"},
	{StandbyLeading, anyhow, "no action. I am ({me}), the standby leader with the lock"},
	{Following, standing, "no action. I am ({me}), a secondary, and following a standby leader ({leader})"},
	{Following, anyhow, "no action. I am ({me}), a secondary, and following a leader ({leader})"},
	{PausedNoRace, anyhow, "no action. I am ({me})"},
	{PausedPrimary, anyhow, "continue to run as primary without lock"},
	{PausedLockRefused, anyhow, "continue to run as primary after failing to update leader lock in DCS"},
	{PausedNotPrimary, releasing, "removed leader lock because postgres is not running as primary"},
	{Busy, holding, "updated leader lock during {job}"},
	{Busy, anyhow, "{job} in progress"},
	{JoinFirst, anyhow, "No initialize key in DCS and PostgreSQL is running as replica, aborting start"},
	{Left, paused, "Leader key is not deleted and Postgresql is not stopped due paused state"},

	{LockLost, otherLeads, "demoting self because I do not have the lock and I was a leader"},
	{LockLost, anyhow, "demoted self because failed to update leader lock in DCS"},
	{LockExpiring, demoting, "demoting self because DCS is not accessible and I was a leader"},
	{StoreAway, anyhow, "DCS is not accessible"},
	{FailsafeActive, anyhow, "continue to run as a leader because failsafe mode is enabled and all members are accessible"},

	{DirUnusable, releasing, "released leader key voluntarily as data dir {directory} and currently leader"},
	{DirUnusable, broken, "data directory is not accessible: {problem}"},
	{BootstrapClaim, founds, "trying to bootstrap a new standby leader"},
	{BootstrapRun, founds, "trying to bootstrap a new standby leader"},
	{BootstrapClaim, bootstraps, "trying to bootstrap a new cluster"},
	{BootstrapRun, anyhow, "trying to bootstrap a new cluster"},
	{BootstrapDone, acquiring, "initialized a new cluster"},
	{BootstrapFailed, anyhow, "removing initialize key after failed attempt to bootstrap the cluster"},
	{BootstrapOther, anyhow, "waiting for leader to bootstrap"},
	{CannotBootstrap, anyhow, "waiting for leader to bootstrap"},
	{WaitForLeader, standing, "waiting for standby_leader to bootstrap"},
	{WaitForLeader, anyhow, "waiting for leader to bootstrap"},
	{CloneFromLeader, cloning, "trying to bootstrap from leader '{leader}'"},
	{CloneFromLeader, anyhow, "trying to bootstrap (without leader)"},

	{StillStarting, holding, "PostgreSQL is still starting up, {seconds} seconds until timeout"},
	{StartTooLong, demoting, "stopped PostgreSQL because of startup timeout"},
	{StartTooLong, waiting, "primary start has timed out, but continuing to wait because failover is not possible"},
	{JobTooLong, demoting, "stopped PostgreSQL because of startup timeout"},
	{JobTooLong, waiting, "primary start has timed out, but continuing to wait because failover is not possible"},
	{CrashRestart, anyhow, "starting primary after failure"},
	{CrashFailover, releasing, "stopped PostgreSQL to fail over after a crash"},
	{StartFailed, anyhow, "failed to start postgres"},
	{LeaderCannotRun, releasing, "removed leader key after trying and failing to start postgres"},
	{StartToPromote, anyhow, "starting as readonly because i had the session lock"},
	{CleanUpCrash, anyhow, "doing crash recovery in a single user mode"},
	{RewindNeeded, rewinding, "running pg_rewind from {source}"},
	{CloneDiverged, anyhow, "reinitializing due to diverged timelines"},
	{StartReplica, leading, "starting as a standby leader because i had the session lock"},
	{StartReplica, anyhow, "starting as a secondary"},
	{StayDown, releasing, "removed leader lock because postgres is not running"},
	{StayDown, anyhow, "postgres is not running"},

	{Healthiest, promoting, "promoted self to leader by acquiring session lock"},
	{CandidateIsMe, promoting, "promoted self to leader by acquiring session lock"},
	{Healthiest, taking, "promoted self to a standby leader by acquiring session lock"},
	{CandidateIsMe, taking, "promoted self to a standby leader by acquiring session lock"},
	{Healthiest, acquiring, "acquired session lock as a leader"},
	{CandidateIsMe, acquiring, "acquired session lock as a leader"},
	{RunningPrimary, acquiring, "acquired session lock as a leader"},
	{LagTooHigh, anyhow, "My wal position exceeds maximum replication lag\nfollowing a different leader because i am not the healthiest node"},
	{TimelineBehind, anyhow, notHealthiest},
	{NoQuorum, anyhow, notHealthiest},
	{PeerIsPrimary, anyhow, notHealthiest},
	{PeerAhead, anyhow, notHealthiest},
	{PeerPreferred, anyhow, notHealthiest},
	{NotSyncStandby, anyhow, notHealthiest},
	{CandidateIsOther, anyhow, notHealthiest},
	{NoFailoverTag, anyhow, "following a different leader because I am not allowed to promote"},
	{WatchdogFailed, demoting, "Demoting self because watchdog could not be activated"},
	{WatchdogFailed, releasing, "Not promoting self because watchdog could not be activated"},

	{PromoteNow, promoting, "promoted self to leader because I had the session lock"},
	{RequestImpossible, anyhow, "{request}: no healthy members found, {action} is not possible"},
	{SwitchoverStart, demoting, "{request}: demoting myself"},
	{SwitchoverWait, requested, "{request}: demote in progress"},
}

const notHealthiest = "following a different leader because i am not the healthiest node"

// jobWords are Patroni's names of what can take long; the others have none.
var jobWords = map[JobName]string{
	JobBootstrap: "bootstrap", JobClone: "bootstrap from leader '{leader}'", JobStart: "restarting after failure", JobStartPrimary: "starting primary after failure",
	JobPromote: "promote", JobSwitchover: "{request}: demote", JobRecover: "doing crash recovery in a single user mode", JobRewind: "running pg_rewind from {source}",
	JobRestart: "restart",
}

// modeWords are Patroni's names of the ways to stop.
var modeWords = map[StopMode]string{Graceful: "graceful", Offline: "offline", Immediate: "immediate", NoLock: "immediate-nolock", ToStandby: "demote-cluster"}

// idle begins the sentence of a member that has nothing to do, which Patroni repeats in each cycle.
const idle = "no action. "

// Say is what Patroni would log of this decision: lines of their own, and the sentence, empty where it has none. heartbeat says that it is
// one that Patroni repeats in each cycle.
func (d *Decision) Say(v *View) (lines []string, say string, heartbeat bool) {
	for _, s := range sentences {
		if s.reason == d.Reason && d.fits(v, s.when) {
			say = v.fill(s.text)
			break
		}
	}
	if strings.Contains(say, "{") {
		say = "" // something is not known, or has no name there
	}
	heartbeat = strings.HasPrefix(say, idle)
	if say != "" && !heartbeat && v.Store != nil {
		owner := "None"
		if v.leader() != "" {
			owner = v.leader()
		}
		lines = append(lines, "Lock owner: "+owner+"; I am "+v.Self)
	}
	for _, a := range d.Actions {
		if line := d.sayAction(a); line != "" {
			lines = append(lines, line)
		}
	}
	if i := strings.LastIndexByte(say, '\n'); i >= 0 {
		lines, say = append(lines, strings.Split(say[:i], "\n")...), say[i+1:]
	}
	if say != "" && v.Limits.Paused {
		say = "PAUSE: " + say
	}
	return lines, say, heartbeat
}

// sayAction is what Patroni logs of a single action.
func (d *Decision) sayAction(a Action) string {
	switch a := a.(type) {
	case Demote:
		if word := modeWords[a.Mode]; word != "" {
			return "Demoting self (" + word + ")"
		}
	case ReleaseLeader:
		return "Leader key released"
	case WriteFailover:
		taken := does[AcquireLeader](d)
		switch {
		case taken && a.Failover.Requested():
			return "Updating failover key after acquiring leader lock..."
		case taken:
			return "Cleaning up failover key after acquiring leader lock..."
		case !a.Failover.Requested():
			return "Cleaning up failover key"
		}
	}
	return ""
}

func does[A Action](d *Decision) bool {
	return slices.ContainsFunc(d.Actions, func(a Action) bool { _, is := a.(A); return is })
}

func (d *Decision) fits(v *View, c circumstance) bool {
	switch c {
	case acquiring:
		return does[AcquireLeader](d)
	case standing:
		return v.standby()
	case taking:
		return v.standby() && does[AcquireLeader](d)
	case leading:
		return v.standbyRole() == cluster.StandbyLeader
	case founds:
		return v.standby() && does[Clone](d)
	case promoting:
		return does[Promote](d)
	case demoting:
		return does[Demote](d)
	case releasing:
		return does[ReleaseLeader](d)
	case bootstraps:
		return does[Bootstrap](d)
	case cloning:
		return does[Clone](d) && v.leader() != "" && v.leader() != v.Self
	case rewinding:
		return does[Rewind](d)
	case holding:
		return v.Lock.Held
	case otherLeads:
		return v.leader() != "" && v.leader() != v.Self
	case requested:
		return v.Store != nil && v.Store.Failover.Requested()
	case paused:
		return v.Limits.Paused
	case broken:
		return v.Postgres.DirProblem != ""
	case waiting:
		return len(d.Actions) == 0
	}
	return true
}

// fill puts in what is known; the rest stays as it is.
func (v *View) fill(text string) string {
	if v.Job != nil {
		if word := jobWords[v.Job.Name]; word != "" {
			text = strings.ReplaceAll(text, "{job}", word)
		}
	}
	known := []string{"{me}", v.Self}
	if l := v.leader(); l != "" {
		known = append(known, "{leader}", l)
	}
	if up, ok := v.origin(); ok {
		known = append(known, "{source}", up.String())
	}
	directory := "not accessible"
	if v.Postgres.Dir == cluster.DirMissing || v.Postgres.Dir == cluster.DirEmpty {
		directory = "empty"
	}
	known = append(known, "{directory}", directory, "{problem}", v.Postgres.DirProblem)
	if left := v.startTimeout() - v.since(v.Memory.Silent); !v.Memory.Silent.IsZero() {
		known = append(known, "{seconds}", fmt.Sprintf("%.0f", max(left, 0).Round(time.Second).Seconds()))
	}
	if v.Store != nil && v.Store.Failover.Requested() {
		request, action := "manual failover", "failover"
		if v.Store.Failover.Switchover() {
			request, action = "switchover", "switchover"
		}
		known = append(known, "{request}", request, "{action}", action)
	}
	return strings.NewReplacer(known...).Replace(text)
}
