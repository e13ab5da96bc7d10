package trouble

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regent-ha/regent/test/rig"
)

// A PostgreSQL port that something else uses: the agent says so, keeps the data, and starts as soon as the port is free.
func TestPostgresPortInUse(t *testing.T) {
	t.Parallel()
	etcd := rig.StartEtcd(t)
	m := rig.NewMember(t, "demo-0", etcd.Address)
	m.Start(t)
	m.WaitPrimary(t)
	m.Stop(t)
	id, _ := etcd.Get(t, "initialize")

	free := occupyUntil(t, fmt.Sprintf("127.0.0.1:%d", m.PGPort))
	m.Start(t)
	m.WaitLog(t, "could not bind", fmt.Sprint(m.PGPort))
	if !m.Running() {
		t.Error("the agent has ended, want it to try again")
	}
	free()
	m.WaitPrimary(t)
	if now, _ := etcd.Get(t, "initialize"); now != id {
		t.Errorf("have system identifier %s, want %s as before", now, id)
	}
}

// A replica with a wrong password for replication does not come up, says which account is refused, and disturbs nobody.
func TestWrongReplicationPassword(t *testing.T) {
	t.Parallel()
	etcd := rig.StartEtcd(t)
	primary, replica := rig.NewMember(t, "demo-0", etcd.Address), rig.NewMember(t, "demo-1", etcd.Address)
	replica.Edit(t, "password: rep}", "password: wrong}")
	primary.Start(t)
	primary.WaitPrimary(t)
	replica.Start(t)
	replica.WaitLog(t, "password authentication failed", "replicator", "check user name and password in postgresql.authentication")
	if !replica.Running() || !primary.IsPrimary() {
		t.Errorf("have replica's agent running %v, primary %v; want both", replica.Running(), primary.IsPrimary())
	}
	if n, err := primary.SQL("select 1"); n != "1" {
		t.Errorf("the primary does not answer: %v", err)
	}
	// Mended, it comes up without any other help.
	replica.Edit(t, "password: wrong}", "password: rep}")
	replica.Stop(t)
	replica.Start(t)
	replica.WaitStreaming(t)
}

// A wrong password for the superuser: PostgreSQL goes on serving, nothing is demoted or restarted, and the log says what is wrong.
func TestWrongSuperuserPassword(t *testing.T) {
	t.Parallel()
	etcd := rig.StartEtcd(t)
	m := rig.NewMember(t, "demo-0", etcd.Address)
	m.Edit(t, "local all all trust", "local all all md5")
	m.Edit(t, "ttl: 20", "ttl: 600") // the guard must not end PostgreSQL between two agents, however long the second one takes
	m.Start(t)
	m.WaitPrimary(t)
	m.Kill() // PostgreSQL goes on
	started, err := m.SQL("select pg_postmaster_start_time()")
	if err != nil {
		t.Fatal(err)
	}
	m.Edit(t, "password: secret}", "password: wrong}")
	m.Start(t)
	m.WaitLog(t, "password authentication failed", "serves others and not us", "check user name and password in postgresql.authentication")
	if now, err := m.SQL("select pg_postmaster_start_time()"); now != started {
		t.Errorf("PostgreSQL runs since %s (%v), want %s: it was restarted", now, err, started)
	}
	m.Kill()
	m.Edit(t, "password: wrong}", "password: secret}")
	m.Start(t)
	m.WaitPrimary(t)
}

// A disk too small for a new cluster: the agent says that it is full, takes its claim back, and ends. It leaves the store as it was.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	namespace := []string{"unshare", "--user", "--map-current-user", "--keep-caps", "--mount"}
	if err := tryCommand(namespace[0], append(namespace[1:], "sh", "-c", "mount -t tmpfs none /tmp")...); err != nil {
		t.Skip("this machine lets nobody mount in a user namespace: not tested: ", strings.TrimSpace(err.Error()))
	}
	etcd := rig.StartEtcd(t)
	m := rig.NewMember(t, "demo-0", etcd.Address)
	disk := filepath.Join(m.Dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	m.Edit(t, "data_dir: "+m.Dir, "data_dir: "+disk)
	m.Command = append(namespace, "sh", "-c", `mount -t tmpfs -o size=12m,mode=0700 none "$0" && exec setpriv --ambient-caps=-all --inh-caps=-all "$@"`, disk, rig.Program(), "agent", m.File())
	m.Start(t)
	if code := m.WaitExit(t); code != 1 {
		t.Errorf("have exit code %d, want 1", code)
	}
	if !strings.Contains(m.Log(), "No space left on device") {
		t.Error("the log does not say that the disk is full")
	}
	if _, ok := etcd.Get(t, "initialize"); ok {
		t.Error("the key initialize is there, want the claim taken back, so that others may try")
	}
}

func occupyUntil(t *testing.T, address string) (free func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return func() { _ = l.Close() }
}
