package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// writeFile replaces a file atomically and durably, if its content differs. A link is followed. A file that cannot be
// replaced because it is a mount point itself is overwritten in place.
func writeFile(name, content string, mode os.FileMode) (changed bool, err error) {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	old, err := os.ReadFile(name)
	if err == nil && string(old) == content {
		if info, err := os.Stat(name); err == nil && info.Mode().Perm() != mode {
			return false, os.Chmod(name, mode)
		}
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	temp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	_, err = temp.WriteString(content)
	if err = errors.Join(err, temp.Chmod(mode), temp.Sync()); err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	err = os.Rename(temp.Name(), name)
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) {
		err = os.WriteFile(name, []byte(content), mode)
	}
	if err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	return true, syncDir(filepath.Dir(name))
}

// fileMode is the mode of a configuration file: in the data directory as that one has it, elsewhere as it was, or 0644.
func (s *Settings) fileMode(name string) os.FileMode {
	if filepath.Dir(name) == filepath.Clean(s.DataDir) {
		if info, err := os.Stat(s.DataDir); err == nil && info.Mode()&0o050 == 0o050 {
			return 0o640
		}
		return 0o600
	}
	if info, err := os.Stat(name); err == nil {
		return info.Mode().Perm()
	}
	return 0o644
}

// writeSignals makes standby.signal and recovery.signal say how the server is to start.
func (p *Instance) writeSignals(mode StartMode) error {
	s := p.Settings()
	want := ""
	switch {
	case mode == AsStandby:
		want = "standby.signal"
	case mode == AsRestored && s.restore().KeepRecovery:
		return nil
	case mode == AsRestored:
		want = s.restore().signal()
	}
	for _, file := range []string{"standby.signal", "recovery.signal"} {
		name := filepath.Join(s.DataDir, file)
		if file == want {
			if _, err := writeFile(name, "", s.fileMode(name)); err != nil {
				return err
			}
			continue
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w; PostgreSQL would start in the wrong role", name, err)
		}
	}
	return syncDir(s.DataDir)
}

// stripAuto removes the recovery settings from postgresql.auto.conf: it is read after postgresql.conf, and a
// primary_conninfo that pg_basebackup or somebody left there would win over ours.
func (s *Settings) stripAuto() (changed bool, err error) {
	name := filepath.Join(s.DataDir, "postgresql.auto.conf")
	old, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(old)) {
		if !isRecoveryParameter(settingName(line)) {
			kept.WriteString(line)
		}
	}
	return writeFile(name, kept.String(), s.fileMode(name))
}

// settingName is the name in a line of a configuration file, empty when it sets nothing.
func settingName(line string) string {
	name := strings.TrimSpace(line)
	if i := strings.IndexAny(name, " \t=#'"); i >= 0 {
		name = name[:i]
	}
	return strings.ToLower(name)
}

// copies are the files that are kept in the data directory as <name>.backup: they come along with a clone, and a
// configuration directory that was lost is filled again from them.
func (s *Settings) copies() []string {
	names := []string{s.confFile()}
	if s.CustomConf == "" {
		names = append(names, s.baseFile())
	}
	if f := filepath.Join(s.configDir(), "pg_hba.conf"); s.hbaFile() == f {
		names = append(names, f)
	}
	if f := filepath.Join(s.configDir(), "pg_ident.conf"); s.identFile() == f {
		names = append(names, f)
	}
	return names
}

func (s *Settings) copyOf(name string) string {
	return filepath.Join(s.DataDir, filepath.Base(name)+".backup")
}

func (s *Settings) saveCopies() error {
	for _, name := range s.copies() {
		content, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("copy configuration: %w", err)
		}
		if _, err := writeFile(s.copyOf(name), string(content), s.fileMode(s.copyOf(name))); err != nil {
			return err
		}
	}
	return nil
}

// restoreCopies creates what is missing in the configuration directory.
func (s *Settings) restoreCopies() error {
	if err := os.MkdirAll(s.configDir(), 0o700); err != nil {
		return fmt.Errorf("create configuration directory: %w", err)
	}
	for _, name := range s.copies() {
		if exists(name) {
			continue
		}
		for _, from := range []string{s.copyOf(name), filepath.Join(s.DataDir, filepath.Base(name))} {
			content, err := os.ReadFile(from)
			if err == nil {
				_, err = writeFile(name, string(content), s.fileMode(name))
			}
			if err == nil {
				break
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("restore configuration from %s: %w", from, err)
			}
		}
		if filepath.Base(name) == "pg_ident.conf" && !exists(name) {
			if _, err := writeFile(name, "", s.fileMode(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// recoveryParameters are the settings of standby and recovery; they are ours to write (config.md 5.7).
var recoveryParameters = []string{"archive_cleanup_command", "pause_at_recovery_target", "primary_conninfo", "primary_slot_name",
	"promote_trigger_file", "recovery_end_command", "recovery_min_apply_delay", "recovery_target", "recovery_target_action",
	"recovery_target_inclusive", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_timeline",
	"recovery_target_xid", "restore_command", "standby_mode", "trigger_file"}

func isRecoveryParameter(name string) bool { return slices.Contains(recoveryParameters, name) }
