package proxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace runs a test in a network namespace of its own, in a second process. It returns true there.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const inside = "REGENT_TEST_NAMESPACE"
	if os.Getenv(inside) != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("this machine lets us have no network namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// The address is here while our member leads, and the neighbours hear of it.
func TestVIP(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ip(t, "link", "set", "lo", "up")
	ip(t, "link", "add", "here", "type", "veth", "peer", "name", "there")
	for _, device := range []string{"here", "there"} {
		ip(t, "link", "set", device, "up")
	}
	neighbour := listenARP(t, "there")
	vip := VIP{Address: netip.MustParsePrefix("10.99.0.100/24"), Device: "here", Member: "a"}
	w := newWorld(t, func(c *Config) { c.VIP = vip })
	here := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); strings.Contains(ip(t, "-o", "address", "show", "dev", "here"), "10.99.0.100/24") != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("have\n%s\nwant the address there: %t", ip(t, "address"), want)
			}
		}
	}
	heard := func() {
		t.Helper()
		device, err := net.InterfaceByName("here")
		if err != nil {
			t.Fatal(err)
		}
		want := vip.arp(device.HardwareAddr)
		for {
			have := make([]byte, 100)
			n, err := unix.Read(neighbour, have)
			if err != nil {
				t.Fatalf("the neighbour has not heard of the address: %v", err)
			}
			if bytes.Equal(have[:min(n, len(want))], want) {
				return
			}
		}
	}
	a, b := w.member("a", http.StatusServiceUnavailable), w.member("b", http.StatusOK)
	a.leads()
	w.eventually("a leads", func(s state) bool { return s.to.member == "a" })
	here(false) // it cannot be written to yet
	a.say(http.StatusOK)
	here(true)
	heard()
	a.say(http.StatusServiceUnavailable)
	b.leads()
	here(false)
	a.say(http.StatusOK)
	a.leads()
	here(true)
	heard()
	w.stop()
	here(false)
}

// listenARP is a socket that hears ARP on a device.
func listenARP(t *testing.T, name string) int {
	t.Helper()
	device, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: arpProtocol, Ifindex: device.Index}); err != nil {
		t.Fatal(err)
	}
	limit := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestVIPSettings(t *testing.T) {
	good := VIP{Address: netip.MustParsePrefix("10.0.0.1/24"), Device: "eth0", Member: "a"}
	for want, v := range map[string]VIP{
		"":                    good,
		"proxy.vip.address":   {Address: netip.MustParsePrefix("fe80::1/64"), Device: "eth0", Member: "a"},
		"have invalid":        {Device: "eth0", Member: "a"},
		"proxy.vip.device":    {Address: good.Address, Member: "a"},
		"name is not defined": {Address: good.Address, Device: "eth0"},
	} {
		err := v.validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: have %v, want %q", v, err, want)
		}
	}
	lo := VIP{Address: netip.MustParsePrefix("127.0.0.9/8"), Device: "lo", Member: "a"}
	if err := lo.announce(); err != nil {
		t.Errorf("announce to nobody: %v", err)
	}
	lo.Device = "no-such-device"
	if err := lo.take(context.Background()); err == nil || !strings.Contains(err.Error(), "no-such-device") {
		t.Errorf("have %v, want the device named", err)
	}
}
