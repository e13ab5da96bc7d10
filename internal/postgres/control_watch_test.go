package postgres

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWatchControl(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "global", "pg_control")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	written, stop := (&Instance{settings: Settings{DataDir: dir}}).watchControl()
	if err := os.WriteFile(name, []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case <-written:
	case <-time.After(time.Minute):
		t.Error("the file was written: have no news of it within a minute")
	}
	stop()
}
