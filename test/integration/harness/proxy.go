package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/porttest"
)

// Proxy is a running `regent proxy`.
type Proxy struct {
	Port  int            // leads to the primary
	Store *dcstest.Proxy // its way to the store
	dir   string
}

// Proxy starts one for the cluster, which ends with the test.
func (c *Cluster) Proxy(t testing.TB, section Map) *Proxy {
	t.Helper()
	p := &Proxy{Port: porttest.Free(t), Store: dcstest.NewProxy(t, c.address)}
	p.dir = filepath.Join(c.dir, fmt.Sprintf("proxy%d", p.Port))
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	proxy := Map{"listen": fmt.Sprintf("127.0.0.1:%d", p.Port)}
	maps.Copy(proxy, section)
	text, err := json.Marshal(Map{
		"scope": c.scope, "etcd3": Map{"hosts": p.Store.Address(), "use_proxies": true}, "log": Map{"level": "DEBUG"}, "proxy": proxy,
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.dir, "proxy.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(p.log())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(os.Getenv(envAgent), "proxy", file)
	cmd.Args[0] = "regent"
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = p.dir, log, log, c.Members[0].environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the end of the proxy: %v", err)
		}
		if text, _ := os.ReadFile(p.log()); t.Failed() {
			t.Logf("==== log of the proxy\n%s", text)
		}
	})
	Eventually(t, Patience, "the proxy listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.Port))
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return p
}

func (p *Proxy) log() string { return filepath.Join(p.dir, "log") }

// Logged says whether its log has that text.
func (p *Proxy) Logged(text string) bool {
	log, _ := os.ReadFile(p.log())
	return bytes.Contains(log, []byte(text))
}

// DSN is how an application connects through it.
func (p *Proxy) DSN(sslmode string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=%s dbname=postgres sslmode=%s", p.Port, password, sslmode)
}
