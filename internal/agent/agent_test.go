package agent

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
	"github.com/regent-ha/regent/internal/postgres"
)

func snapshot() *cluster.Snapshot {
	return &cluster.Snapshot{
		Revision: 7, Leader: cluster.Leader{Name: "pg1"},
		Initialize: cluster.Initialize{Present: true, SystemID: "7000000000000000001"},
		Config:     cluster.DynamicConfig{Usable: true, Document: cluster.Value{Kind: cluster.Object, Fields: []cluster.Field{{Name: "ttl", Value: cluster.Int(30)}}}},
		Members:    []cluster.Member{{Name: "pg1", State: cluster.Running, Role: cluster.Primary, APIURL: "http://127.0.0.1:1/patroni"}},
	}
}

var primary = cluster.Postgres{
	Dir: cluster.DirPresent, Pid: 1, Ready: cluster.Accepting, Queried: true, Timeline: 1, Write: 100, Flush: 100,
	SystemID: "7000000000000000001", Version: 150000,
}

func TestEveryActionHasAnExecutor(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../ha/decision.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	act, err1 := os.ReadFile("act.go")
	work, err2 := os.ReadFile("work.go")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	code := string(act) + string(work)
	found := 0
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "String" || f.Recv == nil {
			continue
		}
		name := f.Recv.List[0].Type.(*ast.Ident).Name
		found++
		if name != "Exit" && !strings.Contains(code, "case ha."+name+":") {
			t.Errorf("ha.%s has no case in act.go or work.go", name)
		}
	}
	if found < 20 {
		t.Errorf("have %d actions, want them all; did decision.go move?", found)
	}
}

func TestJournalReadsBackUntilAMoment(t *testing.T) {
	j, err := openJournal(t.TempDir()+"/journal", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	for i, r := range []ha.Reason{ha.LockFree, ha.Healthiest, ha.HealthyPrimary} {
		v := &ha.View{Self: "pg1", Store: snapshot(), Postgres: primary, Now: at(time.Duration(i) * time.Second)}
		j.write(entry{At: at(time.Duration(i) * time.Minute), Reason: r, View: v})
	}
	if _, err := j.file.WriteString("{half a line\n"); err != nil {
		t.Fatal(err)
	}
	got, err := j.read(at(90*time.Second), 5)
	if err != nil || len(got) != 2 || got[0].Reason != ha.Healthiest {
		t.Fatalf("have %v, %v; want the two until then, newest first", got, err)
	}
	a, b := ha.Decide(*got[0].View), ha.Decide(ha.View{Self: "pg1", Store: snapshot(), Postgres: primary, Now: at(time.Second)})
	if a.Reason != b.Reason || a.Detail != b.Detail {
		t.Errorf("a view from the journal decides %s (%s), the original %s (%s)", a.Reason, a.Detail, b.Reason, b.Detail)
	}
}

func TestJournalIsARing(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	long := strings.Repeat("x", 1<<18)
	for i := range 100 {
		j.write(entry{At: at(time.Duration(i) * time.Second), Reason: ha.Busy, Detail: long, View: &ha.View{}})
	}
	var total int64
	for _, name := range []string{j.current(), j.previous()} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 2*journalSize {
		t.Errorf("have %d bytes on disk, want at most %d", total, 2*journalSize)
	}
	got, err := j.read(at(time.Hour), 3)
	if err != nil || len(got) != 3 || !got[0].At.Equal(at(99*time.Second)) {
		t.Errorf("have %d entries, %v; want the newest three", len(got), err)
	}
}

// In Kubernetes an agent of our name is the pod before us, whose end is near.
func TestAnotherAgentOfOurName(t *testing.T) {
	for name, test := range map[string]struct {
		kind  config.Kind
		lives time.Duration // the other agent
		waits time.Duration
		fails bool
	}{
		"elsewhere it is refused":      {config.Etcd3, time.Hour, 0, true},
		"gone":                         {config.Etcd3, 0, 0, false},
		"a pod that ends":              {config.InKubernetes, 20 * time.Second, 20 * time.Second, false},
		"a pod that does not end":      {config.InKubernetes, time.Hour, lateEnd, true},
		"a pod that has ended already": {config.InKubernetes, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				a := &Agent{name: "pg1", clock: time.Now, log: slog.New(slog.DiscardHandler), peers: func(context.Context, cluster.Member) PeerStatus {
					return PeerStatus{Alive: time.Since(begun) < test.lives}
				}}
				a.settings.DCS.Kind = test.kind
				err := a.alone(t.Context(), snapshot())
				if waited := time.Since(begun); waited != test.waits || (err != nil) != test.fails {
					t.Errorf("have %v after %s, want an error: %v, after %s", err, waited, test.fails, test.waits)
				}
			})
		})
	}
}

func TestHousekeepingIsToldOnce(t *testing.T) {
	for name, test := range map[string]struct {
		before ha.Reason
		d      ha.Decision
		want   bool
	}{
		"it leads from now on":  {ha.PromoteNow, ha.Decision{Reason: ha.HealthyPrimary, Actions: []ha.Action{ha.WriteStatus{}}}, false},
		"it still leads":        {ha.HealthyPrimary, ha.Decision{Reason: ha.HealthyPrimary, Actions: []ha.Action{ha.WriteStatus{}, ha.SyncSlots{}}}, true},
		"it does more":          {ha.HealthyPrimary, ha.Decision{Reason: ha.HealthyPrimary, Actions: []ha.Action{ha.WriteStatus{}, ha.WriteConfig{}}}, false},
		"it asks for an answer": {ha.LockFree, ha.Decision{Reason: ha.LockFree, Actions: []ha.Action{ha.AskPeers{}}}, false},
	} {
		if have := quiet(&test.d, test.before); have != test.want {
			t.Errorf("%s: have quiet %v, want %v", name, have, test.want)
		}
	}
}

func TestCallbacksFollowRoles(t *testing.T) {
	var c callbackMemory
	for _, s := range []struct {
		event string
		role  cluster.Role
		want  string
	}{
		{"on_start", cluster.Replica, "on_start"},
		{"on_role_change", cluster.Primary, "on_role_change"},
		{"on_role_change", cluster.Primary, ""},
		{"on_restart", cluster.Primary, "on_restart"},
		{"on_stop", cluster.Primary, "on_stop"},
		{"on_role_change", cluster.Demoted, "on_role_change"},
		{"on_start", cluster.Replica, "on_role_change"},
		{"on_reload", cluster.Replica, "on_reload"},
		{"on_start", cluster.StandbyLeader, "on_role_change"},
		{"on_stop", cluster.StandbyLeader, "on_stop"},
		{"on_start", cluster.StandbyLeader, "on_start"},
		{"on_role_change", cluster.Primary, "on_role_change"},
	} {
		if have := c.next(s.event, s.role); have != s.want {
			t.Errorf("%s as %s: have %q, want %q", s.event, s.role, have, s.want)
		}
	}
}

func TestJobBeginsAfterItIsTold(t *testing.T) {
	told := make(chan loop.Fact, 4)
	j := &jobs{clock: time.Now, report: func(f loop.Fact) { told <- f }, log: slog.New(slog.DiscardHandler)}
	first := j.new(ha.JobStart, "", func(ctx context.Context, _ postgres.Progress) (loop.JobEnded, error) {
		<-ctx.Done()
		return loop.JobEnded{}, ctx.Err()
	})
	second := j.new(ha.JobDemote, ha.NoLock, func(context.Context, postgres.Progress) (loop.JobEnded, error) { return loop.JobEnded{}, nil })
	j.start(t.Context(), first)
	j.start(t.Context(), second)
	j.wait()
	if f := (<-told).(loop.JobEnded); f.ID != second.id || len(told) != 0 {
		t.Errorf("have the end of job %d and %d more, want only the second's: the first was replaced", f.ID, len(told))
	}
}
