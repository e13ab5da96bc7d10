package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/internal/cluster"
)

// ErrSlotBroken: WAL or rows of catalogs that a logical slot needs are gone here; it can only be copied anew.
var ErrSlotBroken = errors.New("the slot can no longer be used")

// inDatabase runs f on a fresh superuser connection to that database of the local server. Logical slots belong to one.
func (p *Instance) inDatabase(ctx context.Context, database string, f func(*pgconn.PgConn) error) error {
	pm := p.postmaster()
	if pm == nil || pm.single {
		return errNotRunning
	}
	host, port := p.localAddress(pm)
	cfg, err := p.clientConfig(host, port, p.Settings().Superuser, map[string]string{"application_name": appHeartbeat, "statement_timeout": "0"})
	if err != nil {
		return err
	}
	cfg.Database = database
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("connect to database %s: %w", database, err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
		defer cancel()
		_ = conn.Close(closing)
	}()
	return f(conn)
}

// CreateLogicalSlot makes a logical slot on a primary; on a standby, as the server may be by now, it does nothing. It waits for transactions that have begun
// before, so it may take long.
func (p *Instance) CreateLogicalSlot(ctx context.Context, s cluster.PermanentSlot) error {
	made := false
	err := p.inDatabase(ctx, s.Database, func(conn *pgconn.PgConn) error {
		result, err := query(ctx, conn, "SELECT pg_create_logical_replication_slot($1, $2) WHERE NOT pg_is_in_recovery()", s.Name, s.Plugin)
		made = len(result) > 0
		return err
	})
	if err != nil {
		return fmt.Errorf("create logical replication slot %s: %w", s.Name, err)
	}
	if made {
		p.log.LogAttrs(ctx, slog.LevelInfo, "created logical replication slot", slog.String("slot", s.Name), slog.String("database", s.Database), slog.String("plugin", s.Plugin))
	}
	return nil
}

// AdvanceLogicalSlot moves an unused logical slot of a standby forward, at most to what is replayed. It reads all WAL on the way, so it may
// take long; what was done is lost when ctx ends before. ErrSlotBroken: it will never be possible.
func (p *Instance) AdvanceLogicalSlot(ctx context.Context, s cluster.PermanentSlot, to cluster.LSN) error {
	err := p.inDatabase(ctx, s.Database, func(conn *pgconn.PgConn) error {
		_, err := query(ctx, conn, `SELECT pg_replication_slot_advance(slot_name, $2::text::pg_lsn) FROM pg_replication_slots
WHERE slot_name = $1 AND NOT active AND confirmed_flush_lsn < $2::text::pg_lsn AND pg_is_in_recovery()`, s.Name, to.String())
		return err
	})
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == "58P01" || e.Code == "55000") { // undefined file, object not in prerequisite state
		err = fmt.Errorf("%w: %w", ErrSlotBroken, err)
	}
	if err != nil {
		return fmt.Errorf("advance logical replication slot %s to %s: %w", s.Name, to, err)
	}
	return nil
}

// SlotsOf asks a primary for the catalog_xmin of each of its slots; 0 for none.
func (p *Instance) SlotsOf(ctx context.Context, primary Source) (map[string]uint32, error) {
	xmin := map[string]uint32{}
	err := p.onPrimary(ctx, primary, func(conn *pgconn.PgConn) error {
		result, err := query(ctx, conn, "SELECT slot_name, catalog_xmin FROM pg_replication_slots")
		for _, r := range result {
			n, _ := strconv.ParseUint(r.At(1), 10, 32)
			xmin[r.At(0)] = uint32(n)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask %s for its slots: %w", primary, err)
	}
	return xmin, nil
}

// onPrimary runs f on a fresh connection to another member's server, which must not be in recovery.
func (p *Instance) onPrimary(ctx context.Context, primary Source, f func(*pgconn.PgConn) error) error {
	conn, err := p.connectTo(ctx, primary.Host, primary.Port, p.rewindAccount(), map[string]string{"application_name": appHeartbeat, "statement_timeout": "10000"})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
		defer cancel()
		_ = conn.Close(closing)
	}()
	result, err := query(ctx, conn, "SELECT pg_is_in_recovery()")
	if err != nil {
		return err
	}
	if result[0].At(0) == "t" {
		return errors.New("it is in recovery")
	}
	return f(conn)
}

// slotCopy is the state of one logical slot as a primary has saved it.
type slotCopy struct {
	name  string
	state []byte
}

// CopySlots stops the standby and puts logical slots of its primary into its directory; starting it is left to the caller. Before it stops
// anything it makes sure that the copies can be used: they are of the kind that is wanted, the WAL that they need is here, and what their consumers have
// confirmed is replayed here. The position that is copied is the one that the primary has on its disk, which is never past that.
func (p *Instance) CopySlots(ctx context.Context, primary Source, wanted []cluster.PermanentSlot) error {
	copies, err := p.fetchSlots(ctx, primary, wanted)
	if err != nil {
		return err
	}
	if err := p.Stop(ctx, StopOptions{Mode: Fast, Checkpoint: true, CheckpointTimeout: 30 * time.Second, SendersAfter: 30 * time.Second}); err != nil {
		return err
	}
	return p.installSlots(ctx, copies)
}

func (p *Instance) fetchSlots(ctx context.Context, primary Source, wanted []cluster.PermanentSlot) (copies []slotCopy, err error) {
	if level := strings.ToLower(p.Settings().Parameters["wal_level"]); level != "logical" {
		return nil, fmt.Errorf("copy logical replication slots: wal_level is %q here, and PostgreSQL does not start with logical slots then; set it to logical in the dynamic configuration", level)
	}
	var confirmed cluster.LSN
	var problems []error
	err = p.onPrimary(ctx, primary, func(conn *pgconn.PgConn) error {
		for _, w := range wanted {
			result, err := query(ctx, conn, `SELECT slot_type, database, plugin, confirmed_flush_lsn, pg_walfile_name(restart_lsn), pg_read_binary_file('pg_replslot/' || slot_name || '/state')
FROM pg_replication_slots WHERE slot_name = $1`, w.Name)
			switch {
			case err != nil:
				return err
			case len(result) == 0:
				problems = append(problems, fmt.Errorf("logical slot %s is not there", w.Name))
				continue
			}
			r := result[0]
			state, err := hex.DecodeString(strings.TrimPrefix(r.At(5), `\x`))
			switch {
			case r.At(0) != cluster.LogicalSlot || r.At(1) != w.Database || r.At(2) != w.Plugin:
				problems = append(problems, fmt.Errorf("slot %s is a %s slot of database %q with plugin %q, want a logical one of %q with %q", w.Name, r.At(0), r.At(1), r.At(2), w.Database, w.Plugin))
			case err != nil || len(state) == 0:
				problems = append(problems, fmt.Errorf("read the state of slot %s: have %q", w.Name, r.At(5)))
			case r.At(4) == "":
				problems = append(problems, fmt.Errorf("slot %s has lost its WAL", w.Name))
			case !p.hasWAL(r.At(4)):
				problems = append(problems, fmt.Errorf("slot %s needs WAL from %s on, which is not here any more; it is copied when its consumer has moved on", w.Name, r.At(4)))
			default:
				at, _ := cluster.ParseLSN(r.At(3))
				confirmed = max(confirmed, at)
				copies = append(copies, slotCopy{w.Name, state})
			}
		}
		return nil
	})
	if err == nil && len(copies) > 0 {
		err = p.waitReplayed(ctx, confirmed)
	}
	if err != nil || len(copies) == 0 {
		return nil, fmt.Errorf("copy logical replication slots of %s: %w", primary, errors.Join(append(problems, err)...))
	}
	for _, problem := range problems {
		p.log.LogAttrs(ctx, slog.LevelWarn, "copy logical replication slot", slog.Any("error", problem))
	}
	return copies, nil
}

// hasWAL says whether pg_wal holds that segment, of whichever timeline.
func (p *Instance) hasWAL(name string) bool {
	found, _ := filepath.Glob(filepath.Join(p.Settings().DataDir, "pg_wal", "????????"+name[8:]))
	return len(found) > 0
}

// waitReplayed waits until the standby has replayed that much. A slot that is ahead of the WAL would skip what a new primary writes there.
func (p *Instance) waitReplayed(ctx context.Context, at cluster.LSN) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		result, err := p.query(ctx, "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", at.String())
		if err != nil {
			return err
		}
		if len(result) == 1 && result[0].At(0) == "t" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("what their consumers have confirmed, %s, is not replayed here yet: %w", at, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond): // replay announces itself to nobody
		}
	}
}

// installSlots writes the copies as PostgreSQL itself does: a directory appears under its name when it is complete. It removes *.tmp when it starts.
func (p *Instance) installSlots(ctx context.Context, copies []slotCopy) error {
	dir := filepath.Join(p.Settings().DataDir, "pg_replslot")
	for _, c := range copies {
		to := filepath.Join(dir, c.name)
		if _, err := os.Lstat(to); err == nil {
			continue // somebody has made it meanwhile
		}
		temp := to + ".tmp"
		for _, step := range []func() error{
			func() error { return os.RemoveAll(temp) },
			func() error { return os.Mkdir(temp, 0o700) },
			func() error { return writeSynced(filepath.Join(temp, "state"), c.state) },
			func() error { return syncDir(temp) },
			func() error { return os.Rename(temp, to) },
			func() error { return syncDir(dir) },
		} {
			if err := step(); err != nil {
				return fmt.Errorf("write logical replication slot %s: %w", c.name, err)
			}
		}
		p.log.LogAttrs(ctx, slog.LevelInfo, "copied logical replication slot", slog.String("slot", c.name))
	}
	return nil
}

func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}
