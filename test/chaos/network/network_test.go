package network

import (
	"encoding/binary"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// wire is a device whose host is the test: it sends into out and receives from in.
type wire struct {
	out    chan []byte
	in     chan []byte
	closed chan struct{}
}

func newWire() *wire {
	return &wire{make(chan []byte), make(chan []byte, 1000), make(chan struct{})}
}

func (w *wire) Read(p []byte) (int, error) {
	select {
	case b := <-w.out:
		return copy(p, b), nil
	case <-w.closed:
		return 0, io.EOF
	}
}

func (w *wire) Write(p []byte) (int, error) {
	w.in <- append([]byte(nil), p...)
	return len(p), nil
}

func (w *wire) Close() error {
	select {
	case <-w.closed:
	default:
		close(w.closed)
	}
	return nil
}

var one, two = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")

// packet is an IPv4 header with a number in the place of its identification.
func packet(from, to netip.Addr, number uint16) []byte {
	p := make([]byte, 20)
	p[0] = 0x45
	binary.BigEndian.PutUint16(p[4:], number)
	copy(p[12:], from.AsSlice())
	copy(p[16:], to.AsSlice())
	return p
}

// pair is a network of two; whoever calls it detaches them, for nothing may run on when the test's bubble ends.
func pair() (n *Network, a, b *wire) {
	n, a, b = New(1), newWire(), newWire()
	n.Attach("a", one, a)
	n.Attach("b", two, b)
	return n, a, b
}

// send sends so many packets and returns how many are there at once.
func send(t *testing.T, w *wire, from, to netip.Addr, receiver *wire, count int) int {
	t.Helper()
	for i := range count {
		w.out <- packet(from, to, uint16(i))
	}
	synctest.Wait()
	return len(receiver.in)
}

func TestCutOneWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair()
		defer func() { n.Detach(one); n.Detach(two) }()
		lift := n.Disturb(Link{Cut: true}, []string{"a"}, []string{"b"})
		slow := n.Disturb(Link{Delay: time.Second}, []string{"a"}, []string{"b"})
		slow() // the other one stays
		if have := send(t, a, one, two, b, 3); have != 0 {
			t.Errorf("have %d packets in the direction that is cut, want 0", have)
		}
		if have := send(t, b, two, one, a, 3); have != 3 {
			t.Errorf("have %d packets in the other direction, want 3", have)
		}
		if n.Dropped() != 3 {
			t.Errorf("have %d dropped packets, want 3", n.Dropped())
		}
		lift()
		if have := send(t, a, one, two, b, 3); have != 3 {
			t.Errorf("have %d packets after the cut, want 3", have)
		}
	})
}

func TestLossAndDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair()
		defer func() { n.Detach(one); n.Detach(two) }()
		lift := n.Disturb(Link{Loss: 0.3}, []string{"a"}, []string{"b"})
		if have := send(t, a, one, two, b, 500); have < 300 || have > 400 {
			t.Errorf("have %d of 500 packets at a loss of 0.3, want about 350", have)
		}
		for len(b.in) > 0 {
			<-b.in
		}
		lift()
		n.Disturb(Link{Delay: time.Second, Jitter: time.Second}, []string{"a"}, []string{"b"})
		if have := send(t, a, one, two, b, 20); have != 0 {
			t.Errorf("have %d packets at once, want 0: they take a second", have)
		}
		time.Sleep(time.Second - time.Millisecond)
		if have := len(b.in); have != 0 {
			t.Errorf("have %d packets before the delay is over, want 0", have)
		}
		time.Sleep(time.Second + 2*time.Millisecond)
		if have := len(b.in); have != 20 {
			t.Errorf("have %d packets after delay and jitter, want 20", have)
		}
	})
}

func TestHostIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair()
		defer func() { n.Detach(one); n.Detach(two) }()
		again := newWire()
		n.Attach("b", two, again)
		if have := send(t, a, one, two, again, 2); have != 2 || len(b.in) != 0 {
			t.Errorf("have %d packets at the new device and %d at the old one, want 2 and 0", have, len(b.in))
		}
		select {
		case <-b.closed:
		default:
			t.Error("the old device is still open")
		}
		n.Detach(two)
		if have := send(t, a, one, two, again, 1); have != 2 {
			t.Errorf("have %d packets, want none more for a host that is gone", have-2)
		}
	})
}
