package process

import (
	"syscall"
	"unsafe"
)

const clockBoottime = 7

// ahead is how long before the moment the guard looks whom to kill.
const ahead = 200e6

// now is the time on CLOCK_BOOTTIME, nanoseconds.
func now() int64 {
	var t syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

// prepare opens what the guard waits on and kills by: nothing has to be opened later, when descriptors may have run out.
func (g *guard) prepare() bool {
	err := syscall.SetNonblock(WakeFD, true)
	if err != nil {
		return false
	}
	if g.proc, err = syscall.Open("/proc", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0); err != nil {
		return false
	}
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockBoottime, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return false
	}
	g.timer = int(fd)
	if g.events, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return false
	}
	// Edges of the FIFO: it stays hung up from the agent's end until another agent opens it.
	return syscall.EpollCtl(g.events, syscall.EPOLL_CTL_ADD, g.timer, &syscall.EpollEvent{Events: syscall.EPOLLIN}) == nil &&
		syscall.EpollCtl(g.events, syscall.EPOLL_CTL_ADD, WakeFD, &syscall.EpollEvent{Events: syscall.EPOLLIN | 1<<31}) == nil
}

// wait rests until the order's moment, until the agent writes into the FIFO, or until the agent is gone. A timer on this clock also
// ends the rest when the machine wakes from sleep after the moment (timerfd_create(2)). After the moment it looks again and again,
// as nothing tells that a process starts; a server needs longer than that to accept sessions.
func (g *guard) wait(order Order) {
	var at [2]syscall.Timespec // interval, value
	switch {
	case order.Armed() && g.ready == order:
		at[1] = syscall.NsecToTimespec(order.At())
	case order.Armed():
		at[1] = syscall.NsecToTimespec(max(order.At()-ahead, 1))
	case order.Mode() == Fired:
		at[1] = syscall.NsecToTimespec(now() + 50e6)
	}
	const absolute = 1
	_, _, _ = syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(g.timer), absolute, uintptr(unsafe.Pointer(&at)), 0, 0, 0)
	if Order(g.shared.Order.Load()) != order {
		return // it changed before the timer was set; the FIFO may have been emptied already
	}
	if _, err := syscall.EpollWait(g.events, events[:], -1); err != nil && err != syscall.EINTR {
		nap(1e6) // never a busy loop, whatever the kernel says
	}
	for {
		if n, err := syscall.Read(WakeFD, buffer[:64]); n <= 0 && err != syscall.EINTR {
			break
		}
	}
}

var events [4]syscall.EpollEvent

// alone says whether no agent holds the FIFO open for writing: it has ended, frozen it would still hold it. That needs no process
// number, which might be somebody else's by now.
func (g *guard) alone() bool {
	poll := struct {
		fd              int32
		events, revents int16
	}{fd: WakeFD}
	var zero syscall.Timespec
	n, _, _ := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&zero)), 0, 0, 0)
	const hangUp = 0x10
	return int(n) == 1 && poll.revents&hangUp != 0
}

func nap(nanoseconds int64) {
	t := syscall.NsecToTimespec(nanoseconds)
	_, _, _ = syscall.Syscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}
