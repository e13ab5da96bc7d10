package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// initdb options that would change where or how we bootstrap (ha.md 2.26).
var forbiddenInitdb = []string{"pgdata", "nosync", "no-sync", "pwfile", "sync-only", "version"}

// Bootstrap makes a new cluster of one: initdb or a command of the operator's, configuration, start as primary, accounts,
// post_bootstrap. When it ends with an error the server is stopped, and the directory keeps its mark: it counts as empty, is never
// started, and is cleared by the next attempt; MoveAside keeps it for inspection. ha.md 2.26, config.md 5.10.
func (p *Instance) Bootstrap(ctx context.Context, progress Progress) (err error) {
	s := p.Settings()
	fill, start := p.initdb, p.startUnfinished
	if s.Restore != nil {
		fill, start = p.restoreData, p.startRestored
	}
	if err := fill(ctx, progress); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if stop := p.Stop(limited, StopOptions{Mode: Immediate, KillAfter: 10 * time.Second}); stop != nil {
			err = errors.Join(err, stop)
		}
	}()
	if s.HBA == nil && len(s.BootstrapHBA) > 0 {
		if err := appendLines(filepath.Join(s.DataDir, "pg_hba.conf"), s.BootstrapHBA); err != nil {
			return err
		}
	}
	progress.report(Report{Phase: "starting"})
	if err := start(ctx, progress); err != nil {
		return err
	}
	progress.report(Report{Phase: "creating accounts"})
	if err := p.SetupAccounts(ctx); err != nil {
		return err
	}
	if s.PostBootstrap != "" {
		progress.report(Report{Phase: "running post_bootstrap"})
		if err := p.postBootstrap(ctx); err != nil {
			return err
		}
	}
	if s.Restore != nil {
		progress.report(Report{Phase: "restarting"})
		if err := p.unlock(ctx); err != nil {
			return err
		}
	}
	return p.finished()
}

func (p *Instance) initdb(ctx context.Context, progress Progress) error {
	s := p.Settings()
	if err := p.claim(ctx, "a bootstrap of "+s.Scope); err != nil {
		return err
	}
	args := []string{"--pgdata=" + p.buildPlace()}
	for _, option := range s.Initdb {
		name, _, _ := strings.Cut(strings.TrimLeft(option, "-"), "=")
		if slices.Contains(forbiddenInitdb, name) || option == "-D" || option == "-N" || option == "-S" {
			return fmt.Errorf("bootstrap.initdb: option %s is the agent's to set; remove it", option)
		}
		args = append(args, option)
	}
	if s.Superuser.Username != "" {
		args = append(args, "--username="+s.Superuser.Username)
	}
	if s.Superuser.Password != "" {
		name := filepath.Join(s.DataDir, markUnfinished, "password")
		if err := os.WriteFile(name, []byte(s.Superuser.Password.Reveal()+"\n"), 0o600); err != nil {
			return fmt.Errorf("write password for initdb: %w", err)
		}
		defer os.Remove(name)
		args = append(args, "--pwfile="+name)
	}
	progress.report(Report{Phase: "initdb"})
	cmd := exec.Command(p.binaries.path("initdb"), args...)
	cmd.Env = p.serverEnvironment()
	if err := p.runAlone(ctx, cmd, func(line string) {
		p.log.LogAttrs(ctx, slog.LevelDebug, line, slog.String("program", "initdb"))
	}); err != nil {
		return err
	}
	return p.moveUp()
}

// startUnfinished is Start for a directory that still carries our mark.
func (p *Instance) startUnfinished(ctx context.Context, _ Progress) error {
	pid, err := p.launchUnfinished(ctx, AsPrimary)
	if err != nil {
		return err
	}
	return p.awaitReady(ctx, pid, nil)
}

func (p *Instance) launchUnfinished(ctx context.Context, mode StartMode) (pid int, err error) {
	c, err := p.Control(ctx)
	if err != nil {
		return 0, err
	}
	if err := p.setMode(p.Settings().DataDir); err != nil {
		return 0, err
	}
	if err := p.WriteConfiguration(mode, cluster.Upstream{}, &c); err != nil {
		return 0, err
	}
	return p.launch(ctx, mode, &c)
}

func (p *Instance) postBootstrap(ctx context.Context) error {
	s := p.Settings()
	host, port := p.localAddress(p.postmaster())
	l, err := p.login(s.Superuser, host, port, keyword{"dbname", s.database()})
	if err != nil {
		return err
	}
	defer l.done()
	cmd := shell(s.PostBootstrap, l.dsn)
	cmd.Env = append(append(os.Environ(), "PGOPTIONS=-c synchronous_commit=local -c statement_timeout=0"), l.env...)
	if err := p.runTool(ctx, cmd, func(line string) {
		p.log.LogAttrs(ctx, slog.LevelInfo, line, slog.String("program", "post_bootstrap"))
	}); err != nil {
		return fmt.Errorf("post_bootstrap: %w", err)
	}
	return nil
}

func appendLines(name string, lines []string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	_, err = f.WriteString("\n" + strings.Join(lines, "\n") + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	return nil
}
