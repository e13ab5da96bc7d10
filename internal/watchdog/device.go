package watchdog

import (
	"time"

	"golang.org/x/sys/unix"
)

// device is a Linux watchdog device.
type device struct {
	fd        int
	stoppable bool
}

// openDevice opens a device, which starts it.
func openDevice(path string) (Device, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := &device{fd: fd}
	if info, err := unix.IoctlGetWatchdogInfo(fd); err == nil {
		d.stoppable = info.Options&unix.WDIOF_MAGICCLOSE != 0
	}
	return d, nil
}

func writable(path string) error { return unix.Access(path, unix.W_OK) }

func (d *device) SetTimeout(want time.Duration) (time.Duration, error) {
	if err := unix.IoctlSetPointerInt(d.fd, unix.WDIOC_SETTIMEOUT, int(want/time.Second)); err != nil {
		return 0, err
	}
	have, err := unix.IoctlGetInt(d.fd, unix.WDIOC_GETTIMEOUT)
	return time.Duration(have) * time.Second, err
}

func (d *device) Feed() error { return unix.IoctlWatchdogKeepalive(d.fd) }

func (d *device) Stoppable() bool { return d.stoppable }

// Stop writes the magic character and closes the device: without it the close is taken for a crash.
func (d *device) Stop() error {
	_, err := unix.Write(d.fd, []byte("V"))
	if closed := unix.Close(d.fd); err == nil {
		err = closed
	}
	return err
}
