package boottime

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestNowIsTheUptime(t *testing.T) {
	before := Now()
	text, err := os.ReadFile("/proc/uptime") // counts the time asleep as well: proc(5)
	if err != nil {
		t.Skip("no /proc/uptime to compare with:", err)
	}
	after := Now()
	seconds, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	uptime := time.Unix(0, 0).Add(time.Duration(seconds * float64(time.Second)))
	slack := 20 * time.Millisecond // the file has two digits
	if uptime.Before(before.Add(-slack)) || uptime.After(after.Add(slack)) {
		t.Errorf("have %s to %s, want /proc/uptime = %s", before, after, uptime)
	}
}

func TestNowHasNoMonotonicPart(t *testing.T) {
	now := Now()
	if strings.Contains(now.String(), "m=") {
		t.Errorf("have %s, want no monotonic part: differences would be taken on another clock", now)
	}
}
