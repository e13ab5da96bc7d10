// Package pressure says how busy the machine is, since durations that were measured on a busy one say little.
package pressure

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// CPU is how much of the last ten seconds or the last minute, whichever is more, some process has waited for a processor, in percent; 0
// where the kernel does not tell.
func CPU() (percent float64) {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	var ten float64
	_, _ = fmt.Sscanf(string(text), "some avg10=%f avg60=%f", &ten, &percent)
	return max(ten, percent)
}

// Stalled is for how long, since the machine started, some process has waited for a processor, or some for a disk, added up; 0
// where the kernel does not tell.
func Stalled() (sum time.Duration) {
	for _, of := range []string{"cpu", "io"} {
		text, err := os.ReadFile("/proc/pressure/" + of)
		if err != nil {
			continue
		}
		var microseconds int64
		some, _, _ := strings.Cut(string(text), "\n")
		_, total, _ := strings.Cut(some, "total=")
		_, _ = fmt.Sscan(total, &microseconds)
		sum += time.Duration(microseconds) * time.Microsecond
	}
	return sum
}
