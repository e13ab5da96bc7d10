package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// holdVariable tells a process of the test binary to lock that directory and nothing else.
const holdVariable = "REGENT_TEST_HOLD"

// HoldElsewhere locks a data directory as another container's PostgreSQL does, until release or the end of the test.
func HoldElsewhere(t testing.TB, dir string) (release func()) {
	t.Helper()
	if os.Getenv(holdVariable) != "" {
		t.Fatal("this process only holds a lock: its TestMain must call Main")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), holdVariable+"="+dir)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	release = func() { _ = in.Close(); _ = cmd.Wait() }
	t.Cleanup(release)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked <nil>\n" {
		t.Fatalf("the other container says %q, %v", line, err)
	}
	return release
}

// hold locks a directory so that nobody else of this user can look at who does, until its input ends.
func hold(dir string) {
	err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	f, open := os.Open(dir)
	if err = errors.Join(err, open); err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	fmt.Println("locked", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
