package postgres

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

// Another container's PostgreSQL still uses the data directory: nothing is started there, nothing is changed, and as soon as
// it has ended the start that waits goes on.
func TestOtherContainer(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	stopFast(t, p)
	s := p.Settings()
	s.StartTimeout = 0
	p.Configure(s)
	release := pgtest.HoldElsewhere(t, s.DataDir)
	before := listing(t, s.DataDir)
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), s.DataDir+": another container's PostgreSQL still uses it") {
			t.Errorf("%s: have %v, want ErrInUse", what, err)
		}
		if have := listing(t, s.DataDir); have != before {
			t.Errorf("%s changed the directory:\n%s\nbefore:\n%s", what, have, before)
		}
	}
	refused("start", p.Start(within(t, 10*time.Second), StartOptions{Mode: AsPrimary}))
	_, err := p.launch(t.Context(), AsPrimary, nil)
	refused("launch", err)
	refused("crash recovery", p.CrashRecover(within(t, 10*time.Second)))
	refused("removal", p.Erase())
	_, err = p.MoveAside("failed")
	refused("moving aside", err)
	refused("clone", p.Clone(within(t, 10*time.Second), Source{Host: "127.0.0.1", Port: 1}, nil))
	refused("a program that writes", p.runAlone(within(t, 10*time.Second), exec.Command("touch", filepath.Join(s.DataDir, "written")), nil))

	if !p.InUse(t.Context()) {
		t.Error("it does not know that the directory is in use")
	}

	s.StartTimeout = time.Minute
	p.Configure(s)
	started := make(chan error, 1)
	begun := time.Now()
	go func() { started <- p.Start(within(t, 20*time.Second), StartOptions{Mode: AsPrimary}) }()
	select {
	case err := <-started:
		t.Fatalf("start beside another container's PostgreSQL ended after %s: %v", time.Since(begun), err)
	case <-time.After(settleLimit + 2*lockAgain): // longer than what only refuses
	}
	release()
	must(t, <-started)
	if p.sql(t, "SELECT 1") != "1" {
		t.Error("it does not answer")
	}
	if p.InUse(t.Context()) {
		t.Error("its own server is taken for another container's")
	}
}

// listing is the names, sizes and times of all files.
func listing(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-printf", "%p %s %T@\n").Output()
	must(t, err)
	return string(out)
}

// PostgreSQL and all its processes have the lock, the agent does not keep it, and the lock ends with the last of them.
func TestLockLives(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	dir := p.realDir()
	pm := p.postmaster()
	for _, q := range p.processes(dir) {
		// A backend whose client has left may be on its way out.
		pgtest.Eventually(t, q.title+" has the lock or ends", func() bool { return holdsLock(q.pid, dir) || isZombie(q.pid) || syscall.Kill(q.pid, 0) != nil })
	}
	if holdsLock(os.Getpid(), dir) {
		t.Error("the agent has kept its copy of the lock")
	}
	if _, _, err := p.hold(t.Context(), 0); !errors.Is(err, ErrRunning) {
		t.Errorf("lock beside a server of ours: have %v, want ErrRunning", err)
	}
	// a crash restart with backends that outlived the postmaster waits for nothing else
	must(t, syscall.Kill(pm.pid, syscall.SIGKILL))
	_, err := waitGone(within(t, 5*time.Second), pm.pid, 0)
	must(t, err)
	timed(t, "restart after kill -9", 0, func() { startPrimary(t, p) })
	if !holdsLock(p.postmaster().pid, dir) {
		t.Error("after the restart: the postmaster does not have the lock")
	}
	stopFast(t, p)
	f, locked, err := p.hold(t.Context(), 0)
	if err != nil || !locked {
		t.Fatalf("lock after a stop: have %v, %v; want it", locked, err)
	}
	must(t, f.Close())
}

// A program of archive_command that outlived its postmaster keeps the lock and nobody from starting. The new postmaster gets
// the lock when that program ends.
func TestLockOfHarmlessProgram(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	stopFast(t, p)
	s := p.Settings()
	root := filepath.Dir(s.DataDir)
	gate, name := filepath.Join(root, "gate"), filepath.Join(root, "archiving")
	must(t, syscall.Mkfifo(gate, 0o600))
	s.Parameters["archive_mode"] = "on"
	s.Parameters["archive_command"] = "exec setsid sh -c 'echo $$ > " + name + ".new; mv " + name + ".new " + name + "; exec cat " + gate + "' > /dev/null 2>&1"
	p.Configure(s)
	startPrimary(t, p)
	p.sql(t, "CREATE TABLE t (i int); SELECT pg_switch_wal()")
	pgtest.Eventually(t, "archive_command runs", func() bool { return exists(name) })
	text, err := os.ReadFile(name)
	must(t, err)
	program, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	must(t, p.Kill(within(t, 10*time.Second)))
	dir := p.realDir()
	if isZombie(program) || !holdsLock(program, dir) {
		t.Fatalf("archive_command, process %d: want it to outlive PostgreSQL, and to have the lock", program)
	}
	s.Parameters["archive_mode"] = "off"
	p.Configure(s)
	timed(t, "start beside an archive_command that is left over", 5*settleLimit, func() { startPrimary(t, p) })
	pm := p.postmaster().pid
	if holdsLock(pm, dir) {
		t.Error("the postmaster has the lock that archive_command still has")
	}
	must(t, syscall.Kill(program, syscall.SIGKILL))
	pgtest.Eventually(t, "the postmaster has the lock, and the agent does not keep it", func() bool { return holdsLock(pm, dir) && !holdsLock(os.Getpid(), dir) })
}
