// Package rig starts what the tests below test/ need: the real program, agents with their PostgreSQL, and an etcd whose keys a
// test reads and writes directly. Everything lives in the test's own directory, on free ports, and ends with the test.
package rig

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

// program names the environment variable with the path of the program under test.
const program = "REGENT_TEST_AGENT"

// Main is the TestMain of a package that uses this one. It builds the program, unless REGENT_TEST_AGENT names one already, and runs the
// tests as a user that PostgreSQL accepts. The toolchain's cache is closed to that user, so building comes first.
func Main(m *testing.M) {
	if os.Getenv(program) != "" {
		pgtest.Main(m)
	}
	os.Exit(buildAndRun())
}

func buildAndRun() int {
	dir, err := os.MkdirTemp("", "regent-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // another user runs what is in it
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory for the program:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "regent")
	build := exec.Command("go", "build", "-o", binary, "github.com/regent-ha/regent/cmd/regent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	tests := exec.Command("/proc/self/exe", os.Args[1:]...)
	tests.Env = append(os.Environ(), program+"="+binary)
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := tests.Run(); err != nil {
		return max(tests.ProcessState.ExitCode(), 1)
	}
	return 0
}

// Program is the path of the program under test.
func Program() string { return os.Getenv(program) }

func sum(b []byte) [16]byte { s := sha256.Sum256(b); return [16]byte(s[:16]) }
