package machine

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is known by its number and the moment it started, so that no other one is ever taken for it.
type process struct {
	pid   int
	start string // clock ticks since boot, field 22 of /proc/PID/stat
}

func processOf(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	_, after, _ := strings.Cut(string(stat), ") ") // the name before it may hold anything
	fields := strings.Fields(after)
	if len(fields) < 20 || fields[0] == "Z" {
		return process{}, fmt.Errorf("process %d has ended", pid)
	}
	return process{pid, fields[19]}, nil
}

func (p process) alive() bool {
	now, err := processOf(p.pid)
	return err == nil && now == p
}

// end kills the process and waits until it is gone.
func (p process) end() error {
	for deadline := time.Now().Add(limit); p.alive(); time.Sleep(10 * time.Millisecond) {
		if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("end process %d: %w", p.pid, err)
		}
		var status syscall.WaitStatus
		_, _ = syscall.Wait4(p.pid, &status, syscall.WNOHANG, nil) // ours, if we started it
		if time.Now().After(deadline) {
			return fmt.Errorf("end process %d: still there after %s", p.pid, limit)
		}
	}
	return nil
}

func (m Machine) pids() string { return filepath.Join(m.Dir, "pids") }

// remember writes a process down for Down.
func (m Machine) remember(pid int) error {
	p, err := processOf(pid)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(m.pids(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, p.pid, p.start)
	return err
}

func (m Machine) processes() []process {
	f, err := os.Open(m.pids())
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []process
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var p process
		if _, err := fmt.Sscan(lines.Text(), &p.pid, &p.start); err == nil {
			all = append(all, p)
		}
	}
	return all
}
