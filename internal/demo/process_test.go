package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// children runs programs that do nothing, from a folder of their own, in a directory below a member's.
func children(t *testing.T, names ...string) (dir, binDir string, running map[string]*exec.Cmd) {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("no program sleep on this machine")
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, binDir = filepath.Join(root, "cluster-0"), filepath.Join(root, "bin")
	for _, d := range []string{filepath.Join(dir, "data", "base"), binDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	running = map[string]*exec.Cmd{}
	for _, name := range names {
		program := filepath.Join(binDir, name)
		if err := os.WriteFile(program, text, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "60")
		cmd.Dir = filepath.Join(dir, "data", "base")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running[name] = cmd
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	return dir, binDir, running
}

func TestPostgresIsFoundByWhereItWorks(t *testing.T) {
	dir, binDir, running := children(t, "pg_rewind", "psql", "postgres")
	server, tool := running["postgres"].Process.Pid, running["pg_rewind"].Process.Pid
	pidFile := filepath.Join(dir, "data", "postmaster.pid")
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(server)+"\n"+dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if have, want := postgresOf(dir, binDir), []int{server, tool}; !slices.Equal(have, want) {
		t.Errorf("have %v, want %v: the postmaster first, and nobody's psql", have, want)
	}
	if have := postgresOf(dir+"-other", binDir); len(have) > 0 {
		t.Errorf("have %v in another directory", have)
	}
	if have := postgresOf(dir, binDir+"-other"); len(have) > 0 {
		t.Errorf("have %v of other programs", have)
	}
	n, err := killPostgres(dir, binDir)
	if err != nil || n != 2 {
		t.Errorf("have %d, %v, want 2 killed", n, err)
	}
	if have := postgresOf(dir, binDir); len(have) > 0 {
		t.Errorf("have %v after the kill", have)
	}
	if running["psql"].Process.Signal(syscall.Signal(0)) != nil {
		t.Error("the psql that somebody had open there was killed")
	}
}

func TestStopGivesTheServerItsChance(t *testing.T) {
	dir, binDir, running := children(t, "postgres")
	server := running["postgres"]
	if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(strconv.Itoa(server.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := stopPostgres(dir, binDir, syscall.SIGQUIT, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait()
	if have := server.ProcessState.Sys().(syscall.WaitStatus).Signal(); have != syscall.SIGQUIT {
		t.Errorf("have it ended by %v, want SIGQUIT", have)
	}
}

func TestPlaceThatTheAccountCannotReach(t *testing.T) {
	root := t.TempDir()
	closed := filepath.Join(root, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	stranger := account{name: "stranger", uid: 1 << 30, gid: 1 << 30, other: true}
	if err := stranger.reaches(closed); err == nil {
		t.Errorf("a directory of mode 0700 is accepted")
	}
	if err := stranger.reaches("/"); err != nil {
		t.Errorf("have %v for a place that everybody reaches", err)
	}
	stranger.other = false
	if err := stranger.reaches(closed); err != nil {
		t.Errorf("have %v for our own user", err)
	}
}

func TestOnlyAnEmptyDirectoryIsTaken(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &demoCluster{}
	if err := c.makeDir(dir); err == nil {
		t.Error("a directory with a file in it is accepted")
	}
	if err := c.close(false); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("have %v: somebody's file was deleted", err)
	}
}
