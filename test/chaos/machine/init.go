package machine

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/test/chaos/network"
)

// InitArgument is the first argument of a process that is to be a host's first one; see Init.
const InitArgument = "host-init"

// Command is a program to run on a host.
type Command struct {
	Path     string
	Args     []string // with the program's name first
	Dir      string
	Env      []string
	UID, GID uint32
	Log      string // file that its output is appended to
}

// order asks the first process to start something; report is its answer, or the news that some process has ended.
type (
	order struct {
		Number int
		Start  Command
	}
	report struct {
		Number int    // of the order; 0: something has ended
		PID    int    // in the host's own numbering
		Error  string // why it was not started
		Status syscall.WaitStatus
	}
)

// Init is the first process of a host, the one that all others end with: it has name, address and the socket for the network device's
// other end as arguments, takes orders on its input and reports on its output. It returns when the input ends, or at once with
// what keeps it from its work.
func Init(name, address string) error {
	if err := settle(name); err != nil {
		return err
	}
	if os.Getenv(sharedClocks) == "" {
		if err := shiftClocks(address); err != nil {
			return err
		}
	}
	device, err := network.OpenTUN("net0", address)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(socketFD, []byte{0}, unix.UnixRights(int(device.Fd())), nil, 0); err != nil {
		return fmt.Errorf("hand over the network device of %s: %w", name, err)
	}
	_ = unix.Close(socketFD)
	_ = device.Close()

	var mu sync.Mutex // one report at a time
	out := json.NewEncoder(os.Stdout)
	say := func(r report) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(r)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP) // a terminal's; whoever started us closes our input
	go func() {
		for range ended {
			reap(say)
		}
	}()
	orders := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			return nil // nobody is left who could ask for anything
		}
		pid, err := o.Start.start()
		r := report{Number: o.Number, PID: pid}
		if err != nil {
			r.Error = err.Error()
		}
		say(r)
	}
}

// socketFD is the first file that os/exec passes on after the three standard ones.
const socketFD = 3

// settle makes the namespaces a place of their own: /proc shows this host's processes, shared memory is its own.
func settle(name string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts of host %s to itself: %w", name, err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc of host %s: %w", name, err)
	}
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size=256m"); err != nil {
		return fmt.Errorf("mount /dev/shm of host %s: %w", name, err)
	}
	return unix.Sethostname([]byte(name))
}

// Namespaces of time belong to a thread and pass to what that thread starts: Init has the first one for itself.
func init() {
	if len(os.Args) > 1 && os.Args[1] == InitArgument {
		runtime.LockOSThread()
	}
}

// canShiftClocks tries it in a thread that ends with it.
func canShiftClocks() error {
	tried := make(chan error)
	go func() {
		runtime.LockOSThread()
		tried <- unix.Unshare(unix.CLONE_NEWTIME)
	}()
	return <-tried
}

// shiftClocks sets the clocks that count from the boot ahead, for all that will run here, by so many hours as the last part of the
// address: machines have not booted at the same time.
//
// Source: time_namespaces(7).
func shiftClocks(address string) error {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	ahead := time.Duration(a.AsSlice()[len(a.AsSlice())-1]) * time.Hour
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("give a host clocks of its own: %w", err)
	}
	offsets := fmt.Sprintf("monotonic %d 0\nboottime %d 0\n", int(ahead.Seconds()), int(ahead.Seconds()))
	if err := os.WriteFile("/proc/self/timens_offsets", []byte(offsets), 0o600); err != nil {
		return fmt.Errorf("set a host's clocks ahead: %w", err)
	}
	return nil
}

// reap collects whatever has ended, orphans too: nobody else does.
func reap(say func(report)) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		say(report{PID: pid, Status: status})
	}
}

// start uses the system's call directly: os.Process would wait for the process as well.
func (c *Command) start() (pid int, err error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	pid, err = syscall.ForkExec(c.Path, c.Args, &syscall.ProcAttr{
		Dir: c.Dir, Env: c.Env, Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: c.UID, Gid: c.GID}},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return pid, nil
}
