package process

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// init is the guard's main function. In every other process it reads one small file.
func init() {
	if data, program, ok := arguments(); ok {
		g := guard{data: data, program: program}
		syscall.Exit(g.run())
	}
}

// arguments returns what the agent said: the data directory as /proc shows it, and the name of the server program. Package os, which
// keeps the arguments, is not initialized yet.
func arguments() (data, program string, ok bool) {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", "", false
	}
	defer syscall.Close(fd)
	n, _ := syscall.Read(fd, buffer[:])
	line := buffer[:max(n, 0)]
	if len(line) <= len(Title) || string(line[:len(Title)+1]) != Title+"\x00" {
		return "", "", false
	}
	var args [3]string
	for i, begin := 0, 0; i < len(args); i++ {
		end := begin
		for end < len(line) && line[end] != 0 {
			end++
		}
		if end == len(line) {
			syscall.Exit(badUse)
		}
		args[i], begin = string(line[begin:end]), end+1
	}
	return args[1], args[2], true
}

// Exit codes; package guard puts them into words.
const (
	badUse   = 64 // the arguments are not those of an agent
	noMemory = 65 // the shared file cannot be mapped
	taken    = 66 // another guard lives
	noWait   = 67 // the kernel refuses what is needed to wait
)

// guard waits and kills.
type guard struct {
	shared  *Shared
	data    string // the data directory
	program string // name of the server program, beside "postgres"

	proc, timer, events int // descriptors
	dev, ino            uint64
	found               int   // entries of table in use
	ready               Order // the order for which the table was filled just before its moment; 0: none
}

// run watches until the agent is gone and nothing is left to watch for.
func (g *guard) run() int {
	ignoreSignals()
	mem, err := syscall.Mmap(SharedFD, 0, Size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return noMemory
	}
	g.shared = (*Shared)(unsafe.Pointer(&mem[0]))
	if !lock(SharedFD) {
		return taken
	}
	if !g.prepare() {
		return noWait
	}
	g.shared.Lacks.Store(harden())
	// Dry runs, so that nothing that a kill needs has to be read from disk when memory is short.
	g.scan()
	g.strike(&entry{pid: int32(syscall.Getpid())}, 0)
	if !lockMemory() {
		or(&g.shared.Lacks, LacksMemory)
	}
	g.shared.Ready.Store(now())
	_ = syscall.Close(ReadyFD)
	for {
		g.shared.Wakes.Add(1)
		order := Order(g.shared.Order.Load())
		switch {
		case order.Mode() == Firing:
			g.fire(order)
		case order.Mode() == Fired && g.scan() > 0:
			// An agent that was frozen between its last look at the lock and the start of a postmaster starts it when it goes on.
			g.shared.Order.CompareAndSwap(int64(order), int64(NewOrder(Firing, order.At())))
		case order.Armed() && now() >= order.At():
			// The agent may have renewed at this very moment: then the order is another one, and it lives.
			g.shared.Order.CompareAndSwap(int64(order), int64(NewOrder(Firing, order.At())))
		case !order.Armed() && g.alone():
			g.tidy()
			return 0
		default:
			// Who is to be killed is found before the moment, so that then nothing is left to do but to kill: on a machine that has
			// too much to do, a process that just woke gets a processor soon, but not for long.
			if order.Armed() && order != g.ready && order.At()-now() < ahead {
				g.scan()
				g.ready = order
			}
			g.wait(order)
		}
	}
}

// fire kills PostgreSQL and notes it. The order stays until nothing is left: meanwhile the agent starts nothing.
func (g *guard) fire(order Order) {
	begun := now()
	first := g.kill(order)
	if first > 0 {
		s := g.shared
		s.KilledAt.Store(begun)
		s.Deadline.Store(order.At())
		s.Took.Store(now() - begun)
		s.Processes.Store(int64(first))
		s.Kills.Add(1)
		g.say(first, begun-order.At(), now()-begun)
	}
	g.shared.Order.CompareAndSwap(int64(order), int64(NewOrder(Fired, order.At())))
}

func or(word *atomic.Int64, bits int64) { word.Store(word.Load() | bits) }

// ignoreSignals makes the guard deaf to what service managers and terminals send to everybody. It ends with its agent, and whoever
// wants it to end now has SIGKILL.
func ignoreSignals() {
	for _, s := range [...]uintptr{uintptr(syscall.SIGHUP), uintptr(syscall.SIGINT), uintptr(syscall.SIGQUIT), uintptr(syscall.SIGTERM),
		uintptr(syscall.SIGPIPE), uintptr(syscall.SIGUSR1), uintptr(syscall.SIGUSR2), uintptr(syscall.SIGTSTP), uintptr(syscall.SIGTTOU)} {
		action := [4]uint64{1} // SIG_IGN, no flags, no mask: struct sigaction of the 64-bit kernels that Go runs on
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}

// lock marks the shared file as a living guard's. The lock is the process's (fcntl(2)), so nobody keeps it who inherited a descriptor,
// and F_GETLK tells its number.
func lock(fd int) bool {
	l := syscall.Flock_t{Type: syscall.F_WRLCK}
	return syscall.FcntlFlock(uintptr(fd), syscall.F_SETLK, &l) == nil
}

// tidy removes the shared file when no agent has it, unless it tells of a kill that nobody has logged.
func (g *guard) tidy() {
	if g.shared.Told.Load() != g.shared.Kills.Load() || syscall.Flock(SharedFD, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	n := readlink("/proc/self/fd/3", buffer[:])
	if n <= 0 || n+8 > len(buffer) {
		return
	}
	name := string(buffer[:n])
	_ = syscall.Unlink(name + ".wake")
	_ = syscall.Unlink(name)
}
