package ha

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/regent-ha/regent/internal/cluster"
)

// A transcript is one View in words and the Decision that it must lead to. It begins with
//
//	decide self=pg2 after=5s show=detail,durability,within,permit,status,circle,gates,ruled-out
//
// and then has a line for each thing that matters; what is not mentioned is as in a healthy cluster of pg1, pg2 and pg3. A word that is
// not known is an error. Durations say how long ago something was; "left" and "in" look ahead. The lines, with their defaults:
//
//	store      away | leader= at=1:0/5000060 initialize=ID|empty|absent|invalid bootstrapper= failsafe=pg1,pg2 failsafe-revision=85 sync=pg1:pg2,pg3 quorum= slots=pg3@0/40 retain= losses=1:pg1:5000060-5000200:rewound no-config no-history foreign
//	member     NAME gone | role= tl= moved no-api no-url nofailover nostream nosync sync-priority= state= replicatefrom= replay=0/40 version=
//	sites      pg1:a pg2:a pg3:b (who is where; acknowledged commits are to survive the loss of a site)
//	standby    NAME sync|quorum|async|potential at=0/5000060 state=streaming priority= (a WAL sender's row; priority by the state)
//	lock       none | refused | held left=20s agreed asked-ago=2s bound=5s told=cdc@0/40,pg3@0/50 told-ago=1s fresh=5s (left may be negative)     default: held when the store says so
//	postgres   replica|primary|down|silent|starting|refusing|failing|empty|missing|foreign|unreadable at=1:0/5000060 received=1:0/40 ahead=5s upstream=leader dry=5s replay-paused signal backup-label half-rewound control= sysid=ID|other|unknown slots=pg3@0/40!active!xmin!lost!unreserved,cdc@0/40!logical!failover!catalog:700 archive since=1m names= unheeded
//	peer       NAME replica|primary|unreachable at= nofailover watchdog-failed priority= isolated waives
//	poll       age=100ms
//	failover   from= candidate= in=5s ago=5s bad-schedule
//	job        NAME since=1s mode= checkpoint= previous=
//	ended      NAME ago=100ms failed=TEXT impossible untold in-use checkpoint= previous=
//	divergence needed|not-needed|unknown leader=LEADER age=1s can-rewind why= tl= ended=1 left=0/5000060 end=0/5000200
//	asked      leave restart timeout= reinitialize
//	unfenced   TEXT: why this member must not lead
//	limits     paused standby-cluster slot= archive-only restore= delay= failsafe sync quorum strict node-count=1 max-lag-sync=0 no-bootstrap has-config no-slots slots-unreadable no-rewind remove-on-rewind-failure remove-on-divergence no-leader-clone check-timeline primary-start= slots-ttl= max-lag=
//	tags       nofailover priority= nostream replicatefrom=
//	memory     kept | fresh role= joined leaderless= unlocked= holding= down= leaving= handed-over= no-race-for= crash-tried rewind-failed give-up crashes=4m,2m promoted= silent= former=pg1 requested= pointed=pg1 pointed-ago=1m as-leader source=pg1 source-tl=1 rewind-tried= waived=NAMES waiting=NAMES taken-ago= safe= ready= failsafe=pg1,pg2 tried=pg1,pg2,pg3 base=85 slots-safe=cdc slots-tried=5s
//	permanent  NAME physical|logical database=app plugin=test_decoding cluster-type=    ignore  name= type= database= plugin=    unread  slot names
//	news       age=1s broken=cdc leader=pg1 xmin=pg2:700,cdc:690 (what the work on slots has shown)
//	checkpointed  timeline
//
// "promise from=pg3 to= scope= fenced promotion asking" instead of decide asks whether that leader, which has lost the store, may count on us.
// "risk" asks what a failover would cost now. "memory kept" takes the memory of the decision before, "after" the time that has passed since.
// Rewrite with: go test ./internal/ha -run Transcripts -rewrite
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("have no transcripts (%v), want testdata/*.txt", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s := scene{now: epoch}
			datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string { return s.run(t, d) })
		})
	}
}

// Every reason must end some transcript, so that none is forgotten.
func TestTranscriptsShowEveryReason(t *testing.T) {
	var shown strings.Builder
	files, _ := filepath.Glob("testdata/*.txt")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(text)
	}
	source, err := os.ReadFile("reason.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(source)) {
		_, rest, ok := strings.Cut(line, `Reason = "`)
		if !ok {
			continue
		}
		reason, _, _ := strings.Cut(rest, `"`)
		if Reason(reason) == NotReadyToRace {
			continue // TestElection: before it races, a PostgreSQL that does not answer is a matter of its start
		}
		if !strings.Contains(shown.String(), "\n"+reason+": ") {
			t.Errorf("have no transcript that ends in %q, want one", reason)
		}
	}
}

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const (
	ownID   = "7000000000000000001"
	otherID = "7000000000000000002"
)

// scene is what one transcript file has shown so far.
type scene struct {
	now  time.Time
	last Memory
}

func (s *scene) run(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd != "decide" && d.Cmd != "promise" && d.Cmd != "risk" {
		d.Fatalf(t, "have directive %q, want decide, promise or risk", d.Cmd)
	}
	if strings.Contains(d.Expected, "----") {
		d.Fatalf(t, "have two decisions without an empty line between them")
	}
	b := builder{v: healthyView(s.now, "pg1"), kept: s.last}
	var show []string
	h := Heartbeat{From: "pg3", Cluster: "demo"}
	heard := map[string]*bool{"fenced": &h.Fenced, "promotion": &h.Promotion, "asking": &h.Asking}
	said := map[string]*string{"from": &h.From, "to": &h.To, "scope": &h.Scope}
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "self":
			b.v.Self = arg.Vals[0]
		case "after":
			b.v.Now, b.v.Wall = s.now.Add(duration(arg.Vals[0])), s.now.Add(duration(arg.Vals[0]))
		case "show":
			show = arg.Vals
		default:
			switch {
			case d.Cmd == "promise" && heard[arg.Key] != nil && len(arg.Vals) == 0:
				*heard[arg.Key] = true
			case d.Cmd == "promise" && said[arg.Key] != nil && len(arg.Vals) == 1:
				*said[arg.Key] = arg.Vals[0]
			default:
				d.Fatalf(t, "have argument %q, want self, after or show; of a promise also from, to, scope, fenced, promotion or asking", arg.Key)
			}
		}
	}
	b.v.Memory = Memory{}
	defer func() {
		if r := recover(); r != nil {
			if problem, ok := r.(grammar); ok {
				d.Fatalf(t, "%s", problem)
			}
			panic(r)
		}
	}()
	v := b.build(d.Input)
	if d.Cmd == "risk" {
		if r, ok := v.Risk(); ok {
			return r.String() + "\n"
		}
		return "not the leader\n"
	}
	if d.Cmd == "promise" {
		h.Now, h.Self, h.Failsafe, h.Store, h.Postgres, h.Lock = v.Now, v.Self, v.Limits.Failsafe, v.Store, v.Postgres, v.Lock
		refusal, detail := h.Refuse()
		if refusal == "" {
			return "promised\n"
		}
		return fmt.Sprintf("%s: %s\n", refusal, detail)
	}
	got := Decide(v)
	s.now, s.last = v.Now, got.Memory
	return render(v, got, show)
}

func render(v View, d Decision, show []string) string {
	var out strings.Builder
	actions := "wait"
	for i, a := range d.Actions {
		if i == 0 {
			actions = ""
		} else {
			actions += ", "
		}
		actions += a.String()
		if w, ok := a.(Demote); ok && !w.Until.IsZero() {
			actions += " within " + w.Until.Sub(v.Now).String()
		}
	}
	fmt.Fprintf(&out, "%s: %s\n", d.Reason, actions)
	for _, what := range show {
		switch what {
		case "detail":
			fmt.Fprintf(&out, "detail: %s\n", d.Detail)
		case "durability":
			durability, ok := v.Durability()
			fmt.Fprintf(&out, "durability: %v: %s\n", ok && durability.Met, durability)
		case "within":
			fmt.Fprintf(&out, "within: %s\n", d.Within)
		case "status":
			for _, a := range d.Actions {
				if w, ok := a.(WriteStatus); ok {
					fmt.Fprintf(&out, "status: slots %v retain %v\n", w.Status.Slots, w.Status.RetainSlots)
				}
			}
		case "permit":
			fmt.Fprintf(&out, "permit: %v\n", d.Permit)
		case "circle":
			if d.Circle == nil {
				out.WriteString("circle: none\n")
				break
			}
			out.WriteString("circle:")
			for _, m := range d.Circle.Members {
				fmt.Fprintf(&out, " %s=%s", m.Name, m.APIURL)
			}
			out.WriteString("\n")
		case "gates":
			for _, g := range d.Gates {
				verdict := map[bool]string{true: "passed", false: "shut"}[g.Passed]
				if g.Unknown {
					verdict = "unknown"
				}
				fmt.Fprintf(&out, "gate %s: %s: have %s, need %s\n", g.Reason, verdict, g.Value, g.Limit)
			}
		case "ruled-out":
			for _, r := range d.RuledOut {
				fmt.Fprintf(&out, "ruled out: %s\n", r)
			}
		default:
			panic(grammar(fmt.Sprintf("have show=%s, want detail, durability, within, permit, status, circle, gates or ruled-out", what)))
		}
	}
	return out.String()
}

// grammar is what is wrong with a transcript.
type grammar string

// healthyView is pg1, pg2 and pg3 on timeline 1 with room to spare, before anything is said.
func healthyView(now time.Time, self string) View {
	return View{
		Now: now, Wall: now, Self: self,
		Limits: Limits{
			TTL: 30 * time.Second, LoopWait: 10 * time.Second, RetryTimeout: 10 * time.Second, Reserve: 3 * time.Second,
			MaxLag: 1 << 20, PrimaryStart: 300 * time.Second, CanBootstrap: true, UseSlots: true, SlotsTTL: 30 * time.Minute, UseRewind: true,
		},
		Tags: Tags{Priority: 1},
	}
}

// builder reads the lines of one transcript.
type builder struct {
	v     View
	kept  Memory
	lines map[string][]words
}

// words are the words of one line; whoever understands one takes it.
type words struct {
	noun string
	list []string
}

func (w *words) flag(name string) bool {
	i := slices.Index(w.list, name)
	if i >= 0 {
		w.list = slices.Delete(w.list, i, i+1)
	}
	return i >= 0
}

func (w *words) value(name string) (string, bool) {
	i := slices.IndexFunc(w.list, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	if i < 0 {
		return "", false
	}
	s := strings.TrimPrefix(w.list[i], name+"=")
	w.list = slices.Delete(w.list, i, i+1)
	return s, true
}

func (w *words) text(name, otherwise string) string {
	if s, ok := w.value(name); ok {
		return s
	}
	return otherwise
}

func (w *words) first() string {
	if len(w.list) == 0 {
		panic(grammar(w.noun + ": have nothing, want a word"))
	}
	s := w.list[0]
	w.list = w.list[1:]
	return s
}

func (w *words) lsn(name string) cluster.LSN { return lsn(w.text(name, "")) }

func (w *words) ago(name string, now time.Time, otherwise string) time.Time {
	s := w.text(name, otherwise)
	if s == "" {
		return time.Time{}
	}
	return now.Add(-duration(s))
}

func (w *words) end() {
	if len(w.list) > 0 {
		panic(grammar(fmt.Sprintf("%s: have unknown word %q", w.noun, w.list[0])))
	}
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(grammar(err.Error()))
	}
	return d
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(grammar(err.Error()))
	}
	return n
}

func lsn(s string) cluster.LSN {
	if s == "" {
		return 0
	}
	at, err := cluster.ParseLSN(s)
	if err != nil {
		panic(grammar(err.Error()))
	}
	return at
}

// position reads timeline:lsn.
func position(s string) (cluster.Timeline, cluster.LSN) {
	tl, at, ok := strings.Cut(s, ":")
	if !ok {
		panic(grammar("have position " + s + ", want timeline:lsn"))
	}
	return cluster.Timeline(number(tl)), lsn(at)
}

// split cuts a line at blanks outside of quotes.
func split(line string) []string {
	quoted := false
	parts := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], `"`, "")
	}
	return parts
}

func (b *builder) build(input string) View {
	b.lines = map[string][]words{}
	nouns := []struct {
		name string
		read func(words)
	}{
		{"limits", b.limits}, {"tags", b.tags}, {"store", b.store}, {"member", b.member}, {"sites", b.sites}, {"failover", b.failover}, {"lock", b.lock},
		{"postgres", b.postgres}, {"standby", b.standby}, {"poll", b.poll}, {"peer", b.peer}, {"job", b.job}, {"ended", b.ended}, {"divergence", b.divergence},
		{"asked", b.asked}, {"unfenced", b.unfenced}, {"memory", b.memory}, {"permanent", b.permanent}, {"ignore", b.ignore}, {"unread", b.unread}, {"news", b.news}, {"checkpointed", b.checkpointed},
	}
	for line := range strings.Lines(input) {
		parts := split(strings.TrimSpace(line))
		if len(parts) == 0 {
			continue
		}
		if !slices.ContainsFunc(nouns, func(n struct {
			name string
			read func(words)
		}) bool {
			return n.name == parts[0]
		}) {
			panic(grammar(fmt.Sprintf("have unknown noun %q", parts[0])))
		}
		b.lines[parts[0]] = append(b.lines[parts[0]], words{noun: parts[0], list: parts[1:]})
	}
	for _, always := range []string{"store", "lock", "postgres", "memory"} {
		if len(b.lines[always]) == 0 {
			b.lines[always] = []words{{noun: always}}
		}
	}
	for _, n := range nouns {
		for _, w := range b.lines[n.name] {
			n.read(w)
		}
	}
	return b.v
}

func (b *builder) limits(w words) {
	l := &b.v.Limits
	for name, p := range map[string]*bool{
		"paused": &l.Paused, "failsafe": &l.Failsafe, "strict": &l.Sync.Strict, "has-config": &l.HasConfig, "check-timeline": &l.CheckTimeline,
		"remove-on-rewind-failure": &l.RemoveOnRewindFailure, "remove-on-divergence": &l.RemoveOnDivergence, "no-leader-clone": &l.NoLeaderClone,
	} {
		*p = w.flag(name)
	}
	if l.Type = cluster.OwnPrimary; w.flag("standby-cluster") {
		l.Type, l.Remote = cluster.FollowsAnother, cluster.Upstream{Host: "remote", Port: 5432, Slot: w.text("slot", "")}
		if w.flag("archive-only") {
			l.Remote = cluster.Upstream{}
		}
		l.Remote.Archive = cluster.Archive{Restore: w.text("restore", ""), Delay: w.text("delay", "")}
	}
	l.Sync.Mode, l.Sync.Wanted = cluster.SyncOff, number(w.text("node-count", "1"))
	if w.flag("sync") {
		l.Sync.Mode = cluster.SyncOn
	}
	if w.flag("quorum") {
		l.Sync.Mode = cluster.SyncQuorum
	}
	l.Sync.MaxLag = cluster.LSN(number(w.text("max-lag-sync", "0")))
	l.Slots.Unreadable = w.flag("slots-unreadable")
	l.CanBootstrap, l.UseSlots, l.UseRewind = !w.flag("no-bootstrap"), !w.flag("no-slots"), !w.flag("no-rewind")
	l.PrimaryStart = duration(w.text("primary-start", "300s"))
	l.SlotsTTL = duration(w.text("slots-ttl", "30m"))
	l.MaxLag = cluster.LSN(number(w.text("max-lag", "1048576")))
	w.end()
}

func (b *builder) tags(w words) {
	b.v.Tags = Tags{NoFailover: w.flag("nofailover"), NoStream: w.flag("nostream"), Priority: number(w.text("priority", "1")), ReplicateFrom: w.text("replicatefrom", "")}
	w.end()
}

func (b *builder) store(w words) {
	if w.flag("away") {
		w.end()
		return
	}
	s := &cluster.Snapshot{Revision: 100, Config: cluster.DynamicConfig{Usable: true}}
	s.Config.Document = cluster.Value{Kind: cluster.Object, Fields: []cluster.Field{{Name: "ttl", Value: cluster.Int(30)}}}
	if w.flag("no-config") {
		s.Config = cluster.DynamicConfig{}
	}
	s.Leader = cluster.Leader{Name: w.text("leader", ""), Revision: 50}
	tl, at := position(w.text("at", "1:0/5000060"))
	s.Status = cluster.Status{Optime: at, Revision: 60, Slots: map[string]cluster.LSN{}}
	s.Status.RetainSlots = list(w.text("retain", ""))
	for _, slot := range list(w.text("slots", "")) {
		name, at, _ := strings.Cut(slot, "@")
		s.Status.Slots[name] = lsn(at)
	}
	s.History = cluster.History{Present: !w.flag("no-history"), Revision: 70}
	for i := cluster.Timeline(1); i < tl && s.History.Present; i++ {
		s.History.Entries = append(s.History.Entries, cluster.HistoryEntry{Timeline: i, LSN: at, NewLeader: "pg1"})
	}
	s.Initialize = cluster.Initialize{Present: true, SystemID: ownID, Revision: 10}
	switch id := w.text("initialize", ownID); id {
	case "empty":
		s.Initialize.SystemID = ""
	case "absent":
		s.Initialize = cluster.Initialize{}
	case "invalid":
		s.Initialize = cluster.Initialize{Present: true, Invalid: true, Revision: 10}
	default:
		s.Initialize.SystemID = id
	}
	s.Bootstrapper = w.text("bootstrapper", "")
	if sync, ok := w.value("sync"); ok {
		leader, standbys, _ := strings.Cut(sync, ":")
		s.Sync = cluster.Sync{Leader: leader, Standbys: list(standbys), Quorum: number(w.text("quorum", "0")), Revision: 80}
	}
	for _, text := range list(w.text("losses", "")) {
		at := strings.Split(text, ":")
		from, to, _ := strings.Cut(at[2], "-")
		s.Losses.Revision = 86
		s.Losses.Entries = append(s.Losses.Entries, cluster.Loss{Timeline: cluster.Timeline(number(at[0])), Member: at[1], Left: lsn("0/" + from), End: lsn("0/" + to), Fate: cluster.Fate(at[3])})
	}
	if names, ok := w.value("failsafe"); ok {
		s.Failsafe, s.FailsafeRevision = urls(names), cluster.Revision(number(w.text("failsafe-revision", "85")))
	}
	w.end()
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		s.Members = append(s.Members, member(name, s.Leader.Name, tl))
	}
	b.v.Store = s
}

// urls are those of the named members.
func urls(names string) map[string]string {
	m := map[string]string{}
	for _, name := range list(names) {
		m[name] = "http://" + name + ":8008/patroni"
	}
	return m
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func member(name, leader string, tl cluster.Timeline) cluster.Member {
	m := cluster.Member{Name: name, Role: cluster.Replica, State: cluster.Running, Timeline: tl}
	m.ConnURL, m.APIURL = "postgres://"+name+":5432/postgres", "http://"+name+":8008/patroni"
	if name == leader {
		m.Role = cluster.Primary
	}
	return m
}

func (b *builder) member(w words) {
	name, s := w.first(), b.v.Store
	i := slices.IndexFunc(s.Members, func(m cluster.Member) bool { return m.Name == name })
	if i < 0 {
		s.Members = append(s.Members, member(name, s.Leader.Name, 1))
		slices.SortFunc(s.Members, func(a, b cluster.Member) int { return strings.Compare(a.Name, b.Name) })
		i = slices.IndexFunc(s.Members, func(m cluster.Member) bool { return m.Name == name })
	}
	if w.flag("gone") {
		s.Members = slices.Delete(s.Members, i, i+1)
		w.end()
		return
	}
	m := &s.Members[i]
	m.Role = cluster.Role(w.text("role", string(m.Role)))
	if w.flag("moved") {
		m.APIURL = "http://" + name + ".elsewhere:8008/patroni"
	}
	if tl, ok := w.value("tl"); ok {
		m.Timeline = cluster.Timeline(number(tl))
	}
	if w.flag("no-api") {
		m.APIURL = ""
	}
	if w.flag("no-url") {
		m.ConnURL = ""
	}
	if n, ok := w.value("sync-priority"); ok {
		m.Tags = m.Tags.With("sync_priority", cluster.Int(int64(number(n))))
	}
	m.State = cluster.State(w.text("state", string(m.State)))
	m.ReplayLSN, m.Version = w.lsn("replay"), w.text("version", m.Version)
	for _, tag := range []string{"nofailover", "nostream", "nosync"} {
		if w.flag(tag) {
			m.Tags = m.Tags.With(tag, cluster.Flag(true))
		}
	}
	if from, ok := w.value("replicatefrom"); ok {
		m.Tags = m.Tags.With("replicatefrom", cluster.Text(from))
	}
	w.end()
}

func (b *builder) sites(w words) {
	b.v.Limits.Survive = cluster.SurviveSite
	for _, text := range w.list {
		name, site, _ := strings.Cut(text, ":")
		if name == b.v.Self {
			b.v.Tags.Site = site
		}
		for i := range b.v.Store.Members {
			if m := &b.v.Store.Members[i]; m.Name == name {
				m.Tags = m.Tags.With("site", cluster.Text(site))
			}
		}
	}
}

func (b *builder) failover(w words) {
	f := cluster.Failover{From: w.text("from", ""), Candidate: w.text("candidate", ""), BadSchedule: w.flag("bad-schedule"), Revision: 90}
	if in, ok := w.value("in"); ok {
		at := b.v.Wall.Add(duration(in))
		f.ScheduledAt = &at
	}
	if ago, ok := w.value("ago"); ok {
		at := b.v.Wall.Add(-duration(ago))
		f.ScheduledAt = &at
	}
	b.v.Store.Failover = f
	w.end()
}

func (b *builder) lock(w words) {
	left := b.v.Now.Add(duration(w.text("left", "20s")))
	ahead := func(name string) time.Time {
		if s, ok := w.value(name); ok {
			return b.v.Now.Add(duration(s))
		}
		return time.Time{}
	}
	bound, asked, agreed := ahead("bound"), w.ago("asked-ago", b.v.Now, ""), w.flag("agreed")
	b.v.Fresh = ahead("fresh")
	told := Told{}
	if slots, ok := w.value("told"); ok {
		told = Told{At: w.ago("told-ago", b.v.Now, "1s"), Slots: map[string]cluster.LSN{}}
		for _, slot := range list(slots) {
			name, at, _ := strings.Cut(slot, "@")
			told.Slots[name] = lsn(at)
		}
	}
	defer func() { b.v.Lock.Bound, b.v.Lock.Asked, b.v.Lock.Agreed, b.v.Lock.Told = bound, asked, agreed, told }()
	switch {
	case w.flag("held"), len(w.list) == 0 && b.v.Store != nil && b.v.Store.Leader.Name == b.v.Self:
		b.v.Lock = Lock{Held: true, Deadline: left}
	case w.flag("refused"):
		b.v.Lock = Lock{Refused: true}
	case w.flag("none"):
	}
	w.end()
}

func (b *builder) postgres(w words) {
	p := &b.v.Postgres
	kind := "replica"
	leader := b.v.leader()
	if leader == b.v.Self && leader != "" {
		kind = "primary"
	}
	if len(w.list) > 0 && !strings.Contains(w.list[0], "=") {
		kind = w.first()
	}
	tl, at := position(w.text("at", "1:0/5000060"))
	p.Dir, p.Binaries, p.Version = cluster.DirPresent, 15, 150004
	p.Control = &cluster.Control{State: cluster.ControlInProduction, Checkpoint: at, CheckpointTLI: tl}
	p.StandbySignal = w.flag("signal")
	since := w.text("since", "1m")
	switch kind {
	case "replica":
		p.Pid, p.Ready, p.Queried, p.InRecovery, p.StandbySignal = 100, cluster.Accepting, true, true, true
		p.Timeline, p.Received, p.Replayed = tl, at, at
		if _, received := position(w.text("received", "1:0/0")); received != 0 {
			p.Received = received
			b.v.Memory.Ahead, b.v.Memory.AheadAt = w.ago("ahead", b.v.Now, "0s"), received
		}
		p.Control.State = cluster.ControlArchiveRecovery
		if up := w.text("upstream", leader); up != "" && up != b.v.Self && up != "none" {
			p.Upstream = cluster.Upstream{Name: up, Host: up, Port: 5432}
			if b.v.Limits.UseSlots {
				p.Upstream.Slot = cluster.SlotName(b.v.Self)
			}
			if up == "remote" {
				p.Upstream = b.v.Limits.Remote
			}
		}
		if dry, ok := w.value("dry"); ok {
			b.v.Memory.Dry = b.v.Now.Add(-duration(dry))
		} else if p.Upstream.Host != "" {
			p.Receiver = &cluster.Receiver{Status: "streaming", Timeline: tl, Written: at}
		}
		p.ReplayPaused = w.flag("replay-paused")
		p.RestoreCommand = w.flag("archive")
	case "primary":
		p.Pid, p.Ready, p.Queried = 100, cluster.Accepting, true
		p.Timeline, p.Write, p.Flush = tl, at, at
	case "silent", "starting", "refusing", "failing":
		p.Pid, p.Ready = 100, cluster.NoResponse
		switch kind {
		case "starting":
			p.Ready = cluster.Rejecting
		case "refusing": // only us
			p.Ready, p.QueryError = cluster.Accepting, "password authentication failed"
		case "failing":
			p.Ready, p.QueryError = cluster.Failing, "could not write init file"
		}
		b.v.Memory.Silent = b.v.Now.Add(-duration(since))
	case "down":
		p.Control.State = cluster.ControlShutDown
		if w.flag("half-rewound") {
			p.DirProblem = "an interrupted rewind from pg2"
		}
		b.v.Memory.Down = b.v.Now.Add(-duration(since))
	case "empty", "missing", "foreign", "unreadable":
		p.Dir, p.Control, p.Version = cluster.DirState(kind), nil, 0
		p.DirProblem = "the directory is " + kind
	default:
		panic(grammar("postgres: have unknown kind " + kind))
	}
	if state, ok := w.value("control"); ok {
		p.Control.State = cluster.ControlState(strings.ReplaceAll(state, "-", " "))
	}
	p.SyncNames, p.Heeded = w.text("names", ""), !w.flag("unheeded")
	p.BackupLabel = w.flag("backup-label")
	if p.Control != nil {
		p.SystemID = ownID
	}
	switch id := w.text("sysid", ""); id {
	case "":
	case "other":
		p.SystemID = otherID
	case "unknown":
		p.SystemID, p.Control = "", nil
	default:
		p.SystemID = id
	}
	if ready, ok := w.value("ready"); ok {
		p.Ready = cluster.Readiness(ready)
	}
	if w.flag("running") { // a postmaster although the directory is as described
		p.Pid, p.Ready = 100, cluster.Accepting
	}
	for _, text := range list(w.text("slots", "")) {
		parts := strings.Split(text, "!")
		name, at, _ := strings.Cut(parts[0], "@")
		slot := cluster.Slot{Name: name, Type: cluster.PhysicalSlot, Restart: lsn(at), WALStatus: "reserved"}
		for _, is := range parts[1:] {
			is, value, _ := strings.Cut(is, ":")
			switch is {
			case "active":
				slot.Active = true
			case "logical":
				slot.Type, slot.ConfirmedFlush, slot.Database, slot.Plugin = cluster.LogicalSlot, slot.Restart, "app", "test_decoding"
			case "database":
				slot.Database = value
			case "xmin":
				slot.HasXmin = true
			case "catalog":
				slot.CatalogXmin = uint32(number(value))
			case "lost":
				slot.Restart, slot.WALStatus = 0, "lost"
			case "unreserved":
				slot.Restart, slot.WALStatus = 0, ""
			case "failover":
				slot.Failover = true
			default:
				panic(grammar("postgres: have unknown property of a slot " + is))
			}
		}
		p.Slots = append(p.Slots, slot)
	}
	w.end()
}

func (b *builder) standby(w words) {
	s := cluster.Walsender{Application: w.first(), SyncState: w.first(), State: w.text("state", cluster.StateStreaming)}
	at := lsn(w.text("at", "0/5000060"))
	s.Sent, s.Write, s.Flush, s.Replay = at, at, at, at
	s.SyncPriority = number(w.text("priority", map[string]string{"async": "0", "sync": "1", "quorum": "1", "potential": "2"}[s.SyncState]))
	b.v.Postgres.Walsenders = append(b.v.Postgres.Walsenders, s)
	w.end()
}

func (b *builder) poll(w words) {
	b.v.Poll = &Poll{At: b.v.Now.Add(-duration(w.text("age", "100ms"))), Answers: map[string]Answer{}}
	w.end()
}

func (b *builder) peer(w words) {
	if b.v.Poll == nil {
		b.poll(words{})
	}
	name, kind := w.first(), w.first()
	tl, at := position(w.text("at", "1:0/5000060"))
	a := Answer{Reachable: true, Timeline: tl, Position: at, NoFailover: w.flag("nofailover"), WatchdogFailed: w.flag("watchdog-failed"), Isolated: w.flag("isolated"), Waives: w.flag("waives"), Priority: number(w.text("priority", "1"))}
	switch kind {
	case "replica":
	case "primary":
		a.Primary, a.Position = true, 0
	case "unreachable":
		a = Answer{}
	default:
		panic(grammar("peer: have unknown kind " + kind))
	}
	b.v.Poll.Answers[name] = a
	b.v.Poll.Asked = append(b.v.Poll.Asked, member(name, "", 1))
	w.end()
}

func (b *builder) job(w words) {
	b.v.Job = &Job{Name: JobName(w.first()), Since: w.ago("since", b.v.Now, "1s"), Mode: StopMode(w.text("mode", "")), Checkpoint: w.lsn("checkpoint"), Previous: w.lsn("previous")}
	w.end()
}

func (b *builder) ended(w words) {
	b.v.Ended = &Ended{Name: JobName(w.first()), At: w.ago("ago", b.v.Now, "100ms"), Error: w.text("failed", ""), Checkpoint: w.lsn("checkpoint"), Previous: w.lsn("previous"), Impossible: w.flag("impossible"), Untold: w.flag("untold"), InUse: w.flag("in-use")}
	w.end()
}

func (b *builder) divergence(w words) {
	d := &Divergence{Verdict: Verdict(w.first()), Leader: w.text("leader", b.v.leader()), At: w.ago("age", b.v.Now, "1s"), CanRewind: w.flag("can-rewind"), WhyNot: w.text("why", ""), Timeline: cluster.Timeline(number(w.text("tl", "1"))),
		Ended: cluster.Timeline(number(w.text("ended", "0"))), Left: w.lsn("left"), End: w.lsn("end")}
	d.Detail = map[Verdict]string{Diverged: "our WAL left the leader's history", NotDiverged: "our WAL is part of the leader's history", DivergenceUnknown: "the leader's history could not be read"}[d.Verdict]
	if d.Detail == "" {
		panic(grammar("divergence: have unknown verdict " + string(d.Verdict)))
	}
	b.v.Divergence = d
	w.end()
}

func (b *builder) asked(w words) {
	a := &b.v.Asked
	a.Leave = w.flag("leave")
	if w.flag("restart") {
		a.Restart = &Restart{ID: 1, Timeout: duration(w.text("timeout", "0s"))}
	}
	if w.flag("reinitialize") {
		a.Reinitialize = &Reinitialize{ID: 1}
	}
	w.end()
}

func (b *builder) unfenced(w words) {
	b.v.Unfenced = w.first()
	w.end()
}

func (b *builder) memory(w words) {
	m, now := &b.v.Memory, b.v.Now
	if w.flag("kept") {
		*m = b.kept
		w.end()
		return
	}
	if w.flag("fresh") { // an agent that has just started
		*m = Memory{}
	} else if b.v.Store != nil && b.v.leader() == "" {
		m.Leaderless = now.Add(-10 * time.Second)
	}
	for name, p := range map[string]*time.Time{"leaderless": &m.Leaderless, "handed-over": &m.HandedOver, "leaving": &m.Leaving, "down": &m.Down, "unlocked": &m.Unlocked, "holding": &m.Holding} {
		if s, ok := w.value(name); ok {
			*p = now.Add(-duration(s))
		}
	}
	if s, ok := w.value("requested"); ok {
		m.Request, m.RequestAt = b.v.Store.Failover.Revision, now.Add(-duration(s))
	}
	if s, ok := w.value("waived"); ok {
		m.Waived = strings.Split(s, ",")
	}
	if s, ok := w.value("no-race-for"); ok {
		m.NoRaceUntil = now.Add(duration(s))
	}
	if up, ok := w.value("pointed"); ok {
		m.Pointed = cluster.Upstream{Name: up, Host: up, Port: 5432, Slot: cluster.SlotName(b.v.Self)}
		if up == "remote" {
			m.Pointed = b.v.Limits.Remote
			m.Pointed.Slot = ""
		}
		m.PointedAt = w.ago("pointed-ago", now, "1m")
	}
	if w.flag("as-leader") { // of a standby cluster, and told so
		m.As, m.Pointed, m.PointedAt = cluster.StandbyLeader, b.v.Limits.Remote, now.Add(-time.Minute)
	}
	m.Source, m.SourceTimeline = w.text("source", ""), cluster.Timeline(number(w.text("source-tl", "1")))
	if s, ok := w.value("rewind-tried"); ok {
		m.RewindTried, m.RewindError = now.Add(-duration(s)), "connection to server was lost"
	}
	if s, ok := w.value("crashes"); ok {
		for ago := range strings.SplitSeq(s, ",") {
			m.Crashes = append(m.Crashes, now.Add(-duration(ago)))
		}
	}
	m.Role = cluster.Role(w.text("role", ""))
	m.Joined, m.Started = w.flag("joined"), w.flag("started")
	m.CrashTried, m.RewindFailed, m.GiveUp = w.flag("crash-tried"), w.flag("rewind-failed"), w.flag("give-up")
	m.Promoted = cluster.Timeline(number(w.text("promoted", "0")))
	m.Waiting = Waiting{Names: w.text("waiting", ""), Taken: w.ago("taken-ago", now, ""), Safe: w.lsn("safe"), Ready: list(w.text("ready", ""))}
	if names, ok := w.value("failsafe"); ok {
		m.Failsafe = Failsafe{Known: urls(names), Mine: true}
	}
	if names, ok := w.value("tried"); ok {
		m.Failsafe.Tried, m.Failsafe.Base = []map[string]string{urls(names)}, cluster.Revision(number(w.text("base", "85")))
	}
	if names, ok := w.value("slots-safe"); ok {
		m.Copies = Copies{Leader: b.v.leader(), Pid: b.v.Postgres.Pid, Safe: list(names)}
	}
	m.Copies.Tried = w.ago("slots-tried", now, "")
	if former, ok := w.value("former"); ok {
		m.FormerName, m.Publisher, m.Published = former, w.text("publisher", former), w.lsn("published")
		m.FormerAt = 1
		if m.Published == 0 && b.v.Store != nil {
			m.Published = b.v.Store.Status.Optime
		}
		m.Former = []cluster.Member{member("pg1", former, 1), member("pg2", former, 1), member("pg3", former, 1)}
	}
	w.end()
}

func (b *builder) permanent(w words) {
	s := cluster.PermanentSlot{Name: w.first(), Type: w.first(), ClusterType: cluster.Type(w.text("cluster-type", ""))}
	if s.Type == cluster.LogicalSlot {
		s.Database, s.Plugin = w.text("database", "app"), w.text("plugin", "test_decoding")
	}
	b.v.Limits.Slots.Permanent = append(b.v.Limits.Slots.Permanent, s)
	w.end()
}

func (b *builder) ignore(w words) {
	b.v.Limits.Slots.Ignored = append(b.v.Limits.Slots.Ignored, cluster.IgnoredSlot{Name: w.text("name", ""), Type: w.text("type", ""), Database: w.text("database", ""), Plugin: w.text("plugin", "")})
	w.end()
}

func (b *builder) unread(w words) { b.v.Limits.Slots.Unread = w.list }

func (b *builder) news(w words) {
	n := &SlotNews{At: w.ago("age", b.v.Now, "1s"), Broken: list(w.text("broken", "")), Leader: w.text("leader", "")}
	for _, text := range list(w.text("xmin", "")) {
		name, xmin, _ := strings.Cut(text, ":")
		if n.Xmin == nil {
			n.Xmin = map[string]uint32{}
		}
		n.Xmin[name] = uint32(number(xmin))
	}
	b.v.SlotNews = n
	w.end()
}

func (b *builder) checkpointed(w words) {
	b.v.Checkpointed = cluster.Timeline(number(w.first()))
	w.end()
}
