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
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/internal/cluster"
)

var (
	// ErrRewindImpossible: the local files do not allow a rewind, or not any more. Another try cannot help: clone.
	ErrRewindImpossible = errors.New("this data directory cannot be rewound")
	// ErrLeaderNotReady: the leader is in recovery, or its control file does not show its timeline yet. Try again.
	ErrLeaderNotReady = errors.New("the leader is not ready to be rewound to")
)

// CanRewind says whether pg_rewind may be used here, and if not, why. Without control data only what
// is known without it is checked. ha.md 2.14, config.md 5.11.
func (p *Instance) CanRewind(c *cluster.Control) (bool, string) {
	switch what := p.halfMade(); {
	case !p.Settings().UsePgRewind:
		return false, "use_pg_rewind is off"
	case what != "":
		return false, "the data directory holds " + what
	case c != nil && !c.Checksums && !c.WALLogHints:
		return false, "neither data checksums nor wal_log_hints are on"
	}
	if _, err := exec.LookPath(p.binaries.path("pg_rewind")); err != nil {
		return false, err.Error()
	}
	return true, ""
}

// Rewind brings the data directory to where the leader's history leaves ours, with pg_rewind, so that it can follow. It stops
// PostgreSQL, recovers it if it crashed, archives leftover WAL, and waits for nothing: ErrLeaderNotReady means try again
// later, ErrRewindImpossible that another try cannot help. Once pg_rewind has begun to copy, an interruption makes
// the directory unusable; it is marked then, and never started. ha.md 2.14, steps 1 to 8.
func (p *Instance) Rewind(ctx context.Context, leader Source, progress Progress) error {
	if err := p.killOrphans(ctx); err != nil {
		return err
	}
	if err := p.leaderReady(ctx, leader); err != nil { // before anything is stopped for it
		return err
	}
	if err := p.Stop(ctx, StopOptions{Mode: Fast}); err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	if err := p.vacant(ctx); err != nil { // another container's may live here
		return fmt.Errorf("rewind: %w", err)
	}
	c, err := p.Control(ctx)
	if err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	if can, why := p.CanRewind(&c); !can {
		return fmt.Errorf("rewind %s: %w: %s", p.Settings().DataDir, ErrRewindImpossible, why)
	}
	if c.State != cluster.ControlShutDown && c.State != cluster.ControlShutDownRecovery {
		progress.report(Report{Phase: "recovering"})
		if err := p.CrashRecover(ctx); err != nil {
			return fmt.Errorf("rewind: %w", err)
		}
	}
	p.archiveReady(ctx)
	return p.pgRewind(ctx, leader, progress)
}

// leaderReady checks that the leader's control file shows its timeline: pg_rewind reads it from there, and would find no
// divergence before the first checkpoint after a promotion. A superuser makes that checkpoint happen.
func (p *Instance) leaderReady(ctx context.Context, leader Source) error {
	conn, err := p.connectTo(ctx, leader.Host, leader.Port, p.rewindAccount(), map[string]string{"application_name": appHeartbeat, "statement_timeout": "0"})
	if err != nil {
		return fmt.Errorf("rewind to %s: %w", leader, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := checkpointed(ctx, conn); err != nil {
		return fmt.Errorf("rewind to %s: %w", leader, err)
	}
	return nil
}

func checkpointed(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := query(ctx, conn, `SELECT CASE WHEN pg_is_in_recovery() THEN 'recovery'
		WHEN upper(lpad(to_hex(timeline_id), 8, '0')) = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) THEN 'ready'
		WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN 'checkpoint' ELSE 'wait' END FROM pg_control_checkpoint()`)
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return errors.New("ask for its timeline: want one row")
	}
	switch rows[0].At(0) {
	case "ready":
		return nil
	case "checkpoint":
		_, err := query(ctx, conn, "CHECKPOINT")
		return err
	case "recovery":
		return fmt.Errorf("%w: it is in recovery", ErrLeaderNotReady)
	default:
		return fmt.Errorf("%w: it has made no checkpoint on its new timeline yet", ErrLeaderNotReady)
	}
}

func (p *Instance) rewindAccount() Account {
	s := p.Settings()
	if s.Rewind.Username != "" {
		return s.Rewind
	}
	return s.Superuser
}

// missingSegment finds the WAL segment that pg_rewind could not open.
var missingSegment = regexp.MustCompile(`(?:could not open file|could not find).*?([0-9A-F]{24})`)

func (p *Instance) pgRewind(ctx context.Context, leader Source, progress Progress) error {
	s := p.Settings()
	restore, err := p.setting(ctx, "restore_command")
	if err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "restore_command is not known; rewinding without the archive", slog.Any("error", err))
	}
	args := []string{"--target-pgdata=" + s.DataDir, "--progress"}
	inside := filepath.Dir(s.confFile()) == filepath.Clean(s.DataDir) && filepath.Base(s.confFile()) == "postgresql.conf"
	itself := restore != "" && (inside || p.binaries.major >= 15) // pg_rewind asks the archive itself
	if itself {
		args = append(args, "--restore-target-wal")
	}
	if !inside && p.binaries.major >= 15 {
		args = append(args, "--config-file="+s.confFile())
	}
	if restore == "" { // a former primary's configuration has none, the settings may
		restore = s.RecoveryConf["restore_command"]
	}
	if restore == "" {
		restore = leader.Restore
	}
	l, err := p.login(p.rewindAccount(), leader.Host, leader.Port, keyword{"dbname", s.database()}, keyword{"target_session_attrs", "read-write"})
	if err != nil {
		return err
	}
	defer l.done()
	args = append(args, "--source-server="+l.dsn)
	for fetched := map[string]bool{}; ; {
		err := p.pgRewindOnce(ctx, args, l.env, leader, progress)
		if err == nil {
			return p.rewound()
		}
		if errors.Is(err, ErrRewindImpossible) || errors.Is(err, ErrInUse) || errors.Is(err, ErrRunning) {
			return err
		}
		if m := missingSegment.FindStringSubmatch(err.Error()); m != nil && restore != "" && !itself && !fetched[m[1]] {
			fetched[m[1]] = true
			progress.report(Report{Phase: "fetching WAL", Detail: m[1]})
			if fetch := p.fetchSegment(ctx, restore, m[1]); fetch == nil {
				continue
			} else {
				err = errors.Join(err, fetch)
			}
		}
		return p.blame(ctx, leader, err)
	}
}

// pgRewindOnce runs pg_rewind. From its announcement of the copy on, a failure is final.
func (p *Instance) pgRewindOnce(ctx context.Context, args, env []string, leader Source, progress Progress) error {
	mark := filepath.Join(p.Settings().DataDir, markRewinding)
	begun, copying := time.Now(), false
	var marking error
	cmd := exec.Command(p.binaries.path("pg_rewind"), args...)
	cmd.Env = toolEnvironment(env...)
	err := p.runAlone(ctx, cmd, func(line string) {
		if strings.Contains(line, "need to copy ") {
			copying = true // its list of our files is made by now, so it does not delete the mark
			marking = os.WriteFile(mark, []byte("to "+leader.String()+", begun "+begun.Format(time.RFC3339)), 0o600)
		}
		if !progress.copied(line, begun) {
			progress.report(Report{Phase: "rewinding", Detail: strings.TrimPrefix(line, "pg_rewind: ")})
		}
	})
	switch {
	case err == nil:
		return nil
	case copying:
		return fmt.Errorf("rewind %s: %w: it broke off while copying: %w", p.Settings().DataDir, ErrRewindImpossible, errors.Join(err, marking))
	default:
		return fmt.Errorf("rewind %s: %w", p.Settings().DataDir, err)
	}
}

// rewound removes the marks of what has come to its end.
func (p *Instance) rewound() error {
	dir := p.Settings().DataDir
	for _, name := range []string{"promote", markRewinding} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("finish rewind: %w", err)
		}
	}
	return syncDir(dir)
}

// blame decides whose fault a failure is: with a leader that can still be asked it is our files' (steps 7 and 8, L46).
func (p *Instance) blame(ctx context.Context, leader Source, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if ask := p.leaderReady(ctx, leader); ask != nil {
		return fmt.Errorf("%w; the leader cannot be asked now: %w; try again", err, ask)
	}
	return fmt.Errorf("%w: %w", ErrRewindImpossible, err)
}

// fetchSegment gets a segment from the archive for pg_rewind versions and places of configuration that cannot do so themselves.
func (p *Instance) fetchSegment(ctx context.Context, command, segment string) error {
	dir := p.Settings().DataDir
	path := filepath.Join("pg_wal", segment)
	cmd := exec.Command("/bin/sh", "-c", placeholders(strings.ReplaceAll(command, "%r", segment), path, segment))
	cmd.Dir, cmd.Env = dir, p.serverEnvironment()
	if err := p.runTool(ctx, cmd, nil); err != nil {
		return fmt.Errorf("fetch WAL segment %s from the archive: %w", segment, err)
	}
	if !exists(filepath.Join(dir, path)) {
		return fmt.Errorf("fetch WAL segment %s from the archive: restore_command succeeded but %s is not there", segment, path)
	}
	return nil
}
