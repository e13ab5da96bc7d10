package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/internal/cluster"
)

// ObserveOptions say what to look at beyond the usual.
type ObserveOptions struct {
	Control bool // read the control data also while the server runs
}

// Bounds of observing.
const (
	observeLimit = 3 * time.Second // of an observation whose ctx has no deadline
	// probeEvery is how often a fresh connection is tried while the kept one works. The kept one does not show
	// that the postmaster is hung; each fresh one costs the server a process.
	probeEvery = 5 * time.Second
)

// seen is what is remembered of the running server, so that a cycle costs one short statement. It is
// forgotten with the postmaster.
type seen struct {
	pid        int
	probed     time.Time // the last fresh connection
	identified time.Time // the last question over the replication protocol
	timeline   cluster.Timeline
	loaded     string // pg_conf_load_time that Pending belongs to
	pending    []cluster.PendingParameter
	config     string // what the pending settings were compared with
}

// Observe looks at the instance. It never fails: what could not be learned is zero, and QueryError, ControlError or
// DirProblem say why. It ends with ctx, after 3 s if that has no deadline. While the server answers it costs one
// statement on a kept connection and a few small reads; control data is read only when no server answers, or when asked.
func (p *Instance) Observe(ctx context.Context, o ObserveOptions) (v cluster.Postgres) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, observeLimit)
		defer cancel()
	}
	s := p.Settings()
	v.Binaries = p.binaries.major
	v.Dir, v.DirProblem = p.directory()
	if v.Dir == cluster.DirPresent {
		major, _ := dataDirVersion(s.DataDir)
		v.Version = major * 10000
		v.StandbySignal = exists(filepath.Join(s.DataDir, "standby.signal")) || exists(filepath.Join(s.DataDir, "recovery.signal"))
		v.BackupLabel = exists(filepath.Join(s.DataDir, "backup_label"))
	}
	pm := p.postmaster()
	if pm == nil {
		p.forget(0)
	} else {
		v.Pid, v.SingleUser, v.Started = pm.pid, pm.single, pm.started
		if !pm.single {
			p.forget(pm.pid)
			p.ask(ctx, pm, &v)
		}
	}
	if v.Dir != cluster.DirPresent {
		return v
	}
	if o.Control || pm == nil {
		if c, err := p.Control(ctx); err != nil {
			v.ControlError = err.Error()
		} else {
			v.Control = &c
		}
	}
	if v.SystemID == "" {
		if v.Control != nil {
			v.SystemID = v.Control.SystemID
		} else if g, err := p.glance(); err == nil {
			v.SystemID = g.systemID
		}
	}
	return v
}

// forget drops what is remembered of another postmaster.
func (p *Instance) forget(pid int) {
	p.db.mu.Lock()
	defer p.db.mu.Unlock()
	if p.db.seen.pid != pid {
		p.db.seen = seen{pid: pid}
	}
}

// ask fills in readiness and the answers of SQL.
func (p *Instance) ask(ctx context.Context, pm *postmaster, v *cluster.Postgres) {
	if state, _ := stat(pm.pid); state == "T" || state == "t" { // stopped by a signal or a debugger: nobody can connect
		v.Ready = cluster.NoResponse
	} else if pm.status == "stopping" { // a smart shutdown waits for every session, so for ours, too
		v.Ready, v.QueryError = cluster.Rejecting, "the server is shutting down"
		p.disconnect(ctx)
		return
	} else if p.probeDue() {
		half, cancel := half(ctx)
		v.Ready = pm.probe(half)
		cancel()
	} else {
		v.Ready = cluster.Accepting
	}
	if v.Ready == cluster.NoResponse || v.Ready == cluster.Rejecting {
		p.probeAgain()
		if !p.hasConnection(ctx) { // a kept one may still work
			v.QueryError = "the server does not accept connections: " + string(v.Ready)
			return
		}
	}
	var row Row
	err := p.use(ctx, &p.db.heartbeat, appHeartbeat, func(ctx context.Context, conn *pgconn.PgConn) error {
		var err error
		row, err = observation(ctx, conn)
		return err
	})
	if err == nil {
		err = fill(v, row)
	}
	if err != nil {
		v.QueryError = err.Error()
		p.probeAgain()
		if v.Ready == cluster.Accepting {
			v.Ready = readiness(err)
		}
		return
	}
	v.Queried = true
	p.completeTimeline(ctx, pm, v)
	v.Pending = p.pending(ctx, row.At(colLoaded))
}

func (p *Instance) probeDue() bool {
	p.db.mu.Lock()
	defer p.db.mu.Unlock()
	if time.Since(p.db.seen.probed) < probeEvery {
		return false
	}
	p.db.seen.probed = time.Now()
	return true
}

// probeAgain makes the next observation try a fresh connection.
func (p *Instance) probeAgain() {
	p.db.mu.Lock()
	defer p.db.mu.Unlock()
	p.db.seen.probed = time.Time{}
}

// disconnect gives up the kept connections.
func (p *Instance) disconnect(ctx context.Context) {
	for _, s := range []*session{&p.db.heartbeat, &p.db.restapi} {
		if s.take(ctx) == nil {
			s.drop()
			s.give()
		}
	}
}

func (p *Instance) hasConnection(ctx context.Context) bool {
	if p.db.heartbeat.take(ctx) != nil {
		return false
	}
	defer p.db.heartbeat.give()
	return p.db.heartbeat.conn != nil && !p.db.heartbeat.conn.IsClosed()
}

// readiness is what the error of a connection or statement says about the server.
func readiness(err error) cluster.Readiness {
	var e *pgconn.PgError
	switch {
	case !errors.As(err, &e):
		return cluster.NoResponse
	case e.Code == "57P03", e.Code == "57P01", e.Code == "57P02": // cannot connect now, admin shutdown, crash shutdown
		return cluster.Rejecting
	case errors.As(err, new(*pgconn.ConnectError)) && (strings.HasPrefix(e.Code, "58") || strings.HasPrefix(e.Code, "XX") || e.Code == "53100"): // system error, internal error, disk full
		return cluster.Failing
	default: // it answers, if only to refuse us
		return cluster.Accepting
	}
}

// Columns of the monitoring statement.
const (
	colVersion = iota
	colStarted
	colSystemID
	colInRecovery
	colReadOnly
	colTimeline
	colWrite
	colFlush
	colReceived
	colReplayed
	colReplayedAt
	colPaused
	colRestore
	colConninfo
	colSlotName
	colSyncNames
	colSyncCommit
	colHeeded
	colLoaded
	colReceiver
	colSenders
	colSlots
	columns
)

// timestampFormat is how Patroni shows timestamps: an offset of hours and minutes, microseconds unless zero.
const timestampFormat = `'YYYY-MM-DD HH24:MI:SS.USTZH:TZM'`

// monitoring is the one statement of a cycle. Parts that raise an error in the other role are behind CASE.
// The last argument of fmt is the column that PostgreSQL 17 added.
const monitoring = `SELECT current_setting('server_version_num'),
to_char(pg_postmaster_start_time(), ` + timestampFormat + `),
(SELECT system_identifier FROM pg_control_system()),
r.r,
current_setting('default_transaction_read_only'),
CASE WHEN r.r THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
CASE WHEN r.r THEN NULL ELSE pg_current_wal_lsn() END,
CASE WHEN r.r THEN NULL ELSE pg_current_wal_flush_lsn() END,
pg_last_wal_receive_lsn(),
pg_last_wal_replay_lsn(),
to_char(pg_last_xact_replay_timestamp(), ` + timestampFormat + `),
CASE WHEN r.r THEN pg_is_wal_replay_paused() ELSE false END,
current_setting('restore_command') <> '',
current_setting('primary_conninfo'),
current_setting('primary_slot_name'),
current_setting('synchronous_standby_names'),
current_setting('synchronous_commit'),
CASE WHEN r.r OR current_setting('synchronous_standby_names') = '' THEN NULL
 ELSE (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'checkpointer') END,
pg_conf_load_time(),
(SELECT json_build_array(status, received_tli, written_lsn, latest_end_lsn, slot_name, sender_host, sender_port) FROM pg_stat_get_wal_receiver()),
(SELECT json_agg(json_build_array(usename, application_name, client_addr, state, sync_state, sync_priority, sent_lsn, write_lsn, flush_lsn, replay_lsn)
 ORDER BY application_name, pid) FROM pg_stat_replication),
(SELECT json_agg(json_build_array(slot_name, slot_type, d.datname, plugin, active, restart_lsn, confirmed_flush_lsn,
 xmin IS NOT NULL OR slot_type = 'physical' AND catalog_xmin IS NOT NULL, wal_status, %s, catalog_xmin) ORDER BY slot_name)
 FROM pg_get_replication_slots() s LEFT JOIN pg_database d ON d.oid = s.datoid WHERE NOT temporary)
FROM (SELECT pg_is_in_recovery() OFFSET 0) AS r(r)`

// checkpointerRests is what the checkpointer waits for where it reads changed files as soon as it is told to. In the midst of a checkpoint it may
// not do so for minutes, and until then nobody waits for standbys where nobody did before (SyncRepUpdateSyncStandbysDefined).
var checkpointerRests = []string{"CheckpointerMain", "CheckpointWriteDelay"}

const statementName = "observe"

// observation runs the monitoring statement. It is prepared once per connection, which spares the server most of its work.
func observation(ctx context.Context, conn *pgconn.PgConn) (Row, error) {
	if conn.CustomData()[statementName] == nil {
		failover := "false"
		if majorOf(conn.ParameterStatus("server_version")) >= 17 {
			failover = "failover"
		}
		sd, err := conn.Prepare(ctx, statementName, fmt.Sprintf(monitoring, failover), nil)
		if err != nil {
			return nil, err
		}
		conn.CustomData()[statementName] = sd
	}
	result, err := rows(conn.ExecPrepared(ctx, statementName, nil, nil, nil).Read())
	if err != nil {
		return nil, err
	}
	if len(result) != 1 || len(result[0]) != columns {
		return nil, errors.New("observe PostgreSQL: the monitoring statement has no row, want one")
	}
	return result[0], nil
}

// fill takes over the answers.
func fill(v *cluster.Postgres, row Row) error {
	lsn := func(text string) cluster.LSN {
		l, _ := cluster.ParseLSN(text) // empty: unknown
		return l
	}
	v.Version, _ = strconv.Atoi(row.At(colVersion))
	v.StartedText = timestamp(row.At(colStarted))
	v.SystemID = row.At(colSystemID)
	v.InRecovery = row.At(colInRecovery) == "t"
	v.ReadOnly = !v.InRecovery && row.At(colReadOnly) == "on"
	if tl, err := strconv.ParseUint(row.At(colTimeline), 16, 32); err == nil {
		v.Timeline = cluster.Timeline(tl)
	}
	v.Write, v.Flush = lsn(row.At(colWrite)), lsn(row.At(colFlush))
	v.RestoreCommand = row.At(colRestore) == "t"
	v.Upstream = upstreamOf(row.At(colConninfo), row.At(colSlotName))
	v.SyncNames, v.SyncCommit = row.At(colSyncNames), row.At(colSyncCommit)
	v.Heeded = slices.Contains(checkpointerRests, row.At(colHeeded))
	if text := row.At(colReceiver); v.InRecovery && text != "" {
		var f [7]field
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			return fmt.Errorf("read the WAL receiver's state: %w", err)
		}
		if f[0] != "" {
			v.Receiver = &cluster.Receiver{Status: string(f[0]), Timeline: cluster.Timeline(f[1].number()), Written: lsn(string(f[2])), LatestEnd: lsn(string(f[3])),
				Slot: string(f[4]), Host: string(f[5]), Port: int(f[6].number())}
		}
	}
	if v.InRecovery {
		v.Received, v.Replayed = lsn(row.At(colReceived)), lsn(row.At(colReplayed))
		if v.Receiver != nil && v.Receiver.Written != 0 {
			v.Received = v.Receiver.Written
		} else if v.Received == 0 {
			v.Received = v.Replayed
		}
		v.ReplayedAt = timestamp(row.At(colReplayedAt))
		v.ReplayPaused = row.At(colPaused) == "t"
	}
	var senders, slots [][]field
	if text := row.At(colSenders); text != "" {
		if err := json.Unmarshal([]byte(text), &senders); err != nil {
			return fmt.Errorf("read pg_stat_replication: %w", err)
		}
	}
	for _, f := range senders {
		v.Walsenders = append(v.Walsenders, cluster.Walsender{User: string(f[0]), Application: string(f[1]), Address: string(f[2]), State: string(f[3]),
			SyncState: string(f[4]), SyncPriority: int(f[5].number()), Sent: lsn(string(f[6])), Write: lsn(string(f[7])), Flush: lsn(string(f[8])), Replay: lsn(string(f[9]))})
	}
	if text := row.At(colSlots); text != "" {
		if err := json.Unmarshal([]byte(text), &slots); err != nil {
			return fmt.Errorf("read pg_replication_slots: %w", err)
		}
	}
	for _, f := range slots {
		v.Slots = append(v.Slots, slotOf(f))
	}
	return nil
}

func slotOf(f []field) cluster.Slot {
	restart, _ := cluster.ParseLSN(string(f[5]))
	flushed, _ := cluster.ParseLSN(string(f[6]))
	xmin, _ := strconv.ParseUint(string(f[10]), 10, 32)
	return cluster.Slot{CatalogXmin: uint32(xmin), Name: string(f[0]), Type: string(f[1]), Database: string(f[2]), Plugin: string(f[3]), Active: f[4] == "true",
		Restart: restart, ConfirmedFlush: flushed, HasXmin: f[7] == "true", WALStatus: string(f[8]), Failover: f[9] == "true"}
}

// field is one element of a JSON array as text; null is empty.
type field string

func (f *field) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(f))
	}
	*f = field(b)
	return nil
}

func (f field) number() int64 {
	n, _ := strconv.ParseInt(string(f), 10, 64)
	return n
}

// timestamp leaves out microseconds that are zero.
func timestamp(text string) string { return strings.Replace(text, ".000000", "", 1) }

// completeTimeline finds the timeline of a standby. The WAL receiver tells it while it runs; without one the server
// is asked over the replication protocol, now and then, because SQL has no function for it. A standby never goes
// back to an older timeline, so the newest known one counts.
func (p *Instance) completeTimeline(ctx context.Context, pm *postmaster, v *cluster.Postgres) {
	if !v.InRecovery {
		return
	}
	p.db.mu.Lock()
	known, due := p.db.seen.timeline, time.Since(p.db.seen.identified) > probeEvery
	p.db.mu.Unlock()
	var tl cluster.Timeline
	asked := false
	if v.Receiver != nil {
		tl = v.Receiver.Timeline
	}
	if tl == 0 && due && v.Ready == cluster.Accepting {
		asked = true
		half, cancel := half(ctx)
		tl, _ = p.identify(half, pm) // pg_hba.conf may not let us: then the control file has an older answer
		cancel()
		if tl == 0 && known == 0 {
			if g, err := p.glance(); err == nil {
				tl = g.timeline
			}
		}
	}
	v.Timeline = max(known, tl)
	p.db.mu.Lock()
	defer p.db.mu.Unlock()
	if p.db.seen.pid == pm.pid {
		p.db.seen.timeline = v.Timeline
		if asked {
			p.db.seen.identified = time.Now()
		}
	}
}
