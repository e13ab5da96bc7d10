package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Entry is a process on a host as it is seen from outside.
type Entry struct {
	PID     int    // our numbering
	Inner   int    // the host's numbering
	Program string // path of what it runs
	Args    []string
}

// Processes lists what runs on the host, but its first process and what has ended and only waits to be noticed.
func (h *Host) Processes() (list []Entry) {
	r := h.running()
	if r == nil {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, link := range links {
		dir := filepath.Dir(filepath.Dir(link))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if space, err := os.Readlink(link); err != nil || space != r.space || pid == r.first.Process.Pid {
			continue
		}
		program, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		e := Entry{PID: pid, Program: strings.TrimSuffix(program, " (deleted)"), Args: strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")}
		if e.Inner = inner(dir); e.Inner != 0 {
			list = append(list, e)
		}
	}
	return list
}

// inner is a process's number in the innermost namespace that it belongs to; 0: it is gone.
func inner(dir string) int {
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	numbers := strings.Fields(line)
	if len(numbers) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(numbers[len(numbers)-1])
	return n
}

// Signal sends a signal to the processes of the host that are wanted and returns how many there were.
func (h *Host) Signal(s syscall.Signal, wanted func(Entry) bool) (count int, err error) {
	for _, e := range h.Processes() {
		if !wanted(e) {
			continue
		}
		switch e := syscall.Kill(e.PID, s); {
		case e == nil:
			count++
		case !errors.Is(e, syscall.ESRCH):
			err = fmt.Errorf("signal a process of host %s: %w", h.Name, e)
		}
	}
	return count, err
}

// Everything wants each process of a host.
func Everything(Entry) bool { return true }
