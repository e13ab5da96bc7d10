// Package machine makes hosts of namespaces: each has its own processes, network, mounts, shared memory and name. The first process
// of a host is this program; when it ends, by whatever reason, the kernel ends everything on the host with it, so that
// nothing is left behind, and killing it is what a loss of power is to a machine (but for the disk's cache, which stays).
package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/test/chaos/network"
)

// Host is one machine. Its methods may be called from any goroutine, but Boot by one at a time.
type Host struct {
	Name    string
	Address netip.Addr

	wires *network.Network
	mu    sync.Mutex
	run   *running
}

// running is a host between Boot and PowerOff.
type running struct {
	first  *exec.Cmd
	space  string // its process namespace, as /proc names it
	orders *json.Encoder
	gone   chan struct{} // closed when the first process has ended

	mu       sync.Mutex
	number   int
	answers  map[int]chan report
	children map[int]*Process
	early    map[int]syscall.WaitStatus // ended before we heard that they had begun
}

// Process is something that was started on a host.
type Process struct {
	PID    int           // in the host's own numbering
	Ended  chan struct{} // closed when it has ended, also with the host
	Status syscall.WaitStatus
}

// New makes a host that is switched off.
func New(name string, address netip.Addr, wires *network.Network) *Host {
	return &Host{Name: name, Address: address, wires: wires}
}

// Boot switches the host on. Nothing runs on it yet.
func (h *Host) Boot() error {
	if h.running() != nil {
		return fmt.Errorf("boot host %s: it is on", h.Name)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("boot host %s: %w", h.Name, err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	r := &running{gone: make(chan struct{}), answers: map[int]chan report{}, children: map[int]*Process{}, early: map[int]syscall.WaitStatus{}}
	r.first = exec.Command("/proc/self/exe", InitArgument, h.Name, h.Address.String())
	r.first.ExtraFiles = []*os.File{theirs}
	r.first.Stderr = os.Stderr
	r.first.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: ownSpaces | syscall.CLONE_NEWUTS,
		Setpgid:    true, // a terminal's interrupt is for us
	}
	in, err := r.first.StdinPipe()
	if err != nil {
		return fmt.Errorf("boot host %s: %w", h.Name, err)
	}
	out, err := r.first.StdoutPipe()
	if err != nil {
		return fmt.Errorf("boot host %s: %w", h.Name, err)
	}
	r.orders = json.NewEncoder(in)
	if err := r.first.Start(); err != nil {
		return fmt.Errorf("boot host %s: %w", h.Name, err)
	}
	_ = theirs.Close() // so that the end of the other side is noticed
	device, err := receive(pair[0])
	if err == nil {
		r.space, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", r.first.Process.Pid))
	}
	if err != nil {
		_ = r.first.Process.Kill()
		return fmt.Errorf("boot host %s: its first process gives no network device: %w", h.Name, errors.Join(err, r.first.Wait()))
	}
	h.wires.Attach(h.Name, h.Address, device)
	go r.listen(json.NewDecoder(out))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run = r
	return nil
}

// receive takes an open file from a socket.
func receive(socket int) (*os.File, error) {
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) == 0 {
		return nil, errors.Join(err, errors.New("no file was passed"))
	}
	files, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(files[0], true); err != nil { // so that closing it ends a read
		return nil, err
	}
	return os.NewFile(uintptr(files[0]), "/dev/net/tun"), nil
}

// listen hands on what the first process says, until it ends.
func (r *running) listen(reports *json.Decoder) {
	for {
		var p report
		if err := reports.Decode(&p); err != nil {
			break
		}
		r.mu.Lock()
		switch child := r.children[p.PID]; {
		case p.Number != 0:
			r.answers[p.Number] <- p
			delete(r.answers, p.Number)
		case child != nil:
			child.Status = p.Status
			close(child.Ended)
			delete(r.children, p.PID)
		default:
			r.early[p.PID] = p.Status
		}
		r.mu.Unlock()
	}
	_ = r.first.Process.Kill()
	_ = r.first.Wait()
	r.mu.Lock()
	for _, answer := range r.answers {
		close(answer)
	}
	for _, child := range r.children {
		child.Status = syscall.WaitStatus(syscall.SIGKILL)
		close(child.Ended)
	}
	r.answers, r.children = nil, nil
	r.mu.Unlock()
	close(r.gone)
}

func (h *Host) running() *running {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.run
}

// On says whether the host is switched on.
func (h *Host) On() bool { return h.running() != nil }

// PowerOff ends everything on the host at once.
func (h *Host) PowerOff() {
	r := h.running()
	if r == nil {
		return
	}
	_ = r.first.Process.Kill()
	<-r.gone
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run == r {
		h.run = nil
		h.wires.Detach(h.Address)
	}
}

// startLimit bounds how long the first process may take to start something; it only forks.
const startLimit = 2 * time.Minute

// Start runs a program on the host.
func (h *Host) Start(c Command) (*Process, error) {
	r := h.running()
	if r == nil {
		return nil, fmt.Errorf("start %s: host %s is off", c.Path, h.Name)
	}
	answer := make(chan report, 1)
	r.mu.Lock()
	if r.answers == nil {
		r.mu.Unlock()
		return nil, fmt.Errorf("start %s: host %s has just died", c.Path, h.Name)
	}
	r.number++
	r.answers[r.number] = answer
	err := r.orders.Encode(order{Number: r.number, Start: c})
	r.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("start %s on host %s: %w", c.Path, h.Name, err)
	}
	select {
	case p, ok := <-answer:
		if !ok {
			return nil, fmt.Errorf("start %s: host %s has just died", c.Path, h.Name)
		}
		if p.Error != "" {
			return nil, fmt.Errorf("on host %s: %s", h.Name, p.Error)
		}
		return r.adopt(p.PID), nil
	case <-time.After(startLimit):
		return nil, fmt.Errorf("start %s on host %s: no answer after %s", c.Path, h.Name, startLimit)
	}
}

func (r *running) adopt(pid int) *Process {
	child := &Process{PID: pid, Ended: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	status, early := r.early[pid]
	switch {
	case early:
		delete(r.early, pid)
		child.Status = status
		close(child.Ended)
	case r.children == nil:
		child.Status = syscall.WaitStatus(syscall.SIGKILL)
		close(child.Ended)
	default:
		r.children[pid] = child
	}
	return child
}
