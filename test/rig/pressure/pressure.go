// Package pressure says how busy the machine is, since durations that were measured on a busy one say little.
package pressure

import (
	"fmt"
	"os"
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
