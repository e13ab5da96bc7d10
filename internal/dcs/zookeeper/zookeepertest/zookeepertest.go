// Package zookeepertest runs ZooKeeper servers for tests.
package zookeepertest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/porttest"
)

// Jar is where the distribution's package has the server.
const Jar = "/usr/share/java/zookeeper.jar"

// Server is a ZooKeeper process.
type Server struct {
	Address string // host:port for clients
	Log     string // file
	cmd     *exec.Cmd
	ended   chan struct{}
	dir     string
}

// Program is Java; the test is skipped without it or without ZooKeeper.
func Program(t testing.TB) string {
	t.Helper()
	java, err := exec.LookPath("java")
	if _, missing := os.Stat(Jar); err != nil || missing != nil {
		t.Skip("no ZooKeeper on this machine (Debian: apt install libzookeeper-java default-jre-headless)")
	}
	return java
}

// Start runs one server until the test ends. Its tick is short, so that short sessions can be had.
func Start(t testing.TB, settings ...string) *Server {
	s := New(t, t.TempDir(), settings...)
	s.Start(t)
	return s
}

// New is Start without starting, with its files in dir.
func New(t testing.TB, dir string, settings ...string) *Server {
	return prepare(t, dir, settings, "")
}

// StartThree runs three servers that are one ZooKeeper.
func StartThree(t testing.TB) (servers []*Server) {
	var members []string
	for i := range 3 {
		members = append(members, fmt.Sprintf("server.%d=127.0.0.1:%d:%d", i+1, porttest.Free(t), porttest.Free(t)))
	}
	for i := range 3 {
		servers = append(servers, prepare(t, t.TempDir(), append([]string{"initLimit=100", "syncLimit=10"}, members...), fmt.Sprint(i+1)))
	}
	for _, s := range servers {
		s.Launch(t)
	}
	for _, s := range servers {
		s.WaitReady(t)
	}
	return servers
}

func prepare(t testing.TB, dir string, settings []string, id string) *Server {
	t.Helper()
	java := Program(t)
	port := porttest.Free(t)
	s := &Server{Address: fmt.Sprintf("127.0.0.1:%d", port), Log: filepath.Join(dir, "zookeeper.log"), dir: dir}
	text := fmt.Sprintf("tickTime=200\nminSessionTimeout=400\nmaxSessionTimeout=600000\nmaxClientCnxns=0\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=ruok,srvr\n%s\n",
		filepath.Join(dir, "data"), port, strings.Join(settings, "\n"))
	file := filepath.Join(dir, "zoo.cfg")
	files := map[string]string{file: text}
	if id != "" {
		files[filepath.Join(dir, "data", "myid")] = id
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.cmd = exec.Command(java, "-Xmx96m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.fsync.warningthresholdms=5000",
		"-Dznode.container.checkIntervalMs=600000000", "-Dzookeeper.forceSync=no", "-cp", Jar+":/usr/share/java/slf4j-simple.jar:/usr/share/java/netty-codec.jar", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-Dorg.slf4j.simpleLogger.showDateTime=true", "org.apache.zookeeper.server.quorum.QuorumPeerMain", file)
	return s
}

// Start runs the server, again after Kill, and returns when it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.Launch(t)
	s.WaitReady(t)
}

// Launch is Start without waiting.
func (s *Server) Launch(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(s.cmd.Path, s.cmd.Args[1:]...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	s.ended = ended
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(ended)
	}(s.cmd)
	t.Cleanup(s.Kill)
}

// Kill ends the server at once.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// Wipe deletes the server's data. It must not run.
func (s *Server) Wipe(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "data", "version-2")); err != nil {
		t.Fatal(err)
	}
}

// Signal sends a signal to the server; after SIGSTOP it returns when the server stands still.
func (s *Server) Signal(t testing.TB, what syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(what); err != nil {
		t.Fatal(err)
	}
	if what != syscall.SIGSTOP {
		return
	}
	for deadline := time.Now().Add(time.Minute); !stopped(s.cmd.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("ZooKeeper %s does not stop", s.Address)
		}
	}
}

// stopped says whether every thread of a process stands still.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if _, state, _ := strings.Cut(string(stat), ") "); err == nil && !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return len(threads) > 0
}

// WaitReady returns when the server serves clients.
func (s *Server) WaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for s.Mode() == "" {
		select {
		case <-s.ended:
			t.Fatalf("ZooKeeper %s has ended:\n%s", s.Address, s.tail())
		case <-ctx.Done():
			t.Fatalf("ZooKeeper %s does not serve:\n%s", s.Address, s.tail())
		case <-time.After(50 * time.Millisecond): // it tells nobody
		}
	}
}

// tail is the end of its log.
func (s *Server) tail() string {
	log, _ := os.ReadFile(s.Log)
	return string(log[max(0, len(log)-4000):])
}

// Mode is what the server says it is: leader, follower, standalone; empty while it does not say.
func (s *Server) Mode() string {
	_, after, _ := strings.Cut(s.ask("srvr"), "Mode: ")
	mode, _, _ := strings.Cut(after, "\n")
	return mode
}

func (s *Server) ask(what string) string {
	conn, err := net.DialTimeout("tcp", s.Address, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte(what)); err != nil {
		return ""
	}
	answer := make([]byte, 1<<12)
	n := 0
	for n < len(answer) {
		more, err := conn.Read(answer[n:])
		n += more
		if err != nil {
			break
		}
	}
	return string(answer[:n])
}
