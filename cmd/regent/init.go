package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// underInit says that this process is the first one of its container, so that every orphan becomes its child.
func underInit() bool { return os.Getpid() == 1 }

// asInit runs this program once more as a child and does the duties of a first process: it passes signals on
// and reaps orphans, which package os/exec, used by the child, does not let it do itself (ctl.md 9.3). It
// returns the child's exit code; Patroni returns 0 whatever happened, which hides failures.
func asInit(stderr io.Writer) int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGUSR1, syscall.SIGUSR2)
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Args[0] = os.Args[0] // the name says which program this is
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		fmt.Fprintln(stderr, fmt.Errorf("start the agent as a child of process 1: %w", err))
		return 1
	}
	go func() {
		for s := range signals {
			_ = child.Process.Signal(s) // it may have ended: then so do we
		}
	}()
	return reap(child.Process.Pid)
}

// reap waits for children, orphans that were given to us included, until the one of that number has ended.
func reap(pid int) int {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1 // no children: somebody else has waited for ours
		case ended == pid && status.Signaled():
			return 128 + int(status.Signal())
		case ended == pid:
			return status.ExitStatus()
		}
	}
}
