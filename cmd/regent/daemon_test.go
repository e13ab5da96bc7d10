package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/ctl"
	"github.com/regent-ha/regent/internal/logging"
)

// noMember is for command lines that must not start one.
func noMember(context.Context, context.Context, <-chan struct{}, *config.File, *logging.Log) error {
	return errors.New("this command line must not start a member")
}

// sections are the parts of a recorded run: its command line, what it printed, and its exit code.
func sections(t *testing.T, path string) (line, env, stdout, stderr, exit string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)^(?:# env (.*?)\n)?\$ (.*?)\n--- stdout\n(.*?)(?:--- stderr\n(.*?))?--- exit (\d+)`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatalf("%s is no recorded run", path)
	}
	return m[2], m[1], m[3], m[4], m[5]
}

func TestDaemonCommandLine(t *testing.T) {
	paths, err := filepath.Glob("testdata/daemon/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, path := range paths {
		line, env, stdout, stderr, exit := sections(t, path)
		var out, errs bytes.Buffer
		code := patroniWith(strings.Fields(line)[1:], []string{env}, &out, &errs, noMember)
		if out.String() != stdout || errs.String() != stderr || fmt.Sprint(code) != exit {
			t.Errorf("%s: have exit %d\n%s%s\nwant exit %s\n%s%s", path, code, out.String(), errs.String(), exit, stdout, stderr)
		}
	}
}

func TestStartReportsEveryMistakeAtOnce(t *testing.T) {
	var out, errs bytes.Buffer
	code := patroniWith(nil, []string{"PATRONI_CONFIGURATION={scope: demo, restapi: {listen: '127.0.0.1:0'}, etcd3: {host: localhost}}"}, &out, &errs, noMember)
	for _, want := range []string{"name is not defined", "postgresql.data_dir is not defined", "postgresql.listen is not defined"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("have %q, want %q in it", errs.String(), want)
		}
	}
	if code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
}

func TestConnectRefusesWhatItCannotReach(t *testing.T) {
	for path, o := range map[string]ctl.Options{
		"testdata/global/badconfig.txt":  {ConfigFile: "/nonexistent.yml"},
		"testdata/global/dcs-scheme.txt": {DCS: "foo://x"},
	} {
		_, _, _, stderr, _ := sections(t, path)
		_, err := connect(nil)(o)
		if have := fmt.Sprintf("Error: %v\n", err); have != stderr {
			t.Errorf("%s: have %q, want %q", path, have, stderr)
		}
	}
	_, err := connect(nil)(ctl.Options{})
	if err == nil || !strings.HasPrefix(err.Error(), "Can not find suitable configuration of distributed configuration store\nAvailable implementations: ") {
		t.Errorf("without a store: have %v", err)
	}
}

func TestDCSURL(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for text, want := range map[string]string{
		"etcd3://127.0.0.1:24379/service": "127.0.0.1:24379",
		"10.0.0.1":                        "10.0.0.1:2379",
		"etcd://":                         "localhost:2379",
		"etcd3://[::1]:4711":              "[::1]:4711",
	} {
		s, err := connect([]string{"PATRONI_ETCD3_HOST=elsewhere:1"})(ctl.Options{DCS: text})
		if err != nil || s.Where != want {
			t.Errorf("%s: have %v, %v, want %s", text, s, err, want)
		}
	}
	file := &config.File{Document: config.NewMap()}
	if err := useURL(file.Document, "localhost/other"); err != nil || file.Document.Get("namespace") != "other" {
		t.Errorf("namespace: have %v, %v, want other", file.Document.Get("namespace"), err)
	}
	if s, err := connect([]string{"PATRONI_CONSUL_PORT=1"})(ctl.Options{DCS: "localhost:8500"}); err != nil || s.Where != "localhost:8500" {
		t.Errorf("port of consul: have %+v, %v, want localhost:8500", s, err)
	}
	if _, err := connect(nil)(ctl.Options{DCS: "localhost:8181"}); err == nil || !strings.Contains(err.Error(), "exhibitor") {
		t.Errorf("port of exhibitor: have %v, want an error that names it", err)
	}
}

func TestStoreInsideTheAgent(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", "")
	for text, want := range map[string]string{
		"{scope: demo, postgresql: {data_dir: /data}}":                                        "127.0.0.1:2379",
		"{scope: demo, raft: {self_addr: '10.0.0.1:2222', partner_addrs: ['10.0.0.2:2222']}}": "10.0.0.1:2223, 10.0.0.2:2223",
	} {
		s, err := connect([]string{"PATRONI_CONFIGURATION=" + text})(ctl.Options{})
		if err != nil || s.Where != want || s.Scope != "demo" {
			t.Errorf("%s: have %+v, %v, want %s", text, s, err, want)
		}
	}
}

func TestNotifySpeaksToSystemd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	notify(reloading())
	buffer := make([]byte, 100)
	n, err := socket.Read(buffer)
	if err != nil || !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=\d+$`).Match(buffer[:n]) {
		t.Errorf("have %q, %v", buffer[:n], err)
	}
}

func TestSystemdWatchdogHearsOnlyALivingLoop(t *testing.T) {
	env := map[string]string{"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}
	getenv := func(name string) string { return env[name] }
	if have := watchdogPeriod(getenv, 42); have != 30*time.Second {
		t.Errorf("have %s, want 30 s", have)
	}
	if have := watchdogPeriod(getenv, 43); have != 0 {
		t.Errorf("have %s for somebody else's watchdog, want none", have)
	}
	name := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	tellWatchdog(ctx, 3*time.Millisecond, func() bool {
		if asked++; asked == 3 {
			cancel()
		}
		return asked == 2
	})
	notify("END")
	for _, want := range []string{"WATCHDOG=1", "END"} { // once only: the loop hung at the other times
		buffer := make([]byte, 100)
		if n, err := socket.Read(buffer); err != nil || string(buffer[:n]) != want {
			t.Errorf("have %q, %v, want %s", buffer[:n], err, want)
		}
	}
	now := time.Now()
	s := &agent.Status{NextCycle: now, Timing: cluster.Timing{TTL: 30 * time.Second}}
	if !onTime(nil, now) || !onTime(s, now.Add(59*time.Second)) || onTime(s, now.Add(time.Minute)) {
		t.Error("a loop is on time until twice the ttl after its next cycle")
	}
}

func TestSignalsOfADaemon(t *testing.T) {
	leave, hard, reload, stop := signals()
	defer stop()
	send := func(s syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	send(syscall.SIGHUP)
	<-reload
	send(syscall.SIGTERM)
	<-leave.Done()
	if hard.Err() != nil {
		t.Fatal("the first SIGTERM ended everything at once")
	}
	send(syscall.SIGINT)
	<-hard.Done()
}
