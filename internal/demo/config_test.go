package demo

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
)

func TestMemberFileIsOneThatPatroniTakes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `a "quoted" \ place`)
	binDir := filepath.Join(dir, "bin")
	if err := os.MkdirAll(binDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pg_ctl", "initdb", "pg_controldata", "pg_basebackup", "postgres", "pg_isready", "pg_rewind"} {
		if err := os.WriteFile(filepath.Join(binDir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := site{scope: Scope, etcd: "127.0.0.1:2379", binDir: binDir, sockets: filepath.Join(dir, "s"), password: "0123", ttl: 20 * time.Second, loopWait: time.Second, retry: 5 * time.Second}
	p := place{name: "cluster-0", dir: dir, host: "127.0.0.2", pgPort: 17433, restPort: 18008}
	text, err := memberFile(s, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.file(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := config.Load(p.file(), nil)
	if err != nil {
		t.Fatal(err)
	}
	probes := config.Probes{Answers: func(string) bool { return true }, Version: func(string) string { return "postgres (PostgreSQL) 15.4" }}
	for _, problem := range config.Validate(file, config.Options{RequireDCS: true, IgnoreListenPort: true, Probes: probes}) {
		t.Errorf("%+v", problem)
	}
	settings, err := file.Settings()
	if err != nil {
		t.Fatal(err)
	}
	if settings.Postgres.DataDir != p.dataDir() || settings.Postgres.Parameters["unix_socket_directories"] != s.sockets || settings.DCS.Etcd.Hosts[0] != s.etcd {
		t.Errorf("have %+v", settings)
	}
	timing, changed := settings.Bootstrap.DCS.Timing()
	if want := (cluster.Timing{TTL: s.ttl, LoopWait: s.loopWait, RetryTimeout: s.retry}); timing != want || len(changed) > 0 {
		t.Errorf("have %+v %v, want %+v as written", timing, changed, want)
	}
}
