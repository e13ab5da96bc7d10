package postgres

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

var cdc = cluster.PermanentSlot{Name: "cdc", Type: cluster.LogicalSlot, Database: "postgres", Plugin: "test_decoding"}

// with changes a parameter.
func (p *Instance) with(name, value string) {
	s := p.Settings()
	s.Parameters = maps.Clone(s.Parameters)
	s.Parameters[name] = value
	p.Configure(s)
}

func streams(t *testing.T, standby *Instance) {
	t.Helper()
	pgtest.Eventually(t, "the standby streams", func() bool { v := observed(t, standby); return v.ReplicationState() == cluster.StateStreaming })
}

// decoding is a primary that logical slots can be made on.
func decoding(t *testing.T) *Instance {
	t.Helper()
	p := bootstrapped(t)
	stopFast(t, p)
	p.with("wal_level", "logical")
	startPrimary(t, p)
	return p
}

// moveOn lets the consumer of the primary's slot read all there is, until the slot needs no WAL from before this call.
func moveOn(t *testing.T, p *Instance) {
	t.Helper()
	p.sql(t, "SELECT pg_switch_wal()")
	p.sql(t, "CHECKPOINT") // it writes, so that the position is within the new segment
	segment := p.sql(t, "SELECT pg_walfile_name(pg_current_wal_flush_lsn())")
	pgtest.Eventually(t, "the slot needs no WAL from before "+segment, func() bool {
		p.sql(t, "CHECKPOINT") // it writes which transactions run, and decoding can begin there
		p.sql(t, "SELECT pg_replication_slot_advance('cdc', pg_current_wal_flush_lsn())")
		return p.sql(t, "SELECT pg_walfile_name(restart_lsn) FROM pg_replication_slots WHERE slot_name = 'cdc'") >= segment
	})
}

// A logical slot goes from a primary to its standby: what cannot be used is not copied and stops nothing; what was copied can be moved, never past what is
// replayed, and gives the changes that were not confirmed after a promotion.
func TestCopySlots(t *testing.T) {
	t.Parallel()
	p := decoding(t)
	ctx := within(t, 3*time.Minute)
	must(t, p.SyncSlots(ctx, []SlotWant{{Name: "pg2"}}, nil))
	must(t, p.CreateLogicalSlot(ctx, cdc))
	p.sql(t, "CREATE TABLE t (i int)")
	from := Source{Name: "pg1", Host: "127.0.0.1", Port: p.settings.Port}

	standby := standbyOf(t, p, "pg2")
	standby.with("wal_level", "logical")
	standby.with("hot_standby_feedback", "on")
	standby.with("wal_receiver_status_interval", "1")
	start := func() {
		t.Helper()
		must(t, standby.Start(ctx, StartOptions{Mode: AsStandby, Upstream: p.upstream("pg2")}))
	}
	start()
	streams(t, standby)
	slot := func(on *Instance) (found cluster.Slot) {
		for _, s := range observed(t, on).Slots {
			if s.Name == cdc.Name {
				found = s
			}
		}
		return found
	}
	before := standby.postmaster().pid
	refused := func(why string, s cluster.PermanentSlot) {
		t.Helper()
		if err := standby.CopySlots(ctx, from, []cluster.PermanentSlot{s}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("have %v, want %q", err, why)
		}
		if pm := standby.postmaster(); pm == nil || pm.pid != before {
			t.Fatalf("%s: the standby was stopped for nothing", why)
		}
	}
	refused("is not there", cluster.PermanentSlot{Name: "other", Type: cluster.LogicalSlot, Database: "postgres", Plugin: "test_decoding"})
	refused(`with plugin "test_decoding", want`, cluster.PermanentSlot{Name: "cdc", Type: cluster.LogicalSlot, Database: "postgres", Plugin: "pgoutput"})
	standby.with("wal_level", "replica")
	refused("does not start with logical slots", cdc)
	standby.with("wal_level", "logical")
	refused("not here any more", cdc) // it was made before the standby was
	moveOn(t, p)
	caughtUp(t, standby, p)

	must(t, standby.CopySlots(ctx, from, []cluster.PermanentSlot{cdc}))
	if standby.postmaster() != nil {
		t.Fatal("the standby runs, want it stopped")
	}
	start()
	copied := slot(standby)
	if copied.Type != cluster.LogicalSlot || copied.Database != cdc.Database || copied.Plugin != cdc.Plugin || copied.CatalogXmin == 0 || copied.ConfirmedFlush == 0 {
		t.Fatalf("have %+v, want a copy of %+v", copied, slot(p))
	}
	// Feedback reaches the primary: it keeps rows of catalogs for the standby.
	pgtest.Eventually(t, "the primary keeps what the copy needs", func() bool {
		xmin, err := standby.SlotsOf(within(t, 10*time.Second), from)
		return err == nil && xmin["pg2"] != 0 && xmin["cdc"] != 0
	})

	p.sql(t, "INSERT INTO t VALUES (1)")
	confirmed, err := cluster.ParseLSN(p.sql(t, "SELECT end_lsn FROM pg_replication_slot_advance('cdc', pg_current_wal_flush_lsn())"))
	must(t, err)
	p.sql(t, "INSERT INTO t VALUES (2)")
	pgtest.Eventually(t, "the standby has replayed that", func() bool { return observed(t, standby).Replayed > confirmed })
	must(t, standby.AdvanceLogicalSlot(ctx, cdc, confirmed))
	if have := slot(standby).ConfirmedFlush; have != confirmed {
		t.Errorf("have the copy at %s, want it at %s", have, confirmed)
	}
	must(t, standby.AdvanceLogicalSlot(ctx, cdc, copied.ConfirmedFlush))
	if have := slot(standby).ConfirmedFlush; have != confirmed {
		t.Errorf("have the copy moved back to %s, want it at %s", have, confirmed)
	}
	must(t, standby.Promote(ctx, 0, nil))
	if have, want := standby.sql(t, "SELECT string_agg(data, ' ') FROM pg_logical_slot_get_changes('cdc', null, null) WHERE data LIKE 'table%'"), "table public.t: INSERT: i[integer]:2"; have != want {
		t.Errorf("after the promotion: have the changes %q, want %q", have, want)
	}
	if err := standby.CreateLogicalSlot(ctx, cluster.PermanentSlot{Name: "new", Database: "nowhere", Plugin: "test_decoding"}); err == nil || errors.Is(err, ErrSlotBroken) {
		t.Errorf("have %v, want a database that does not exist", err)
	}
}

// The WAL that a copy needs is gone: it can never be moved any more, and that is told apart from other troubles.
func TestBrokenLogicalSlot(t *testing.T) {
	t.Parallel()
	p := decoding(t)
	ctx := within(t, 3*time.Minute)
	must(t, p.CreateLogicalSlot(ctx, cdc))
	standby := standbyOf(t, p, "pg2")
	standby.with("wal_level", "logical")
	must(t, standby.Start(ctx, StartOptions{Mode: AsStandby, Upstream: p.upstream("")}))
	streams(t, standby)
	moveOn(t, p)
	caughtUp(t, standby, p)
	must(t, standby.CopySlots(ctx, Source{Name: "pg1", Host: "127.0.0.1", Port: p.settings.Port}, []cluster.PermanentSlot{cdc}))
	must(t, standby.Start(ctx, StartOptions{Mode: AsStandby, Upstream: p.upstream("")}))
	segment := p.sql(t, "SELECT pg_walfile_name(restart_lsn) FROM pg_replication_slots WHERE slot_name = 'cdc'")
	p.sql(t, "SELECT pg_switch_wal()")
	p.sql(t, "CREATE TABLE t (i int)")
	to, err := cluster.ParseLSN(p.sql(t, "SELECT pg_current_wal_flush_lsn()"))
	must(t, err)
	p.sql(t, "DROP TABLE t")
	pgtest.Eventually(t, "the standby has replayed that", func() bool { return observed(t, standby).Replayed >= to })
	must(t, os.Remove(filepath.Join(standby.settings.DataDir, "pg_wal", segment)))
	if err := standby.AdvanceLogicalSlot(ctx, cdc, to); !errors.Is(err, ErrSlotBroken) {
		t.Errorf("have %v, want %v", err, ErrSlotBroken)
	}
	other := cdc
	other.Database = "nowhere"
	if err := standby.AdvanceLogicalSlot(ctx, other, to); err == nil || errors.Is(err, ErrSlotBroken) {
		t.Errorf("have %v, want another trouble", err)
	}
}
