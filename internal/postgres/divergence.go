package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/internal/cluster"
)

// Outcome is the answer to the question whether this instance has WAL that the leader's history does not have.
type Outcome int

const (
	Unknown   Outcome = iota // it could not be found out now; ask again
	NotNeeded                // it can follow as it is
	Needed                   // it must be rewound, or made anew
)

func (o Outcome) String() string { return [...]string{"unknown", "not needed", "needed"}[o] }

// Verdict is an Outcome with the facts that it rests on.
type Verdict struct {
	Outcome  Outcome
	Why      string
	NoRewind string           // of Needed: why pg_rewind cannot do it; empty: it may
	Timeline cluster.Timeline // the leader's; 0: it was not asked

	Ended     cluster.Timeline // of Needed, where the leader has left our timeline earlier: which it is ...
	Left, End cluster.LSN      // ... where it did, and where our WAL ends; of a former primary its shutdown checkpoint does not count
}

func (v Verdict) String() string { return "rewind " + v.Outcome.String() + ": " + v.Why }

// position is where this instance's WAL ends, as far as it counts here.
type position struct {
	timeline cluster.Timeline
	at       cluster.LSN // replayed, or minimum recovery point; of a former primary the shutdown checkpoint's begin
	standby  bool
	end      cluster.LSN // of a former primary: the end of its shutdown checkpoint; 0: it could not be read
}

func (l position) String() string {
	kind := "former primary"
	if l.standby {
		kind = "standby"
	}
	return fmt.Sprintf("%s at %s on timeline %d", kind, l.at, l.timeline)
}

// Divergence compares this instance, running as a standby or stopped, with the leader: ha.md 2.14 W1 to W7. leaderTL is the
// timeline that the leader is said to be on; 0 when nothing is said. An unreachable leader, one that has not left recovery, a local
// state without a certain end: all of them are Unknown, with the error when there is one. A wrong "needed" can cost data, a
// wrong "not needed" a standby that cannot stream; so neither is ever guessed. Where a stopped instance fits, the leader's history files
// are left in its pg_wal, or it might not start.
func (p *Instance) Divergence(ctx context.Context, leader Source, leaderTL cluster.Timeline) (Verdict, error) {
	if what := p.halfMade(); what != "" {
		return Verdict{Outcome: Needed, Why: what}, nil
	}
	local, why, err := p.position(ctx)
	if why != "" || err != nil {
		return Verdict{Outcome: Unknown, Why: why}, err
	}
	conn, err := p.replicationConnection(ctx, leader)
	if err != nil {
		return Verdict{Outcome: Unknown, Why: "the leader cannot be asked"}, err
	}
	defer func() { _ = conn.Close(ctx) }()
	remote, err := identifyLeader(ctx, conn)
	if err != nil {
		return Verdict{Outcome: Unknown, Why: "the leader's answer is no use"}, fmt.Errorf("ask %s for its timeline: %w", leader, err)
	}
	g, err := p.glance()
	if err != nil {
		return Verdict{Outcome: Unknown, Why: "the local control file cannot be read"}, err
	}
	switch {
	case remote.systemID != g.systemID:
		return Verdict{Outcome: Unknown, Why: fmt.Sprintf("the leader belongs to another cluster: its system identifier is %s, ours %s", remote.systemID, g.systemID)}, nil
	case remote.inRecovery:
		return Verdict{Outcome: Unknown, Why: "the leader is still in recovery"}, nil
	case remote.timeline < leaderTL:
		return Verdict{Outcome: Unknown, Why: fmt.Sprintf("the leader is on timeline %d, expected %d: it has not finished its promotion", remote.timeline, leaderTL)}, nil
	}
	var history []cluster.HistoryEntry
	if remote.timeline > 1 {
		if history, err = timelineHistory(ctx, conn, remote.timeline); err != nil {
			return Verdict{Outcome: Unknown, Why: "the leader's history cannot be read"}, fmt.Errorf("ask %s for the history of timeline %d: %w", leader, remote.timeline, err)
		}
	}
	var files map[cluster.Timeline][]byte
	stopped := p.postmaster() == nil
	if stopped { // before the WAL of both is compared: the connection is of no use after that
		if files, err = lineage(ctx, conn, local.timeline, remote.timeline); err != nil {
			return Verdict{Outcome: Unknown, Why: "the leader's history cannot be read"}, fmt.Errorf("compare with %s: %w", leader, err)
		}
	}
	if v, ok := p.twins(ctx, conn, local, remote, history); ok {
		v.Timeline = remote.timeline
		return v, nil
	}
	v := judge(local, remote.timeline, history)
	v.Timeline = remote.timeline
	if v.Outcome == NotNeeded && stopped {
		err = p.keepLineage(files, local.timeline, remote.timeline)
	}
	return v, err
}

// judge decides W4 to W7.
func judge(local position, leaderTL cluster.Timeline, history []cluster.HistoryEntry) Verdict {
	say := func(o Outcome, format string, args ...any) Verdict {
		return Verdict{Outcome: o, Why: local.String() + "; " + fmt.Sprintf(format, args...)}
	}
	left := func(at cluster.LSN, format string, args ...any) Verdict {
		v := say(Needed, format, args...)
		v.Ended, v.Left, v.End = local.timeline, at, local.at
		return v
	}
	switch {
	case local.timeline == leaderTL:
		return say(NotNeeded, "the leader is on the same timeline")
	case local.timeline > leaderTL:
		return say(Needed, "the leader is on timeline %d, before ours", leaderTL)
	}
	for _, h := range history {
		if h.Timeline > local.timeline {
			break
		}
		if h.Timeline != local.timeline {
			continue
		}
		switch {
		case local.standby && local.at <= h.LSN:
			return say(NotNeeded, "the leader left that timeline later, at %s", h.LSN)
		case local.standby:
			return left(h.LSN, "the leader left that timeline earlier, at %s", h.LSN)
		case local.at >= h.LSN:
			return left(h.LSN, "the leader left that timeline at %s, before our shutdown checkpoint", h.LSN)
		case local.end == 0:
			return say(Unknown, "the end of our shutdown checkpoint cannot be read, the leader left that timeline at %s", h.LSN)
		case local.end == h.LSN:
			return say(NotNeeded, "the leader left that timeline right at the end of our shutdown checkpoint, %s", h.LSN)
		default:
			return say(Needed, "our shutdown checkpoint ends at %s, the leader left that timeline at %s", local.end, h.LSN)
		}
	}
	return say(Needed, "the history of the leader's timeline %d does not contain ours", leaderTL)
}

// position finds out where our WAL ends: W1 and W2. why is set when it cannot be known.
func (p *Instance) position(ctx context.Context) (_ position, why string, err error) {
	if pm := p.postmaster(); pm != nil && !pm.single && pm.probe(ctx) == cluster.Accepting {
		rows, err := p.query(ctx, "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text END")
		if err != nil {
			return position{}, "", fmt.Errorf("read local position: %w", err)
		}
		if len(rows) != 1 || rows[0].At(0) != "t" {
			return position{}, "PostgreSQL runs as a primary here", nil
		}
		at, err := cluster.ParseLSN(rows[0].At(1))
		if err != nil {
			return position{}, "nothing has been replayed yet", nil
		}
		tl, err := p.identify(ctx, pm) // the WAL receiver's timeline may be behind (L44)
		if err != nil {
			return position{}, "", fmt.Errorf("read local timeline: %w", err)
		}
		return position{timeline: tl, at: at, standby: true}, "", nil
	}
	c, err := p.Control(ctx)
	if err != nil {
		return position{}, "", err
	}
	return p.controlPosition(&c)
}

func (p *Instance) controlPosition(c *cluster.Control) (_ position, why string, err error) {
	switch c.State {
	case cluster.ControlShutDownRecovery, cluster.ControlArchiveRecovery:
		if c.MinRecovery != 0 && c.MinRecoveryTLI != 0 {
			return position{timeline: c.MinRecoveryTLI, at: c.MinRecovery, standby: true}, "", nil
		}
	case cluster.ControlShutDown:
	default:
		return position{}, fmt.Sprintf("PostgreSQL is %s, so the end of its WAL is not known", c.State), nil
	}
	l := position{timeline: c.CheckpointTLI, at: c.Checkpoint}
	if r, err := p.readRecord(c.Checkpoint, c.CheckpointTLI); err == nil {
		l.end = r.end
	}
	return l, "", nil
}

// replicationConnection opens a physical replication connection.
func (p *Instance) replicationConnection(ctx context.Context, to Source) (*pgconn.PgConn, error) {
	return p.connectTo(ctx, to.Host, to.Port, p.Settings().Replication, map[string]string{"replication": "true", "application_name": appHeartbeat})
}

// leaderFacts is what a server says of itself on a replication connection.
type leaderFacts struct {
	systemID   string
	timeline   cluster.Timeline
	flush      cluster.LSN
	inRecovery bool
}

// identifyLeader asks on a replication connection, so that no other access is needed. "transaction_read_only" is what
// libpq itself looks at for target_session_attrs=read-write; version 14 and later also report in_hot_standby.
func identifyLeader(ctx context.Context, conn *pgconn.PgConn) (f leaderFacts, err error) {
	row, err := one(ctx, conn, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return f, err
	}
	tl, err := strconv.ParseUint(row[1], 10, 32)
	if err != nil {
		return f, fmt.Errorf("IDENTIFY_SYSTEM: have timeline %q: %w", row[1], err)
	}
	at, err := cluster.ParseLSN(row[2])
	if err != nil {
		return f, fmt.Errorf("IDENTIFY_SYSTEM: have position %q: %w", row[2], err)
	}
	f = leaderFacts{systemID: row[0], timeline: cluster.Timeline(tl), flush: at}
	readOnly := conn.ParameterStatus("in_hot_standby")
	if readOnly == "" {
		if row, err = one(ctx, conn, "SHOW transaction_read_only", 1); err != nil {
			return f, err
		}
		readOnly = row[0]
	}
	f.inRecovery = readOnly != "off"
	return f, nil
}

// one runs a command that answers with one row of at least n columns.
func one(ctx context.Context, conn *pgconn.PgConn, command string, n int) ([]string, error) {
	results, err := conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < n {
		return nil, fmt.Errorf("%s: want one row of %d columns", command, n)
	}
	var row []string
	for _, v := range results[0].Rows[0] {
		row = append(row, string(v))
	}
	return row, nil
}

// timelineHistory fetches the history file of a timeline over a replication connection.
func timelineHistory(ctx context.Context, conn *pgconn.PgConn, tl cluster.Timeline) ([]cluster.HistoryEntry, error) {
	text, err := historyText(ctx, conn, tl)
	if err != nil {
		return nil, err
	}
	return parseHistory(text)
}

// historyText is that file as it is.
func historyText(ctx context.Context, conn *pgconn.PgConn, tl cluster.Timeline) ([]byte, error) {
	row, err := one(ctx, conn, fmt.Sprintf("TIMELINE_HISTORY %d", tl), 2)
	if err != nil {
		return nil, err
	}
	return []byte(row[1]), nil
}

// parseHistory reads a timeline history file: number, switch position and reason per line (PostgreSQL
// documentation, "Timelines"). Any other line makes it unusable: half a history would mean "diverged".
func parseHistory(text []byte) (entries []cluster.HistoryEntry, err error) {
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("timeline history: have line %q, want number, position and reason", line)
		}
		tl, errTL := strconv.ParseUint(fields[0], 10, 32)
		at, errAt := cluster.ParseLSN(fields[1])
		if err := errors.Join(errTL, errAt); err != nil {
			return nil, fmt.Errorf("timeline history: line %q: %w", line, err)
		}
		entries = append(entries, cluster.HistoryEntry{Timeline: cluster.Timeline(tl), LSN: at, Reason: strings.Join(fields[2:], " ")})
	}
	return entries, nil
}
