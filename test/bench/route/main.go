// Command route measures what a TCP connection costs that goes through `regent proxy`, beside HAProxy and no proxy at all: bytes a second of one
// stream each way, round trips a second of one connection, and new connections a second, each with one round trip. The three take turns, so that
// they share whatever else the machine does. The server that answers, and the proxy, are processes of their own; the store is in memory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs/memory"
	"github.com/regent-ha/regent/internal/proxy"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each is measured")
	length := flag.Duration("length", time.Second, "of one measurement")
	role := flag.String("role", "", "internal")
	listen := flag.String("listen", "", "internal")
	to := flag.String("to", "", "internal")
	flag.Parse()
	var err error
	switch *role {
	case "echo":
		err = echo(*listen)
	case "proxy":
		err = route(*listen, *to)
	default:
		err = compare(*rounds, *length)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "route:", err)
		os.Exit(1)
	}
}

// echo answers: after a first byte of 'R' each byte comes back, after 'S' bytes come without end, after 'D' they are thrown away.
func echo(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			kind := make([]byte, 1)
			if _, err := io.ReadFull(c, kind); err != nil {
				return
			}
			// What PostgreSQL says before the first query: welcome, ready.
			if _, err := c.Write([]byte("R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I")); err != nil {
				return
			}
			switch kind[0] {
			case 'R':
				_, _ = io.Copy(c, c)
			case 'S':
				for block := make([]byte, 64<<10); err == nil; {
					_, err = c.Write(block)
				}
			case 'D':
				for block := make([]byte, 64<<10); err == nil; {
					_, err = c.Read(block)
				}
			}
		}()
	}
}

const welcome = 15

// route is `regent proxy` with a store of one member that leads.
func route(listen, to string) error {
	store := memory.NewServer(boottime.Now)
	m := cluster.Member{Name: "a", ConnURL: "postgres://" + to + "/postgres", Role: cluster.Primary, State: cluster.Running}
	store.Write("/service/bench/members/a", m.Encode())
	store.Write("/service/bench/leader", []byte("a"))
	p, err := proxy.New(proxy.Config{
		Listen: listen, Hold: time.Minute, MaxHeld: 1000, Store: store.Store("/service/bench", ""), Clock: boottime.Now,
		Client: func(string) (*client.Client, error) { return nil, errors.New("no agent") }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	return p.Run(context.Background())
}

const haproxy = `global
  maxconn 4000
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen primary
  bind %s
  server a %s
`

func compare(rounds int, length time.Duration) error {
	dir, err := os.MkdirTemp("", "route-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var at [3]string
	var listeners [3]net.Listener
	for i := range at {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		at[i], listeners[i] = l.Addr().String(), l
	}
	for _, l := range listeners { // not before all are chosen
		l.Close()
	}
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, haproxy, at[2], at[0]), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"/proc/self/exe", "-role=echo", "-listen=" + at[0]},
		{"/proc/self/exe", "-role=proxy", "-listen=" + at[1], "-to=" + at[0]},
		{"haproxy", "-db", "-q", "-f", file},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start %s: %w", args[0], err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	}
	ways := []string{"direct", "regent proxy", "HAProxy"}
	for i, address := range at {
		if err := up(address); err != nil {
			return fmt.Errorf("%s at %s: %w", ways[i], address, err)
		}
	}
	kinds := []struct {
		name, unit string
		measure    func(address string, length time.Duration) (float64, error)
	}{{"from the server", "MB/s", stream}, {"to the server", "MB/s", drain}, {"round trips", "/s", trips}, {"connections", "/s", connections}}
	fmt.Println("| | " + strings.Join(ways, " | ") + " |\n|---|---|---|---|")
	for _, k := range kinds {
		values := make([][]float64, len(at))
		for range rounds {
			for i, address := range at {
				v, err := k.measure(address, length)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", k.name, ways[i], err)
				}
				values[i] = append(values[i], v)
			}
		}
		fmt.Printf("| %s, %s |", k.name, k.unit)
		for _, v := range values {
			slices.Sort(v)
			fmt.Printf(" %.0f (%.0f to %.0f) |", v[len(v)/2], v[0], v[len(v)-1])
		}
		fmt.Println()
	}
	return nil
}

func up(address string) (err error) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var c net.Conn
		if c, err = open(address, 'R'); err == nil {
			return c.Close()
		}
	}
	return err
}

// open connects, says what it wants, and waits for the welcome.
func open(address string, kind byte) (net.Conn, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err = c.Write([]byte{kind}); err == nil {
		_, err = io.ReadFull(c, make([]byte, welcome))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// flow moves bytes over one connection for a while.
func flow(address string, kind byte, length time.Duration, move func(net.Conn, []byte) (int, error)) (float64, error) {
	c, err := open(address, kind)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	block, sum, begin := make([]byte, 256<<10), 0, time.Now()
	for time.Since(begin) < length {
		n, err := move(c, block)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return float64(sum) / 1e6 / time.Since(begin).Seconds(), nil
}

func stream(address string, length time.Duration) (float64, error) {
	return flow(address, 'S', length, net.Conn.Read)
}

func drain(address string, length time.Duration) (float64, error) {
	return flow(address, 'D', length, net.Conn.Write)
}

func trips(address string, length time.Duration) (float64, error) {
	c, err := open(address, 'R')
	if err != nil {
		return 0, err
	}
	defer c.Close()
	n, begin, block := 0, time.Now(), make([]byte, 100)
	for ; time.Since(begin) < length; n++ {
		if _, err := c.Write(block); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(c, block); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

func connections(address string, length time.Duration) (float64, error) {
	n, begin := 0, time.Now()
	for ; time.Since(begin) < length; n++ {
		c, err := open(address, 'R')
		if err != nil {
			return 0, err
		}
		c.Close()
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
