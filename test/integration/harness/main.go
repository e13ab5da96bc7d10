package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

const (
	envRoot   = "REGENT_TEST_ROOT"   // where everything is, set for the process that runs the tests
	envAgent  = "REGENT_TEST_AGENT"  // the agent's program; set by hand: it is not built
	envDisk   = "REGENT_TEST_DISK"   // a small file system, empty when none could be mounted
	envNoDisk = "REGENT_TEST_NODISK" // why not
	envTell   = "REGENT_TEST_TELL"   // set by hand: print what the agents logged also when the test passes
	diskSize  = "160m"
)

// Main is TestMain of a package that runs clusters. A first process prepares the directory, the agent's program and, as
// root, a small file system to fill up; the tests run in a second one, as a user that PostgreSQL accepts; then the first tidies up.
func Main(m *testing.M) {
	if os.Getenv(envRoot) != "" {
		pgtest.Main(m)
	}
	code, err := prepareAndRun()
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		code = 1
	}
	os.Exit(code)
}

func prepareAndRun() (code int, err error) {
	root, err := os.MkdirTemp(roomy(), "regent-it-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, tidy(root)) }()
	if err := os.Chmod(root, 0o1777); err != nil { // another user works there
		return 1, err
	}
	env := append(os.Environ(), envRoot+"="+root)
	if os.Getenv(envAgent) == "" {
		program := filepath.Join(root, "regent")
		build := exec.Command("go", "build", "-o", program, "github.com/regent-ha/regent/cmd/regent")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("build the agent: %w\n%s", err, out)
		}
		env = append(env, envAgent+"="+program)
	}
	disk := filepath.Join(root, "disk")
	if err := mountSmall(disk); err != nil {
		env = append(env, envNoDisk+"="+err.Error())
	} else {
		env = append(env, envDisk+"="+disk)
	}
	return run(env)
}

// roomy is a directory in memory where there is enough of it: PostgreSQL makes durable what it writes.
func roomy() string {
	var fs syscall.Statfs_t
	if syscall.Statfs("/dev/shm", &fs) == nil && fs.Bavail*uint64(fs.Bsize) >= 4<<30 && syscall.Access("/dev/shm", 2) == nil {
		return "/dev/shm"
	}
	return os.TempDir()
}

// mountSmall makes a file system that is soon full.
func mountSmall(dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("only root mounts file systems")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("regent-it", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=1777,size="+diskSize); err != nil {
		_ = os.Remove(dir)
		return fmt.Errorf("mount a tmpfs of %s: %w", diskSize, err)
	}
	return nil
}

// run runs this program once more.
func run(env []string) (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	var exit *exec.ExitError
	switch err := cmd.Wait(); {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	default:
		return 1, err
	}
}

// tidy ends what still runs below the directory and removes it.
func tidy(root string) error {
	left := End(root)
	_ = syscall.Unmount(filepath.Join(root, "disk"), syscall.MNT_DETACH) // not mounted: nothing to do
	err := os.RemoveAll(root)
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("processes %v below %s do not end", left, root))
	}
	return err
}

// End kills every process that works below the directory and waits, a minute at most, until they are gone. It returns those that are not.
func End(dir string) (left []int) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if left = Below(dir); len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// Below lists the processes, but this one and zombies, whose working directory is that directory or below it, and the guards of
// data directories there.
func Below(dir string) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		place, err := os.Readlink(link)
		if place == "/" {
			place = guarded(filepath.Dir(link))
		}
		place = strings.TrimSuffix(place, " (deleted)")
		if err != nil || place != dir && !strings.HasPrefix(place, dir+"/") {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// guarded is the data directory that a process guards, "" when it is no guard.
func guarded(process string) string {
	line, _ := os.ReadFile(process + "/cmdline")
	args := strings.Split(string(line), "\x00")
	if len(args) < 2 || args[0] != "regent: guard" {
		return ""
	}
	return args[1]
}
