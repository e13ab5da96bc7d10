package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/cluster"
)

// promotePoll is how often the control file is looked at while the server leaves recovery, beside each time it is written.
const promotePoll = 10 * time.Millisecond

// firstNudge is how long a promotion may take before the startup process is woken up again; later pauses are longer.
const firstNudge = 20 * time.Millisecond

// Promote ends recovery and returns when the server is out of it: the control file says "in production", which PostgreSQL
// writes in the moment in which it begins to accept writes. An instance that is a primary already is left as it is. When
// ctx ends first the promotion goes on: it cannot be taken back, only stopped with the server. ha.md 2.20.
//
// The timeline that begins is above the given one, too; 0: it is the next that PostgreSQL knows of.
//
// It needs no connection, so neither a full connection limit nor a slow login holds it up.
func (p *Instance) Promote(ctx context.Context, above cluster.Timeline, progress Progress) error {
	pm := p.postmaster()
	if pm == nil || pm.single {
		return fmt.Errorf("promote PostgreSQL in %s: it is not running", p.Settings().DataDir)
	}
	exited := p.watch(pm.pid)
	written, unwatch := p.watchControl()
	defer unwatch()
	tick := time.NewTicker(promotePoll)
	defer tick.Stop()
	var asked, told, nudge time.Time
	pause := firstNudge
	for {
		now := time.Now()
		g, err := p.glance()
		switch {
		case err != nil: // being written, or gone with the server
		case g.state == cluster.ControlInProduction:
			return nil
		case asked.IsZero() && g.state == cluster.ControlArchiveRecovery: // before, it is starting, and would refuse
			if err := p.takeNumbers(g.timeline, max(above, p.aside())); err != nil {
				return err
			}
			if err := p.askToPromote(pm.pid); err != nil {
				return err
			}
			asked = time.Now()
			told, nudge = asked, asked.Add(firstNudge)
		case !asked.IsZero() && now.After(nudge):
			p.nudge(pm.pid)
			pause = min(2*pause, time.Second)
			nudge = now.Add(pause)
		}
		if progress != nil && !asked.IsZero() && now.Sub(told) > time.Second {
			told = now
			progress.report(Report{Phase: "promoting", Detail: p.startupActivity(pm.pid)})
		}
		select {
		case <-exited:
			return fmt.Errorf("promote PostgreSQL: it exited%s", detail(p.lastWords()))
		case <-ctx.Done():
			return fmt.Errorf("promote PostgreSQL: %w; asked to leave recovery: %t, and then it is still on its way", context.Cause(ctx), !asked.IsZero())
		case <-written:
		case <-tick.C:
		}
	}
}

// askToPromote does what pg_ctl promote and pg_promote() do: an empty file that says what is meant, and the signal to look for it
// (PostgreSQL source, do_promote in pg_ctl.c, CheckPromoteSignal in xlogrecovery.c). A program of its own costs tens of milliseconds on a busy host.
func (p *Instance) askToPromote(postmaster int) error {
	sign := filepath.Join(p.Settings().DataDir, "promote")
	if err := os.WriteFile(sign, nil, 0o600); err != nil {
		return fmt.Errorf("promote PostgreSQL: %w", err)
	}
	if err := unix.Kill(postmaster, unix.SIGUSR1); err != nil {
		return errors.Join(fmt.Errorf("promote PostgreSQL: signal postmaster %d: %w", postmaster, err), os.Remove(sign))
	}
	return nil
}

// nudge repeats the promotion signal to the startup process. When the request arrives while a WAL receiver is being
// started, as it is right after the old primary has gone, the startup process notes it and then sleeps for up to
// wal_retrieve_retry_interval, 5 s by default, before it looks again (WaitForWALToBecomeAvailable); a signal ends
// that sleep. SIGUSR2 means nothing else to this process, and a promotion cannot be asked for twice.
func (p *Instance) nudge(postmaster int) {
	if q := p.startup(postmaster); q != nil {
		_ = unix.Kill(q.pid, unix.SIGUSR2)
	}
}
