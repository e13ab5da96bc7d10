package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// StartMode is what the instance is to become.
type StartMode int

const (
	AsPrimary  StartMode = iota // no signal file: it leaves recovery as soon as it can
	AsStandby                   // standby.signal: it stays in recovery until promoted
	AsRestored                  // as Settings.Restore says, behind locked doors: until it is a primary the cluster does not exist
)

// StartOptions says how to start.
type StartOptions struct {
	Mode     StartMode
	Upstream cluster.Upstream // of a standby; the zero value: none
	Control  *cluster.Control // nil: it is read
	Progress func(string)     // what the startup process is doing; may be nil
}

var (
	// ErrStarting: ctx ended while the postmaster was still starting. It goes on starting.
	ErrStarting = errors.New("PostgreSQL is still starting")
	// ErrRunning: there is a postmaster, or a single-user process, in the data directory.
	ErrRunning = errors.New("PostgreSQL is running")
	// ErrDirectory: the data directory is not one to start, by its content or version. Nothing was done.
	ErrDirectory = errors.New("the data directory cannot be used")
)

// startupLog receives what the postmaster writes to its standard output and error: everything when logging_collector
// is off, else only its first lines. It lies in the data directory and is truncated at each start.
const startupLog = "regent-startup.log"

// readyPoll is how often the state of a starting postmaster is looked at (one small file).
const readyPoll = 10 * time.Millisecond

// Start writes the configuration and starts the postmaster in a session of its own, so that it outlives the agent.
// It returns when the server accepts connections (with hot_standby off: when it is in standby), or ErrStarting
// when ctx ends first, or with the server's last words when it exits. It never starts on a directory where a
// postmaster lives (ErrRunning); backends that outlived theirs are killed first, and another container's PostgreSQL is waited for,
// up to pg_ctl_timeout (ErrInUse). ha.md 2.29.
func (p *Instance) Start(ctx context.Context, o StartOptions) error {
	if err := p.vacant(ctx); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := p.startable(); err != nil {
		return err
	}
	if err := p.releaseNumbers(); err != nil {
		return err
	}
	if o.Control == nil {
		c, err := p.Control(ctx)
		if err != nil {
			return err
		}
		o.Control = &c
	}
	if o.Mode == AsStandby && o.Upstream == (cluster.Upstream{}) {
		if err := p.moveHistoriesAside(o.Control); err != nil {
			return err
		}
	}
	if err := p.WriteConfiguration(o.Mode, o.Upstream, o.Control); err != nil {
		return err
	}
	pid, err := p.launch(ctx, o.Mode, o.Control)
	if err != nil {
		return err
	}
	return p.awaitReady(ctx, pid, o.Progress)
}

// startable checks what PostgreSQL would refuse or, worse, accept: no data directory, another version,
// a half-made clone or rewind, permissions (which are set).
func (p *Instance) startable() error {
	dir := p.Settings().DataDir
	if _, err := dataDirVersion(dir); err != nil {
		return fmt.Errorf("start PostgreSQL in %s: %w: read its version: %w; is the volume mounted?", dir, ErrDirectory, err)
	}
	if err := p.CheckVersion(); err != nil {
		return fmt.Errorf("start PostgreSQL in %s: %w", dir, err)
	}
	if what := p.halfMade(); what != "" {
		return fmt.Errorf("start PostgreSQL in %s: %w: %s; clone it again", dir, ErrDirectory, what)
	}
	return p.setMode(dir)
}

// CheckVersion compares the version that made the data directory with the programs'. A directory without a version, or
// none, is no error.
func (p *Instance) CheckVersion() error {
	dir := p.Settings().DataDir
	version, err := dataDirVersion(dir)
	if err != nil || version == p.binaries.major {
		return nil
	}
	return fmt.Errorf("%w: %s was made by PostgreSQL %d, the programs in %s are version %d; set postgresql.bin_dir to those of version %d, or upgrade the data with pg_upgrade",
		ErrDirectory, dir, version, p.binaries.dir, p.binaries.major, version)
}

// setMode makes the permissions of the data directory ones that PostgreSQL accepts: 0700, or 0750 when initdb let the group read.
// Kubernetes opens a volume with an fsGroup to the group, for writing, at every mount unless it is told not to.
func (p *Instance) setMode(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w: %w", ErrDirectory, err)
	}
	want := os.FileMode(0o700)
	if initdb, err := os.Stat(filepath.Join(dir, "base")); err == nil && initdb.Mode().Perm()&0o070 == 0o050 {
		want = 0o750
	}
	if have := info.Mode().Perm(); have == 0o700 || have == want {
		return nil
	}
	if err := os.Chmod(dir, want); err != nil {
		return fmt.Errorf("start PostgreSQL in %s: %w: have mode %04o, want 0700 or 0750: %w; the agent must run as its owner", dir, ErrDirectory, info.Mode().Perm(), err)
	}
	return nil
}

// launch starts the postmaster and lets go of it.
func (p *Instance) launch(ctx context.Context, mode StartMode, c *cluster.Control) (pid int, err error) {
	s := p.Settings()
	lock, locked, err := p.hold(ctx, 0)
	if err != nil {
		return 0, fmt.Errorf("start PostgreSQL: %w", err)
	}
	later := false
	defer func() {
		if !later {
			_ = lock.Close() // the postmaster has its own
		}
	}()
	out, err := os.OpenFile(filepath.Join(s.DataDir, startupLog), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return 0, fmt.Errorf("start PostgreSQL: open its log: %w", err)
	}
	defer out.Close()
	args := append([]string{"-D", s.DataDir}, p.CommandLine(mode, c)...)
	cmd := exec.Command(p.binaries.path("postgres"), args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = p.serverEnvironment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // signals to the agent's group or terminal do not reach it
	if lock != nil {
		cmd.ExtraFiles = []*os.File{lock}
	}
	if old := readPidFile(filepath.Join(s.DataDir, "postmaster.pid")); old != nil {
		// The pid belongs to something else by now, as postmaster() has found out. Without this hint the new
		// server would take a live process of that number for its predecessor and refuse to start.
		reap(old.pid)
		cmd.Env = append(cmd.Env, "PG_GRANDPARENT_PID="+strconv.Itoa(old.pid))
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start PostgreSQL: %w", err)
	}
	pid = cmd.Process.Pid
	_ = cmd.Process.Release() // watch reaps it: the same way for one that an earlier agent started
	exited := p.watch(pid)
	p.log.LogAttrs(ctx, slog.LevelInfo, "postmaster started", slog.Int("pid", pid), slog.String("mode", mode.String()))
	if later = lock != nil && !locked; later {
		p.log.LogAttrs(ctx, slog.LevelInfo, "a program that outlived its PostgreSQL has the lock of the data directory; the new one takes it over when that ends", slog.Int("program", p.holders().program))
		go lockLater(lock, exited)
	}
	return pid, nil
}

func (m StartMode) String() string {
	return [...]string{"primary", "standby", "restored"}[m]
}

// serverEnvironment is the postmaster's: without the agent's own variables.
func (p *Instance) serverEnvironment() []string {
	if env := p.Settings().Environment; env != nil {
		return append([]string(nil), env...)
	}
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PATRONI_") && !strings.HasPrefix(e, "REGENT_") && !strings.HasPrefix(e, "KUBERNETES_") && !strings.HasPrefix(e, "NOTIFY_SOCKET=") {
			env = append(env, e)
		}
	}
	return env
}

// awaitReady waits for a postmaster to say in its pid file that it is ready, and then for one answer.
func (p *Instance) awaitReady(ctx context.Context, pid int, progress func(string)) error {
	exited := p.watch(pid)
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	name := filepath.Join(p.Settings().DataDir, "postmaster.pid")
	told := time.Now()
	for {
		select {
		case <-exited:
			return fmt.Errorf("start PostgreSQL in %s: it exited%s", p.Settings().DataDir, detail(p.lastWords()))
		case <-ctx.Done():
			return fmt.Errorf("%w after %w", ErrStarting, context.Cause(ctx))
		case <-tick.C:
		}
		if pm := readPidFile(name); pm != nil && pm.pid == pid {
			if pm.status == "standby" {
				return nil // hot_standby is off: it will never accept connections
			}
			if pm.status == "ready" && pm.probe(ctx) == cluster.Accepting {
				return nil
			}
		}
		if progress != nil && time.Since(told) > time.Second {
			told = time.Now()
			if doing := p.startupActivity(pid); doing != "" {
				progress(doing)
			}
		}
	}
}

// lastWords returns the end of what the postmaster wrote: to its log files when the collector runs, else to the startup log.
func (p *Instance) lastWords() []byte {
	dir := p.Settings().DataDir
	words := tail(filepath.Join(dir, startupLog), 4096)
	if !bytes.Contains(words, []byte("redirecting log output")) {
		return words
	}
	current, err := os.ReadFile(filepath.Join(dir, "current_logfiles"))
	if err != nil {
		return words
	}
	for line := range strings.Lines(string(current)) {
		if kind, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && kind != "jsonlog" {
			if !filepath.IsAbs(name) {
				name = filepath.Join(dir, name)
			}
			if t := tail(name, 4096); len(t) > 0 {
				return t
			}
		}
	}
	return words
}

// tail reads the last n bytes of a file, from the begin of a line.
func tail(name string, n int64) []byte {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	cut := info.Size() > n
	if cut {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return nil
		}
	}
	text, _ := io.ReadAll(io.LimitReader(f, n))
	if i := bytes.IndexByte(text, '\n'); cut && i >= 0 {
		text = text[i+1:]
	}
	return text
}
