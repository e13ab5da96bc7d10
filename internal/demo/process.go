package demo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// postgresOf returns the processes of PostgreSQL (servers, and the tools that an agent runs) that work in or below a
// directory and were started from a folder of programs. The postmaster of a running server comes first. PostgreSQL
// outlives its agent in a session of its own, and its processes rename themselves: where they work is what stays.
func postgresOf(dir, binDir string) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var found []int
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err != nil || cwd != dir && !strings.HasPrefix(cwd, dir+"/") {
			continue // also what has ended and waits to be reaped: it has no such link
		}
		program, _ := os.Readlink(filepath.Join(filepath.Dir(link), "exe"))
		program = strings.TrimSuffix(program, " (deleted)")
		if filepath.Dir(program) != binDir || filepath.Base(program) == "psql" {
			continue // somebody who looks around there
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			found = append(found, pid)
		}
	}
	slices.SortFunc(found, func(a, b int) int { return a - b })
	if first := postmaster(filepath.Join(dir, "data")); slices.Contains(found, first) {
		found = slices.DeleteFunc(found, func(pid int) bool { return pid == first })
		found = slices.Insert(found, 0, first)
	}
	return found
}

// postmaster reads postmaster.pid: 0 when there is none. The process may be gone.
func postmaster(dataDir string) int {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(first))
	return pid
}

// killLimit bounds how long killed processes may take to disappear.
const killLimit = time.Minute

// killPostgres ends all of it with SIGKILL and waits until it is gone. It returns how many processes there were.
func killPostgres(dir, binDir string) (int, error) {
	killed := map[int]bool{}
	for deadline := time.Now().Add(killLimit); ; {
		pids := postgresOf(dir, binDir)
		if len(pids) == 0 {
			return len(killed), nil
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return len(killed), fmt.Errorf("kill process %d of PostgreSQL in %s: %w", pid, dir, err)
			}
			killed[pid] = true
		}
		if time.Now().After(deadline) {
			return len(killed), fmt.Errorf("kill PostgreSQL in %s: processes %v are still there after %s", dir, pids, killLimit)
		}
		time.Sleep(2 * time.Millisecond) // the end of a process that is no child of ours is no event
	}
}

// stopPostgres ends the server with a signal that makes it tidy up its shared memory (SIGQUIT at once, SIGINT after a
// checkpoint), and with SIGKILL what is left after the limit.
func stopPostgres(dir, binDir string, s syscall.Signal, limit time.Duration) error {
	pids := postgresOf(dir, binDir)
	if len(pids) > 0 && pids[0] == postmaster(filepath.Join(dir, "data")) {
		_ = syscall.Kill(pids[0], s)
		for deadline := time.Now().Add(limit); len(postgresOf(dir, binDir)) > 0 && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
	}
	_, err := killPostgres(dir, binDir)
	return err
}
