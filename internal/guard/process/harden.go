package process

import (
	"syscall"
	"unsafe"
)

// harden makes the guard harder to kill and to hold up, as far as it is allowed, and returns what is not.
func harden() (lacks int64) {
	const setName, setTimerSlack = 15, 29 // prctl(2)
	name := [16]byte{}
	copy(name[:], "regent-guard")
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, setName, uintptr(unsafe.Pointer(&name)), 0, 0, 0, 0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, setTimerSlack, 1, 0, 0, 0, 0)

	// Only the first thread does anything, and init runs on it.
	const fifo, resetOnFork = 1, 0x40000000
	lowest := int32(1)
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, fifo|resetOnFork, uintptr(unsafe.Pointer(&lowest)))
	if errno != 0 && syscall.Setpriority(syscall.PRIO_PROCESS, 0, -20) != nil {
		lacks |= LacksPriority
		// Anybody may ask for short turns, which come sooner (sched_setattr(2), Linux 6.12). Others refuse or ignore it.
		attr := struct {
			size, policy              uint32
			flags                     uint64
			nice                      int32
			priority                  uint32
			runtime, deadline, period uint64
		}{size: 48, runtime: 100e3}
		_, _, _ = syscall.RawSyscall(sysSchedSetattr, 0, uintptr(unsafe.Pointer(&attr)), 0)
	}

	// Lowering it below what a privileged process set last needs CAP_SYS_RESOURCE (proc_pid_oom_score_adj(5)).
	fd, err := syscall.Open("/proc/self/oom_score_adj", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return lacks | LacksOOM
	}
	defer syscall.Close(fd)
	if _, err := syscall.Write(fd, []byte("-1000")); err != nil {
		lacks |= LacksOOM
		_, _ = syscall.Write(fd, []byte("0")) // an agent that was made a preferred victim
	}
	return lacks
}

// lockMemory keeps in memory what the dry run has touched, and what is touched later. A user without CAP_IPC_LOCK may not lock
// the address space of a Go process, most of which is never used; then the pages that are present are locked one by one, which is
// less than the usual limit of 8 MB.
func lockMemory() bool {
	const current, future, onFault = 1, 2, 4
	if _, _, errno := syscall.RawSyscall(syscall.SYS_MLOCKALL, current|future|onFault, 0, 0); errno == 0 {
		return true
	}
	const memlock = 8 // RLIMIT_MEMLOCK
	var limit syscall.Rlimit
	if syscall.Getrlimit(memlock, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(memlock, &limit)
	}
	maps, pagemap := open("/proc/self/maps"), open("/proc/self/pagemap")
	if maps < 0 || pagemap < 0 {
		return false
	}
	defer syscall.Close(maps)
	defer syscall.Close(pagemap)
	length := 0
	for length < len(names) {
		n, err := syscall.Read(maps, names[length:])
		if n <= 0 || err != nil {
			break
		}
		length += n
	}
	all := true
	for line := names[:length]; len(line) > 0; {
		end := 0
		for end < len(line) && line[end] != '\n' {
			end++
		}
		from, rest := hexadecimal(line[:end])
		to, rest := hexadecimal(rest[min(1, len(rest)):])
		if len(rest) > 1 && rest[1] == 'r' && from < 1<<47 { // below [vsyscall]
			all = lockPresent(pagemap, from, to) && all
		}
		line = line[min(end+1, len(line)):]
	}
	return all
}

// lockPresent locks the pages of a mapping that are in memory (proc_pid_pagemap(5)).
func lockPresent(pagemap int, from, to uintptr) bool {
	page := uintptr(syscall.Getpagesize())
	all, begin := true, uintptr(0)
	for at := from; at < to; {
		n, err := syscall.Pread(pagemap, buffer[:min(uintptr(len(buffer)), (to-at)/page*8)], int64(at/page*8))
		if err != nil || n < 8 {
			return false
		}
		for i := 0; i+8 <= n; i += 8 {
			const present = 1 << 63
			in := *(*uint64)(unsafe.Pointer(&buffer[i]))&present != 0
			switch {
			case in && begin == 0:
				begin = at
			case !in && begin != 0:
				all = mlock(begin, at) && all
				begin = 0
			}
			at += page
		}
	}
	if begin != 0 {
		all = mlock(begin, to) && all
	}
	return all
}

func mlock(from, to uintptr) bool {
	_, _, errno := syscall.RawSyscall(syscall.SYS_MLOCK, from, to-from, 0)
	return errno == 0
}

// hexadecimal reads a number and returns what follows it.
func hexadecimal(text []byte) (n uintptr, rest []byte) {
	for i, c := range text {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 + uintptr(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 + uintptr(c-'a'+10)
		default:
			return n, text[i:]
		}
	}
	return n, nil
}
