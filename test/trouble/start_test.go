package trouble

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/porttest"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
	"github.com/regent-ha/regent/test/rig"
)

// scene is one member that is about to start beside something that is wrong.
type scene struct {
	*rig.Member
	etcd *rig.Etcd
}

// A member that cannot start says why, ends with a code, and leaves its directory and the store alone.
func TestFatal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wrong  func(t *testing.T, s scene)
		want   []string // what the message must contain
		locked bool     // the store is closed to the test, or somebody else writes there
	}{
		"YAML": {
			func(t *testing.T, s scene) { s.Edit(t, "restapi: {", "restapi: [{") },
			[]string{"demo-0.yml:2: "}, false,
		},
		"not a mapping": {
			func(t *testing.T, s scene) { s.Config = "- scope\n" },
			[]string{"demo-0.yml"}, false,
		},
		"wrong types": {
			func(t *testing.T, s scene) {
				s.Edit(t, "  data_dir: ", "  use_pg_rewind: perhaps\n  data_dir: ")
				s.Edit(t, "ttl: 20", "ttl: soon")
			},
			[]string{"postgresql.use_pg_rewind", "is not a boolean", "demo-0.yml", `want a number of seconds`}, false,
		},
		"no scope and no name": {
			func(t *testing.T, s scene) {
				s.Edit(t, "scope: demo\n", "")
				s.Edit(t, "name: demo-0\n", "")
			},
			[]string{"scope", "name"}, false,
		},
		"REST port in use": {
			func(t *testing.T, s scene) { occupy(t, s.API) },
			[]string{"address already in use", "restapi.listen"}, false,
		},
		"PostgreSQL missing": {
			func(t *testing.T, s scene) { s.Edit(t, "  bin_dir: ", "  bin_dir: /nowhere\n  #") },
			[]string{"/nowhere/postgres", "bin_dir"}, false,
		},
		"PostgreSQL too old": {
			func(t *testing.T, s scene) {
				s.Edit(t, "  bin_dir: ", "  bin_dir: "+fakePostgres(t, s.Dir, "12.22")+"\n  #")
			},
			[]string{"12", "13"}, false,
		},
		"embedded etcd port in use": {
			func(t *testing.T, s scene) {
				address := fmt.Sprintf("127.0.0.1:%d", porttest.Free(t))
				occupy(t, address)
				s.Edit(t, "etcd3: {", "raft: {self_addr: '"+address+"', partner_addrs: ['127.0.0.1:1', '127.0.0.1:2'], data_dir: '"+s.Dir+"/etcd'}\n#")
			},
			[]string{"address already in use", "stop the program", "another address"}, false,
		},
		"root": {
			func(t *testing.T, s scene) {
				s.Command = append([]string{"unshare", "--user", "--map-root-user"}, s.Command...)
				if err := tryCommand("unshare", "--user", "--map-root-user", "true"); err != nil {
					t.Skip("this machine lets nobody become root in a user namespace: not tested")
				}
			},
			[]string{"root", "runuser"}, false,
		},
		"wrong etcd password": {
			func(t *testing.T, s scene) {
				s.etcd.RequirePassword(t, "right")
				s.Edit(t, "etcd3: {", "etcd3: {username: root, password: wrong, ")
			},
			[]string{"username and password"}, true,
		},
		"no etcd password": {
			func(t *testing.T, s scene) { s.etcd.RequirePassword(t, "right") },
			[]string{"username and password"}, true,
		},
		"duplicate name": {
			func(t *testing.T, s scene) {
				other := rig.NewMember(t, "demo-0", s.etcd.Address)
				other.Start(t)
				other.WaitPrimary(t)
				rig.Wait(t, "its key", func() bool { _, ok := s.etcd.Get(t, "members/demo-0"); return ok })
				t.Cleanup(func() {
					if !other.IsPrimary() {
						t.Error("the member that had the name first does not lead any more")
					}
				})
			},
			[]string{"demo-0", "runs already", "name of its own"}, true,
		},
		"other system identifier": {
			func(t *testing.T, s scene) {
				initdb(t, s.Member)
				s.etcd.Put(t, "initialize", "7000000000000000001")
			},
			[]string{"7000000000000000001", "another cluster", "data_dir"}, false,
		},
		"no directory can be made": {
			func(t *testing.T, s scene) { s.Edit(t, "data_dir: "+s.Dir, "data_dir: /proc") },
			[]string{"/proc/", "make the directory writable"}, false,
		},
		"data of another major version": {
			func(t *testing.T, s scene) {
				initdb(t, s.Member)
				if err := os.WriteFile(filepath.Join(s.Data, "PG_VERSION"), []byte("12\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			[]string{"12", "pg_upgrade"}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := rig.StartEtcd(t)
			s := scene{rig.NewMember(t, "demo-0", etcd.Address), etcd}
			c.wrong(t, s)
			files := rig.Tree(t, s.Data)
			keys := ownKeys(t, etcd, c.locked)
			s.Start(t)
			if code := s.WaitExit(t); code != 1 {
				t.Errorf("have exit code %d, want 1", code)
			}
			for _, want := range c.want {
				if !strings.Contains(s.Log(), want) {
					t.Errorf("the log does not say %q", want)
				}
			}
			if strings.Contains(s.Log(), "goroutine ") {
				t.Error("the log has a stack trace, want a sentence")
			}
			if d := rig.Difference(files, rig.Tree(t, s.Data)); d != "" {
				t.Errorf("the data directory has changed:\n%s", d)
			}
			if d := rig.Difference(keys, ownKeys(t, etcd, c.locked)); d != "" {
				t.Errorf("the store has changed:\n%s", d)
			}
		})
	}
}

func occupy(t *testing.T, address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

func mode(t *testing.T, path string, mode os.FileMode) {
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(path, 0o700) })
}

// fakePostgres is a directory with programs that claim to be of that version.
func fakePostgres(t *testing.T, dir, version string) string {
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "initdb", "pg_ctl", "pg_controldata", "pg_basebackup", "pg_rewind", "pg_isready"} {
		text := "#!/bin/sh\necho '" + name + " (PostgreSQL) " + version + "'\n"
		pgtest.WriteProgram(t, filepath.Join(bin, name), text)
	}
	return bin
}

// initdb makes the data directory of a member that never ran.
func initdb(t *testing.T, m *rig.Member) {
	if err := tryCommand(filepath.Join(pgtest.Installed(t).BinDir, "initdb"), "-D", m.Data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C"); err != nil {
		t.Fatal(err)
	}
}

// ownKeys are the keys of the store but for the member's own one, which says that it is stopped and vanishes with its lease.
func ownKeys(t *testing.T, etcd *rig.Etcd, locked bool) string {
	if locked {
		return ""
	}
	lines := strings.Split(etcd.Dump(t), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, rig.Root+"members/demo-0 ") }), "\n")
}
