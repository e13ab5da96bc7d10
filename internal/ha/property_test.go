package ha

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/quorum"
)

// anyView draws a View of anything that can come together, also of what should not.
func anyView(t *rapid.T) View {
	flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
	rarely := func(name string) bool { return rapid.IntRange(0, 4).Draw(t, name) == 0 }
	name := func(label string) string { return rapid.SampledFrom([]string{"pg1", "pg2", "pg3"}).Draw(t, label) }
	maybe := func(label string) string { return rapid.SampledFrom([]string{"", "pg1", "pg2", "pg3"}).Draw(t, label) }
	ago := func(label string) time.Time {
		return epoch.Add(-rapid.SampledFrom([]time.Duration{0, 50 * time.Millisecond, time.Second, 4 * time.Second, 11 * time.Second, 40 * time.Second, time.Hour}).Draw(t, label))
	}
	seldom := func(label string) time.Time {
		if flag(label + " never") {
			return time.Time{}
		}
		return ago(label)
	}
	at := func(label string) cluster.LSN {
		return rapid.SampledFrom([]cluster.LSN{0x5000060, 0x5000060, 0x5000100, 0x9000000}).Draw(t, label)
	}
	tl := func(label string) cluster.Timeline { return cluster.Timeline(rapid.IntRange(1, 3).Draw(t, label)) }
	oneOf := func(label string, texts ...string) string { return rapid.SampledFrom(texts).Draw(t, label) }

	v := healthyView(epoch, "pg1")
	l := &v.Limits
	l.Paused, l.CanBootstrap = rarely("paused"), flag("can bootstrap")
	if rarely("standby cluster") {
		l.Type = cluster.FollowsAnother
	}
	l.Sync.Wanted, l.Sync.Strict = 1, rarely("strict")
	if rarely("sync") {
		l.Sync.Mode = rapid.SampledFrom([]cluster.SyncMode{cluster.SyncOn, cluster.SyncQuorum}).Draw(t, "synchronous_mode")
	}
	l.HasConfig, l.UseRewind, l.RemoveOnRewindFailure, l.RemoveOnDivergence = flag("has config"), flag("use rewind"), flag("remove on failure"), flag("remove on divergence")
	l.NoLeaderClone, l.CheckTimeline = rarely("no leader clone"), rarely("check timeline")
	if rarely("primary start 0") {
		l.PrimaryStart = 0
	}
	v.Tags.NoFailover, v.Tags.NoStream, v.Tags.ReplicateFrom = rarely("nofailover"), rarely("nostream"), oneOf("replicatefrom", "", "", "pg2", "pg9")

	if !rarely("store away") {
		b := builder{v: v}
		b.store(words{noun: "store"})
		s := b.v.Store
		s.Leader.Name = maybe("leader")
		s.Status.Optime = at("optime")
		s.History = cluster.History{Present: flag("history")}
		for i := cluster.Timeline(1); i < tl("cluster timeline") && s.History.Present; i++ {
			s.History.Entries = append(s.History.Entries, cluster.HistoryEntry{Timeline: i, NewLeader: maybe("history leader")})
		}
		switch oneOf("initialize", "good", "good", "good", "other", "empty", "absent", "invalid") {
		case "other":
			s.Initialize.SystemID = otherID
		case "empty":
			s.Initialize.SystemID = ""
		case "absent":
			s.Initialize = cluster.Initialize{}
		case "invalid":
			s.Initialize = cluster.Initialize{Present: true, Invalid: true}
		}
		s.Bootstrapper = maybe("bootstrapper")
		if rarely("/sync") {
			s.Sync = cluster.Sync{Leader: name("sync leader"), Standbys: []string{name("sync standby")}, Quorum: rapid.IntRange(0, 2).Draw(t, "quorum")}
		}
		if rarely("failover") {
			s.Failover = cluster.Failover{From: maybe("from"), Candidate: maybe("candidate"), BadSchedule: rarely("bad schedule"), Revision: 9}
			if rarely("scheduled") {
				when := epoch.Add(time.Duration(rapid.IntRange(-20, 20).Draw(t, "when")) * time.Second)
				s.Failover.ScheduledAt = &when
			}
		}
		if rarely("a key is gone") {
			i := rapid.IntRange(0, 2).Draw(t, "which key")
			s.Members = slices.Delete(s.Members, i, i+1)
		}
		v.Store = s
	}

	v.Lock = Lock{Held: flag("held"), Deadline: epoch.Add(rapid.SampledFrom([]time.Duration{-time.Minute, -time.Millisecond, 0, time.Second, 20 * time.Second}).Draw(t, "left"))}
	v.Lock.Refused = !v.Lock.Held && rarely("refused")

	p := &v.Postgres
	p.Dir = cluster.DirState(oneOf("dir", "present", "present", "present", "present", "missing", "empty", "foreign", "unreadable"))
	if p.Dir == cluster.DirPresent {
		p.SystemID = oneOf("system id", ownID, ownID, ownID, otherID, "")
		p.Version = 150004
		p.DirProblem = oneOf("interrupted", "", "", "", "an interrupted rewind")
		if flag("control") {
			p.Control = &cluster.Control{State: cluster.ControlState(oneOf("control state", "shut down", "in production", "shutting down", "in crash recovery", "shut down in recovery", "in archive recovery")), Checkpoint: at("checkpoint")}
		}
	}
	p.StandbySignal, p.BackupLabel = flag("signal"), rarely("backup label")
	if flag("running") {
		p.Pid, p.SingleUser = 100, rarely("single user")
		p.Ready = cluster.Readiness(oneOf("ready", "accepting", "accepting", "rejecting", "no response"))
		p.Queried = flag("queried")
		p.InRecovery = p.Queried && flag("in recovery")
		p.Timeline, p.Write, p.Flush, p.Received, p.Replayed = tl("timeline"), at("write"), at("flush"), at("received"), at("replayed")
		p.ReplayPaused = rarely("replay paused")
		if flag("receiver") {
			p.Receiver = &cluster.Receiver{Status: oneOf("receiver status", "streaming", "starting")}
		}
		p.Upstream = cluster.Upstream{Host: maybe("upstream"), Port: 5432}
		p.Slots = []cluster.Slot{{Name: "pg2", Type: "physical", Restart: at("slot"), Active: flag("active")}}
	}
	if flag("polled") {
		v.Poll = &Poll{At: ago("poll"), Answers: map[string]Answer{}}
		for _, peer := range []string{"pg2", "pg3"} {
			if !rarely("not asked") {
				v.Poll.Asked = append(v.Poll.Asked, member(peer, "", 1))
				v.Poll.Answers[peer] = Answer{Reachable: flag("reachable"), Primary: rarely("peer primary"), Position: at("peer position"), Timeline: tl("peer timeline"), NoFailover: rarely("peer nofailover"), WatchdogFailed: rarely("peer watchdog"), Priority: rapid.IntRange(1, 2).Draw(t, "peer priority"), Isolated: rarely("isolated")}
			}
		}
	}
	if flag("compared") {
		v.Divergence = &Divergence{Leader: name("compared with"), Timeline: cluster.Timeline(rapid.IntRange(0, 3).Draw(t, "compared timeline")), Verdict: Verdict(oneOf("verdict", "unknown", "not-needed", "needed")), CanRewind: flag("can rewind"), At: ago("compared at")}
	}
	names := []string{"bootstrap", "clone", "start", "start-primary", "promote", "switchover", "demote", "crash-recovery", "rewind", "divergence-check", "restart", "follow", "copy-slots"}
	if rarely("job") {
		v.Job = &Job{Name: JobName(oneOf("job name", names...)), Since: ago("job since"), Mode: StopMode(oneOf("mode", "offline", "immediate", "no-lock", "shutdown")), Checkpoint: rapid.SampledFrom([]cluster.LSN{0, 0x5000100}).Draw(t, "job checkpoint")}
	}
	if flag("ended") {
		v.Ended = &Ended{Name: JobName(oneOf("ended name", names...)), At: ago("ended at"), Error: oneOf("error", "", "it broke"), Impossible: flag("impossible"), Checkpoint: rapid.SampledFrom([]cluster.LSN{0, 0x5000100}).Draw(t, "ended checkpoint")}
	}
	v.Asked.Leave = rarely("leave")
	if rarely("restart") {
		v.Asked.Restart = &Restart{ID: 1}
	}
	if rarely("reinitialize") {
		v.Asked.Reinitialize = &Reinitialize{ID: 1}
	}
	v.Checkpointed = cluster.Timeline(rapid.IntRange(0, 3).Draw(t, "checkpointed"))
	m := &v.Memory
	m.Role = cluster.Role(oneOf("role", "", "primary", "replica"))
	m.Down, m.Silent, m.Dry, m.Leaderless = seldom("down"), seldom("silent"), seldom("dry"), seldom("leaderless")
	m.Unlocked, m.HandedOver, m.Answered, m.Rebuilt, m.RewindTried = seldom("unlocked"), seldom("handed over"), seldom("answered"), seldom("rebuilt"), seldom("rewind tried")
	m.CrashTried, m.RewindFailed, m.GiveUp, m.Joined = flag("crash tried"), flag("rewind failed"), rarely("give up"), flag("joined")
	if rarely("backs off") {
		m.NoRaceUntil = epoch.Add(10 * time.Second)
	}
	if flag("permanent slots") {
		v.Limits.Slots.Permanent = []cluster.PermanentSlot{{Name: "backup", Type: cluster.PhysicalSlot}, {Name: "cdc", Type: cluster.LogicalSlot, Database: "app", Plugin: "test_decoding"}}
		v.Limits.Slots.Unreadable = rarely("unreadable")
		for _, p := range v.Limits.Slots.Permanent {
			if v.Postgres.Queried && flag("has "+p.Name) {
				v.Postgres.Slots = append(v.Postgres.Slots, cluster.Slot{Name: p.Name, Type: oneOf("type", p.Type, p.Type, p.Type, "physical"), Database: p.Database, Plugin: p.Plugin, Restart: at("permanent slot"), ConfirmedFlush: at("confirmed"), Active: rarely("read"), CatalogXmin: 700, HasXmin: rarely("xmin")})
			}
		}
		if v.Store != nil && flag("published") {
			v.Store.Status.Slots = map[string]cluster.LSN{"backup": at("published"), "cdc": at("published")}
		}
	}
	if flag("slots told") {
		v.SlotNews = &SlotNews{At: ago("slots told at"), Leader: maybe("slots of"), Xmin: map[string]uint32{"pg1": 700, "cdc": 700}}
		if rarely("slot broken") {
			v.SlotNews.Broken = []string{"cdc"}
		}
	}
	if flag("slots seen") {
		m.SlotSeen = map[string]time.Time{"pg2": ago("pg2 seen"), "pg4": ago("pg4 seen")}
	}
	return v
}

// has returns the first action of that type.
func has[A Action](d Decision) (a A, ok bool) {
	for _, action := range d.Actions {
		if a, ok = action.(A); ok {
			return a, true
		}
	}
	return a, false
}

// writing is said in other words than in the code that it checks: PostgreSQL may accept a commit now or in a moment.
func writing(v View) bool {
	p := v.Postgres
	running := p.Pid != 0 && !p.SingleUser
	recovering := p.StandbySignal
	if p.Queried {
		recovering = p.InRecovery
	}
	may := running && !recovering
	if j := v.Job; j != nil {
		switch {
		case j.Name == JobPromote, j.Name == JobStartPrimary:
			may = true
		case j.Name == JobBootstrap, j.Name == JobSwitchover && j.Checkpoint != 0:
			may = false
		}
	}
	return may
}

func TestDecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		before := asJSON(t, v)
		d := Decide(v)
		if again := Decide(v); !reflect.DeepEqual(d, again) {
			t.Fatalf("have two decisions for one View:\n%+v\n%+v", d, again)
		}
		v.Election()
		if after := asJSON(t, v); before != after {
			t.Fatalf("Decide changed its View from\n%s\nto\n%s", before, after)
		}
		if d.Reason == "" || d.Within < 0 || d.Within > v.Limits.LoopWait {
			t.Fatalf("have reason %q and %s, want a reason and 0 to %s", d.Reason, d.Within, v.Limits.LoopWait)
		}
		checkSafety(t, v, d)
		checkElection(t, v, d)
		checkSync(t, v, d)
		checkPause(t, v, d)
		checkSlots(t, v, d)
	})
}

func asJSON(t *rapid.T, v View) string {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkSafety: V1 to V3, V13.
func checkSafety(t *rapid.T, v View, d Decision) {
	live := v.Lock.Held && v.Now.Before(v.Lock.Deadline)
	leader := ""
	if v.Store != nil {
		leader = v.Store.Leader.Name
	}
	_, demote := has[Demote](d)
	stopping := v.Job != nil && v.Job.Name == JobDemote
	if d.Permit && !live {
		t.Fatal("the permission to hold the lock is given without a live lock")
	}
	if writing(v) && !live && !v.Limits.Paused && !demote && !stopping {
		waited := !v.Memory.Unlocked.IsZero() && v.Now.Sub(v.Memory.Unlocked) >= v.Limits.TTL-v.Limits.Reserve
		adopted := !waited && !v.Lock.Held && !v.Lock.Refused && v.Store != nil && (leader == "" || leader == v.Self)
		founded := v.Ended != nil && v.Ended.Name == JobBootstrap && v.Ended.Error == "" && v.Now.Sub(v.Ended.At) < v.Limits.TTL && !v.Lock.Held && !v.Lock.Refused && (leader == "" || leader == v.Self)
		if !adopted && !founded {
			t.Fatalf("PostgreSQL writes without a live lock and nothing stops it: %s: %v", d.Reason, d.Actions)
		}
	}
	if _, ok := has[ReleaseLeader](d); ok && writing(v) && !v.Limits.Paused && !stopping {
		t.Fatalf("the lock is released while PostgreSQL may write: %s: %v", d.Reason, d.Actions)
	}
	if c, ok := has[Clone](d); ok && (c.Remove || c.Replace) && c.Request == 0 && (v.Lock.Held || writing(v)) {
		t.Fatalf("data is removed that may be the newest: %s: %v", d.Reason, d.Actions)
	}
	if _, ok := has[Rewind](d); ok && (v.Lock.Held || writing(v)) {
		t.Fatalf("the lock holder or a primary is rewound: %s: %v", d.Reason, d.Actions)
	}
	if _, ok := has[StartPrimary](d); ok && !(live && leader == v.Self) {
		t.Fatalf("a primary is started without a live lock: %s: %v", d.Reason, d.Actions)
	}
	if _, ok := has[Bootstrap](d); ok && (v.Postgres.Dir == cluster.DirPresent || leader != "" || v.Store == nil) {
		t.Fatalf("a cluster is made over another one: %s: %v", d.Reason, d.Actions)
	}
}

// checkSync: V5. A commit must not cease to wait for who may still be in /sync, nor a member write that others of /sync know nothing of.
func checkSync(t *rapid.T, v View, d Decision) {
	if !v.Limits.Sync.Mode.Active() {
		return
	}
	written := false
	for _, a := range d.Actions {
		switch a := a.(type) {
		case WriteSync:
			written = true
			names, _ := quorum.ParseNames(v.Postgres.SyncNames)
			for _, name := range a.Sync.Standbys {
				if v.Limits.Sync.Mode == cluster.SyncOn && v.Postgres.Queried && !v.Postgres.InRecovery && !names.Waits(name) && !slices.Contains(v.Store.Sync.Standbys, name) {
					t.Fatalf("%s is to be in /sync, and commits wait for %q: %s: %v", name, v.Postgres.SyncNames, d.Reason, d.Actions)
				}
			}
		case RequireSync, Promote:
			if !written {
				t.Fatalf("%s without a word in /sync before: %s: %v", a, d.Reason, d.Actions)
			}
		}
	}
}

// checkSlots: V17. Nothing is dropped that is used or not understood, and no slot is moved back or past what we have.
func checkSlots(t *rapid.T, v View, d Decision) {
	end := v.Postgres.Flush
	if v.Postgres.InRecovery {
		end = v.Postgres.Replayed
	}
	here := func(name string) (found cluster.Slot) {
		for _, s := range v.Postgres.Slots {
			if s.Name == name {
				found = s
			}
		}
		return found
	}
	moved := func(name string, from, to cluster.LSN) {
		if to != 0 && (to > end || to <= from) {
			t.Fatalf("slot %s at %s is moved to %s, we have %s: %s", name, from, to, end, d.Reason)
		}
	}
	gone := func(name string) {
		if s := here(name); s.Active || v.Limits.Paused || v.Limits.Slots.Unreadable {
			t.Fatalf("slot %+v is dropped: %s", s, d.Reason)
		}
	}
	if a, ok := has[SyncSlots](d); ok {
		for _, name := range a.Drop {
			gone(name)
		}
		for _, w := range a.Want {
			if w.Anew != "" {
				gone(w.Name)
			} else {
				moved(w.Name, here(w.Name).Restart, w.Advance)
			}
		}
	}
	if a, ok := has[TendSlots](d); ok {
		for _, m := range a.Advance {
			moved(m.Name, here(m.Name).ConfirmedFlush, m.To)
		}
		if len(a.Create) > 0 && (v.Postgres.InRecovery || v.Store.Leader.Name != v.Self) {
			t.Fatalf("a logical slot is made on a standby: %s: %v", d.Reason, d.Actions)
		}
	}
	if _, ok := has[CopySlots](d); ok && (v.Limits.Paused || !v.Postgres.InRecovery || v.Store.Leader.Name == v.Self) {
		t.Fatalf("slots are copied: %s: %v", d.Reason, d.Actions)
	}
}

// checkElection: V2, V8, V10.
func checkElection(t *rapid.T, v View, d Decision) {
	_, acquire := has[AcquireLeader](d)
	_, promote := has[Promote](d)
	if !acquire && !promote {
		return
	}
	if v.Store == nil {
		t.Fatalf("the lock is taken without the store: %s", d.Reason)
	}
	leader := v.Store.Leader.Name
	live := v.Lock.Held && v.Now.Before(v.Lock.Deadline)
	if acquire && leader != "" && leader != v.Self {
		t.Fatalf("the lock of %s is taken: %s", leader, d.Reason)
	}
	if promote && !acquire && !(live && leader == v.Self) {
		t.Fatalf("a promotion without a live lock: %s", d.Reason)
	}
	if promote && (!v.Postgres.Queried || !v.Postgres.InRecovery || v.Job != nil) {
		t.Fatalf("a promotion of what is no running standby: %s", d.Reason)
	}
	if leader == v.Self || !v.Postgres.InRecovery || d.Reason == BootstrapDone {
		return // held already, a running primary, or a cluster that nobody else has
	}
	f := v.Store.Failover
	if f.Candidate == v.Self {
		return // asked for by an operator
	}
	p := &v.Postgres
	sync := v.syncActive()
	switch {
	case v.Limits.Paused, v.Tags.NoFailover, v.Now.Before(v.Memory.NoRaceUntil):
		t.Fatalf("a member that may not lead races: %s", d.Reason)
	case v.Store.Status.Optime > p.Position()+v.Limits.MaxLag && f.From == "" && f.Candidate == "" && !v.syncLeader(v.Self) && !v.fromRemote():
		t.Fatalf("a member races that lags too far: %s", d.Reason)
	case sync && v.Store.Sync.Leader != v.Self && !slices.Contains(v.Store.Sync.Standbys, v.Self):
		t.Fatalf("a member races that is not in /sync: %s", d.Reason)
	case v.Poll == nil:
		t.Fatalf("a member races without asking: %s", d.Reason)
	}
	for name, a := range v.Poll.Answers {
		if a.Reachable && a.Primary {
			t.Fatalf("a member races although %s is a primary: %s", name, d.Reason)
		}
	}
}

// checkPause: V15.
func checkPause(t *rapid.T, v View, d Decision) {
	asked := v.Asked.Restart != nil || v.Asked.Reinitialize != nil || v.Store != nil && v.Store.Failover.Requested() || !v.Memory.HandedOver.IsZero() || v.Job != nil
	if !v.Limits.Paused || asked {
		return
	}
	for _, a := range d.Actions {
		switch a.(type) {
		case Demote, Promote, StartPrimary, StartStandby, RestartPostgres, Bootstrap, Clone, Recover, Rewind:
			t.Fatalf("something is done in pause that nobody asked for: %s: %v", d.Reason, d.Actions)
		}
	}
}

// Where a site is to be survived, commits never wait for members of two kinds, other sites' and others; and from waiting for another site a primary goes
// over to not waiting only when the store knows nobody elsewhere who may come. Whatever else is decided, and whatever the names were before (ADR 24).
func TestSitesAreNotMixed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		v.Limits.Survive, v.Limits.Type = cluster.SurviveSite, cluster.OwnPrimary
		v.Limits.Sync.Mode = rapid.SampledFrom([]cluster.SyncMode{cluster.SyncOn, cluster.SyncQuorum}).Draw(t, "mode")
		v.Limits.Sync.Wanted = rapid.IntRange(1, 3).Draw(t, "node count")
		if v.Store == nil {
			return
		}
		site := func(label string) string { return rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, label) }
		v.Tags.Site = site("own site")
		s := *v.Store
		s.Members, v.Postgres.Walsenders = nil, nil
		for _, name := range []string{"pg2", "pg3", "pg4", "pg5"} {
			m := member(name, "pg1", 1)
			m.Tags = m.Tags.With("site", cluster.Text(site("site of "+name)))
			for _, tag := range []string{"nofailover", "nosync"} {
				if rapid.IntRange(0, 5).Draw(t, tag) == 0 {
					m.Tags = m.Tags.With(tag, cluster.Flag(true))
				}
			}
			m.State = rapid.SampledFrom([]cluster.State{cluster.Running, cluster.Running, cluster.Stopped, cluster.CreatingReplica}).Draw(t, "state of "+name)
			if rapid.IntRange(0, 3).Draw(t, name+" is gone") > 0 {
				s.Members = append(s.Members, m)
			}
			if rapid.Bool().Draw(t, name+" streams") {
				v.Postgres.Walsenders = append(v.Postgres.Walsenders, cluster.Walsender{Application: name, State: cluster.StateStreaming, SyncState: "async", Flush: 0x5000060, Write: 0x5000060, Replay: 0x5000060})
			}
		}
		v.Store = &s
		before := rapid.SampledFrom([]string{"", "pg2", "pg3", "2 (pg2,pg4)", "ANY 1 (pg3,pg5)", "*", quorum.Placeholder}).Draw(t, "names")
		v.Postgres.SyncNames = before
		for _, a := range Decide(v).Actions {
			require, ok := a.(RequireSync)
			if !ok {
				continue
			}
			names, _ := quorum.ParseNames(require.Names)
			far, near := 0, 0
			for _, name := range names.List {
				if m, known := s.Member(name); known && v.otherSite(m) || name == quorum.Placeholder {
					far++
				} else {
					near++
				}
			}
			if far > 0 && near > 0 {
				t.Fatalf("have names %s: other sites' and others", names)
			}
			old, _ := quorum.ParseNames(before)
			if waited := v.namesElsewhere(old); far == 0 && (v.Limits.Sync.Strict || waited && len(v.onTheWay()) > 0) {
				t.Fatalf("have names %q after %q (strict %v), and %v may come", names, before, v.Limits.Sync.Strict, v.onTheWay())
			}
		}
	})
}
