package machine

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/test/chaos/network"
)

// The test's own program is the first process of the hosts.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == InitArgument {
		if err := Init(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var (
	hostAt = netip.MustParseAddr("10.78.0.1")
	usAt   = netip.MustParseAddr("10.78.0.2")
)

func boot(t *testing.T) (*Host, *network.Network) {
	if err := Allowed(); err != nil {
		t.Skip(err)
	}
	wires := network.New(1)
	h := New("h1", hostAt, wires)
	if err := h.Boot(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.PowerOff)
	return h, wires
}

func shell(t *testing.T, h *Host, script string) (*Process, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p, err := h.Start(Command{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Dir: "/", Env: []string{"PATH=" + os.Getenv("PATH")}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return p, log
}

func ends(t *testing.T, p *Process) {
	t.Helper()
	select {
	case <-p.Ended:
	case <-time.After(30 * time.Second):
		t.Fatal("have waited 30 s, want the process to end")
	}
}

func TestProcessesOfAHost(t *testing.T) {
	h, _ := boot(t)
	p, log := shell(t, h, "echo $$ $(hostname) $(ls -d /proc/[0-9]* | wc -l); exit 3")
	ends(t, p)
	text, err := os.ReadFile(log)
	var pid, count int
	var name string
	if _, scan := fmt.Sscan(string(text), &pid, &name, &count); err != nil || scan != nil || pid != p.PID || name != "h1" || count > 10 {
		t.Errorf("have %q, %v of a process on the host, want its number %d, the name h1 and few processes", text, err, p.PID)
	}
	if !p.Status.Exited() || p.Status.ExitStatus() != 3 {
		t.Errorf("have status %v, want exit code 3", p.Status)
	}

	p, _ = shell(t, h, "exec sleep 1000")
	sleeps := func(e Entry) bool { return e.Inner == p.PID && strings.HasSuffix(e.Program, "sleep") }
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) { // exec is no event
		if n, err := h.Signal(0, sleeps); n == 1 && err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("have %d, %v processes that sleep among %+v, want 1", n, err, h.Processes())
		}
	}
	if n, err := h.Signal(syscall.SIGKILL, sleeps); n != 1 || err != nil {
		t.Errorf("have %d, %v processes killed, want 1", n, err)
	}
	ends(t, p)
	if p.Status.Signal() != syscall.SIGKILL {
		t.Errorf("have status %v, want SIGKILL", p.Status)
	}
	if _, err := h.Start(Command{Path: "/no/such/program", Log: filepath.Join(t.TempDir(), "log")}); err == nil {
		t.Error("have no error for a program that does not exist")
	}
}

// Each host has booted at a time of its own, by its clock.
func TestClocks(t *testing.T) {
	h, _ := boot(t)
	p, log := shell(t, h, "cat /proc/uptime")
	ends(t, p)
	theirs, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	var there, here float64
	_, _ = fmt.Sscan(string(theirs), &there)
	_, _ = fmt.Sscan(string(ours), &here)
	if ahead := math.Round(there - here); ahead < 3500 || ahead > 3600 { // hundredths of a second have no exact difference
		t.Errorf("have a host that booted %.0f s before us by its clock, want 3600: the last part of its address in hours", ahead)
	}
}

// What has left its parent and its session ends with the host as well, and the host can be switched on again.
func TestPowerOff(t *testing.T) {
	h, _ := boot(t)
	p, _ := shell(t, h, "setsid sleep 1000 & exec sleep 1000")
	for deadline := time.Now().Add(30 * time.Second); len(h.Processes()) != 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("have processes %+v, want 2", h.Processes())
		}
	}
	before := h.Processes()
	h.PowerOff()
	ends(t, p)
	for _, e := range before {
		if err := syscall.Kill(e.PID, 0); err == nil {
			t.Errorf("process %d of the host lives on", e.PID)
		}
	}
	if _, err := h.Start(Command{Path: "/bin/true"}); err == nil {
		t.Error("have no error for a start on a host that is off")
	}
	if err := h.Boot(); err != nil {
		t.Fatal(err)
	}
	p, _ = shell(t, h, "exit 0")
	ends(t, p)
}

// wire is a device whose host is the test.
type wire struct{ out, in chan []byte }

func (w wire) Read(p []byte) (int, error) {
	b, ok := <-w.out
	if !ok {
		return 0, os.ErrClosed
	}
	return copy(p, b), nil
}
func (w wire) Write(p []byte) (int, error) { w.in <- append([]byte(nil), p...); return len(p), nil }
func (w wire) Close() error                { return nil }

// The host's own network answers a ping.
func TestNetwork(t *testing.T) {
	h, wires := boot(t)
	us := wire{make(chan []byte), make(chan []byte, 100)}
	defer close(us.out)
	wires.Attach("us", usAt, us)
	us.out <- ping()
	for {
		select {
		case p := <-us.in:
			if p[9] != 1 { // the kernel may say something else first
				continue
			}
			if p[20] != 0 || netip.AddrFrom4([4]byte(p[12:16])) != h.Address {
				t.Errorf("have the answer % x, want an echo reply of the host", p)
			}
			return
		case <-time.After(30 * time.Second):
			t.Fatal("have waited 30 s, want the host to answer a ping")
		}
	}
}

// ping is an ICMP echo request from us to the host.
func ping() []byte {
	p := make([]byte, 28)
	p[0], p[3], p[8], p[9] = 0x45, 28, 64, 1
	copy(p[12:], usAt.AsSlice())
	copy(p[16:], hostAt.AsSlice())
	binary.BigEndian.PutUint16(p[10:], sum(p[:20]))
	p[20], p[25] = 8, 1
	binary.BigEndian.PutUint16(p[22:], sum(p[20:]))
	return p
}

// sum is the Internet checksum (RFC 1071).
func sum(p []byte) uint16 {
	var s uint32
	for i := 0; i < len(p); i += 2 {
		s += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
