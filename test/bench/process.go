package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// killLimit bounds how long killed processes may take to disappear.
const killLimit = 10 * time.Second

// process is a child of ours: an agent, the store, or a PostgreSQL without an agent.
type process struct {
	pid   int
	ended chan struct{} // closed at its end
	err   error         // how it ended; valid afterwards
}

// start runs a command with its output in a log. The log is written by us, so that a program inside another root needs no access.
func start(cmd *exec.Cmd, log io.Writer) (*process, error) {
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &process{pid: cmd.Process.Pid, ended: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// end sends a signal that ends the process and waits for that. A negative target reaches its helpers too, which share its group.
func (p *process) end(s syscall.Signal, group bool, limit time.Duration) error {
	if !p.running() {
		return nil // its number may belong to somebody else by now
	}
	target := p.pid
	if group {
		target = -p.pid
	}
	_ = syscall.Kill(target, s)
	select {
	case <-p.ended:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("end process %d: it is still there %s after signal %d", p.pid, limit, s)
	}
}

// postmaster reads postmaster.pid; 0 when there is none. The process may be gone.
func postmaster(dataDir string) int {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(first))
	return pid
}

// postgresBelow returns the processes of PostgreSQL (servers, and tools that an agent runs) that work in or below a directory. They
// outlive their agent in sessions of their own and rename themselves: where they work is what stays.
func (p *place) postgresBelow(dir string) []int {
	dir = p.outside(dir)
	programs := p.realBin()
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var found []int
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err != nil || cwd != dir && !strings.HasPrefix(cwd, dir+"/") {
			continue // also what has ended and waits to be reaped: it has no such link
		}
		program, _ := os.Readlink(filepath.Join(filepath.Dir(link), "exe"))
		program = strings.TrimSuffix(program, " (deleted)")
		if filepath.Dir(program) != programs || filepath.Base(program) == "psql" {
			continue // somebody who looks around there
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// realBin is PostgreSQL's folder as /proc shows it.
func (p *place) realBin() string {
	if real, err := filepath.EvalSymlinks(p.outside(p.binDir)); err == nil {
		return real
	}
	return p.outside(p.binDir)
}

// killPostgres ends every PostgreSQL below a directory with SIGKILL.
func (p *place) killPostgres(dir string) error {
	for deadline := time.Now().Add(killLimit); ; {
		pids := p.postgresBelow(dir)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d of PostgreSQL in %s: %w", pid, dir, err)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kill PostgreSQL in %s: processes %v are still there after %s", dir, pids, killLimit)
		}
		time.Sleep(2 * time.Millisecond) // the end of a process that is no child of ours is no event
	}
}
