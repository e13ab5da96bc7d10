package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/agent"
)

// notify tells systemd about our state when it has asked for that (sd_notify(3), ctl.md 9.4). A lost message is no
// reason to stop.
func notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:] // an abstract socket
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(state))
}

// reloading is the message before a reload; READY=1 follows it.
func reloading() string {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}

// watchdogPeriod is how often systemd wants to hear from us, 0 if it does not (sd_watchdog_enabled(3)). Children inherit the variable; the
// other one says that it is meant for us.
func watchdogPeriod(getenv func(string) string, pid int) time.Duration {
	if who := getenv("WATCHDOG_PID"); who != "" && who != strconv.Itoa(pid) {
		return 0
	}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}

// tellWatchdog tells systemd that we are alive for as long as that is so, three times in each period. A loop that hangs is ended by
// systemd with SIGABRT, which leaves the stacks of all goroutines in the journal; PostgreSQL and its guard stay, and the next agent
// takes them over.
func tellWatchdog(ctx context.Context, period time.Duration, alive func() bool) {
	if period == 0 {
		return
	}
	tick := time.NewTicker(period / 3)
	defer tick.Stop()
	for {
		if alive() {
			notify("WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// onTime says whether the loop runs; one that waits for its first cycle does. The patience is that of GET /liveness.
func onTime(s *agent.Status, now time.Time) bool {
	return s == nil || now.Before(s.NextCycle.Add(2*s.Timing.TTL))
}
