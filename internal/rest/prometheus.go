package rest

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// metrics answers GET /metrics: Patroni's metrics to the byte (rest-api.md section 13), then Regent's own.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := s.observing(r)
	defer cancel()
	m := s.moment(s.control.Observed(ctx, healthAge))
	var out bytes.Buffer
	m.writeMetrics(&out)
	if write := s.rules.Load().Metrics; write != nil {
		if err := write(&out); err != nil {
			s.log.Warn("cannot write all metrics", "error", err)
		}
	}
	s.reply(w, r, http.StatusOK, promType, out.Bytes())
}

// states are PostgreSQL's states by their number in patroni_postgres_state (rest-api.md 4.2), each with its name there.
var states = []struct {
	state cluster.State
	name  string
}{
	{cluster.InitializingCluster, "initdb"},
	{cluster.InitdbFailed, "initdb_failed"},
	{cluster.CustomBootstrap, "custom_bootstrap"},
	{cluster.CustomFailed, "custom_bootstrap_failed"},
	{cluster.CreatingReplica, "creating_replica"},
	{cluster.Running, "running"},
	{cluster.Starting, "starting"},
	{cluster.StartingAfterCustom, "bootstrap_starting"},
	{cluster.StartFailed, "start_failed"},
	{cluster.Restarting, "restarting"},
	{cluster.RestartFailed, "restart_failed"},
	{cluster.Stopping, "stopping"},
	{cluster.Stopped, "stopped"},
	{cluster.StopFailed, "stop_failed"},
	{cluster.Crashed, "crashed"},
}

var stateComment = func() string {
	var names []string
	for i, s := range states {
		names = append(names, fmt.Sprintf("%d=%s", i, s.name))
	}
	return "# Values: " + strings.Join(names, ", ") + "\n"
}()

func (m *moment) writeMetrics(out *bytes.Buffer) {
	labels := fmt.Sprintf(`{scope=%s,name=%s}`, label(m.Scope), label(m.Name))
	write := func(name, kind, help, comment, value string) {
		fmt.Fprintf(out, "# HELP %s %s\n%s# TYPE %s %s\n%s%s %s\n", name, help, comment, name, kind, name, labels, value)
	}
	gauge := func(name, help, value string) { write("patroni_"+name, "gauge", help, "", value) }
	counter := func(name, help, value string) { write("patroni_"+name, "counter", help, "", value) }

	p := m.Postgres
	if !p.Queried {
		p = cluster.Postgres{Pending: p.Pending}
	}
	standby := p.Queried && p.InRecovery
	location := cluster.LSN(0)
	if p.Queried && !p.InRecovery {
		location = p.Flush
	}
	received, replayed, replayedAt := cluster.LSN(0), cluster.LSN(0), ""
	if standby {
		received, replayed, replayedAt = p.Received, p.Replayed, p.ReplayedAt
	}
	gauge("version", "Patroni semver without periods.", paddedVersion(m.Version))
	gauge("postgres_running", "Value is 1 if Postgres is running, 0 otherwise.", bit(m.state == cluster.Running))
	gauge("postmaster_start_time", "Epoch seconds since Postgres started.", epoch(p.StartedText))
	gauge("primary", "Value is 1 if this node is the leader, 0 otherwise.", bit(m.role == cluster.Primary))
	counter("xlog_location", "Current location of the Postgres transaction log, 0 if this node is not the leader.", decimal(location))
	gauge("standby_leader", "Value is 1 if this node is the standby_leader, 0 otherwise.", bit(m.role == cluster.StandbyLeader))
	gauge("replica", "Value is 1 if this node is a replica, 0 otherwise.", bit(m.role == cluster.Replica))
	gauge("sync_standby", "Value is 1 if this node is a sync standby, 0 otherwise.", bit(m.syncStandby()))
	gauge("quorum_standby", "Value is 1 if this node is a quorum standby, 0 otherwise.", bit(m.quorumStandby()))
	counter("xlog_received_location", "Current location of the received Postgres transaction log, 0 if this node is not a replica.", decimal(received))
	counter("xlog_replayed_location", "Current location of the replayed Postgres transaction log, 0 if this node is not a replica.", decimal(replayed))
	gauge("xlog_replayed_timestamp", "Current timestamp of the replayed Postgres transaction log, 0 if null.", epoch(replayedAt))
	gauge("xlog_paused", "Value is 1 if the Postgres xlog is paused, 0 otherwise.", bit(standby && p.ReplayPaused))
	version := 0
	if p.Queried {
		version = p.Version
		replication := p.ReplicationState()
		gauge("postgres_streaming", "Value is 1 if Postgres is streaming, 0 otherwise.", bit(replication == cluster.StateStreaming))
		gauge("postgres_in_archive_recovery", "Value is 1 if Postgres is replicating from archive, 0 otherwise.", bit(replication == cluster.StateArchiveRecovery))
	}
	gauge("postgres_server_version", "Version of Postgres (if running), 0 otherwise.", decimal(version))
	gauge("cluster_unlocked", "Value is 1 if the cluster is unlocked, 0 if locked.", bit(m.unlocked()))
	gauge("failsafe_mode_is_active", "Value is 1 if failsafe mode is active, 0 if inactive.", bit(m.FailsafeActive))
	gauge("failsafe_mode_enabled", "Value is 1 if failsafe_mode is enabled, 0 otherwise.", bit(m.Config.FailsafeMode()))
	gauge("failsafe_member", "Value is 1 if this node is a member of failsafe, 0 otherwise.", bit(m.inFailsafe()))
	gauge("postgres_timeline", "Postgres timeline of this node (if running), 0 otherwise.", decimal(p.Timeline))
	gauge("dcs_last_seen", "Epoch timestamp when DCS was last contacted successfully by Patroni.", decimal(m.lastSeen()))
	gauge("pending_restart", "Value is 1 if the node needs a restart, 0 otherwise.", bit(len(p.Pending) > 0))
	gauge("is_paused", "Value is 1 if auto failover is disabled, 0 otherwise.", bit(m.Pause))
	number := slices.IndexFunc(states, func(s struct {
		state cluster.State
		name  string
	}) bool {
		return s.state == m.state
	})
	write("patroni_postgres_state", "gauge", "Numeric representation of Postgres state.", stateComment, strconv.Itoa(number))
	gauge("failover_priority", "Failover priority of this node.", strconv.Itoa(m.Tags.FailoverPriority()))
}

func (f *facts) inFailsafe() bool {
	if f.Snapshot == nil {
		return false
	}
	_, ok := f.Snapshot.Failsafe[f.Name]
	return ok
}

// label writes a label's value as the text format wants it.
func label(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

func bit(set bool) string {
	if set {
		return "1"
	}
	return "0"
}

func decimal[T ~int | ~int64 | ~uint32 | ~uint64](n T) string { return fmt.Sprintf("%d", n) }

// paddedVersion writes 4.1.4 as 040104.
func paddedVersion(version string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(version, ".") {
		fmt.Fprintf(&b, "%02s", part)
	}
	return b.String()
}

// epoch turns PostgreSQL's text of a time into seconds since 1970; 0 when there is none.
func epoch(text string) string {
	t, ok := parseTimestamp(text)
	if !ok {
		return "0"
	}
	seconds := strconv.FormatFloat(float64(t.UnixMicro())/1e6, 'f', -1, 64)
	if !strings.Contains(seconds, ".") {
		seconds += ".0"
	}
	return seconds
}

// parseTimestamp reads the text of a timestamptz, in ISO style.
func parseTimestamp(text string) (t time.Time, ok bool) {
	for _, layout := range []string{"2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07:00:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return t, false
}

// timestamp shows a time of PostgreSQL as the status document does: six digits of microseconds or none, and the
// minutes of the offset, which PostgreSQL leaves out.
func timestamp(text string) string {
	t, ok := parseTimestamp(text)
	switch {
	case !ok:
		return text
	case t.Nanosecond() == 0:
		return t.Format("2006-01-02 15:04:05-07:00")
	default:
		return t.Format("2006-01-02 15:04:05.000000-07:00")
	}
}
