package machine

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Control brings up etcd, API server and controller manager on free ports of 127.0.0.1. There is no scheduler and no node:
// pods stay Pending. With bound, the parts end with the caller, even when it is killed.
func (m Machine) Control(ctx context.Context, bound bool, log io.Writer) error {
	if err := m.unused(); err != nil {
		return err
	}
	began := time.Now()
	if err := m.folders("etcd", "log"); err != nil {
		return err
	}
	c := control{address: "127.0.0.1"}
	for _, port := range []*int{&c.port, &c.etcd, &c.etcdPeer, &c.manager} {
		p, err := freePort()
		if err != nil {
			return err
		}
		*port = p
	}
	if err := m.certificates(fmt.Sprintf("https://127.0.0.1:%d", c.port)); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	for _, p := range []part{m.etcd(c), m.apiserver(c)} {
		if err := m.launch(p, bound); err != nil {
			return err
		}
	}
	// The manager ends when the API server is not ready 10 s after it.
	if err := m.reachable(ctx); err != nil {
		return err
	}
	if err := m.launch(m.manager(c), bound); err != nil {
		return err
	}
	if err := m.ready(ctx); err != nil {
		return err
	}
	fmt.Fprintf(log, "control plane ready after %.1f s\n", time.Since(began).Seconds())
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// launch starts a part in a session of its own, its output in a log of its name.
func (m Machine) launch(p part, bound bool) error {
	cmd := exec.Command(p.path, p.args...)
	out, err := os.Create(filepath.Join(m.Dir, "log", p.name+".log"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if bound { // heeded only if the starting thread lives as long: main holds its own
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	return m.remember(cmd.Process.Pid)
}

func (m Machine) reachable(ctx context.Context) error {
	return m.Wait(ctx, limit, "the API server", "get", "--raw", "/readyz")
}

// ready waits until the API server answers and the default service account is there: pods can be made then.
func (m Machine) ready(ctx context.Context) error {
	if err := m.reachable(ctx); err != nil {
		return err
	}
	return m.Wait(ctx, limit, "the default service account", "-n", "default", "get", "serviceaccount", "default")
}

// Kubectl is a call of kubectl as the cluster's administrator.
func (m Machine) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(m.Bin(), "kubectl"), append([]string{"--kubeconfig", m.Kubeconfig()}, args...)...)
}

// Wait repeats a call of kubectl until it succeeds.
func (m Machine) Wait(ctx context.Context, limit time.Duration, what string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		out, err := m.Kubectl(ctx, args...).CombinedOutput()
		if err == nil {
			return nil
		}
		for _, p := range m.processes() {
			if !p.alive() {
				return fmt.Errorf("wait for %s: a part has ended; see %s", what, filepath.Join(m.Dir, "log"))
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: not there after %s; see %s: %s", what, limit, filepath.Join(m.Dir, "log"), out)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
