package network

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// mtu is larger than that of an Ethernet: fewer packets to copy for the same bytes.
const mtu = 9000

// OpenTUN makes a network device in the network namespace of the calling process, with that address in a network of 256, and returns
// its other end. The device vanishes with the file.
//
// Source: Linux, Documentation/networking/tuntap.rst.
func OpenTUN(name, address string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun for device %s: %w", name, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true) // so that closing it ends a read
	}
	if err == nil {
		err = configure(name, address)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make network device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// configure gives the device its address and brings it and the loopback up: netdevice(7).
func configure(name, address string) error {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	address4 := func(b []byte) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { return r.SetInet4Addr(b) }
	}
	up := func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP); return nil }
	for _, step := range []struct {
		what    string
		device  string
		request uint
		fill    func(*unix.Ifreq) error
	}{
		{"address", name, unix.SIOCSIFADDR, address4(ip.AsSlice())},
		{"netmask", name, unix.SIOCSIFNETMASK, address4([]byte{255, 255, 255, 0})},
		{"mtu", name, unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }},
		{"flags", name, unix.SIOCSIFFLAGS, up},
		{"flags", "lo", unix.SIOCSIFFLAGS, up},
	} {
		r, err := unix.NewIfreq(step.device)
		if err == nil {
			err = step.fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(socket, step.request, r)
		}
		if err != nil {
			return fmt.Errorf("set %s of %s: %w", step.what, step.device, err)
		}
	}
	return nil
}
