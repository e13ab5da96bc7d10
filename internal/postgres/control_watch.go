package postgres

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// watchControl tells each time pg_control has been written, until stop is called. Where the kernel gives no more watches nothing is told:
// who waits for a state of the server looks now and then, too.
func (p *Instance) watchControl() (written <-chan struct{}, stop func()) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, func() {}
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, filepath.Join(p.Settings().DataDir, "global", "pg_control"), unix.IN_MODIFY|unix.IN_CLOSE_WRITE); err != nil {
		events.Close()
		return nil, func() {}
	}
	c := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := events.Read(buf); err != nil {
				return // closed
			}
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}()
	return c, func() { events.Close() }
}
