package postgres

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

func withCallbacks(t *testing.T, script string) (p *Instance, dir string) {
	t.Helper()
	dir = pgtest.Dir(t)
	name := filepath.Join(dir, "call back.sh")
	write(t, name, "#!/bin/sh\ncd '"+dir+"'\n"+script)
	must(t, os.Chmod(name, 0o755))
	command := "/bin/sh '" + name + "' word"
	p = &Instance{log: slog.New(slog.DiscardHandler), settings: Settings{Scope: "batman", Callbacks: map[string]string{OnStart: command, OnReload: command, OnRoleChange: command}}}
	t.Cleanup(p.Close)
	return p, dir
}

func TestCallbackArguments(t *testing.T) {
	t.Parallel()
	p, dir := withCallbacks(t, `echo "$@" >> calls`+"\n")
	p.RunCallback(OnStop, cluster.Replica) // not configured
	p.RunCallback(OnRoleChange, cluster.Promoted)
	must(t, p.WaitCallbacks(within(t, 10*time.Second)))
	p.RunCallback(OnReload, cluster.StandbyLeader)
	must(t, p.WaitCallbacks(within(t, 10*time.Second)))
	if have, want := read(t, filepath.Join(dir, "calls")), "word on_role_change primary batman\nword on_reload standby_leader batman\n"; have != want {
		t.Errorf("have %q, want %q", have, want)
	}
}

// A newer callback kills the older one and its children; on_reload does not disturb it.
func TestNewerCallbackKillsOlder(t *testing.T) {
	t.Parallel()
	p, dir := withCallbacks(t, `case "$2" in
on_start) sh -c 'touch started; sleep 600; touch survived' ; touch survived ;;
on_reload) touch reloaded ;;
*) touch changed ;;
esac
`)
	there := func(name string) func() bool { return func() bool { return exists(filepath.Join(dir, name)) } }
	p.RunCallback(OnStart, cluster.Replica)
	pgtest.Eventually(t, "the first callback runs", there("started"))
	p.RunCallback(OnReload, cluster.Replica)
	pgtest.Eventually(t, "on_reload runs", there("reloaded"))
	if n := len(below(dir)); n == 0 {
		t.Error("on_reload ended the other callback, want both")
	}
	p.RunCallback(OnRoleChange, cluster.Primary)
	must(t, p.WaitCallbacks(within(t, 10*time.Second)))
	pgtest.Eventually(t, "no process of the first callback is left", func() bool { return len(below(dir)) == 0 })
	if !exists(filepath.Join(dir, "changed")) || exists(filepath.Join(dir, "survived")) {
		t.Error("have the first callback's end, want only the second one's")
	}
}

// below lists the processes whose working directory is dir.
func below(dir string) (found []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && cwd == dir {
			found = append(found, link)
		}
	}
	return found
}

func TestRunHook(t *testing.T) {
	t.Parallel()
	p, _ := withCallbacks(t, "")
	ctx := within(t, 10*time.Second)
	must(t, p.RunHook(ctx, ""))
	must(t, p.RunHook(ctx, `sh -c 'test "$X" = 1'`, "X=1"))
	if err := p.RunHook(ctx, "sh -c 'exit 3'"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("have %v, want exit status 3", err)
	}
	short := brief(t, 150*time.Millisecond)
	timed(t, "a hook beyond its time", 10*time.Second, func() {
		if err := p.RunHook(short, "sh -c 'sleep 600 & wait'"); err == nil {
			t.Error("have no error, want the end of its context")
		}
	})
}
