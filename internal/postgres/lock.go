package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Two containers on one node may have the same volume for a moment: a pod deleted by force is replaced while its container still
// runs. PostgreSQL's own check (postmaster.pid, its shared memory) sees only its own process and IPC namespace. So whatever writes in the data
// directory inherits an open description of it with an exclusive flock(2), which the kernel keeps until the last process that has it
// ends, and which counts in every container of the node.

// ErrInUse: processes that cannot be seen from here use the data directory. Nothing was done; try again.
var ErrInUse = errors.New("another container's PostgreSQL still uses it")

const (
	settleLimit = time.Second           // for our own processes that are about to end: the logger, one that was killed
	lockPoll    = 10 * time.Millisecond // the end of a lock announces itself to nobody who may not wait for ever
	lockAgain   = 100 * time.Millisecond
)

// hold opens the data directory and locks it. The lock is f's, for a program to inherit; not locked: a harmless program of
// ours has it, or the filesystem has no such locks (f is nil then). For another container it waits up to patience: ErrInUse.
func (p *Instance) hold(ctx context.Context, patience time.Duration) (f *os.File, locked bool, err error) {
	dir := p.Settings().DataDir
	f, err = os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, false, nil // missing or closed: who wants it says so better
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			f = nil
		}
	}()
	told := false
	for begun := time.Now(); ; {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return f, true, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK): // NFS and others
			_ = f.Close()
			p.noLocks.Do(func() {
				p.log.LogAttrs(ctx, slog.LevelWarn, "the data directory cannot be locked; nothing keeps another container from starting PostgreSQL in it", slog.String("directory", dir), slog.Any("error", err))
			})
			return nil, false, nil
		}
		h, waited, pause := p.holders(), time.Since(begun), lockPoll
		switch {
		case h.server == 0 && h.program != 0:
			return f, false, nil
		case waited < settleLimit:
		case h.server != 0:
			return f, false, fmt.Errorf("process %d uses %s: %w", h.server, dir, ErrRunning)
		case h.ending != 0:
			return f, false, nil
		case waited >= patience:
			return f, false, fmt.Errorf("%s: %w; nothing was done: wait until that container has ended, or end it", dir, ErrInUse)
		default:
			pause = lockAgain
			if !told {
				told = true
				p.log.LogAttrs(ctx, slog.LevelWarn, "another container's PostgreSQL still uses the data directory; wait for its end", slog.String("directory", dir), slog.Duration("at_most", patience))
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return f, false, fmt.Errorf("wait for the lock of %s: %w", dir, context.Cause(ctx))
		}
	}
}

// InUse says whether another container's PostgreSQL uses the data directory now.
func (p *Instance) InUse(ctx context.Context) bool {
	f, _, err := p.hold(ctx, 0)
	_ = f.Close()
	return errors.Is(err, ErrInUse)
}

// holders are processes of our own process namespace that have the lock, one of each kind; 0: none.
type holders struct {
	server  int // of PostgreSQL, and writes
	ending  int // of PostgreSQL: its logger, or about to be gone
	program int // another: an archive_command that outlived its postmaster, say; it writes nothing here
}

// holders looks for the open description with the lock in /proc (proc_pid_fdinfo(5)). A descriptor on the directory alone, a
// shell's or a backup's, does not count.
func (p *Instance) holders() (h holders) {
	dir := p.realDir()
	procs, _ := os.ReadDir("/proc")
	for _, proc := range procs {
		pid, err := strconv.Atoi(proc.Name())
		if err != nil || !holdsLock(pid, dir) {
			continue
		}
		_, err = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		switch {
		case err != nil || p.isLogger(pid):
			h.ending = pid
		case p.runsPostgres(pid):
			h.server = pid
		default:
			h.program = pid
		}
	}
	return h
}

func holdsLock(pid int, dir string) bool {
	at := fmt.Sprintf("/proc/%d/", pid)
	descriptors, _ := os.ReadDir(at + "fd")
	for _, d := range descriptors {
		if target, err := os.Readlink(at + "fd/" + d.Name()); err != nil || target != dir {
			continue
		}
		if info, err := os.ReadFile(at + "fdinfo/" + d.Name()); err == nil && bytes.Contains(info, []byte("FLOCK")) {
			return true
		}
	}
	return false
}

func (p *Instance) isLogger(pid int) bool {
	line, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	title, ok := strings.CutPrefix(strings.TrimRight(string(line), "\x00"), "postgres: ")
	return ok && p.runsPostgres(pid) && p.role(strings.TrimSpace(title)) == "logger"
}

// runAlone is runTool for a program that writes in the data directory.
func (p *Instance) runAlone(ctx context.Context, cmd *exec.Cmd, line func(string)) error {
	f, _, err := p.hold(ctx, 0)
	if err != nil {
		return fmt.Errorf("run %s: %w", filepath.Base(cmd.Path), err)
	}
	if f != nil {
		defer f.Close()
		cmd.ExtraFiles = []*os.File{f}
	}
	return p.runTool(ctx, cmd, line)
}

// lockLater locks what a postmaster has inherited unlocked, once the program that has the lock ends.
func lockLater(f *os.File, exited <-chan struct{}) {
	defer f.Close()
	for errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
		select {
		case <-time.After(lockAgain):
		case <-exited:
			return
		}
	}
}
