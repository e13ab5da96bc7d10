package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// VIP is an address that this host has while its member leads.
type VIP struct {
	Address netip.Prefix // IPv4, such as 10.0.0.100/24
	Device  string       // such as eth0
	Member  string       // of this host
}

func (v VIP) validate() error {
	switch {
	case !v.Address.IsValid() || !v.Address.Addr().Is4():
		return fmt.Errorf("proxy.vip.address: have %s, want an IPv4 address with its prefix, such as 10.0.0.100/24", v.Address)
	case v.Device == "":
		return errors.New("proxy.vip.device is not defined: want the name of a network device")
	case v.Member == "":
		return errors.New("name is not defined: the address follows the member of that name")
	}
	return nil
}

// vipAgain is when what could not be done is tried again.
const vipAgain = time.Second

// keep gives this host the address while its member leads, until ctx ends; then it has it no more.
func (v VIP) keep(ctx context.Context, p *Proxy) {
	defer func() {
		if err := v.drop(context.WithoutCancel(ctx)); err != nil {
			p.Log.Error("take the address away", "address", v.Address, "error", err)
		}
	}()
	has, known := false, false
	for ctx.Err() == nil {
		s, changed := p.primary.watch()
		wants := s.to.member == v.Member && (s.usable || has)
		var again <-chan time.Time
		if wants != has || !known {
			var err error
			if wants {
				err = v.take(ctx)
			} else {
				err = v.drop(ctx)
			}
			if known = err == nil; known {
				has = wants
				p.Log.Info("the address follows the leader", "address", v.Address, "here", has)
			} else {
				p.Log.Error("move the address", "address", v.Address, "here", wants, "error", err)
				again = time.After(vipAgain)
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		}
	}
}

// take adds the address and tells the neighbours.
func (v VIP) take(ctx context.Context) error {
	if err := v.ip(ctx, "add"); err != nil && !strings.Contains(err.Error(), "File exists") && !strings.Contains(err.Error(), "already assigned") {
		return err
	}
	return v.announce()
}

func (v VIP) drop(ctx context.Context) error {
	if err := v.ip(ctx, "del"); err != nil && !strings.Contains(err.Error(), "Cannot assign requested address") && !strings.Contains(err.Error(), "Address not found") {
		return err
	}
	return nil
}

func (v VIP) ip(ctx context.Context, what string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", "address", what, v.Address.String(), "dev", v.Device).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip address %s %s dev %s: %w: %s", what, v.Address, v.Device, err, strings.TrimSpace(string(out)))
	}
	return nil
}

const arpProtocol = unix.ETH_P_ARP>>8 | unix.ETH_P_ARP<<8&0xff00 // in network order

// announce sends a gratuitous ARP, a reply that nobody asked for (RFC 5944, section 4.6), so that neighbours and switches learn the new place at once.
func (v VIP) announce() error {
	device, err := net.InterfaceByName(v.Device)
	if err != nil {
		return fmt.Errorf("announce %s: %w", v.Address, err)
	}
	if len(device.HardwareAddr) != 6 {
		return nil // a device without neighbours, such as lo
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("announce %s: %w", v.Address, err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Protocol: arpProtocol, Ifindex: device.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	if err := unix.Sendto(fd, v.arp(device.HardwareAddr), 0, to); err != nil {
		return fmt.Errorf("announce %s: %w", v.Address, err)
	}
	return nil
}

// arp is the packet: sender and target are both the address (RFC 826).
func (v VIP) arp(mac net.HardwareAddr) []byte {
	address := v.Address.Addr().As4()
	p := binary.BigEndian.AppendUint16(nil, 1) // Ethernet
	p = binary.BigEndian.AppendUint16(p, unix.ETH_P_IP)
	p = append(p, 6, 4)
	p = binary.BigEndian.AppendUint16(p, 2) // reply
	p = append(append(p, mac...), address[:]...)
	return append(append(p, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), address[:]...)
}
