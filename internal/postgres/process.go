package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is the postmaster that we watch. It may have been started by an agent before us.
type process struct {
	mu     sync.Mutex
	pid    int
	exited chan struct{} // closed when pid has exited
	told   bool          // Exited has returned it after that
}

// postmaster is what /proc and postmaster.pid say about the running server.
type postmaster struct {
	pid       int
	single    bool // a single-user backend: it repairs or initializes, nobody can connect
	started   time.Time
	port      int
	socketDir string // empty: none
	listen    string // first listen address; empty: none
	status    string // "starting", "stopping", "ready", "standby"; empty: not known
}

// postmaster finds the server of the data directory, nil when there is none.
//
// The pid in postmaster.pid counts only if that process runs the postgres program in this data
// directory. A process that got the pid by reuse (a container starts counting anew) is no server (L30).
// The start time is no criterion: the wall clock may have been set since, and a server taken for
// dead would be worse than anything else here. A server whose pid file is gone is found too (L31).
func (p *Instance) postmaster() *postmaster {
	dir := p.realDir()
	if pm := readPidFile(filepath.Join(dir, "postmaster.pid")); pm != nil && p.isServer(pm.pid, dir) {
		return pm
	}
	for _, q := range p.processes(dir) {
		if !q.child {
			return &postmaster{pid: q.pid, single: q.single}
		}
	}
	return nil
}

// readPidFile reads postmaster.pid (PostgreSQL, src/include/utils/pidfile.h). Nil when there is none
// or its first line is unusable.
func readPidFile(name string) *postmaster {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	lines := strings.Split(string(text), "\n")
	line := func(n int) string {
		if n <= len(lines) {
			return strings.TrimSpace(lines[n-1])
		}
		return ""
	}
	pid, err := strconv.Atoi(line(1))
	if err != nil || pid == 0 {
		return nil
	}
	pm := &postmaster{pid: max(pid, -pid), single: pid < 0, socketDir: line(5), listen: line(6), status: line(8)}
	if seconds, err := strconv.ParseInt(line(3), 10, 64); err == nil {
		pm.started = time.Unix(seconds, 0)
	}
	pm.port, _ = strconv.Atoi(line(4))
	return pm
}

// isServer says whether a process is alive and runs the postgres program in dir.
func (p *Instance) isServer(pid int, dir string) bool {
	return workingDir(pid) == dir && p.runsPostgres(pid) && !isZombie(pid)
}

func (p *Instance) runsPostgres(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false // gone, or another user's: not ours
	}
	name := filepath.Base(strings.TrimSuffix(exe, " (deleted)")) // a package upgrade replaces the program under a running server
	return name == "postgres" || name == filepath.Base(p.binaries.path("postgres"))
}

func workingDir(pid int) string {
	cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return strings.TrimSuffix(cwd, " (deleted)")
}

// realDir is the data directory as /proc shows it.
func (p *Instance) realDir() string {
	dir := filepath.Clean(p.Settings().DataDir)
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		return filepath.Join(parent, filepath.Base(dir)) // removed under a running server
	}
	return dir
}

// serverProcess is one process of PostgreSQL in the data directory.
type serverProcess struct {
	pid    int
	parent int
	child  bool // a child of some postmaster, by its title
	single bool
	title  string // of a child, without "postgres: ": "checkpointer", "alice shop 10.0.0.7(51234) idle"
}

// processes lists the live PostgreSQL processes whose working directory is dir. The programs that an
// archive_command or a restore_command runs do not count.
func (p *Instance) processes(dir string) []serverProcess {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	var found []serverProcess
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || !p.isServer(pid, dir) {
			continue
		}
		text, err := os.ReadFile("/proc/" + name + "/cmdline")
		if err != nil || len(text) == 0 {
			continue
		}
		q := serverProcess{pid: pid, parent: parentOf(pid)}
		args := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
		if title, ok := strings.CutPrefix(args[0], "postgres: "); ok {
			q.child, q.title = true, strings.TrimSpace(title)
		} else if len(args) > 1 {
			q.single = args[1] == "--single"
			if args[1] == "-C" || args[1] == "--describe-config" || args[1] == "--boot" || args[1] == "--check" {
				continue // prints or checks settings, and is no server
			}
		}
		found = append(found, q)
	}
	for i, q := range found { // a child that was just forked still has its parent's command line
		for _, other := range found {
			if q.parent == other.pid {
				found[i].child, found[i].single = true, false
			}
		}
	}
	return found
}

// stray lists server processes that outlived their postmaster. While one of them lives the shared memory
// is in use, and it may still write. The logger ends by itself when the last one closes its pipe.
func (p *Instance) strays() (pids []int) {
	all := p.processes(p.realDir())
	for _, q := range all {
		if !q.child {
			return nil // there is a postmaster: they are its children
		}
		if p.role(q.title) != "logger" {
			pids = append(pids, q.pid)
		}
	}
	return pids
}

// Strays says whether server processes have outlived their postmaster; they may still write.
func (p *Instance) Strays() bool { return len(p.strays()) > 0 }

// EndStrays ends what a dead postmaster left behind and waits for it, at most 10 seconds: a process in
// uninterruptible I/O cannot be killed, and then nothing may be started here.
func (p *Instance) EndStrays(ctx context.Context) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		pids := p.strays()
		if len(pids) == 0 {
			return nil
		}
		p.log.LogAttrs(ctx, slog.LevelInfo, "kill backends that outlived their postmaster", slog.Any("pids", pids))
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		for _, pid := range pids {
			if _, err := waitGone(ctx, pid, time.Until(deadline)); err != nil {
				return fmt.Errorf("end backend %d that outlived its postmaster: %w; nothing may be started in %s while it lives", pid, err, p.Settings().DataDir)
			}
		}
	}
}

// titles of the processes that serve no client and write nothing for one.
var auxiliary = []string{"checkpointer", "background writer", "walwriter", "autovacuum launcher", "archiver", "stats collector", "logger",
	"logical replication launcher", "startup", "walreceiver", "walsender", "walsummarizer", "slotsync worker", "io worker"}

// role returns the auxiliary role in a process title, or empty for a client backend and whatever is not known.
func (p *Instance) role(title string) string {
	s := p.Settings()
	for _, name := range []string{s.Parameters["cluster_name"], s.Scope} {
		if name != "" {
			title = strings.TrimPrefix(title, name+": ")
		}
	}
	for _, aux := range auxiliary {
		if title == aux || strings.HasPrefix(title, aux+" ") {
			return aux
		}
	}
	return ""
}

// children lists the processes of one postmaster as the kernel keeps them. It is quick, but may miss one while
// others come and go (proc_pid_task_children(5)).
func (p *Instance) children(postmaster int) (found []serverProcess) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil { // not built into every kernel
		return p.processes(p.realDir())
	}
	for field := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			continue
		}
		line, _ := os.ReadFile("/proc/" + field + "/cmdline")
		if title, ok := strings.CutPrefix(strings.TrimRight(string(line), "\x00"), "postgres: "); ok {
			found = append(found, serverProcess{pid: pid, parent: postmaster, child: true, title: strings.TrimSpace(title)})
		}
	}
	return found
}

// startup returns the startup process of a postmaster, which replays the WAL; nil when there is none.
func (p *Instance) startup(postmaster int) *serverProcess {
	for _, q := range p.children(postmaster) {
		if q.child && p.role(q.title) == "startup" {
			return &q
		}
	}
	return nil
}

// serves says whether a process works for a client, or may: what is not known counts.
func (p *Instance) serves(q serverProcess) bool { return q.child && p.role(q.title) == "" }

// clientsLeft says whether any process of the data directory works for a client.
func (p *Instance) clientsLeft(postmaster int) bool {
	return slices.ContainsFunc(p.children(postmaster), p.serves) || slices.ContainsFunc(p.processes(p.realDir()), p.serves)
}

// Exited returns a channel that is closed when the current postmaster exits, nil when there is none. Every
// postmaster has a channel of its own, whoever started it. An exit between two calls is not lost: the next call
// returns the closed channel, once.
func (p *Instance) Exited() <-chan struct{} {
	if pm := p.postmaster(); pm != nil && !pm.single { // a single-user process is reaped by who started it
		return p.watch(pm.pid)
	}
	p.process.mu.Lock()
	defer p.process.mu.Unlock()
	if p.process.exited == nil || p.process.told {
		return nil
	}
	p.process.told = true
	return p.process.exited
}

// watch returns the exit channel of a process and reaps it if it is our child.
func (p *Instance) watch(pid int) <-chan struct{} {
	p.process.mu.Lock()
	defer p.process.mu.Unlock()
	if p.process.pid == pid {
		select {
		case <-p.process.exited: // the number was reused
		default:
			return p.process.exited
		}
	}
	exited := make(chan struct{})
	p.process.pid, p.process.exited, p.process.told = pid, exited, false
	go func() {
		defer close(exited)
		status, _ := waitGone(context.Background(), pid, 0)
		p.log.LogAttrs(context.Background(), slog.LevelInfo, "postmaster exited", slog.Int("pid", pid), slog.String("status", status))
	}()
	return exited
}

var errStillThere = errors.New("it is still there")

// waitGone waits until a process is gone or only its zombie is left, and reaps that if it is our child: then status says how
// it ended. Limit 0: no limit.
func waitGone(ctx context.Context, pid int, limit time.Duration) (status string, err error) {
	var deadline time.Time
	if limit != 0 {
		deadline = time.Now().Add(limit)
	}
	fd, noFD := unix.PidfdOpen(pid, 0) // kernels before 5.3 have none
	if noFD == nil {
		defer unix.Close(fd)
	}
	for !isZombie(pid) {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		step := 100 * time.Millisecond // how long the end of ctx may go unnoticed
		if ctx.Done() == nil {
			step = time.Hour
		}
		if limit != 0 {
			if step = min(step, time.Until(deadline)); step <= 0 {
				return "", errStillThere
			}
		}
		if noFD != nil {
			time.Sleep(min(step, 20*time.Millisecond))
			continue
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(step.Milliseconds())+1)
	}
	return reap(pid), nil
}

// reap takes a zombie that is our child out of the process table and says how it ended; another's is left alone.
func reap(pid int) string {
	var w syscall.WaitStatus
	if got, err := syscall.Wait4(pid, &w, syscall.WNOHANG, nil); got != pid || err != nil {
		return "unknown"
	}
	if w.Signaled() {
		return "signal: " + w.Signal().String()
	}
	return "exit status " + strconv.Itoa(w.ExitStatus())
}

// isZombie says whether a process is gone or only waits to be reaped.
func isZombie(pid int) bool {
	state, _ := stat(pid)
	return state == "" || state == "Z" || state == "X"
}

func parentOf(pid int) int {
	_, parent := stat(pid)
	return parent
}

// stat reads the state and the parent of a process from /proc/<pid>/stat, behind the program's name, which may hold anything.
func stat(pid int) (state string, parent int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}

// startupActivity is what the startup process says in its title: "recovering 000000010000000000000005".
func (p *Instance) startupActivity(postmaster int) string {
	q := p.startup(postmaster)
	if q == nil {
		return ""
	}
	_, doing, _ := strings.Cut(q.title, "startup ")
	return strings.TrimSpace(doing)
}
