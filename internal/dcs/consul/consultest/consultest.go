// Package consultest runs Consul servers for tests.
package consultest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/porttest"
)

// Server is a Consul process: a server, or an agent of one.
type Server struct {
	Address string // host:port of its HTTP API
	HTTPS   string // the same with TLS; empty: none
	Log     string // file
	file    string
	cmd     *exec.Cmd
	ended   chan struct{}
	lan     int
}

// Program is the consul on the PATH, or the one that scripts/deps has fetched; the test is skipped without.
func Program(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("consul"); err == nil {
		return path
	}
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
	}
	cache := filepath.Join(dir, ".cache")
	if set := os.Getenv("REGENT_CACHE"); set != "" {
		cache = set
	}
	path := filepath.Join(cache, "consul", "usr", "bin", "consul")
	if _, err := os.Stat(path); err != nil {
		t.Skip("no Consul on this machine, and none in " + path + " (scripts/deps consul fetches it)")
	}
	return path
}

// Management is the token that may do anything, where a server has access lists and this as its master token.
const Management = "11111111-1111-1111-1111-111111111111"

// Settings are entries of its configuration, beside what every server here has.
type Settings map[string]any

// Start runs one server until the test ends.
func Start(t testing.TB, settings Settings) *Server {
	t.Helper()
	s := New(t, settings)
	s.Start(t)
	return s
}

// New is Start without starting.
func New(t testing.TB, settings Settings) *Server {
	return prepare(t, Settings{"server": true, "bootstrap_expect": 1}, settings)
}

// StartThree runs three servers that are one Consul.
func StartThree(t testing.TB) (servers []*Server) {
	t.Helper()
	var lan []string
	for range 3 {
		s := prepare(t, Settings{"server": true, "bootstrap_expect": 3}, nil)
		servers, lan = append(servers, s), append(lan, fmt.Sprintf("127.0.0.1:%d", s.lan))
	}
	for _, s := range servers {
		s.launch(t, lan...)
	}
	for _, s := range servers {
		s.WaitReady(t)
	}
	return servers
}

// StartAgent runs an agent of a server, as there is one on each host.
func StartAgent(t testing.TB, of *Server) *Server {
	t.Helper()
	s := prepare(t, Settings{"server": false}, nil)
	s.launch(t, fmt.Sprintf("127.0.0.1:%d", of.lan))
	s.WaitReady(t)
	return s
}

func prepare(t testing.TB, kind, settings Settings) *Server {
	t.Helper()
	program, dir := Program(t), t.TempDir()
	first := porttest.FreeInRow(t, 4)
	name := fmt.Sprintf("n%d", first)
	ports := map[string]int{"http": first, "serf_lan": first + 1, "server": first + 2, "dns": -1, "serf_wan": -1, "grpc": -1}
	https := ""
	if settings["cert_file"] != nil {
		ports["https"], https = first+3, fmt.Sprintf("127.0.0.1:%d", first+3)
	}
	all := map[string]any{
		"node_name": name, "data_dir": filepath.Join(dir, "data"), "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
		"ports":           ports,
		"session_ttl_min": "100ms", "disable_update_check": true, "log_level": "info", "retry_interval": "1s",
		"performance": map[string]int{"raft_multiplier": 2},
	}
	for _, more := range []Settings{kind, settings} {
		for key, value := range more {
			all[key] = value
		}
	}
	s := &Server{Address: fmt.Sprintf("127.0.0.1:%d", first), HTTPS: https, Log: filepath.Join(dir, "consul.log"), file: filepath.Join(dir, "consul.json"), lan: first + 1}
	text, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(s.file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(program)
	return s
}

// Start runs the server, again after Kill, and returns when it serves.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.launch(t)
	s.WaitReady(t)
}

func (s *Server) launch(t testing.TB, join ...string) {
	t.Helper()
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := []string{"agent", "-config-file=" + s.file}
	for _, address := range join {
		args = append(args, "-retry-join="+address)
	}
	s.cmd = exec.Command(s.cmd.Path, args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
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

// Stop lets it leave in order, as an agent does on SIGTERM.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.Signal(t, syscall.SIGTERM)
	<-s.ended
}

// Signal sends a signal to the server.
func (s *Server) Signal(t testing.TB, what syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(what); err != nil {
		t.Fatal(err)
	}
}

// WaitReady returns when sessions can be had.
func (s *Server) WaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		_, err := s.Ask(ctx, http.MethodPut, "/v1/session/create", `{"TTL":"10s","Behavior":"delete","Checks":[]}`)
		if err == nil {
			return
		}
		select {
		case <-s.ended:
			t.Fatalf("Consul %s has ended:\n%s", s.Address, s.tail())
		case <-ctx.Done():
			t.Fatalf("Consul %s does not serve: %v\n%s", s.Address, err, s.tail())
		case <-time.After(50 * time.Millisecond): // it tells nobody
		}
	}
}

// Leads says whether the server is the leader of several, as it believes.
func (s *Server) Leads(t testing.TB) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	text, err := s.Ask(ctx, http.MethodGet, "/v1/agent/self", "")
	if err != nil {
		t.Fatal(err)
	}
	var self struct {
		Stats struct{ Consul struct{ Leader string } }
	}
	if err := json.Unmarshal([]byte(text), &self); err != nil {
		t.Fatal(err)
	}
	return self.Stats.Consul.Leader == "true"
}

// Ask sends a request as anybody could.
func (s *Server) Ask(ctx context.Context, method, path, body string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+s.Address+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Close = true
	request.Header.Set("X-Consul-Token", Management)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return string(text), err
}

// tail is the end of its log.
func (s *Server) tail() string {
	log, _ := os.ReadFile(s.Log)
	return string(log[max(0, len(log)-4000):])
}
