package process

import (
	"syscall"
	"unsafe"
)

// entry is a process whose working directory is the data directory.
type entry struct {
	pid, parent int32
	start       uint64 // clock ticks after boot; with pid it names a process for good. 0: unknown
	server      bool   // it runs the server program
	doomed      bool   // it is one, or a descendant of one
	root        bool   // its parent is none of them: a postmaster
}

var (
	table  [4096]entry // more are killed in the next round
	buffer [8192]byte
	names  [32 << 10]byte // of /proc
)

// kill ends every process of PostgreSQL in the data directory and returns how many there were. Killing a postmaster is not enough:
// a busy backend notices that only when it waits for its client, and commits until then. It returns when none is left, since a process
// that cannot die yet (uninterruptible I/O) is one that may still write.
func (g *guard) kill(order Order) (first int) {
	if g.ready.At() == order.At() {
		first = g.strikeAll()
	}
	g.ready = 0
	for pause := int64(1e6); ; pause = min(2*pause, 50e6) {
		n := g.scan()
		first = max(first, n)
		if n == 0 {
			return first
		}
		g.strikeAll()
		nap(pause)
	}
}

// strikeAll kills what the table says, postmasters first: they start new processes.
func (g *guard) strikeAll() (struck int) {
	for _, postmasters := range [...]bool{true, false} {
		for i := range table[:g.found] {
			if e := &table[i]; e.doomed && e.root == postmasters {
				g.strike(e, syscall.SIGKILL)
				struck++
			}
		}
	}
	return struck
}

// strike sends a signal through a descriptor of the process that was found, never to another one that has got its number since.
func (g *guard) strike(e *entry, signal syscall.Signal) {
	const pidfdOpen, pidfdSendSignal = 434, 424 // the same on all machines (Linux 5.3)
	fd, _, errno := syscall.RawSyscall(pidfdOpen, uintptr(e.pid), 0, 0)
	if errno != 0 && errno != syscall.ESRCH { // an old kernel, or no descriptor left: killing comes first
		_ = syscall.Kill(int(e.pid), signal)
		return
	}
	if errno != 0 {
		return // gone
	}
	if _, start := status(e.pid); e.start == 0 || start == 0 || start == e.start {
		_, _, _ = syscall.RawSyscall6(pidfdSendSignal, fd, uintptr(signal), 0, 0, 0, 0)
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
}

// scan fills the table and returns how many of its processes are to be killed: those that run the server program in the data
// directory, and their descendants there, such as an archive_command. Others that happen to stand there, somebody's shell,
// are left alone. A process of another user, or one that only waits to be reaped, tells no working directory.
func (g *guard) scan() (doomed int) {
	g.found = 0
	g.dev, g.ino = identity(g.data)
	if _, err := syscall.Seek(g.proc, 0, 0); err != nil {
		return 0
	}
	for {
		n, err := syscall.ReadDirent(g.proc, names[:])
		if n <= 0 || err != nil {
			break
		}
		// struct linux_dirent64: inode, offset, length of the record at 16, type, name at 19 (getdents(2)).
		for at := 0; at+19 < n; at += int(*(*uint16)(unsafe.Pointer(&names[at+16]))) {
			if pid := number(names[at+19 : n]); pid > 0 {
				g.look(pid)
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for i := range table[:g.found] {
			e := &table[i]
			if p := g.byPid(e.parent); !e.doomed && p >= 0 && table[p].doomed {
				e.doomed, changed = true, true
			}
		}
	}
	for i := range table[:g.found] {
		e := &table[i]
		if e.root = g.byPid(e.parent) < 0; e.doomed {
			doomed++
		}
	}
	return doomed
}

// look adds a process to the table if its working directory is the data directory: by its name, or by device and inode, for a
// path that leads there another way. Neither asks a disk or a file server that may hang.
func (g *guard) look(pid int32) {
	n := readlink(procPath(pid, "/cwd"), buffer[:])
	if n <= 0 {
		return
	}
	named := string(undeleted(buffer[:n])) == g.data
	server := g.runsServer(pid)
	if !named {
		if !server || g.ino == 0 {
			return
		}
		if dev, ino := identity(procPath(pid, "/cwd")); dev != g.dev || ino != g.ino {
			return
		}
	}
	if g.found == len(table) {
		return
	}
	parent, start := status(pid)
	table[g.found] = entry{pid: pid, parent: parent, start: start, server: server, doomed: server}
	g.found++
}

// runsServer says whether a process runs the server program; a package upgrade may have replaced its file.
func (g *guard) runsServer(pid int32) bool {
	n := readlink(procPath(pid, "/exe"), buffer[:])
	if n <= 0 {
		return false
	}
	exe := undeleted(buffer[:n])
	base := 0
	for i, c := range exe {
		if c == '/' {
			base = i + 1
		}
	}
	return string(exe[base:]) == "postgres" || string(exe[base:]) == g.program
}

// byPid is the place of a process in the table, -1 when it is not there.
func (g *guard) byPid(pid int32) int {
	for i := range table[:g.found] {
		if table[i].pid == pid {
			return i
		}
	}
	return -1
}

// status reads parent and start of a process from /proc/PID/stat (proc_pid_stat(5)); zeros when they cannot be read.
func status(pid int32) (parent int32, start uint64) {
	fd := open(procPath(pid, "/stat"))
	if fd < 0 {
		return 0, 0
	}
	n, _ := syscall.Read(fd, buffer[:])
	_ = syscall.Close(fd)
	text := buffer[:max(n, 0)]
	at := len(text) - 1
	for at >= 0 && text[at] != ')' { // the program's name before it may hold anything
		at--
	}
	value, field := uint64(0), 2
	for _, c := range text[at+1:] {
		switch {
		case c == ' ':
			if field == 4 {
				parent = int32(value)
			}
			if field == 22 {
				return parent, value
			}
			field, value = field+1, 0
		case c >= '0' && c <= '9':
			value = 10*value + uint64(c-'0')
		}
	}
	return parent, 0
}
