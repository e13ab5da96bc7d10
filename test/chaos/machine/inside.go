package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	insideVariable = "REGENT_CHAOS_BASE"          // set for the program inside: the directory that is its own
	sharedClocks   = "REGENT_CHAOS_SHARED_CLOCKS" // set for hosts: why they have the machine's clocks; empty: they have their own
	prefix         = "regent-chaos-"
	baseSize       = "6g" // of memory that files below the base may take
)

// Base is the directory in memory that the program inside has for itself; empty: we are outside.
func Base() string { return os.Getenv(insideVariable) }

// Inside runs this program once more, in namespaces of its own, and returns its exit code. When either ends, by whatever
// reason, the kernel ends everything inside and drops its network devices, mounts and files with it.
func Inside() (code int, err error) {
	if err := Allowed(); err != nil {
		return 1, err
	}
	removeLeftovers()
	base, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		return 1, err
	}
	held, err := hold(base)
	if err != nil {
		return 1, err
	}
	defer held.Close()
	defer os.Remove(base) // what was in it was never on this side
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"="+base)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: ownSpaces, Pdeathsig: syscall.SIGKILL, Setpgid: true,
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("make namespaces: %w", err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return 1, err
	}
	if code = cmd.ProcessState.ExitCode(); code < 0 {
		return 1, fmt.Errorf("the program inside was ended: %s", cmd.ProcessState)
	}
	return code, nil
}

// Allowed says why this machine lets nobody, or not us, make hosts. Containers often are not allowed to.
func Allowed() error {
	if os.Geteuid() != 0 {
		return errors.New("make namespaces, mounts and network devices: only root may; run it as root")
	}
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("make network devices: %w; load the module tun, or give the container that device", err)
	}
	_ = tun.Close()
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: ownSpaces}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make namespaces: %w; a container needs the capability CAP_SYS_ADMIN and a seccomp profile that lets it", err)
	}
	return nil
}

// ownSpaces are the namespaces of the program inside. Hosts have them too, and a name of their own.
const ownSpaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC

// hold marks a directory as in use for as long as the file is open.
func hold(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// removeLeftovers removes the empty directories of runs that were killed; nothing else outlives them.
func removeLeftovers() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range dirs {
		if f, err := hold(dir); err == nil {
			_ = os.Remove(dir)
			_ = f.Close()
		}
	}
}

// Furnish prepares the namespaces that Inside made, from inside: /proc, and a file system in memory at Base.
func Furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts inside: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := Disk(Base(), baseSize); err != nil {
		return err
	}
	if err := canShiftClocks(); err != nil {
		return os.Setenv(sharedClocks, err.Error())
	}
	return nil
}

// LeftOut is what this machine does not allow and hosts can be without.
func LeftOut() []string {
	if why := os.Getenv(sharedClocks); why != "" {
		return []string{"boot-time clocks that differ between hosts: " + why}
	}
	return nil
}

// Disk mounts a file system in memory of that size; files of any user may be in it.
func Disk(dir, size string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size="+size); err != nil {
		return fmt.Errorf("mount a file system of %s at %s: %w", size, dir, err)
	}
	return nil
}

// Resize changes how much a Disk may hold, in bytes.
func Resize(dir string, size uint64) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=0755,size=%d", size)); err != nil {
		return fmt.Errorf("resize the file system at %s to %d bytes: %w", dir, size, err)
	}
	return nil
}

// Used is how many bytes a Disk holds.
func Used(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("measure the file system at %s: %w", dir, err)
	}
	return (s.Blocks - s.Bfree) * uint64(s.Bsize), nil
}
