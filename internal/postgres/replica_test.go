package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

func (p *Instance) source() Source {
	s := p.Settings()
	return Source{Name: s.Name, Host: "127.0.0.1", Port: s.Port}
}

func upstreamFrom(p *Instance) cluster.Upstream {
	return cluster.Upstream{Name: p.Settings().Name, Host: "127.0.0.1", Port: p.Settings().Port}
}

// cloned returns a running standby of leader.
func cloned(t *testing.T, leader *Instance, name string) *Instance {
	t.Helper()
	p := newInstance(t, testSettings(t, name))
	must(t, p.Clone(within(t, 30*time.Second), leader.source(), nil))
	follow(t, p, leader)
	return p
}

func follow(t *testing.T, p, leader *Instance) {
	t.Helper()
	must(t, p.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby, Upstream: upstreamFrom(leader)}))
}

// caughtUp waits until a standby has replayed what its leader has written by now.
func caughtUp(t *testing.T, p, leader *Instance) {
	t.Helper()
	at := leader.sql(t, "SELECT pg_current_wal_lsn()")
	pgtest.Eventually(t, "standby replays "+at, func() bool {
		have, err := pgtest.TrySQL(p.Settings().Port, "SELECT pg_last_wal_replay_lsn() >= '"+at+"'")
		return err == nil && have == "t"
	})
}

func verdict(t *testing.T, p, leader *Instance, tl cluster.Timeline, want Outcome) {
	t.Helper()
	v, err := p.Divergence(within(t, 10*time.Second), leader.source(), tl)
	if err != nil || v.Outcome != want {
		t.Errorf("divergence of %s from %s: have %v, %v; want %v", p.Settings().Name, leader.Settings().Name, v, err, want)
	}
	t.Logf("%s: %v", p.Settings().Name, v)
}

// One failover after another between two instances, with every verdict on the way.
func TestFailoverAndBack(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	a.sql(t, "CREATE TABLE t (i int)")
	var reports []Report
	settings := testSettings(t, "pg2")
	delete(settings.Parameters, "wal_retrieve_retry_interval") // with the default of 5 s a promotion could be slept over
	b := newInstance(t, settings)
	timed(t, "clone", 0, func() {
		must(t, b.Clone(within(t, 30*time.Second), a.source(), func(r Report) { reports = append(reports, r) }))
	})
	if last := reports[len(reports)-1]; last.Phase != "copying" || last.Done == 0 || last.Total < last.Done {
		t.Errorf("progress of the clone ends with %+v, want all of it copied", last)
	}
	timed(t, "start of standby", 0, func() { follow(t, b, a) })
	caughtUp(t, b, a)
	verdict(t, b, a, 1, NotNeeded) // W4
	verdict(t, b, a, 2, Unknown)   // the leader has not finished its promotion
	verdict(t, a, b, 1, Unknown)   // a runs as a primary

	// a clean switchover: the shutdown checkpoint is the last that b gets
	timed(t, "fast stop with a standby attached", 0, func() { stopFast(t, a) })
	timed(t, "promotion", 4*time.Second, func() { must(t, b.Promote(within(t, 10*time.Second), 0, nil)) })
	if have := b.sql(t, "SELECT pg_is_in_recovery()"); have != "f" {
		t.Fatalf("after Promote: in recovery: have %s, want f", have)
	}
	must(t, b.Promote(within(t, time.Second), 0, nil)) // again: no error
	verdict(t, a, b, 2, NotNeeded)                     // W6: our checkpoint ends at the switch point
	follow(t, a, b)
	caughtUp(t, a, b)
	b.sql(t, "INSERT INTO t VALUES (1)")
	caughtUp(t, a, b)
	verdict(t, a, b, 2, NotNeeded)

	// b crashes, a is promoted, b has WAL of its own after the switch point
	stopFast(t, a)
	b.sql(t, "INSERT INTO t SELECT generate_series(1, 1000)")
	must(t, b.Kill(within(t, 10*time.Second)))
	must(t, a.Start(within(t, 10*time.Second), StartOptions{Mode: AsStandby}))
	must(t, a.Promote(within(t, 10*time.Second), 0, nil))
	a.sql(t, "INSERT INTO t VALUES (2)")
	verdict(t, b, a, 3, Unknown) // W2: in production, the end of the WAL is not known
	must(t, b.CrashRecover(within(t, 20*time.Second)))
	verdict(t, b, a, 3, Needed) // W6, our checkpoint is behind the switch point
	a.sql(t, "CHECKPOINT")      // as the leader's agent does; PostgreSQL's own may take a second
	reports = nil
	timed(t, "rewind", 0, func() {
		must(t, b.Rewind(within(t, 30*time.Second), a.source(), func(r Report) { reports = append(reports, r) }))
	})
	if len(reports) == 0 || b.halfMade() != "" {
		t.Errorf("after rewind: %d reports, marked as %q; want some, and no mark", len(reports), b.halfMade())
	}
	follow(t, b, a)
	caughtUp(t, b, a)
	if have := b.sql(t, "SELECT count(*), max(i) FROM t"); have != "2|2" {
		t.Errorf("rewound standby: have %s, want the leader's 2|2", have)
	}
	verdict(t, b, a, 3, NotNeeded)
}

// A standby that replayed past the switch point, running and stopped, and a leader behind ours.
func TestDivergedStandby(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	b, c := cloned(t, a, "pg2"), cloned(t, a, "pg3")
	caughtUp(t, b, a)
	stopFast(t, b)
	a.sql(t, "CREATE TABLE lost (i int)")
	caughtUp(t, c, a)
	must(t, a.Kill(within(t, 10*time.Second)))
	must(t, b.Start(within(t, 10*time.Second), StartOptions{Mode: AsStandby}))
	verdict(t, c, b, 1, Unknown) // W3: it is in recovery
	must(t, b.Promote(within(t, 10*time.Second), 0, nil))
	b.sql(t, "CHECKPOINT")
	verdict(t, c, b, 2, Needed) // W6, running
	stopFast(t, c)
	verdict(t, c, b, 2, Needed) // W6, by the minimum recovery point
	must(t, c.Rewind(within(t, 30*time.Second), b.source(), nil))
	b.sql(t, "CREATE TABLE flushed ()") // c must come to the end of what b has written, flushed or not, and must not look ahead of it
	verdict(t, c, b, 2, NotNeeded)
	follow(t, c, b)
	caughtUp(t, c, b)

	// c is on timeline 2 now; a leader that stayed on timeline 1 is behind it
	startPrimary(t, a)
	verdict(t, c, a, 1, Needed) // W5

	// a former primary that was killed with more WAL than the switch point: Rewind recovers it itself
	stopFast(t, a)
	verdict(t, a, b, 2, Needed)
	startPrimary(t, a)
	must(t, a.Kill(within(t, 10*time.Second)))
	must(t, a.Rewind(within(t, 30*time.Second), b.source(), nil))
	follow(t, a, b)
	caughtUp(t, a, b)

	// a leader that cannot be asked: nothing is known, nothing is stopped, nothing is lost
	stopFast(t, b)
	if v, err := a.Divergence(within(t, 10*time.Second), b.source(), 2); err == nil || v.Outcome != Unknown {
		t.Errorf("leader is down: have %v, %v; want unknown and an error", v, err)
	}
	if err := a.Rewind(within(t, 10*time.Second), b.source(), nil); err == nil || errors.Is(err, ErrRewindImpossible) {
		t.Errorf("rewind to a leader that is down: have %v, want an error that allows another try", err)
	}
	if a.halfMade() != "" || a.postmaster() == nil {
		t.Errorf("a rewind that could not begin: marked as %q, running %v; want no mark, and running", a.halfMade(), a.postmaster() != nil)
	}
}

func TestJudge(t *testing.T) {
	history := []cluster.HistoryEntry{{Timeline: 1, LSN: 100}, {Timeline: 3, LSN: 300}}
	for _, c := range []struct {
		name  string
		local position
		want  Outcome
	}{
		{"same timeline", position{timeline: 4, at: 999, standby: true}, NotNeeded},
		{"leader behind", position{timeline: 5, at: 1, standby: true}, Needed},
		{"standby before the switch", position{timeline: 3, at: 299, standby: true}, NotNeeded},
		{"standby at the switch", position{timeline: 3, at: 300, standby: true}, NotNeeded},
		{"standby past the switch", position{timeline: 3, at: 301, standby: true}, Needed},
		{"standby past an older switch", position{timeline: 1, at: 101, standby: true}, Needed},
		{"former primary past the switch", position{timeline: 3, at: 300, end: 420}, Needed},
		{"former primary ends at the switch", position{timeline: 3, at: 200, end: 300}, NotNeeded},
		{"former primary ends elsewhere", position{timeline: 3, at: 200, end: 290}, Needed},
		{"former primary ends nobody knows where", position{timeline: 3, at: 200}, Unknown},
		{"a timeline that the leader never was on", position{timeline: 2, at: 1, standby: true}, Needed},
	} {
		if v := judge(c.local, 4, history); v.Outcome != c.want {
			t.Errorf("%s: have %v, want %v", c.name, v, c.want)
		}
	}
	// What is beyond the point where the leader left is a failover's loss. A shutdown checkpoint alone is none.
	for _, c := range []struct {
		local     position
		ended     cluster.Timeline
		left, end cluster.LSN
	}{
		{position{timeline: 3, at: 340, standby: true}, 3, 300, 340},
		{position{timeline: 3, at: 350, end: 470}, 3, 300, 350},
		{position{timeline: 3, at: 200, end: 290}, 0, 0, 0},
		{position{timeline: 3, at: 299, standby: true}, 0, 0, 0},
		{position{timeline: 5, at: 999, standby: true}, 0, 0, 0},
	} {
		if v := judge(c.local, 4, history); v.Ended != c.ended || v.Left != c.left || v.End != c.end {
			t.Errorf("%s: have WAL of timeline %d from %s to %s to lose, want %d, %s, %s", c.local, v.Ended, v.Left, v.End, c.ended, c.left, c.end)
		}
	}
	if v := judge(position{timeline: 1, at: 1, standby: true}, 4, nil); v.Outcome != Needed {
		t.Errorf("no history entry: have %v, want needed", v)
	}
}

func TestParseHistory(t *testing.T) {
	have, err := parseHistory([]byte("1\t0/3000148\tno recovery target specified\n\n2\t1/40001F0\tbefore 2000-01-01 00:00:00+00\n"))
	must(t, err)
	want := []cluster.HistoryEntry{{Timeline: 1, LSN: 0x3000148, Reason: "no recovery target specified"}, {Timeline: 2, LSN: 0x1040001F0, Reason: "before 2000-01-01 00:00:00+00"}}
	if fmt.Sprint(have) != fmt.Sprint(want) {
		t.Errorf("have %v, want %v", have, want)
	}
	if have, err := parseHistory([]byte("1\t0/3000148\tx\ngarbage\n")); err == nil {
		t.Errorf("damaged history: have %v, want an error", have)
	}
}

func TestRewindRefused(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	s := testSettings(t, "pg2")
	s.Parameters["wal_log_hints"] = "off"
	b := newInstance(t, s)
	must(t, b.Bootstrap(within(t, 30*time.Second), nil))
	if err := b.Rewind(within(t, 20*time.Second), a.source(), nil); !errors.Is(err, ErrRewindImpossible) || !strings.Contains(err.Error(), "wal_log_hints") {
		t.Errorf("rewind without hints: have %v, want ErrRewindImpossible that names wal_log_hints", err)
	}
	verdict(t, b, a, 1, Unknown) // another system identifier

	// what an interrupted pg_rewind leaves is never started
	must(t, os.WriteFile(filepath.Join(s.DataDir, markRewinding), []byte("to pg1"), 0o600))
	if err := b.Start(t.Context(), StartOptions{Mode: AsStandby}); !errors.Is(err, ErrDirectory) {
		t.Errorf("start after an interrupted rewind: have %v, want ErrDirectory", err)
	}
	if can, why := b.CanRewind(nil); can || !strings.Contains(why, "interrupted rewind") {
		t.Errorf("rewind after an interrupted rewind: have %v, %s; want no", can, why)
	}
	must(t, os.Remove(filepath.Join(s.DataDir, markRewinding)))

	// the source is healthy, but of another cluster: no other try helps
	s.Parameters["wal_log_hints"] = "on"
	b.Configure(s)
	startPrimary(t, b)
	stopFast(t, b)
	if err := b.Rewind(within(t, 20*time.Second), a.source(), nil); !errors.Is(err, ErrRewindImpossible) || !strings.Contains(err.Error(), "different systems") {
		t.Errorf("rewind to another cluster: have %v, want ErrRewindImpossible with pg_rewind's words", err)
	}
}

func TestCloneIsCancelledAndRepeated(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	b := newInstance(t, testSettings(t, "pg2"))
	ctx, cancel := context.WithCancel(t.Context())
	err := b.Clone(ctx, a.source(), func(Report) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled clone: have %v, want context canceled", err)
	}
	if state, problem := b.directory(); state != cluster.DirEmpty || problem != "" {
		t.Errorf("after a cancelled clone: have %s, %q; want empty", state, problem)
	}

	// an agent that was killed leaves the mark and some content: cleared by the next clone
	dir := b.Settings().DataDir
	must(t, b.claim(t.Context(), "a clone of nothing"))
	must(t, os.MkdirAll(filepath.Join(dir, "global"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "global", "pg_control"), []byte("half"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, ".kept"), nil, 0o600))
	if state, problem := b.directory(); state != cluster.DirEmpty || !strings.Contains(problem, "a clone of nothing") {
		t.Errorf("half-made clone: have %s, %q; want empty, and what it was", state, problem)
	}
	must(t, b.Clone(within(t, 30*time.Second), a.source(), nil))
	if !exists(filepath.Join(dir, ".kept")) {
		t.Error("a dot-file that was not ours is gone")
	}
	follow(t, b, a)
	caughtUp(t, b, a)

	err = b.Clone(t.Context(), a.source(), nil)
	if !errors.Is(err, ErrRunning) {
		t.Errorf("clone over a running standby: have %v, want ErrRunning", err)
	}
	stopFast(t, b)
	if err = b.Clone(t.Context(), a.source(), nil); !errors.Is(err, ErrDirectory) {
		t.Errorf("clone over data: have %v, want ErrDirectory", err)
	}
	if err := b.Remove(); !errors.Is(err, ErrDirectory) {
		t.Errorf("remove data that no setting allows to remove: have %v, want ErrDirectory", err)
	}
	aside, err := b.MoveAside("diverged")
	must(t, err)
	if !exists(filepath.Join(aside, "global", "pg_control")) {
		t.Errorf("moved aside to %s: the data is not there", aside)
	}
	if state, problem := b.directory(); state != cluster.DirEmpty || problem != "" {
		t.Errorf("after MoveAside: have %s, %q; want empty", state, problem)
	}
}

func TestCustomClone(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	s := testSettings(t, "pg2")
	root := filepath.Dir(s.DataDir)
	must(t, os.WriteFile(filepath.Join(root, "bad"), []byte("#!/bin/sh\nshift 2; dir=${1#--datadir=}\nls -A \"$dir\" > \""+root+"/seen\"\nmkdir \"$dir/global\"; echo broken >&2; exit 1\n"), 0o700))
	must(t, os.WriteFile(filepath.Join(root, "good"), []byte("#!/bin/sh\necho \"$@\" > \""+root+"/args\"\nexec "+s.BinDir+"/pg_basebackup -c fast -X stream -D \"${3#--datadir=}\" -d \"${4#--connstring=}\"\n"), 0o700))
	s.CloneMethods = []CloneMethod{{Name: "bad", Command: "sh " + filepath.Join(root, "bad")}, {Name: "good", Command: "sh " + filepath.Join(root, "good"), Arguments: [][2]string{{"stanza", "main"}}}}
	b := newInstance(t, s)
	must(t, b.Clone(within(t, 30*time.Second), a.source(), nil))
	seen, err := os.ReadFile(filepath.Join(root, "seen"))
	must(t, err)
	if len(seen) != 0 {
		t.Errorf("the method found %q in the data directory, want nothing", seen)
	}
	args, err := os.ReadFile(filepath.Join(root, "args"))
	must(t, err)
	if !strings.HasPrefix(string(args), "--scope=batman --role=replica --datadir="+s.DataDir+" --connstring=user=replicator host=127.0.0.1") ||
		!strings.HasSuffix(string(args), " --stanza=main\n") || strings.Contains(string(args), "rep-pass") {
		t.Errorf("arguments: have %s", args)
	}
	follow(t, b, a)
	caughtUp(t, b, a)
	if left, _ := filepath.Glob(filepath.Join(root, "pgpass.job")); len(left) != 0 {
		t.Errorf("password files left behind: %v", left)
	}
	c := newInstance(t, testSettings(t, "pg3"))
	if err := c.Clone(t.Context(), Source{}, nil); err == nil || !strings.Contains(err.Error(), "no_leader") {
		t.Errorf("clone without a source: have %v, want a hint at no_leader", err)
	}
}

// keep_data: the method finds what is there, and it stays when the method fails.
func TestKeptData(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	s := testSettings(t, "pg2")
	copies := filepath.Join(filepath.Dir(s.DataDir), "copies")
	pgtest.WriteProgram(t, copies, "#!/bin/sh -e\ncat "+s.DataDir+"/old\necho \"$@\"\ntest \"$1\" != --fail=1\nrm -rf "+s.DataDir+"/*\n"+
		s.BinDir+"/pg_basebackup -h 127.0.0.1 -p "+fmt.Sprint(a.Settings().Port)+" -U replicator -c fast -D "+s.DataDir+"\n")
	must(t, os.Mkdir(s.DataDir, 0o700))
	must(t, os.WriteFile(filepath.Join(s.DataDir, "old"), []byte("old data\n"), 0o600))
	s.CloneMethods = []CloneMethod{{Name: "delta", Command: copies, KeepData: true, NoParams: true, Arguments: [][2]string{{"fail", "1"}}}}
	b := newInstance(t, s)
	var said []string
	err := b.Clone(within(t, 30*time.Second), a.source(), func(r Report) { said = append(said, r.Detail) })
	if have := strings.Join(said, "|"); err == nil || have != "|old data|--fail=1" {
		t.Errorf("have %v and %q, want a failure after the method has seen the old data and its arguments", err, have)
	}
	if text := read(t, filepath.Join(s.DataDir, "old")); text != "old data\n" {
		t.Errorf("have %q, want what was there", text)
	}
	s.CloneMethods[0].Arguments = nil
	b.Configure(s)
	must(t, b.Clone(within(t, 30*time.Second), a.source(), nil))
	follow(t, b, a)
	caughtUp(t, b, a)
}

// A standby is frozen and takes no WAL, and wal_sender_timeout is 0: PostgreSQL alone would wait for ever. The stop ends when its patience
// does, and in order: the next start needs no recovery.
func TestStopWithAStuckWalsender(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	b := cloned(t, a, "pg2")
	caughtUp(t, b, a)
	a.sql(t, "ALTER SYSTEM SET wal_sender_timeout = 0")
	a.sql(t, "SELECT pg_reload_conf()")
	receiver, err := strconv.Atoi(b.sql(t, "SELECT pid FROM pg_stat_wal_receiver"))
	must(t, err)
	must(t, syscall.Kill(receiver, syscall.SIGSTOP))
	defer syscall.Kill(receiver, syscall.SIGCONT)
	a.sql(t, "CREATE TABLE big AS SELECT repeat(md5(i::text), 200) AS text FROM generate_series(1, 10000) i") // more than sockets hold
	const patience = 4 * time.Second
	begun, clean := time.Now(), time.Time{}
	must(t, a.Stop(within(t, 60*time.Second), StopOptions{Mode: Fast, SendersAfter: patience, OnShutdownCheckpoint: func(cluster.LSN, cluster.LSN) { clean = time.Now() }}))
	if waited := time.Since(clean); clean.IsZero() || waited < patience/2 { // the agent saw the checkpoint a little earlier than it told
		t.Errorf("stopped after %s, %s after the shutdown checkpoint; want at least %s: the standby is given that time", time.Since(begun), waited, patience)
	}
	if c, err := a.Control(t.Context()); err != nil || c.State != cluster.ControlShutDown {
		t.Errorf("have %v, %v, want %s", c.State, err, cluster.ControlShutDown)
	}
	startPrimary(t, a)
	must(t, syscall.Kill(receiver, syscall.SIGCONT))
	caughtUp(t, b, a)
}
