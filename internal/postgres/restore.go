package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/internal/cluster"
)

// restore is the configured one, or one without a command.
func (s *Settings) restore() Restore {
	if s.Restore == nil {
		return Restore{}
	}
	return *s.Restore
}

// settings are the recovery settings in the words of the version (config.md 5.2).
func (r Restore) settings(version int) map[string]string {
	out := map[string]string{}
	for name, value := range r.Recovery {
		pause, _ := cluster.ParseBool(value)
		switch {
		case name == "standby_mode":
		case name == "pause_at_recovery_target":
			out["recovery_target_action"] = map[bool]string{true: "pause", false: "promote"}[pause]
		case name == "trigger_file" && version < 16:
			out["promote_trigger_file"] = value
		case !isRecoveryParameter(name) || name == "trigger_file" || name == "promote_trigger_file" && version >= 16:
		default:
			out[name] = value
		}
	}
	return out
}

// signal is the file that makes PostgreSQL begin with a recovery; empty: what the data needs to be consistent is all.
func (r Restore) signal() string {
	standby, _ := cluster.ParseBool(r.Recovery["standby_mode"])
	switch {
	case len(r.Recovery) == 0:
		return ""
	case standby:
		return "standby.signal"
	default:
		return "recovery.signal"
	}
}

// blind says whether nobody needs to look at the data during the recovery. Then it runs without hot_standby, which the WAL of a cluster with
// higher settings would end (config.md 5.4).
func (r Restore) blind() bool {
	return r.KeepRecovery || r.settings(NewestVersion)["recovery_target_action"] == "promote"
}

// lockedHBAFile admits the agent alone, by trust: the passwords in restored data may be others. A file of its own leaves the real one untouched.
func (s *Settings) lockedHBAFile() string {
	return filepath.Join(s.configDir(), "regent_bootstrap_hba.conf")
}

func (s *Settings) lockedHBA() (lines []string) {
	for _, a := range []Account{s.Replication, s.Superuser} {
		if a.Username == "" {
			continue
		}
		name := `"` + a.Username + `"`
		for _, database := range []string{"all", "replication"} {
			lines = append(lines, fmt.Sprintf("local %s %s trust", database, name), fmt.Sprintf("host %s %s 127.0.0.1/32 trust", database, name),
				fmt.Sprintf("host %s %s ::1/128 trust", database, name), fmt.Sprintf("host %s %s samehost trust", database, name))
		}
	}
	return lines
}

// restoreData runs the command.
func (p *Instance) restoreData(ctx context.Context, progress Progress) error {
	s := p.Settings()
	r := s.restore()
	what := fmt.Sprintf("a bootstrap of %s by method %s", s.Scope, r.Name)
	if err := p.claimEmpty(ctx, what); err != nil {
		return err
	}
	var args []string
	if !r.NoParams {
		args = append(args, "--scope="+s.Scope, "--datadir="+s.DataDir)
	}
	cmd := shell(r.Command, append(args, optionsOf(r.Arguments)...)...)
	cmd.Env = os.Environ()
	phase := "running " + r.Name
	progress.report(Report{Phase: phase})
	if err := p.runMarked(ctx, what, cmd, func(line string) { progress.report(Report{Phase: phase, Detail: line}) }); err != nil {
		return fmt.Errorf("bootstrap method %s: %w", r.Name, err)
	}
	if err := p.arrived(); err != nil {
		return fmt.Errorf("bootstrap method %s: %w", r.Name, err)
	}
	return nil
}

// startRestored starts PostgreSQL on what the command left and waits until it is a primary. The recovery may take hours.
func (p *Instance) startRestored(ctx context.Context, progress Progress) error {
	pid, err := p.launchUnfinished(ctx, AsRestored)
	if err != nil {
		return err
	}
	exited := p.watch(pid)
	tick := time.NewTicker(10 * readyPoll)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-exited:
			return fmt.Errorf("recover the restored data: PostgreSQL exited%s", detail(p.lastWords()))
		case <-ctx.Done():
			return fmt.Errorf("recover the restored data: %w", context.Cause(ctx))
		case <-tick.C:
		}
		phase, primary, err := p.recovering(ctx, pid)
		if primary || err != nil {
			return err
		}
		if phase != told {
			told = phase
			progress.report(Report{Phase: "recovering", Detail: phase})
			if strings.HasPrefix(phase, "paused") {
				p.log.LogAttrs(ctx, slog.LevelWarn, "the recovery has come to its target and is paused: look at the data, then call pg_wal_replay_resume(); or set recovery_target_action to promote")
			}
		}
	}
}

// recovering says how far the recovery is.
func (p *Instance) recovering(ctx context.Context, pid int) (phase string, primary bool, err error) {
	pm := readPidFile(filepath.Join(p.Settings().DataDir, "postmaster.pid"))
	if pm == nil || pm.pid != pid || pm.status != "ready" {
		return p.startupActivity(pid), false, nil
	}
	rows, err := p.query(ctx, `SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END`)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && (strings.HasPrefix(refused.Code, "28") || refused.Code == "3D000"):
		return "", false, fmt.Errorf("connect to the restored cluster: %w; it needs the superuser and the database that the configuration names", err)
	case err != nil || len(rows) != 1:
		return "starting", false, nil
	case rows[0].At(0) == "f":
		return "", true, nil
	case rows[0].At(1) == "t":
		return "paused at the target", false, nil
	default:
		return p.startupActivity(pid), false, nil
	}
}

// unlock gives the restored cluster its real configuration and accounts by a restart: the command line has changed as well.
func (p *Instance) unlock(ctx context.Context) error {
	s := p.Settings()
	if err := p.Stop(ctx, StopOptions{Mode: Fast}); err != nil {
		return err
	}
	pid, err := p.launchUnfinished(ctx, AsPrimary)
	if err != nil {
		return err
	}
	if err := p.awaitReady(ctx, pid, nil); err != nil {
		return err
	}
	if err := os.Remove(s.lockedHBAFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the accounts of the bootstrap: %w", err)
	}
	return nil
}
