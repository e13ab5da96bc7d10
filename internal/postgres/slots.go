package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/internal/cluster"
)

// SlotWant is one physical slot that should exist.
type SlotWant struct {
	Name    string
	Advance cluster.LSN // where to move it while nobody uses it, only forward; 0: leave it, somebody is expected to use it
	Anew    string      // why the one that is there must be dropped first; empty: it need not
}

// SyncSlots drops slots, makes physical ones with reserved WAL where they are missing, and moves unused ones forward. A slot in use is left
// alone, and so is a temporary one, a failover slot, and one of another kind that was not to be dropped. It does what it can and returns every
// problem. ha.md 2.21.
func (p *Instance) SyncSlots(ctx context.Context, want []SlotWant, drop []string) error {
	var problems []error
	err := p.withConnection(ctx, func(conn *pgconn.PgConn) error {
		for _, name := range drop {
			problems = append(problems, p.dropSlot(ctx, conn, name, "nobody needs it as it is"))
		}
		for _, w := range want {
			if w.Anew != "" {
				problems = append(problems, p.dropSlot(ctx, conn, w.Name, w.Anew))
			}
		}
		if len(want) == 0 {
			return nil
		}
		have, err := slots(ctx, conn)
		if err != nil {
			return err
		}
		for _, w := range want {
			s, exists := have[w.Name]
			if exists && (s.Type != cluster.PhysicalSlot || s.temporary || s.Failover) {
				problems = append(problems, fmt.Errorf("create replication slot %s: a %s slot of that name is in the way; drop or rename it", w.Name, s.Type))
				continue
			}
			if !exists {
				created, err := createSlot(ctx, conn, w.Name)
				if err != nil {
					problems = append(problems, err)
					continue
				}
				s.Slot = cluster.Slot{Name: w.Name, Restart: created}
			}
			if !s.Active && w.Advance > s.Restart && s.Restart != 0 {
				problems = append(problems, advanceSlot(ctx, conn, w))
			}
		}
		return nil
	})
	return errors.Join(append(problems, err)...)
}

type localSlot struct {
	cluster.Slot
	temporary bool
}

func slots(ctx context.Context, conn *pgconn.PgConn) (map[string]localSlot, error) {
	failover := "false"
	if majorOf(conn.ParameterStatus("server_version")) >= 17 {
		failover = "failover"
	}
	result, err := query(ctx, conn, `SELECT json_build_array(slot_name, slot_type, database, plugin, active, restart_lsn, confirmed_flush_lsn,
xmin IS NOT NULL OR slot_type = 'physical' AND catalog_xmin IS NOT NULL, wal_status, `+failover+`, catalog_xmin), temporary FROM pg_replication_slots`)
	if err != nil {
		return nil, fmt.Errorf("list replication slots: %w", err)
	}
	found := map[string]localSlot{}
	for _, r := range result {
		var f []field
		if err := json.Unmarshal([]byte(r.At(0)), &f); err != nil {
			return nil, fmt.Errorf("list replication slots: %w", err)
		}
		s := slotOf(f)
		found[s.Name] = localSlot{Slot: s, temporary: r.At(1) == "t"}
	}
	return found, nil
}

// createSlot creates a physical slot that holds back WAL from now on, and returns its position.
func createSlot(ctx context.Context, conn *pgconn.PgConn, name string) (cluster.LSN, error) {
	result, err := query(ctx, conn, "SELECT lsn FROM pg_create_physical_replication_slot($1, true)", name)
	if err != nil {
		return 0, fmt.Errorf("create replication slot %s: %w", name, err)
	}
	at, _ := cluster.ParseLSN(result[0].At(0))
	return at, nil
}

func (p *Instance) dropSlot(ctx context.Context, conn *pgconn.PgConn, name, why string) error {
	result, err := query(ctx, conn, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active", name)
	if err != nil {
		return fmt.Errorf("drop replication slot %s: %w", name, err)
	}
	if len(result) == 0 {
		return nil // gone, or in use since
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "dropped replication slot", slog.String("slot", name), slog.String("because", why))
	return nil
}

// advanceSlot moves an unused slot forward. PostgreSQL itself stops at what a standby has replayed.
func advanceSlot(ctx context.Context, conn *pgconn.PgConn, w SlotWant) error {
	_, err := query(ctx, conn, `SELECT pg_replication_slot_advance(slot_name, $2::text::pg_lsn) FROM pg_replication_slots
WHERE slot_name = $1 AND NOT active AND restart_lsn < $2::text::pg_lsn`, w.Name, w.Advance.String())
	if err != nil {
		return fmt.Errorf("advance replication slot %s to %s: %w", w.Name, w.Advance, err)
	}
	return nil
}
