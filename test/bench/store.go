package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// store is one etcd for both systems.
type store struct {
	process *process
	address string // host:port for clients
	version string
	log     *os.File
}

// startStore runs etcd on this system, with its data in dir.
func startStore(ctx context.Context, program, dir string) (s *store, err error) {
	if program, err = exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("find etcd: %w; install it (Debian: etcd-server), or name it with --etcd", err)
	}
	version, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask etcd for its version: %w", err)
	}
	client, err := freePort()
	if err != nil {
		return nil, err
	}
	peer, err := freePort()
	if err != nil {
		return nil, err
	}
	s = &store{address: fmt.Sprintf("127.0.0.1:%d", client)}
	first, _, _ := strings.Cut(string(version), "\n")
	s.version = strings.TrimPrefix(first, "etcd Version: ")
	if s.log, err = os.Create(filepath.Join(dir, "etcd.log")); err != nil {
		return nil, err
	}
	clientURL, peerURL := "http://"+s.address, fmt.Sprintf("http://127.0.0.1:%d", peer)
	cmd := exec.Command(program, "--name=bench", "--data-dir="+filepath.Join(dir, "etcd"), "--logger=zap", "--log-level=warn",
		"--listen-client-urls="+clientURL, "--advertise-client-urls="+clientURL,
		"--listen-peer-urls="+peerURL, "--initial-advertise-peer-urls="+peerURL, "--initial-cluster=bench="+peerURL)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if s.process, err = start(cmd, s.log); err != nil {
		return nil, errors.Join(err, s.log.Close())
	}
	return s, s.waitReady(ctx)
}

func (s *store) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if answer, err := http.Get("http://" + s.address + "/health"); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start etcd: it is not ready; its log is %s: %w", s.log.Name(), ctx.Err())
		case <-s.process.ended:
			return fmt.Errorf("start etcd: it ended; its log is %s: %w", s.log.Name(), errors.Join(s.process.err, errEnded))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *store) close() error {
	return errors.Join(s.process.end(syscall.SIGKILL, true, killLimit), s.log.Close())
}
