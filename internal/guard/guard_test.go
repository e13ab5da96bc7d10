package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/guard/process"
)

// envAgent makes the test binary an agent: it arms a guard of that directory for so many milliseconds, says so, and waits.
const envAgent = "REGENT_TEST_GUARD_AGENT"

func TestMain(m *testing.M) {
	if spec := os.Getenv(envAgent); spec != "" {
		data, after, _ := strings.Cut(spec, " ")
		milliseconds, _ := strconv.Atoi(after)
		g, err := Open(Options{DataDir: data, Program: "postgres", Log: slog.New(slog.DiscardHandler)})
		if err == nil && milliseconds > 0 {
			err = g.Arm(boottime.Now().Add(time.Duration(milliseconds) * time.Millisecond))
		}
		fmt.Println(g.State().Pid, err)
		select {}
	}
	os.Exit(m.Run())
}

// scene is a data directory with a server that only looks like one.
type scene struct {
	data, other string
	programs    string
	postmaster  *exec.Cmd
	family      []int // the postmaster and its descendants
	bystanders  []*exec.Cmd
}

// start runs a program in a directory; it must print a line once it is what it pretends to be.
func start(t *testing.T, dir, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if n, err := out.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("start %s %v: %v", program, args, err)
	}
	return cmd
}

// server starts a postmaster with a backend and an archive command, somebody's shell in the data directory, and the server of
// another directory.
func server(t *testing.T) *scene {
	t.Helper()
	dir := t.TempDir()
	s := &scene{data: filepath.Join(dir, "data"), other: filepath.Join(dir, "other"), programs: filepath.Join(dir, "programs")}
	for _, d := range []string{s.data, s.other, s.programs} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	postgres := filepath.Join(s.programs, "postgres")
	if err := os.WriteFile(postgres, shell, 0o700); err != nil {
		t.Fatal(err)
	}
	s.postmaster = start(t, s.data, postgres, "-c", postgres+` -c "/bin/sh -c 'sleep 1000 & echo; wait' & wait" & wait`)
	s.family = descendants(s.postmaster.Process.Pid)
	s.bystanders = []*exec.Cmd{start(t, s.data, "/bin/sh", "-c", "echo; sleep 1000"), start(t, s.other, postgres, "-c", "echo; sleep 1000")}
	return s
}

// left lists the server's processes that live. It checks that nobody else was killed.
func (s *scene) left(t *testing.T) (pids []int) {
	t.Helper()
	for _, cmd := range s.bystanders {
		if !lives(cmd.Process.Pid) {
			t.Errorf("%v was killed, want it left alone", cmd.Args)
		}
	}
	for _, pid := range s.family {
		if lives(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stat is state and parent of a process.
func stat(pid int) (state string, parent int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ")
	_, _ = fmt.Sscan(rest, &state, &parent)
	return state, parent
}

func lives(pid int) bool {
	state, _ := stat(pid)
	return state != "" && state != "Z" && state != "X"
}

// descendants are a process and all that come from it.
func descendants(pid int) []int {
	list := []int{pid}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for i := 0; i < len(list); i++ {
		for _, name := range all {
			child, _ := strconv.Atoi(filepath.Base(name))
			if _, parent := stat(child); parent == list[i] {
				list = append(list, child)
			}
		}
	}
	return list
}

// patience bounds what is to happen at once, on a machine that is slow or stands still for a while.
const patience = time.Minute

func open(t *testing.T, data string) *Guard { t.Helper(); return openFor(t, data, "postgres") }

func openFor(t *testing.T, data, program string) *Guard {
	t.Helper()
	g, err := Open(Options{DataDir: data, Program: program, LogFile: filepath.Join(t.TempDir(), "guard.log"), Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pid := g.files.holder()
		g.Look()
		g.Disarm(false)
		g.Close()
		if pid != 0 && !ends(pid, patience) {
			t.Errorf("guard %d goes on without agent and without an order", pid)
		}
		if _, err := os.Stat(g.files.name); err == nil {
			t.Errorf("%s is left behind", g.files.name)
		}
	})
	for deadline := time.Now().Add(patience); !g.Alive(); g.begin() { // as Run does
		if time.Now().After(deadline) {
			t.Fatalf("have no guard: %s", g.State().Problem)
		}
	}
	return g
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// ends waits until a process is gone.
func ends(pid int, limit time.Duration) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	for deadline := time.Now().Add(limit); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds())+1)
		if err == nil || time.Now().After(deadline) {
			return n == 1
		}
	}
}

// in is a moment of the boot-time clock.
func in(d time.Duration) time.Time { return boottime.Now().Add(d) }

// passed waits until a moment of the boot-time clock is well over.
func passed(moment time.Time) { time.Sleep(moment.Sub(boottime.Now()) + 100*time.Millisecond) }

func (g *Guard) awaitKill(t *testing.T, kills int) {
	t.Helper()
	for deadline := time.Now().Add(patience); g.State().Kills < kills || g.State().Mode == "firing"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("have %+v after %s, want %d kills", g.State(), patience, kills)
		}
	}
}

func TestKillsTheWholeServerAtTheMomentAndNobodyElse(t *testing.T) {
	s := server(t)
	g := open(t, s.data)
	before := len(s.left(t))
	if before < 3 {
		t.Fatalf("have %d processes of the server, want a postmaster, a backend and its command", before)
	}
	at := in(300 * time.Millisecond)
	if err := g.Arm(at); err != nil {
		t.Fatal(err)
	}
	g.awaitKill(t, 1)
	for _, pid := range s.left(t) { // a command may still be dying: it writes nothing
		if !ends(pid, patience) {
			t.Errorf("process %d of the server lives on", pid)
		}
	}
	shared := g.files.shared
	late := time.Duration(shared.KilledAt.Load() - at.UnixNano())
	if late < -8 || late > 10*time.Second || shared.Processes.Load() != int64(before) {
		t.Errorf("killed %d processes %s after the moment, want %d and soon", shared.Processes.Load(), late, before)
	}
	t.Logf("began %s after the moment, took %s", late, time.Duration(shared.Took.Load()))
	if st := g.State(); st.Mode != "fired" || st.Kills != 1 {
		t.Errorf("have %+v after the kill, want it fired: it watches on", st)
	}
}

// The program of a server may have another name, and its file may have been replaced by an upgrade.
func TestKnowsTheServerByItsConfiguredName(t *testing.T) {
	s := server(t)
	shell, _ := os.ReadFile("/bin/sh")
	renamed := filepath.Join(s.programs, "edb-postgres")
	if err := os.WriteFile(renamed, shell, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := start(t, s.data, renamed, "-c", "echo; sleep 1000")
	if err := os.Remove(renamed); err != nil {
		t.Fatal(err)
	}
	g := openFor(t, s.data, "edb-postgres")
	if err := g.Arm(in(0)); err != nil {
		t.Fatal(err)
	}
	g.awaitKill(t, 1)
	if !ends(cmd.Process.Pid, patience) {
		t.Error("the server under its own name lives on")
	}
}

// The data directory is reached over a link and moved while the server runs.
func TestFindsTheServerOfADirectoryByItsIdentity(t *testing.T) {
	s := server(t)
	link := filepath.Join(filepath.Dir(s.data), "link")
	if err := os.Symlink(s.data, link); err != nil {
		t.Fatal(err)
	}
	g := open(t, link)
	moved := s.data + ".moved"
	if err := os.Rename(s.data, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(moved, s.data); err != nil {
		t.Fatal(err)
	}
	if err := g.Arm(in(0)); err != nil {
		t.Fatal(err)
	}
	g.awaitKill(t, 1)
	if !ends(s.postmaster.Process.Pid, patience) {
		t.Error("the postmaster lives on")
	}
}

func TestExtendedAndDisarmed(t *testing.T) {
	s := server(t)
	g := open(t, s.data)
	if err := g.Extend(in(0)); err != nil || g.State().Armed {
		t.Fatalf("extend a disarmed guard: have %+v, %v; want it left alone", g.State(), err)
	}
	// Two moments pass: one that was extended, and one that was called off. A busy machine has five seconds to do either.
	moment := in(5 * time.Second)
	if err := errors.Join(g.Arm(moment), g.Extend(in(time.Hour))); err != nil {
		t.Fatal(err)
	}
	passed(moment)
	if st := g.State(); st.Kills != 0 || st.Mode != "armed" {
		t.Errorf("have %+v after a moment that was extended, want it armed and nothing killed", st)
	}
	moment = in(5 * time.Second)
	if err := g.Arm(moment); err != nil {
		t.Fatal(err)
	}
	g.Disarm(true)
	passed(moment)
	if st := g.State(); st.Kills != 0 || st.Mode != "paused" || len(s.left(t)) < 3 {
		t.Errorf("have %+v, want nothing killed", st)
	}
	// An earlier moment counts at once.
	if err := errors.Join(g.Arm(in(time.Hour)), g.Arm(in(10*time.Millisecond))); err != nil {
		t.Fatal(err)
	}
	g.awaitKill(t, 1)
}

func TestNothingIsArmedWhileItKills(t *testing.T) {
	g := open(t, t.TempDir())
	pid := g.State().Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	g.files.shared.Order.Store(int64(process.NewOrder(process.Firing, 1)))
	for what, err := range map[string]error{"arm": g.Arm(in(time.Hour)), "extend": g.Extend(in(time.Hour))} {
		if !errors.Is(err, ErrFiring) {
			t.Errorf("%s while the guard kills: have %v, want ErrFiring", what, err)
		}
	}
	g.Disarm(false)
	if m := g.State().Mode; m != "firing" {
		t.Errorf("disarmed while the guard kills: have %s", m)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	g.files.wake()
	for deadline := time.Now().Add(patience); g.State().Mode == "firing" && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	if err := g.Arm(in(time.Hour)); err != nil || g.State().Kills != 0 {
		t.Errorf("have %v, %+v; want it armed again, and nothing counted as killed", err, g.State())
	}
}

func TestADeadGuardIsReplacedAndCarriesOn(t *testing.T) {
	s := server(t)
	g := open(t, s.data)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if err := g.Arm(in(time.Second)); err != nil {
		t.Fatal(err)
	}
	pid, killed := g.State().Pid, time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !g.Alive() || g.State().Pid == pid; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("have %+v %s after the guard was killed, want another one", g.State(), patience)
		}
	}
	t.Logf("another guard after %s", time.Since(killed))
	g.awaitKill(t, 1)
}

// agentProcess runs an agent in a process of its own and returns it with its guard.
func agentProcess(t *testing.T, data string, armed time.Duration) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", envAgent, data, armed.Milliseconds()))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var guard int
	var problem string
	if _, err := fmt.Fscan(out, &guard, &problem); err != nil || problem != "<nil>" || guard == 0 {
		t.Fatalf("agent with guard %d: %s, %v", guard, problem, err)
	}
	return cmd, guard
}

func TestAgentFrozenAndKilled(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"frozen": syscall.SIGSTOP, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			s := server(t)
			agent, guard := agentProcess(t, s.data, 500*time.Millisecond)
			if err := agent.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if !ends(s.postmaster.Process.Pid, patience) {
				t.Fatal("the postmaster lives on, with an agent that does not renew")
			}
			_ = agent.Process.Kill()
			_ = agent.Wait()
			if !ends(guard, patience) {
				t.Error("the guard goes on although agent and server are gone")
			}
			g := open(t, s.data) // tells of it
			if st := g.State(); st.Kills != 1 || g.files.shared.Told.Load() != 1 {
				t.Errorf("have %+v after a restart, want the kill remembered and told", st)
			}
		})
	}
}

func TestARestartedAgentCarriesOn(t *testing.T) {
	s := server(t)
	agent, guard := agentProcess(t, s.data, 5*time.Second)
	_ = agent.Process.Kill()
	_ = agent.Wait()
	g := open(t, s.data)
	if st := g.State(); st.Pid != guard || !st.Armed {
		t.Fatalf("have %+v, want guard %d with its order", st, guard)
	}
	if err := g.Extend(in(time.Hour)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5200 * time.Millisecond)
	if st := g.State(); st.Kills != 0 || !st.Alive || len(s.left(t)) < 3 {
		t.Errorf("have %+v, want nothing killed: the new agent has renewed", st)
	}
}

func TestCleanEndLeavesNothingBehind(t *testing.T) {
	data := t.TempDir()
	g := open(t, data)
	g.Disarm(true)
	pid := g.State().Pid
	g.Close()
	if !ends(pid, patience) {
		t.Fatal("the guard goes on")
	}
	for _, f := range Files(data) {
		if _, err := os.Lstat(f); err == nil {
			t.Errorf("%s is left", f)
		}
	}
}

func TestRemoveEndsAnArmedGuard(t *testing.T) {
	data := t.TempDir()
	agent, guard := agentProcess(t, data, time.Hour)
	_ = agent.Process.Kill()
	_ = agent.Wait()
	Remove(data)
	if !ends(guard, patience) {
		t.Error("the guard goes on")
	}
	for _, f := range Files(data) {
		if _, err := os.Lstat(f); err == nil {
			t.Errorf("%s is left", f)
		}
	}
}

func TestOneAgentPerDataDirectory(t *testing.T) {
	data := t.TempDir()
	open(t, data)
	if _, err := Open(Options{DataDir: data, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, errTaken) {
		t.Errorf("a second agent: have %v, want errTaken", err)
	}
}

func TestForeignFilesAreRefused(t *testing.T) {
	data := t.TempDir()
	for _, f := range Files(data) {
		if !strings.HasSuffix(f, ".wake") {
			if err := os.WriteFile(f, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Remove(f) })
		}
	}
	if _, err := Open(Options{DataDir: data, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("have %v, want a file that others may read refused", err)
	}
}

func TestAnotherBootsMemoryIsEmptied(t *testing.T) {
	data := t.TempDir()
	f, err := openFiles(realPath(data))
	if err != nil {
		t.Fatal(err)
	}
	f.shared.Order.Store(int64(process.NewOrder(process.Armed, 1)))
	f.shared.Kills.Store(7)
	f.shared.Boot.Add(2)
	f.close()
	g := open(t, data)
	if st := g.State(); st.Armed || st.Kills != 0 {
		t.Errorf("have %+v, want nothing known", st)
	}
}

// A guard that waits does not run.
func TestSleepsUntilTheMoment(t *testing.T) {
	g := open(t, t.TempDir())
	if err := g.Arm(in(time.Hour)); err != nil {
		t.Fatal(err)
	}
	// It looks at the order first, soon or on a busy machine later.
	for deadline := time.Now().Add(patience); ; {
		wakes := g.files.shared.Wakes.Load()
		for range 5 { // renewals wake nobody
			if err := g.Extend(in(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(500 * time.Millisecond)
		have := g.files.shared.Wakes.Load()
		if have == wakes {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("woke %d times in half a second, want never", have-wakes)
		}
	}
}

func TestMarginLeavesMostOfTheLease(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{30 * time.Second: 500 * time.Millisecond, 5 * time.Second: 500 * time.Millisecond, 3 * time.Second: 300 * time.Millisecond} {
		if have := Margin(ttl); have != want {
			t.Errorf("ttl %s: have %s, want %s", ttl, have, want)
		}
	}
}

// The guard hears no signals but the one that cannot be ignored, says what it is, and holds no descriptors of the agent.
func TestProcess(t *testing.T) {
	leaked, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer leaked.Close()
	g := open(t, t.TempDir())
	pid := g.State().Pid
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}
	if ends(pid, 100*time.Millisecond) {
		t.Fatal("the guard ends when service managers stop everybody")
	}
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if !strings.HasPrefix(string(line), process.Title+"\x00") {
		t.Errorf("have command line %q", line)
	}
	cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	session, _ := unix.Getsid(pid)
	if cwd != "/" || session != pid {
		t.Errorf("have directory %s and session %d, want / and its own", cwd, session)
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		if n := filepath.Base(fd); !(n <= "2" || strings.Contains(to, "regent-guard") || to == "/proc" || strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/sys/fs/cgroup/")) { // the runtime's own
			t.Errorf("descriptor %s is %s, which is none of the guard's business", n, to)
		}
	}
}

// An agent that was frozen between its last look at the lock and the start of the postmaster starts it when it goes on.
func TestNothingStartsAfterTheMoment(t *testing.T) {
	s := server(t)
	g := open(t, s.data)
	if err := g.Arm(in(0)); err != nil {
		t.Fatal(err)
	}
	g.awaitKill(t, 1)
	if st := g.State(); st.Mode != "fired" || !st.Armed {
		t.Errorf("have %+v, want it armed until the agent has seen PostgreSQL down", st)
	}
	postmaster := func() *exec.Cmd {
		cmd := exec.Command(filepath.Join(s.programs, "postgres"), "-c", "sleep 1000; true")
		cmd.Dir = s.data
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	if late := postmaster(); !ends(late.Process.Pid, patience) {
		t.Error("a postmaster that was started after the moment lives")
	}
	g.awaitKill(t, 2)

	g.Disarm(false)
	standby := postmaster()
	time.Sleep(200 * time.Millisecond) // several looks
	if ends(standby.Process.Pid, 0) || g.State().Mode != "disarmed" {
		t.Errorf("have %+v, want a standby that is left alone", g.State())
	}
}
