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
	"strconv"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// pg_basebackup options that would change where the data goes or comes from (config.md 5.9).
var forbiddenBaseBackup = []string{"pgdata", "format", "wal-method", "xlog-method", "gzip", "version", "dbname", "host", "port", "username", "password"}

// A second try of pg_basebackup, because a source that was just promoted may end the first (ha.md 2.12).
const (
	baseBackupTries = 2
	baseBackupPause = 5 * time.Second
)

// Clone fills the data directory from another member, or, without a host, by those methods that need none. The directory
// must be empty, or hold what an earlier clone of ours left half-made; anything else is refused with ErrDirectory. Until the
// last moment the directory counts as empty, so an interrupted clone can never be started. The methods are
// tried in order until one succeeds. ha.md 2.12, config.md 5.9.
func (p *Instance) Clone(ctx context.Context, from Source, progress Progress) error {
	s := p.Settings()
	methods := s.CloneMethods
	if len(methods) == 0 || from.BaseBackup {
		methods = []CloneMethod{{Name: "basebackup"}}
	}
	var problems []error
	for _, m := range methods {
		if from.Host == "" && !m.NoLeader {
			continue
		}
		var err error
		if m.Name == "basebackup" && m.Command == "" {
			err = p.baseBackup(ctx, from, progress)
		} else {
			err = p.customClone(ctx, m, from, progress)
		}
		if err == nil {
			return nil
		}
		problems = append(problems, fmt.Errorf("clone method %s: %w", m.Name, err))
		if ctx.Err() != nil || errors.Is(err, ErrDirectory) || errors.Is(err, ErrRunning) || errors.Is(err, ErrInUse) {
			break
		}
	}
	if len(problems) == 0 {
		return errors.New("clone without a source: none of create_replica_methods has no_leader; wait for a leader")
	}
	return errors.Join(problems...)
}

func (f Source) String() string {
	if f.Host == "" {
		return "no source"
	}
	return strings.TrimSpace(f.Name + " at " + hostPort(f.Host, f.Port))
}

func (p *Instance) baseBackup(ctx context.Context, from Source, progress Progress) error {
	s := p.Settings()
	l, err := p.login(s.Replication, from.Host, from.Port)
	if err != nil {
		return err
	}
	defer l.done()
	args := append([]string{"--pgdata=" + p.buildPlace(), "--wal-method=stream", "--progress", "--dbname=" + l.dsn}, p.baseBackupOptions(ctx)...)
	for try := 1; ; try++ {
		if err := p.claim(ctx, "a clone of "+from.String()); err != nil {
			return err
		}
		cmd := exec.Command(p.binaries.path("pg_basebackup"), args...)
		cmd.Env = toolEnvironment(l.env...)
		begun := time.Now()
		err := refusedAccount(p.runAlone(ctx, cmd, func(line string) { progress.copied(line, begun) }))
		if err == nil {
			break
		}
		if try == baseBackupTries || ctx.Err() != nil {
			return errors.Join(err, p.clear())
		}
		p.log.LogAttrs(ctx, slog.LevelWarn, "pg_basebackup did not succeed; trying once more", slog.Any("error", err), slog.Duration("in", baseBackupPause))
		select {
		case <-time.After(baseBackupPause):
		case <-ctx.Done():
		}
	}
	if err := p.moveUp(); err != nil {
		return err
	}
	return p.cloned()
}

// baseBackupOptions are the configured ones that are allowed. A clone waits for a checkpoint on its source: without
// an option that says otherwise it asks for a fast one.
func (p *Instance) baseBackupOptions(ctx context.Context) []string {
	var options []string
	checkpoint := false
	for _, o := range p.Settings().BaseBackup {
		name, value, _ := strings.Cut(strings.TrimPrefix(o, "--"), "=")
		compress := name == "compress" && (p.binaries.major < 15 || !strings.HasPrefix(value, "server"))
		if slices.Contains(forbiddenBaseBackup, name) || compress {
			p.log.LogAttrs(ctx, slog.LevelWarn, "option of pg_basebackup is ignored: it is the agent's to set", slog.String("option", o))
			continue
		}
		checkpoint = checkpoint || name == "checkpoint"
		options = append(options, o)
	}
	if !checkpoint {
		options = append(options, "--checkpoint=fast")
	}
	return options
}

// "12345/67890 kB (18%), 0/1 tablespace" of pg_basebackup, "12345/67890 kB (18%) copied" of pg_rewind.
var copiedLine = regexp.MustCompile(`^(\d+)/(\d+) kB \(\d+%\)`)

// copied reports a progress line, and says whether it was one.
func (p Progress) copied(line string, begun time.Time) bool {
	if strings.HasPrefix(line, "waiting for checkpoint") {
		p.report(Report{Phase: "waiting for a checkpoint on the source"})
	}
	m := copiedLine.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	done, _ := strconv.ParseInt(m[1], 10, 64)
	total, _ := strconv.ParseInt(m[2], 10, 64)
	r := Report{Phase: "copying", Done: done << 10, Total: total << 10}
	if seconds := time.Since(begun).Seconds(); seconds > 0 {
		r.Detail = fmt.Sprintf("%.1f MB/s", float64(r.Done)/1e6/seconds)
	}
	p.report(r)
	return true
}

// cloned finishes a clone that has come to its place.
func (p *Instance) cloned() error {
	if err := p.arrived(); err != nil {
		return err
	}
	return p.finished()
}

// arrived checks data that came from elsewhere.
func (p *Instance) arrived() error {
	dir := p.Settings().DataDir
	if err := os.Remove(filepath.Join(dir, "promote")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the source's promote file: %w", err)
	}
	if _, err := p.glance(); err != nil {
		return fmt.Errorf("check the clone: %w", err)
	}
	if version, err := dataDirVersion(dir); err != nil || version != p.binaries.major {
		return fmt.Errorf("check the clone: version %d, want %d: %w", version, p.binaries.major, errors.Join(err))
	}
	return nil
}

// customClone runs a configured command. It finds the directory empty, unless keep_data is set.
func (p *Instance) customClone(ctx context.Context, m CloneMethod, from Source, progress Progress) error {
	s := p.Settings()
	what := fmt.Sprintf("a clone of %s by method %s", from, m.Name)
	if m.KeepData {
		if err := p.vacant(ctx); err != nil {
			return fmt.Errorf("fill data directory: %w", err)
		}
	} else if err := p.claimEmpty(ctx, what); err != nil {
		return err
	}
	var args []string
	l := login{done: func() {}}
	if from.Host != "" {
		var err error
		if l, err = p.login(s.Replication, from.Host, from.Port, keyword{"dbname", s.database()}); err != nil {
			return err
		}
	}
	defer l.done()
	if !m.NoParams {
		args = append(args, "--scope="+s.Scope, "--role=replica", "--datadir="+s.DataDir, "--connstring="+l.dsn)
	}
	command := m.Command
	if command == "" {
		command = m.Name
	}
	cmd := shell(command, append(args, optionsOf(m.Arguments)...)...)
	cmd.Env = append(os.Environ(), l.env...)
	run := p.runMarked
	if m.KeepData {
		run = func(ctx context.Context, _ string, cmd *exec.Cmd, line func(string)) error {
			return p.runAlone(ctx, cmd, line)
		}
	}
	phase := "running " + m.Name
	progress.report(Report{Phase: phase})
	err := run(ctx, what, cmd, func(line string) { progress.report(Report{Phase: phase, Detail: line}) })
	if err == nil {
		err = p.cloned()
	}
	if err != nil && !m.KeepData {
		return errors.Join(err, p.clear()) // it was empty when we began, so all of it is ours
	}
	return err
}

func optionsOf(arguments [][2]string) (options []string) {
	for _, a := range arguments {
		options = append(options, "--"+a[0]+"="+a[1])
	}
	return options
}

// claimEmpty is claim for a program of somebody else's, which insists on an empty directory: our mark goes.
func (p *Instance) claimEmpty(ctx context.Context, what string) error {
	if err := p.claim(ctx, what); err != nil {
		return err
	}
	return p.finished()
}

// runMarked runs a program that fills the data directory. What it writes is marked as half-made as soon as it shows.
func (p *Instance) runMarked(ctx context.Context, what string, cmd *exec.Cmd, line func(string)) error {
	done, marked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(marked)
		defer p.markContent(what)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				p.markContent(what)
			}
		}
	}()
	err := p.runAlone(ctx, cmd, line)
	close(done)
	<-marked
	return err
}

// markContent marks the data directory once it has content.
func (p *Instance) markContent(what string) {
	dir := p.Settings().DataDir
	if p.unfinished() {
		return
	}
	if state, _ := p.directory(); state == cluster.DirMissing || state == cluster.DirEmpty {
		return
	}
	mark := filepath.Join(dir, markUnfinished)
	if os.Mkdir(mark, 0o700) == nil {
		_ = os.WriteFile(filepath.Join(mark, "what"), []byte(what), 0o600)
	}
}
