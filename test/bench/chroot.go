package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// A newer Patroni than this system's comes from Debian's unstable release, in a directory that both systems run below, so that both
// use the same PostgreSQL.
const (
	suite         = "sid"
	suitePackages = "patroni,postgresql-18,python3-etcd"
)

// insideVariable tells our second self that it has mounts of its own, and where the other system is.
const insideVariable = "REGENT_BENCH_ROOT"

// fetchSystem makes the other system below cache unless it is there, and returns where it is.
func fetchSystem(ctx context.Context, cache string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(cache, suite))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err == nil {
		return dir, nil
	}
	if os.Geteuid() != 0 {
		return "", errors.New("chroot and mount need root")
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		return "", errors.New("debootstrap is not installed (Debian: apt-get install debootstrap)")
	}
	mirror, err := debianMirror(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "Fetching Debian %s with Patroni into %s (once, about 0.7 GB; --patroni host does without) ...\n", suite, dir)
	// Else the package would make and start a cluster of its own.
	conf := filepath.Join(dir, "etc/postgresql-common/createcluster.conf")
	err = errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Dir(conf), 0o755), os.WriteFile(conf, []byte("create_main_cluster = false\n"), 0o644))
	if err != nil {
		return "", err
	}
	log, err := os.Create(dir + ".log")
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include="+suitePackages, suite, dir, mirror)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = log, log
	// Its mounts must not outlive it: what is half made is deleted before the next attempt.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("debootstrap: %w; its output is in %s", err, log.Name())
	}
	packages, _ := filepath.Glob(filepath.Join(dir, "var/cache/apt/archives/*.deb"))
	for _, p := range packages {
		_ = os.Remove(p)
	}
	return dir, os.WriteFile(filepath.Join(dir, ".complete"), nil, 0o644)
}

// debianMirror is the first Debian mirror among apt's sources.
func debianMirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)").Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for a mirror: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if origin, uri, ok := strings.Cut(strings.TrimSpace(line), " "); ok && origin == "Debian" && !strings.Contains(uri, "security") {
			return uri, nil
		}
	}
	return "", errors.New("apt knows no Debian mirror")
}

// again runs this program once more with mounts of its own, which vanish with it however it ends, and returns its exit code.
func again(root string) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"="+root)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM, Setpgid: true}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "start in a mount namespace:", err)
		return 1
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	_ = cmd.Wait()
	return max(cmd.ProcessState.ExitCode(), 0) | b2i(!cmd.ProcessState.Exited())
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// mountSystem gives the other system what programs in it need of the kernel.
func mountSystem(root string) error {
	mount := func(source, target, kind string, flags uintptr, data string) error {
		target = filepath.Join(root, target)
		if err := syscall.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		return nil
	}
	if err := errors.Join(mount("proc", "proc", "proc", 0, ""), mount("tmpfs", "dev", "tmpfs", 0, "mode=0755")); err != nil {
		return err
	}
	for _, node := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		f, err := os.OpenFile(filepath.Join(root, "dev", node), os.O_CREATE, 0o666)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Close(), mount("/dev/"+node, "dev/"+node, "", syscall.MS_BIND, "")); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(root, "dev/shm"), 0o1777|fs.ModeSticky); err != nil {
		return err
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		return err
	}
	return errors.Join(mount("tmpfs", "dev/shm", "tmpfs", 0, "mode=1777"), os.Symlink("/proc/self/fd", filepath.Join(root, "dev/fd")),
		os.WriteFile(filepath.Join(root, "etc/hosts"), hosts, 0o644))
}
