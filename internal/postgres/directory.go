package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Marks in the data directory, both ours. The first is a directory: a clone or an initdb is built in it and
// moved up when it is complete, so that a half-made one is an empty directory to everybody. It stays until the
// last step is done. The second is a file: pg_rewind has begun to overwrite data and has not finished.
const (
	markUnfinished = ".regent-unfinished"
	markRewinding  = ".regent-rewinding"
)

// vacateLimit bounds the wait for the end of processes that were killed.
const vacateLimit = 15 * time.Second

// directory tells what stands at the data directory's place, and what is wrong with it. It never lists a
// directory of unknown size to its end (L32).
func (p *Instance) directory() (cluster.DirState, string) {
	dir := p.Settings().DataDir
	if _, err := os.Stat(filepath.Join(dir, "global", "pg_control")); err == nil {
		if _, err := os.Stat(filepath.Join(dir, markUnfinished)); err == nil {
			return cluster.DirEmpty, p.halfMade()
		}
		if _, err := dataDirVersion(dir); err != nil {
			return cluster.DirUnreadable, fmt.Sprintf("%s has a control file but its PG_VERSION cannot be read: %v", dir, err)
		}
		return cluster.DirPresent, p.halfMade()
	}
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if target, err := os.Readlink(dir); err == nil {
			return cluster.DirUnreadable, fmt.Sprintf("%s is a link to %s, which does not exist; is the volume mounted?", dir, target)
		}
		return cluster.DirMissing, ""
	}
	if err != nil {
		return cluster.DirUnreadable, unusable(err)
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(64)
		for _, name := range names {
			if hidden(name) {
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, markUnfinished)); err == nil {
				return cluster.DirEmpty, p.halfMade()
			}
			if _, err := os.Stat(filepath.Join(dir, "global")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return cluster.DirUnreadable, unusable(err)
			}
			return cluster.DirForeign, fmt.Sprintf("%s holds %s but no global/pg_control; it is left alone: empty it, or set postgresql.data_dir to another one", dir, name)
		}
		if errors.Is(err, io.EOF) {
			return cluster.DirEmpty, p.halfMade()
		}
		if err != nil {
			return cluster.DirUnreadable, unusable(err)
		}
	}
}

// unusable says what to do about a data directory that cannot be looked into.
func unusable(err error) string {
	return fmt.Sprintf("%v; want a directory that user %d can read and write: mount the volume, mend its permissions, or set postgresql.data_dir", err, os.Geteuid())
}

// halfMade says what was begun in the data directory and never finished; empty: nothing.
func (p *Instance) halfMade() string {
	dir := p.Settings().DataDir
	if _, err := os.Stat(filepath.Join(dir, markUnfinished)); err == nil {
		what, _ := os.ReadFile(filepath.Join(dir, markUnfinished, "what"))
		return "a half-made directory: " + string(what)
	}
	if what, err := os.ReadFile(filepath.Join(dir, markRewinding)); err == nil {
		return "an interrupted rewind: " + string(what)
	}
	return ""
}

// vacant makes sure that nothing works on the data directory: no server (ErrRunning), and, ended if need be, no backend that
// outlived its postmaster and no program of an agent before us. Another container's PostgreSQL is waited for (ErrInUse).
func (p *Instance) vacant(ctx context.Context) error {
	if pm := p.postmaster(); pm != nil {
		return fmt.Errorf("process %d lives in %s: %w", pm.pid, p.Settings().DataDir, ErrRunning)
	}
	if err := errors.Join(p.killOrphans(ctx), p.EndStrays(ctx)); err != nil {
		return err
	}
	f, _, err := p.hold(ctx, p.Settings().StartTimeout)
	_ = f.Close()
	return err
}

// claim makes an empty data directory ours to fill. A directory that we left half-made is cleared first;
// anything else that is not empty is refused.
func (p *Instance) claim(ctx context.Context, what string) error {
	dir := p.Settings().DataDir
	if err := p.vacant(ctx); err != nil {
		return fmt.Errorf("fill data directory: %w", err)
	}
	switch state, problem := p.directory(); {
	case state == cluster.DirMissing:
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create data directory: %w", err)
		}
	case state != cluster.DirEmpty:
		if problem == "" {
			problem = "it holds a PostgreSQL data directory"
		}
		return fmt.Errorf("fill %s: %w: %s, want an empty directory; move it aside", dir, ErrDirectory, problem)
	case p.unfinished():
		if err := p.clear(); err != nil {
			return err
		}
	}
	if err := p.setMode(dir); err != nil {
		return err
	}
	mark := filepath.Join(dir, markUnfinished)
	if err := os.Mkdir(mark, 0o700); err != nil {
		return fmt.Errorf("claim data directory: %w", err)
	}
	text := what + ", begun " + time.Now().Format(time.RFC3339)
	if err := os.WriteFile(filepath.Join(mark, "what"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("claim data directory: %w", err)
	}
	return nil
}

// hidden says whether an entry does not count as content: an "empty" directory may have it (ha.md 2.6).
func hidden(name string) bool { return strings.HasPrefix(name, ".") || name == "lost+found" }

func (p *Instance) unfinished() bool {
	_, err := os.Stat(filepath.Join(p.Settings().DataDir, markUnfinished))
	return err == nil
}

// buildPlace is where a clone or an initdb is built.
func (p *Instance) buildPlace() string {
	return filepath.Join(p.Settings().DataDir, markUnfinished, "data")
}

// moveUp brings what was built to its place: the control file last, because it makes a data directory of it.
func (p *Instance) moveUp() error {
	dir, from := p.Settings().DataDir, p.buildPlace()
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("move the new data to its place: %w", err)
	}
	for _, last := range []bool{false, true} {
		for _, e := range entries {
			if hidden(e.Name()) {
				continue // the source's, and copied by pg_basebackup: data moved aside there, for example
			}
			if (e.Name() == "global") == last {
				if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())); err != nil {
					return fmt.Errorf("move the new data to its place: %w", err)
				}
			}
		}
	}
	return syncDir(dir)
}

// finished removes the mark: from now on the directory is data that nobody deletes lightly.
func (p *Instance) finished() error {
	dir := p.Settings().DataDir
	if err := os.RemoveAll(filepath.Join(dir, markUnfinished)); err != nil {
		return fmt.Errorf("finish data directory: %w", err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("make %s durable: %w", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("make %s durable: %w", dir, err)
	}
	return nil
}

// outside lists the targets of the links that lead out of a data directory: its WAL and its tablespaces.
// The keys are the links.
func outside(dir string) (map[string]string, error) {
	links := map[string]string{}
	names := []string{filepath.Join(dir, "pg_wal")}
	spaces, err := os.ReadDir(filepath.Join(dir, "pg_tblspc"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range spaces {
		names = append(names, filepath.Join(dir, "pg_tblspc", e.Name()))
	}
	for _, name := range names {
		if info, err := os.Lstat(name); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		target, err := filepath.EvalSymlinks(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if rel, err := filepath.Rel(dir, target); err == nil && !strings.HasPrefix(rel, "..") {
			continue // in-place tablespaces, and links that stay inside
		}
		links[name] = target
	}
	return links, nil
}

// Remove deletes the data directory, when it is a half-made one of ours or the configuration allows removal
// (remove_data_directory_on_rewind_failure, ..._on_diverged_timelines). Else it refuses; use MoveAside.
func (p *Instance) Remove() error {
	s := p.Settings()
	if !p.unfinished() && !s.RemoveOnRewindFailure && !s.RemoveOnDivergence {
		return fmt.Errorf("remove %s: %w: it is not a half-made clone of ours and no setting allows its removal; move it aside instead", s.DataDir, ErrDirectory)
	}
	return p.Erase()
}

// Erase deletes the content of the data directory, of its WAL directory and of its tablespaces, because
// somebody asked for it (reinitialize). It refuses while a server lives there. ha.md 2.15.
func (p *Instance) Erase() error {
	ctx, cancel := context.WithTimeout(context.Background(), vacateLimit)
	defer cancel()
	if err := p.vacant(ctx); err != nil {
		return fmt.Errorf("remove data directory: %w", err)
	}
	if state, _ := p.directory(); state == cluster.DirMissing {
		return nil
	}
	return p.clear()
}

// clear empties the data directory and what its links lead to. The directories themselves stay: they may be mount
// points, or lie where we may not create them again. The mark and the control file go first and last, so that an
// interrupted removal is no data directory but still known as ours.
func (p *Instance) clear() error {
	dir := p.realDir()
	if !p.unfinished() {
		if err := os.Mkdir(filepath.Join(dir, markUnfinished), 0o700); err != nil {
			return fmt.Errorf("clear data directory: %w", err)
		}
		text := "a removal, begun " + time.Now().Format(time.RFC3339)
		if err := os.WriteFile(filepath.Join(dir, markUnfinished, "what"), []byte(text), 0o600); err != nil {
			return fmt.Errorf("clear data directory: %w", err)
		}
	}
	for _, root := range []string{dir, p.buildPlace()} {
		links, err := outside(root)
		if err != nil {
			return fmt.Errorf("clear data directory: %w", err)
		}
		for link, target := range links {
			if err := clearDir(target, func(name string) bool {
				// of a tablespace only PostgreSQL's own directory: others may live beside it
				return filepath.Base(link) == "pg_wal" || strings.HasPrefix(name, "PG_")
			}); err != nil {
				return fmt.Errorf("clear %s, which %s leads to: %w", target, link, err)
			}
		}
	}
	// PostgreSQL has no dot-files: those are the volume's, or data that was moved aside in a mount point
	if err := clearDir(dir, func(name string) bool { return !hidden(name) || name == markRewinding }); err != nil {
		return fmt.Errorf("clear data directory: %w", err)
	}
	return p.finished()
}

func clearDir(dir string, which func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var problems []error
	for _, e := range entries {
		if which(e.Name()) {
			problems = append(problems, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(problems...)
}

// MoveAside renames the data directory to <dir>.<reason>.<time>, and with it its WAL directory and tablespaces when links
// lead to them, and returns the new name. An empty directory takes its place. It never deletes. A mount point cannot be
// renamed: its content goes into a hidden directory in it. ha.md 2.15.
func (p *Instance) MoveAside(reason string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), vacateLimit)
	defer cancel()
	if err := p.vacant(ctx); err != nil {
		return "", fmt.Errorf("move data directory aside: %w", err)
	}
	dir := p.realDir()
	suffix := "." + reason + "." + time.Now().Format("20060102T150405.000")
	links, err := outside(dir)
	if err != nil {
		return "", fmt.Errorf("move %s aside: %w", dir, err)
	}
	for link, target := range links {
		if err := aside(target, target+suffix); err != nil {
			return "", fmt.Errorf("move %s aside, which %s leads to: %w", target, link, err)
		}
		to := target + suffix
		if _, err := os.Stat(to); err != nil {
			to = filepath.Join(target, suffix)
		}
		if err := errors.Join(os.Remove(link), os.Symlink(to, link)); err != nil {
			return "", fmt.Errorf("move %s aside: point %s to %s: %w", dir, link, to, err)
		}
	}
	if err := aside(dir, dir+suffix); err != nil {
		return "", fmt.Errorf("move %s aside: %w", dir, err)
	}
	if _, err := os.Stat(dir + suffix); err != nil {
		return filepath.Join(dir, suffix), nil
	}
	return dir + suffix, nil
}

// aside renames a directory and creates an empty one in its place. When it is a mount point, or its parent cannot be written,
// its content moves into a subdirectory named as the suffix of the new name.
func aside(dir, to string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	err = os.Rename(dir, to)
	if err == nil {
		return os.Mkdir(dir, info.Mode().Perm())
	}
	if !errors.Is(err, syscall.EBUSY) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EXDEV) && !errors.Is(err, syscall.EROFS) {
		return err
	}
	inside := filepath.Join(dir, strings.TrimPrefix(filepath.Base(to), filepath.Base(dir)))
	if err := os.Mkdir(inside, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if hidden(e.Name()) {
			continue
		}
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(inside, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
