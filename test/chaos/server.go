package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/regent-ha/regent/test/chaos/machine"
)

// server is a host with one of the store's servers.
type server struct {
	site *site
	name string
	host *machine.Host

	mu  sync.Mutex
	run *machine.Process
}

func (e *server) address() string { return fmt.Sprintf("%s:%d", e.host.Address, storePort) }

// start switches the host on and starts etcd, with the data that it had.
func (e *server) start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.host.On() {
		if err := e.host.Boot(); err != nil {
			return err
		}
	}
	if e.run != nil {
		select {
		case <-e.run.Ended:
		default:
			return nil
		}
	}
	dir := filepath.Join(e.site.dir, e.name)
	if err := e.site.own(dir); err != nil {
		return err
	}
	var all []string
	for _, other := range e.site.servers {
		all = append(all, fmt.Sprintf("%s=http://%s:%d", other.name, other.host.Address, peerPort))
	}
	own, peer := "http://"+e.address(), fmt.Sprintf("http://%s:%d", e.host.Address, peerPort)
	var err error
	e.run, err = e.host.Start(machine.Command{
		Path: e.site.etcd, Dir: dir, UID: e.site.uid, GID: e.site.gid, Log: e.site.log(e.name),
		Args: []string{
			"etcd", "--name=" + e.name, "--data-dir=" + filepath.Join(dir, "data"), "--logger=zap", "--log-level=warn",
			"--listen-client-urls=" + own, "--advertise-client-urls=" + own, "--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=" + strings.Join(all, ","),
		},
		Env: []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + dir},
	})
	return err
}

// kill ends etcd at once and waits.
func (e *server) kill() error {
	if _, err := e.host.Signal(syscall.SIGKILL, machine.Everything); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	<-e.run.Ended
	return nil
}

// healthy says whether the server answers and has a quorum.
func (e *server) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.address()+"/health", nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}
