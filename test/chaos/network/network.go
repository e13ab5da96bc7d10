// Package network is a small network in this process: hosts attach a device each, and every packet from one to another passes a
// link whose condition can be set at any time, in each direction alone: cut, lossy, slow. It needs no packet scheduler, filter or
// bridge of the kernel, and it counts what it dropped.
package network

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Link is the condition of one direction between two hosts. The zero value is a good one.
type Link struct {
	Cut    bool
	Loss   float64       // of each packet, 0 to 1
	Delay  time.Duration // of each packet
	Jitter time.Duration // at most so much more, by chance; packets overtake one another
}

// direction is from one host to another, by name.
type direction struct{ from, to string }

// Network joins hosts. Its methods may be called from any goroutine.
type Network struct {
	mu           sync.RWMutex
	hosts        map[netip.Addr]*host
	disturbances []*disturbance
	links        map[direction]Link // what the disturbances come to

	chance struct {
		sync.Mutex
		*rand.Rand
	}
	dropped atomic.Int64
}

type host struct {
	name   string
	device io.ReadWriteCloser
}

// New makes a network without hosts. The same seed loses the same packets of the same traffic.
func New(seed uint64) *Network {
	n := &Network{hosts: map[netip.Addr]*host{}, links: map[direction]Link{}}
	n.chance.Rand = rand.New(rand.NewPCG(seed, 1))
	return n
}

// Attach connects a host: what is read from the device are packets that it sends, one a read. It replaces an earlier device of that
// address. The network closes the device when the host is gone.
func (n *Network) Attach(name string, address netip.Addr, device io.ReadWriteCloser) {
	h := &host{name: name, device: device}
	n.mu.Lock()
	old := n.hosts[address]
	n.hosts[address] = h
	n.mu.Unlock()
	if old != nil {
		_ = old.device.Close()
	}
	go n.serve(h, address)
}

// Detach disconnects whoever has the address.
func (n *Network) Detach(address netip.Addr) {
	n.mu.Lock()
	h := n.hosts[address]
	delete(n.hosts, address)
	n.mu.Unlock()
	if h != nil {
		_ = h.device.Close()
	}
}

// Disturb puts every direction from one of these hosts to one of those into that condition, until it is lifted. Where several
// conditions meet, each applies as far as it is worse.
func (n *Network) Disturb(l Link, from, to []string) (lift func()) {
	d := &disturbance{l, from, to}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.disturbances = append(n.disturbances, d)
	n.combine()
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.disturbances = slices.DeleteFunc(n.disturbances, func(other *disturbance) bool { return other == d })
		n.combine()
	}
}

// disturbance is a condition of some directions.
type disturbance struct {
	link     Link
	from, to []string
}

// combine computes the condition of each direction. The caller holds the lock.
func (n *Network) combine() {
	clear(n.links)
	for _, d := range n.disturbances {
		for _, from := range d.from {
			for _, to := range d.to {
				l := n.links[direction{from, to}]
				n.links[direction{from, to}] = Link{
					Cut: l.Cut || d.link.Cut, Loss: max(l.Loss, d.link.Loss), Delay: max(l.Delay, d.link.Delay), Jitter: max(l.Jitter, d.link.Jitter),
				}
			}
		}
	}
}

// Dropped is how many packets were lost on links so far, by cut or by chance.
func (n *Network) Dropped() int64 { return n.dropped.Load() }

// largest is the size of the largest packet of IPv4.
const largest = 1 << 16

func (n *Network) serve(h *host, address netip.Addr) {
	buffer := make([]byte, largest)
	for {
		size, err := h.device.Read(buffer)
		if err != nil {
			break // the host is gone, and its device with it
		}
		n.pass(h, buffer[:size])
	}
	n.mu.Lock()
	if n.hosts[address] == h {
		delete(n.hosts, address)
	}
	n.mu.Unlock()
	_ = h.device.Close()
}

// pass hands on one packet. It keeps no reference to it.
func (n *Network) pass(from *host, packet []byte) {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return // IPv6 looks for neighbours: nobody here speaks it
	}
	destination := netip.AddrFrom4([4]byte(packet[16:20]))
	n.mu.RLock()
	to := n.hosts[destination]
	var link Link
	if to != nil {
		link = n.links[direction{from.name, to.name}]
	}
	n.mu.RUnlock()
	switch {
	case to == nil:
	case link.Cut || link.Loss > 0 && n.random() < link.Loss:
		n.dropped.Add(1)
	case link.Delay > 0 || link.Jitter > 0:
		later := append([]byte(nil), packet...)
		time.AfterFunc(link.Delay+time.Duration(n.random()*float64(link.Jitter)), func() { _, _ = to.device.Write(later) })
	default:
		_, _ = to.device.Write(packet) // a device that is gone or full loses it, as a cable would
	}
}

func (n *Network) random() float64 {
	n.chance.Lock()
	defer n.chance.Unlock()
	return n.chance.Float64()
}
