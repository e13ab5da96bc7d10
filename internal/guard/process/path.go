package process

import (
	"syscall"
	"unsafe"
)

// System calls with paths, without the allocation that package syscall needs for the terminating zero.

var (
	pathBuf [64]byte
	callBuf [4097]byte
)

const atCWD = ^uintptr(99) // AT_FDCWD, -100

// procPath is the path of a file of a process. It is valid until the next call.
func procPath(pid int32, name string) string {
	n := copy(pathBuf[:], "/proc/")
	digits := [10]byte{}
	at := len(digits)
	for ; pid > 0; pid /= 10 {
		at--
		digits[at] = byte('0' + pid%10)
	}
	n += copy(pathBuf[n:], digits[at:])
	n += copy(pathBuf[n:], name)
	return unsafe.String(&pathBuf[0], n)
}

// terminated copies a path for the kernel; nil when it is too long for it.
func terminated(path string) unsafe.Pointer {
	if len(path) >= len(callBuf) {
		return nil
	}
	callBuf[copy(callBuf[:], path)] = 0
	return unsafe.Pointer(&callBuf)
}

// readlink returns how many bytes of the link's text are in to; at most 0 when it cannot be read.
func readlink(path string, to []byte) int {
	n, _, errno := syscall.Syscall6(syscall.SYS_READLINKAT, atCWD, uintptr(terminated(path)), uintptr(unsafe.Pointer(&to[0])), uintptr(len(to)), 0, 0)
	if errno != 0 {
		return -1
	}
	return int(n)
}

// open opens a file for reading; negative when that fails.
func open(path string) int {
	fd, _, errno := syscall.Syscall6(syscall.SYS_OPENAT, atCWD, uintptr(terminated(path)), syscall.O_RDONLY|syscall.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return -1
	}
	return int(fd)
}

// identity is device and inode of a file as far as the kernel knows without asking a server; zeros when it does not.
func identity(path string) (dev, ino uint64) {
	const dontSync = 0x4000 // AT_STATX_DONT_SYNC (fstatat(2))
	var st syscall.Stat_t
	_, _, errno := syscall.Syscall6(sysFstatat, atCWD, uintptr(terminated(path)), uintptr(unsafe.Pointer(&st)), dontSync, 0, 0)
	if errno != 0 {
		return 0, 0
	}
	return st.Dev, st.Ino
}

// undeleted is a link's text without the kernel's remark that its file has no name any more.
func undeleted(text []byte) []byte {
	const remark = " (deleted)"
	if n := len(text) - len(remark); n > 0 && string(text[n:]) == remark {
		return text[:n]
	}
	return text
}

// number reads the process number that a zero ends; 0 when it is none.
func number(text []byte) (n int32) {
	for _, c := range text {
		switch {
		case c == 0:
			return n
		case c < '0' || c > '9' || n > 1<<27:
			return 0
		}
		n = 10*n + int32(c-'0')
	}
	return 0
}
