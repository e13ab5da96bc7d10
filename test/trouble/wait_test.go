package trouble

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/test/rig"
)

// What can get better by itself does not end the agent: it says once what is wrong, waits, leaves everything alone, and
// ends in order when it is told to.
func TestWaits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wrong func(t *testing.T, s scene)
		want  []string
	}{
		"no etcd": {
			func(t *testing.T, s scene) {
				s.Edit(t, s.etcd.Address, "127.0.0.1:1")
			},
			[]string{"wait for the store", "127.0.0.1:1", "is its address right?"},
		},
		"unknown keys": {
			func(t *testing.T, s scene) {
				s.Edit(t, "name: demo-0", "name: demo-0\nnoname: x")
				if err := os.WriteFile(s.Data, nil, 0o600); err != nil { // else it would make a cluster
					t.Fatal(err)
				}
			},
			[]string{"key=noname", "not a known setting", "demo-0.yml:3"},
		},
		"unreadable data directory": {
			func(t *testing.T, s scene) {
				initdb(t, s.Member)
				mode(t, s.Data, 0)
			},
			[]string{"permission denied", "data", "mend its permissions"},
		},
		"unmounted data directory": {
			func(t *testing.T, s scene) {
				if err := os.Symlink("/nowhere/data", s.Data); err != nil {
					t.Fatal(err)
				}
			},
			[]string{"/nowhere/data", "is the volume mounted?"},
		},
		"data directory is a file": {
			func(t *testing.T, s scene) {
				if err := os.WriteFile(s.Data, []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			[]string{"not a directory", "postgresql.data_dir"},
		},
		"foreign files in the data directory": {
			func(t *testing.T, s scene) {
				if err := os.Mkdir(s.Data, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(s.Data, "letter.txt"), []byte("dear"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			[]string{"letter.txt", "left alone", "postgresql.data_dir"},
		},
		"damaged control file": {
			func(t *testing.T, s scene) {
				initdb(t, s.Member)
				if err := os.Truncate(filepath.Join(s.Data, "global", "pg_control"), 100); err != nil {
					t.Fatal(err)
				}
			},
			[]string{"pg_control", "restore"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := rig.StartEtcd(t)
			s := scene{rig.NewMember(t, "demo-0", etcd.Address), etcd}
			c.wrong(t, s)
			files, keys := rig.Tree(t, s.Data), ownKeys(t, etcd, false)
			s.Start(t)
			s.WaitLog(t, c.want...)
			time.Sleep(5 * time.Second) // two cycles, in which nothing may happen and nothing more be said
			if !s.Running() {
				t.Fatal("the agent has ended, want it to wait")
			}
			if n := strings.Count(s.Log(), c.want[0]); n > 2 {
				t.Errorf("the log says %q %d times, want it said once", c.want[0], n)
			}
			s.Stop(t)
			if d := rig.Difference(files, rig.Tree(t, s.Data)); d != "" {
				t.Errorf("the data directory has changed:\n%s", d)
			}
			if d := rig.Difference(keys, ownKeys(t, etcd, false)); d != "" {
				t.Errorf("the store has changed:\n%s", d)
			}
		})
	}
}
