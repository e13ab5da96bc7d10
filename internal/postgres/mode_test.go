package postgres

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A volume whose group Kubernetes sets (fsGroup) is open to the group after every mount, and PostgreSQL refuses such a directory.
func TestModeAfterMount(t *testing.T) {
	t.Parallel()
	p := bootstrapped(t)
	stopFast(t, p)
	dir := p.Settings().DataDir
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o660)
		if d.IsDir() {
			mode = 0o770 | fs.ModeSetgid
		}
		return os.Chmod(path, mode)
	}))
	startPrimary(t, p)
	info, err := os.Stat(dir)
	must(t, err)
	if have := info.Mode().Perm(); have != 0o700 {
		t.Errorf("have mode %04o, want 0700", have)
	}
}

// What initdb was told about the group stays.
func TestModeOfDirectory(t *testing.T) {
	for name, test := range map[string]struct{ dir, base, want fs.FileMode }{
		"as initdb makes it":      {0o700, 0o700, 0o700},
		"initdb let the group in": {0o750, 0o750, 0o750},
		"and a mount opened it":   {0o770, 0o750, 0o750},
		"a mount opened all":      {0o770 | fs.ModeSetgid, 0o770 | fs.ModeSetgid, 0o700},
		"open to everybody":       {0o755, 0o700, 0o700},
		"closed":                  {0o500, 0o700, 0o700},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.Mkdir(filepath.Join(dir, "base"), 0o700))
			must(t, os.Chmod(filepath.Join(dir, "base"), test.base))
			must(t, os.Chmod(dir, test.dir))
			must(t, new(Instance).setMode(dir))
			info, err := os.Stat(dir)
			must(t, err)
			if have := info.Mode().Perm(); have != test.want {
				t.Errorf("have mode %04o, want %04o", have, test.want)
			}
		})
	}
}
