package process

import "syscall"

// say writes one line to the guard's log, after the deed: a full disk must not hold it up.
func (g *guard) say(processes int, late, took int64) {
	var wall syscall.Timeval
	_ = syscall.Gettimeofday(&wall)
	n := copy(buffer[:], "guard: at ")
	n += decimal(buffer[n:], wall.Sec)
	n += copy(buffer[n:], " (seconds since 1970) the leader lock was about to run out unrenewed; killed ")
	n += decimal(buffer[n:], int64(processes))
	n += copy(buffer[n:], " processes of PostgreSQL in ")
	n += copy(buffer[n:], g.data)
	n += copy(buffer[n:], ", ")
	n += decimal(buffer[n:], late/1e6)
	n += copy(buffer[n:], " ms after the moment, within ")
	n += decimal(buffer[n:], took/1e6)
	n += copy(buffer[n:], " ms\n")
	_, _ = syscall.Write(2, buffer[:n])
}

func decimal(to []byte, n int64) int {
	digits := [20]byte{}
	at := len(digits)
	for n = max(n, 0); n > 0 || at == len(digits); n /= 10 {
		at--
		digits[at] = byte('0' + n%10)
	}
	return copy(to, digits[at:])
}
