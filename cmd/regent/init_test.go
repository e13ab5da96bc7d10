package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

// firstProcess is set for a test binary that is to be the first process of a container, or its child.
const firstProcess = "REGENT_TEST_INIT"

// inContainer is what patroni does as the first process; its child stands for the agent: it leaves an orphan, which ends with the
// input, and ends itself by SIGTERM in order, by SIGHUP in none.
func inContainer() int {
	if underInit() {
		return asInit(os.Stderr)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	shell := exec.Command("sh", "-c", "exec 3<&0; cat <&3 >/dev/null 2>&1 &")
	shell.Stdin = os.Stdin
	fmt.Println(shell.Run())
	if <-signals == syscall.SIGHUP {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return 7
}

// In a container the agent is the first process: orphans become its children and nobody else collects them; a signal that it does not
// handle is ignored; and its end is the container's.
func TestFirstProcess(t *testing.T) {
	for name, test := range map[string]struct {
		signal syscall.Signal
		code   int
	}{
		"the agent ends":      {syscall.SIGTERM, 7},
		"the agent is killed": {syscall.SIGHUP, 128 + int(syscall.SIGKILL)},
	} {
		t.Run(name, func(t *testing.T) {
			first := exec.Command("/proc/self/exe")
			first.Env = append(os.Environ(), firstProcess+"=1")
			first.Stderr = os.Stderr
			first.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}},
				Pdeathsig:   syscall.SIGKILL,
			}
			orphans, err1 := first.StdinPipe()
			out, err2 := first.StdoutPipe()
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			if err := first.Start(); err != nil {
				t.Skipf("this machine gives no process namespace to user %d: %v", os.Geteuid(), err)
			}
			t.Cleanup(func() { _ = first.Process.Kill() })
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "<nil>\n" {
				t.Fatalf("have %q, %v; want an orphan to be left", line, err)
			}
			children := func() (n int) {
				lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", first.Process.Pid)) // each thread has its own
				if len(lists) == 0 {
					t.Skip("this kernel does not list children")
				}
				for _, list := range lists {
					text, _ := os.ReadFile(list)
					n += len(strings.Fields(string(text)))
				}
				return n
			}
			pgtest.Eventually(t, "the orphan is given to the first process", func() bool { return children() == 2 })
			_ = orphans.Close()
			pgtest.Eventually(t, "the orphan is collected", func() bool { return children() == 1 })
			if err := first.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			_ = first.Wait()
			if code := first.ProcessState.ExitCode(); code != test.code {
				t.Errorf("have exit code %d, want %d", code, test.code)
			}
		})
	}
}
