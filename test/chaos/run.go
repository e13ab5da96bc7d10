package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/regent-ha/regent/internal/dcs/etcd"
	"github.com/regent-ha/regent/test/chaos/history"
	"github.com/regent-ha/regent/test/chaos/machine"
	"github.com/regent-ha/regent/test/chaos/network"
)

// run plays. It runs twice: outside it prepares what needs the network and the disk, inside it plays.
func run(args []string) (code int, err error) {
	o, err := flags(args)
	if err != nil {
		return unable, err
	}
	if machine.Base() != "" {
		return inside(o)
	}
	prepared, err := prepare(&o)
	if err != nil {
		return unable, err
	}
	os.Args = append([]string{os.Args[0], "run"}, prepared...)
	fmt.Printf("mode %s, seed %d; files in %s\n", o.mode, o.seed, o.out)
	return machine.Inside()
}

// prepare finds or makes what a run needs, and returns the arguments that name it.
func prepare(o *options) (args []string, err error) {
	if o.out == "" {
		if o.out, err = os.MkdirTemp("", "chaos-out-"); err != nil {
			return nil, err
		}
	}
	if o.out, err = filepath.Abs(o.out); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(o.out, "logs"), 0o755); err != nil {
		return nil, err
	}
	if o.agent == "" {
		o.agent = filepath.Join(o.out, "regent")
		build := exec.Command("go", "build", "-o", o.agent, "github.com/regent-ha/regent/cmd/regent")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the agent: %w\n%s", err, out)
		}
	}
	if o.binDir == "" {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
		if len(found) == 0 {
			return nil, errors.New("find PostgreSQL: there is none below /usr/lib/postgresql; install it or name its folder with --bin")
		}
		o.binDir = filepath.Dir(found[len(found)-1])
	}
	if o.etcd == "" {
		if o.etcd, err = exec.LookPath("etcd"); err != nil {
			return nil, fmt.Errorf("find the store's program: %w; install etcd or name it with --etcd", err)
		}
	}
	args = []string{
		fmt.Sprintf("--minutes=%g", o.minutes), fmt.Sprintf("--rounds=%d", o.rounds), fmt.Sprintf("--seed=%d", o.seed), "--mode=" + o.mode, "--out=" + o.out, "--agent=" + o.agent,
		"--bin=" + o.binDir, "--etcd=" + o.etcd, "--only=" + strings.Join(o.only, ","),
		fmt.Sprintf("--without-guard-faults=%t", o.withoutGuard), fmt.Sprintf("--long-pauses=%t", o.longPauses),
	}
	return args, nil
}

// inside plays and judges. Whatever happens, the hosts are switched off in the end; and the kernel would do it too.
func inside(o options) (code int, err error) {
	if err := machine.Furnish(); err != nil {
		return unable, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if o.agent, err = place(o.agent); err != nil {
		return unable, err
	}
	s, err := newSite(o, machine.Base())
	if err != nil {
		return unable, err
	}
	defer s.keep()
	defer s.powerOff()
	record, err := history.NewRecorder(filepath.Join(o.out, history.FileName))
	if err != nil {
		return unable, err
	}
	told, err := os.Create(filepath.Join(o.out, "chaos.log"))
	if err != nil {
		return unable, err
	}
	defer told.Close()
	var mu sync.Mutex
	p := &play{o: o, site: s, record: record, acks: map[string]history.Time{}, say: func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(io.MultiWriter(os.Stdout, told), format+"\n", args...)
	}}
	for _, what := range machine.LeftOut() {
		p.say("this machine does not allow, so it is left out: %s", what)
	}
	if err := p.play(ctx); err != nil {
		p.say("the run ends early: %v", err)
	}
	if err := record.Close(); err != nil {
		return unable, err
	}
	return conclude(o, record.Seen())
}

// can makes one host and switches it off again: what run needs of the machine.
func can() (code int, err error) {
	if machine.Base() == "" {
		return machine.Inside()
	}
	if err := machine.Furnish(); err != nil {
		return unable, err
	}
	wires := network.New(1)
	device, err := network.OpenTUN("net0", appsAt)
	if err != nil {
		return unable, err
	}
	defer device.Close()
	h := machine.New("m1", netip.MustParseAddr("10.77.0.11"), wires)
	if err := h.Boot(); err != nil {
		return unable, err
	}
	h.PowerOff()
	fmt.Println("this machine allows hosts of namespaces with a network of their own")
	for _, what := range machine.LeftOut() {
		fmt.Println("this machine does not allow, so it will be left out:", what)
	}
	return 0, nil
}

// place copies a program to where every user may run it, and nobody changes it meanwhile.
func place(program string) (string, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	there := filepath.Join(machine.Base(), "regent")
	return there, os.WriteFile(there, content, 0o755)
}

// play makes the cluster, plays rounds while there is time, and collects what is left.
func (p *play) play(ctx context.Context) (err error) {
	p.record.Note(history.Event{Run: &history.Run{
		Seed: p.o.seed, Mode: p.o.mode, Started: time.Now().UTC(), Arguments: os.Args[2:], Versions: p.versions(), TTL: history.Time(ttl), Members: p.site.memberNames(),
		LeftOut: machine.LeftOut(),
	}})
	for _, m := range p.site.members {
		m.died = func(how string) {
			p.say("  %s: the agent of %s ended by itself: %s", p.record.Now(), m.name, how)
			p.record.Note(history.Event{Died: &history.Died{At: p.record.Now(), Member: m.name, How: how}})
		}
	}
	first, err := p.bootstrap(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.keys.Close()) }()
	stop, err := p.work(ctx, first)
	if err != nil {
		return err
	}
	watching, enough := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { p.watch(watching) })
	ready := history.Round{Bound: history.Time(healBound), Lifted: p.record.Now()}
	err = p.heal(ctx, &ready)
	planner := newPlanner(p.o)
	for number := 1; err == nil && p.more(number); number++ {
		err = p.round(ctx, number, planner.next(number))
	}
	enough()
	watch.Wait()
	stop()
	last, cancel := patient(ctx)
	defer cancel()
	p.finish(last)
	return err
}

// more says whether there is time for another round.
func (p *play) more(number int) bool {
	if p.o.rounds > 0 {
		return number <= p.o.rounds
	}
	return time.Duration(p.record.Now()).Minutes() < p.o.minutes
}

// bootstrap starts the store and the members, and returns the one that leads.
func (p *play) bootstrap(ctx context.Context) (*member, error) {
	for _, e := range p.site.servers {
		if err := e.start(); err != nil {
			return nil, err
		}
	}
	until := time.Now().Add(10 * time.Minute)
	for _, e := range p.site.servers {
		for !e.healthy(ctx) {
			if time.Now().After(until) || !sleep(ctx, look) {
				return nil, fmt.Errorf("start the store: %s is not healthy; see its log", e.name)
			}
		}
	}
	var err error
	p.keys, err = etcd.Open(ctx, etcd.Config{
		Endpoints: p.site.endpoints(), Namespace: "service", Scope: scope, Log: slog.New(slog.DiscardHandler),
		Timing: func() (time.Duration, time.Duration, time.Duration) { return ttl, loopWait, retry },
	})
	if err != nil {
		return nil, err
	}
	for _, m := range p.site.members {
		if err := m.start(); err != nil {
			return nil, err
		}
	}
	for {
		if l := p.leader(ctx); l != nil {
			if s := l.status(ctx); s != nil && s.State == "running" && s.Role == "primary" {
				return l, nil
			}
		}
		if time.Now().After(until) || !sleep(ctx, look) {
			return nil, errors.New("make the cluster: nobody leads after 3 minutes; see the agents' logs")
		}
	}
}

// versions says what runs here.
func (p *play) versions() (list []string) {
	for _, command := range [][]string{{p.o.agent, "version"}, {filepath.Join(p.o.binDir, "postgres"), "--version"}, {p.o.etcd, "--version"}, {"uname", "-sr"}} {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if err != nil {
			line = fmt.Sprintf("%s: %v", command[0], err)
		}
		list = append(list, line)
	}
	return list
}

// keep copies what the members wrote beside their logs; the rest is gone with the run.
func (s *site) keep() {
	for _, m := range s.members {
		for _, dir := range []string{"log", "journal"} {
			_ = os.CopyFS(filepath.Join(s.out, "logs", m.name, dir), os.DirFS(filepath.Join(m.dir, dir)))
		}
	}
}
