// Package boottime tells the time on CLOCK_BOOTTIME (clock_gettime(2)): it never jumps, and unlike the
// clock of Go's timers it goes on while the machine sleeps. A lease runs out meanwhile, so deadlines are on this clock.
package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time since boot, as a time.Time counted from the epoch and without a monotonic part.
// Only the difference of two such values on one machine and boot means anything; do not print it as a date.
func Now() time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic("read CLOCK_BOOTTIME: " + err.Error() + "; Linux 2.6.39 or later is needed")
	}
	return time.Unix(now.Unix())
}
