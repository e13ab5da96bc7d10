package rest

import (
	"fmt"
	"net/http"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// waivesHeader tells other members that this one leads by no promise of theirs (ADR 25): whoever has forgotten what it promised is not bound by it.
const waivesHeader = "Regent-Counts-On"

var waivesNobody = []string{"nobody"}

// patroni answers GET /patroni: always 200, with an observation that is nearly new.
func (s *Server) patroni(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := s.observing(r)
	defer cancel()
	m := s.moment(s.control.Observed(ctx, documentAge))
	if s.control.Waives() { // of this moment, unlike what was published last
		w.Header()[waivesHeader] = waivesNobody
	}
	s.reply(w, r, http.StatusOK, jsonType, m.document())
}

// document returns the encoded status document (rest-api.md section 4). It depends on the status and on whether the
// view of the store still counts, so both forms are kept beside the status.
func (m *moment) document() []byte {
	kept := &m.bodies[0]
	if m.view {
		kept = &m.bodies[1]
	}
	if b := kept.Load(); b != nil {
		return *b
	}
	b := m.describe().EncodeSpaced()
	kept.Store(&b)
	return b
}

func (m *moment) describe() cluster.Value {
	var o object
	p := &m.Postgres
	o.text("state", string(m.state))
	if p.Queried {
		o.text("postmaster_start_time", timestamp(p.StartedText))
	}
	o.text("role", string(m.role))
	if p.Queried {
		o.add("server_version", number(p.Version))
		o.add("xlog", positions(p))
	}
	o.flag("sync_standby", m.syncStandby())
	o.flag("quorum_standby", m.quorumStandby())
	if p.Queried {
		timeline := cluster.Value{}
		if p.Timeline != 0 {
			timeline = number(p.Timeline)
		}
		o.add("timeline", timeline)
		o.text("replication_state", p.ReplicationState())
		if len(p.Walsenders) > 0 {
			o.add("replication", walsenders(p.Walsenders))
		}
	}
	o.flag("pause", m.Pause)
	o.flag("cluster_unlocked", m.unlocked())
	o.flag("failsafe_mode_is_active", m.FailsafeActive)
	o.add("dcs_last_seen", cluster.Int(m.lastSeen()))
	if len(m.tags) > 0 {
		o.add("tags", cluster.Value{Kind: cluster.Object, Fields: m.tags})
	}
	if m.State != cluster.CreatingReplica {
		o.text("database_system_identifier", m.SystemID)
	}
	if len(p.Pending) > 0 {
		o.flag("pending_restart", true)
		o.add("pending_restart_reason", cluster.EncodePending(p.Pending))
	}
	o.add("patroni", object{
		{Name: "version", Value: cluster.Text(m.Version)},
		{Name: "scope", Value: cluster.Text(m.Scope)},
		{Name: "name", Value: cluster.Text(m.Name)},
	}.value())
	if m.ScheduledRestart != nil {
		o.add("scheduled_restart", m.ScheduledRestart.Value().Set(cluster.Value{}, "postmaster_start_time"))
	}
	o.flag("watchdog_failed", m.WatchdogFailed)
	o.add("regent", m.own())
	return o.value()
}

// own is what Patroni has no field for: our version, why we do what we do, and how far a long job is.
func (m *moment) own() cluster.Value {
	var o object
	o.text("version", m.Regent)
	o.text("reason", m.Reason)
	o.text("store_error", m.StoreError)
	if len(m.UnreadySlots) > 0 {
		slots := list()
		for _, name := range m.UnreadySlots {
			slots.Items = append(slots.Items, cluster.Text(name))
		}
		o.add("unready_slots", slots)
	}
	if d := m.Durability; d != nil {
		o.add("durability", object{
			{Name: "survive", Value: cluster.Text(string(d.Survive))}, {Name: "met", Value: cluster.Flag(d.Met)}, {Name: "detail", Value: cluster.Text(d.Detail)},
		}.value())
	}
	o.add("guard", m.guard())
	if j := m.Job; j != nil {
		var job object
		job.text("name", j.Name)
		job.text("phase", j.Phase)
		if j.Done != 0 || j.Total != 0 {
			job.add("done_bytes", cluster.Int(j.Done))
		}
		if j.Total != 0 {
			job.add("total_bytes", cluster.Int(j.Total))
		}
		job.text("detail", j.Detail)
		o.add("job", job.value())
	}
	return o.value()
}

// guard says whether PostgreSQL would be ended with the lock if this agent could not do it.
func (m *moment) guard() cluster.Value {
	var o object
	g := &m.Guard
	o.add("alive", cluster.Flag(g.Alive))
	o.add("armed", cluster.Flag(g.Armed))
	o.text("state", g.State)
	if g.Alive {
		o.add("pid", cluster.Int(int64(g.Pid)))
	}
	if g.Armed {
		o.add("deadline_in", cluster.Value{Kind: cluster.Number, Text: fmt.Sprintf("%.3f", max(g.Deadline.Sub(m.now), 0).Seconds())})
	}
	o.add("kills", cluster.Int(int64(g.Kills)))
	if g.Kills > 0 {
		o.text("last_kill", g.Killed.UTC().Format(time.RFC3339))
	}
	if len(g.Lacks) > 0 {
		lacks := list()
		for _, l := range g.Lacks {
			lacks.Items = append(lacks.Items, cluster.Text(l))
		}
		o.add("lacks", lacks)
	}
	if !g.Alive {
		o.text("problem", g.Problem)
	}
	o.flag("watchdog", g.Watchdog)
	return o.value()
}

// lastSeen is when the store was last read, in seconds since 1970; 0: never.
func (f *facts) lastSeen() int64 {
	if f.SnapshotWall.IsZero() {
		return 0
	}
	return f.SnapshotWall.Unix()
}

func positions(p *cluster.Postgres) cluster.Value {
	if !p.InRecovery {
		return object{{Name: "location", Value: number(p.Flush)}}.value()
	}
	return object{
		{Name: "received_location", Value: number(p.Received)},
		{Name: "replayed_location", Value: number(p.Replayed)},
		{Name: "replayed_timestamp", Value: orNull(timestamp(p.ReplayedAt))},
		{Name: "paused", Value: cluster.Flag(p.ReplayPaused)},
	}.value()
}

func walsenders(senders []cluster.Walsender) cluster.Value {
	v := list()
	for _, s := range senders {
		v.Items = append(v.Items, object{
			{Name: "usename", Value: orNull(s.User)},
			{Name: "application_name", Value: cluster.Text(s.Application)},
			{Name: "client_addr", Value: orNull(s.Address)},
			{Name: "state", Value: orNull(s.State)},
			{Name: "sync_state", Value: orNull(s.SyncState)},
			{Name: "sync_priority", Value: cluster.Int(int64(s.SyncPriority))},
		}.value())
	}
	return v
}
