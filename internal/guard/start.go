package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/guard/process"
)

// logSize is where the guard's log begins anew.
const logSize = 1 << 20

// begin starts a guard and waits until it watches. What goes wrong is noted and logged when it is news.
func (g *Guard) begin() {
	pid, err := g.start()
	if err == nil {
		g.log.Info("guard started", "pid", pid)
		g.found(pid)
		return
	}
	g.mu.Lock()
	news := g.problem != err.Error()
	g.mu.Unlock()
	g.gone(err.Error())
	if news {
		g.log.Error("start the guard: without it a frozen or killed agent cannot keep PostgreSQL from writing after its lock has ended", "error", err)
	}
}

// start runs this program as a guard: in a session of its own, in no directory that somebody may want to unmount, and with no
// descriptor but its own.
func (g *Guard) start() (pid int, err error) {
	// The guard gets its own descriptions of both files: ours carry our lock and our end of the FIFO.
	memory, err := openOwned(g.files.name, os.Geteuid(), unix.O_RDWR, unix.S_IFREG)
	if err != nil {
		return 0, err
	}
	memoryFile := os.NewFile(uintptr(memory), "")
	defer memoryFile.Close()
	reading, err := openOwned(g.files.name+".wake", os.Geteuid(), unix.O_RDONLY, unix.S_IFIFO)
	if err != nil {
		return 0, err
	}
	wakeFile := os.NewFile(uintptr(reading), "")
	defer wakeFile.Close()
	watches, ready, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer watches.Close()
	defer ready.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{process.Title, g.data, g.program}
	cmd.Dir = "/"
	// No garbage collector and one processor's worth of scheduler: see package process.
	cmd.Env = []string{"GOGC=off", "GOMAXPROCS=1"}
	cmd.ExtraFiles = []*os.File{memoryFile, wakeFile, ready}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if log := g.openLog(); log != nil {
		defer log.Close()
		cmd.Stderr = log
	}
	// What somebody left open when the agent was started is not for the guard to keep open. Kernels before 5.11 keep it.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("run %s as a guard: %w", cmd.Path, err)
	}
	go func() { _ = cmd.Wait() }() // or it would stay a zombie
	_ = ready.Close()
	_ = watches.SetReadDeadline(time.Now().Add(5 * time.Second))
	switch _, err := watches.Read(make([]byte, 1)); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		_ = cmd.Process.Kill()
		return 0, errors.New("it was started and does not come to watch within 5 s")
	case err != io.EOF:
		return 0, fmt.Errorf("wait until it watches: %w", err)
	}
	if g.files.holder() != cmd.Process.Pid {
		return 0, fmt.Errorf("it ended before it watched; %s may say why", orText(g.logFile, "nothing"))
	}
	return cmd.Process.Pid, nil
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// openLog opens the guard's own log; nil: it says nothing.
func (g *Guard) openLog() *os.File {
	if g.logFile == "" {
		return nil
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(g.logFile); err == nil && info.Size() > logSize {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(g.logFile, flags, 0o600)
	if err != nil {
		g.log.Warn("open the guard's log; what it says is lost", "error", err)
		return nil
	}
	return f
}

// awaitEnd waits until a guard has ended; false: ctx ended first. Kernels before 5.3 tell no end of a process that is not a
// child; there it is looked for.
func (g *Guard) awaitEnd(ctx context.Context, pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	stop, err2 := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err2 == nil {
		defer unix.Close(stop)
	}
	if err != nil || err2 != nil {
		for g.files.holder() == pid {
			if !rest(ctx, 100*time.Millisecond) {
				return false
			}
		}
		return true
	}
	cancel := context.AfterFunc(ctx, func() { _, _ = unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	ends := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	for g.files.holder() == pid { // or the number is another process's by now
		_, _ = unix.Poll(ends, -1)
		if ends[0].Revents|ends[1].Revents != 0 {
			break
		}
	}
	if !cancel() { // its write is under way, and must not meet a closed descriptor
		_, _ = unix.Poll(ends[1:], -1)
	}
	return ctx.Err() == nil
}
