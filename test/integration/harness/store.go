package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/regent-ha/regent/internal/dcs/consul/consultest"
	"github.com/regent-ha/regent/internal/dcs/etcd/etcdtest"
	"github.com/regent-ha/regent/internal/dcs/zookeeper/zookeepertest"
	"github.com/regent-ha/regent/internal/porttest"
)

// store is the one etcd of this test binary; clusters share it, each with a scope of its own.
var store struct {
	sync.Mutex
	address string
	scopes  int
}

// startStore starts etcd, once, which ends with this process; or a ZooKeeper or a Consul, which ends with the test.
func startStore(t testing.TB, o Options) (address, scope string, consul *consultest.Server) {
	t.Helper()
	store.Lock()
	defer store.Unlock()
	store.scopes++
	scope = fmt.Sprintf("cluster%d", store.scopes)
	if o.ZooKeeper {
		return zookeepertest.Start(t).Address, scope, nil
	}
	if o.Consul {
		consul = consultest.Start(t, nil)
		return consul.Address, scope, consul
	}
	if store.address != "" {
		return store.address, scope, nil
	}
	dir := filepath.Join(root(t), "etcd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	store.address = fmt.Sprintf("127.0.0.1:%d", porttest.Free(t))
	url, peer := "http://"+store.address, fmt.Sprintf("http://127.0.0.1:%d", porttest.Free(t))
	cmd := exec.Command(etcdtest.Program(t), "--name=e1", "--data-dir="+filepath.Join(dir, "data"), "--log-level=warn",
		"--listen-client-urls="+url, "--advertise-client-urls="+url, "--initial-cluster=e1="+peer,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }()
	etcdtest.WaitReady(t, store.address)
	return store.address, scope, nil
}

func root(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(envRoot)
	if dir == "" {
		t.Fatal("no directory to work in: call harness.Main from TestMain")
	}
	return dir
}

// SmallDisk is an empty file system that is soon full, or skips the test.
func SmallDisk(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(envDisk)
	if dir == "" {
		t.Skip("no small file system: ", os.Getenv(envNoDisk))
	}
	return dir
}
