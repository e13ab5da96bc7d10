package trouble

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/regent-ha/regent/test/rig"
)

// SIGHUP reaches PostgreSQL also when nothing of ours changed: a certificate of its own may have. A file that cannot be read changes nothing.
func TestReloadReachesPostgreSQL(t *testing.T) {
	t.Parallel()
	etcd := rig.StartEtcd(t)
	m := rig.NewMember(t, "demo-0", etcd.Address)
	m.Start(t)
	m.WaitPrimary(t)
	loaded := func() string {
		at, err := m.SQL("select pg_conf_load_time()")
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	before := loaded()
	m.Signal(syscall.SIGHUP)
	m.WaitLog(t, "No local configuration items changed.")
	rig.Wait(t, "PostgreSQL has read its files again", func() bool { return loaded() != before })

	change := func(old, new string) {
		t.Helper()
		m.Edit(t, old, new)
		if err := os.WriteFile(m.File(), []byte(m.Config), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Signal(syscall.SIGHUP)
	}
	change("local all all trust", "local all all trust\n  - [") // broken YAML
	m.WaitLog(t, "reload configuration: the old one stays in force")
	if !m.IsPrimary() {
		t.Error("a broken file ended the leader's work")
	}
	change("  - [", "  - local all nobody reject")
	rig.Wait(t, "the new line is in pg_hba.conf and in force", func() bool {
		n, err := m.SQL("select count(*) from pg_hba_file_rules where auth_method = 'reject'")
		return err == nil && n == "1"
	})
	change("scope: ", "log: {type: json, format: [levelname, message], dir: /nonexistent}\nscope: ")
	m.WaitLog(t, "reload the log's settings: the old ones stay in force")
	change(", dir: /nonexistent", "")
	rig.Wait(t, "a record of the new form", func() bool {
		m.Signal(syscall.SIGHUP)
		return strings.Contains(m.Log(), `{"levelname":"INFO","message":"No local configuration items changed."}`)
	})
}
