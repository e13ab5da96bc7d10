package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// CrashRecover brings a crashed primary to a clean shutdown with a single-user server, so that its end of WAL is known and
// pg_rewind can work on it. It refuses while a server lives, and does nothing when a backup_label asks for another kind of
// recovery (L33) or the shutdown was clean. All WAL is kept. When ctx ends the single-user server is stopped; the data is as after
// a crash then. ha.md 2.16.
func (p *Instance) CrashRecover(ctx context.Context) error {
	dir := p.Settings().DataDir
	if err := p.vacant(ctx); err != nil {
		return fmt.Errorf("recover data directory: %w", err)
	}
	if err := p.startable(); err != nil {
		return err
	}
	g, err := p.glance()
	if err != nil {
		return err
	}
	if exists(filepath.Join(dir, "backup_label")) || g.stopped() {
		return nil
	}
	p.archiveReady(ctx)
	if err := p.keepWAL(); err != nil {
		return err
	}
	for _, name := range []string{"standby.signal", "recovery.signal"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("recover %s: %w", dir, err)
		}
	}
	args := []string{"--single", "-D", dir}
	args = append(args, p.recordedOptions()...)
	args = append(args, "-c", "archive_mode=on", "-c", "archive_command=false", "template1")
	cmd := exec.Command(p.binaries.path("postgres"), args...) // its input is /dev/null: it ends when recovery has
	cmd.Env = append(p.serverEnvironment(), "LC_ALL=C")
	if err := p.runAlone(ctx, cmd, nil); err != nil {
		return fmt.Errorf("recover %s in single-user mode: %w", dir, err)
	}
	if g, err := p.glance(); err != nil || g.state != cluster.ControlShutDown {
		return fmt.Errorf("recover %s in single-user mode: state is %q, want %q: %w", dir, g.state, cluster.ControlShutDown, errors.Join(err))
	}
	return nil
}

// recordedOptions are those of the last start (postmaster.opts), else those of the next; without the data directory.
func (p *Instance) recordedOptions() []string {
	text, err := os.ReadFile(filepath.Join(p.Settings().DataDir, "postmaster.opts"))
	if err != nil {
		return p.CommandLine(AsPrimary, nil)
	}
	var options []string
	quoted := regexp.MustCompile(`"([^"]*)"`)
	for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
		options = append(options, m[1])
	}
	if i := slices.Index(options, "-D"); i >= 0 && i+1 < len(options) {
		options = slices.Delete(options, i, i+2)
	}
	return options
}

// keepWAL forgets which segments are archived, so that the checkpoint at the end of recovery removes none: pg_rewind needs
// them. PostgreSQL looks at each again later and archives it once more. Those still to be archived keep their mark.
func (p *Instance) keepWAL() error {
	done, err := filepath.Glob(filepath.Join(p.Settings().DataDir, "pg_wal", "archive_status", "*.done"))
	if err != nil {
		return err
	}
	for _, name := range done {
		if segmentFile.MatchString(strings.TrimSuffix(filepath.Base(name), ".done")) {
			if err := os.Remove(name); err != nil {
				return fmt.Errorf("keep WAL: %w", err)
			}
		}
	}
	return nil
}

var segmentFile = regexp.MustCompile(`^[0-9A-F]{24}(\.partial)?$`)

// archiveReady archives what the stopped server had not archived yet, because pg_rewind or crash recovery may remove
// it (L50). It stops at the first failure and logs it: recovery is worth more than the archive.
func (p *Instance) archiveReady(ctx context.Context) {
	dir := p.Settings().DataDir
	ready, _ := filepath.Glob(filepath.Join(dir, "pg_wal", "archive_status", "*.ready"))
	if len(ready) == 0 {
		return
	}
	command, err := p.archiveCommand(ctx)
	if err != nil || command == "" {
		if err != nil {
			p.log.LogAttrs(ctx, slog.LevelWarn, "cannot archive leftover WAL", slog.Any("error", err))
		}
		return
	}
	slices.Sort(ready)
	for _, status := range ready {
		segment := strings.TrimSuffix(filepath.Base(status), ".ready")
		if !segmentFile.MatchString(segment) {
			continue
		}
		err := p.archive(ctx, command, segment)
		if err == nil {
			err = os.Rename(status, strings.TrimSuffix(status, ".ready")+".done")
		}
		if err != nil {
			p.log.LogAttrs(ctx, slog.LevelWarn, "leftover WAL stays unarchived", slog.String("segment", segment), slog.Any("error", err))
			return
		}
	}
}

// archiveCommand is that of a stopped server; empty: it archives nothing.
func (p *Instance) archiveCommand(ctx context.Context) (string, error) {
	mode, err := p.setting(ctx, "archive_mode")
	if err != nil || mode == "off" {
		return "", err
	}
	return p.setting(ctx, "archive_command")
}

func (p *Instance) archive(ctx context.Context, command, segment string) error {
	cmd := exec.Command("/bin/sh", "-c", placeholders(command, filepath.Join("pg_wal", segment), segment))
	cmd.Dir, cmd.Env = p.Settings().DataDir, p.serverEnvironment()
	return p.runTool(ctx, cmd, nil)
}

// ArchiveShutdown archives the segment that holds the shutdown checkpoint of a server that was stopped in order. PostgreSQL archives whole segments, so who
// follows the archive alone would not see where our WAL ends. Nothing more is written to that segment: the server comes back as a standby, and whoever is
// promoted begins a timeline. ha.md 2.19.
func (p *Instance) ArchiveShutdown(ctx context.Context) error {
	command, err := p.archiveCommand(ctx)
	if err != nil || command == "" {
		return err
	}
	c, err := p.Control(ctx)
	if err != nil {
		return err
	}
	if c.State != cluster.ControlShutDown {
		return fmt.Errorf("PostgreSQL is %s, want a clean shutdown", c.State)
	}
	r, err := p.walFile(c.Checkpoint, c.CheckpointTLI)
	if err != nil {
		return err
	}
	segment := filepath.Base(r.file.Name())
	r.close()
	return p.archive(ctx, command, segment)
}

// placeholders fills in archive_command and restore_command: %p path, %f file name, %% percent (PostgreSQL documentation).
func placeholders(command, path, file string) string {
	return strings.NewReplacer("%p", path, "%f", file, "%%", "%").Replace(command)
}
