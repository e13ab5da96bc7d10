package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/test/integration/harness"
)

// callbacks makes a member note the arguments of each of its callbacks.
func callbacks(m *harness.Member, config harness.Map) {
	script := filepath.Join(m.Dir, "note")
	text := "#!/bin/sh\necho \"$@\" >> " + filepath.Join(m.Dir, "callbacks") + "\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		panic(err)
	}
	all := harness.Map{}
	for _, name := range []string{"on_start", "on_stop", "on_restart", "on_reload", "on_role_change"} {
		all[name] = script
	}
	config["postgresql"].(harness.Map)["callbacks"] = all
}

func called(m *harness.Member) string {
	text, _ := os.ReadFile(filepath.Join(m.Dir, "callbacks"))
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "; ")
}

// What operators do on a quiet day: settings, restarts, pause. Callbacks run with action, role and scope.
func TestQuietDay(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{LoopWait: 10 * time.Second, Member: callbacks})
	leader, w := c.Healthy(t, harness.Patience), c.Write(t)
	replica := c.Others(leader)[0]
	for m, want := range map[*harness.Member]string{leader: "on_start primary " + c.Scope(), replica: "on_start replica " + c.Scope()} {
		harness.Eventually(t, harness.Patience, m.Name+" has had the callback "+want+" and no other", func() bool { return called(m) == want })
	}

	// A setting that PostgreSQL takes in with a reload, and one that needs a restart.
	begin, before := time.Now(), leader.Postmaster()
	patch(t, leader, harness.Map{"postgresql": harness.Map{"parameters": harness.Map{"work_mem": "7MB", "max_connections": 60}}})
	for _, m := range c.Members {
		harness.Eventually(t, harness.Patience, "work_mem of "+m.Name+" is 7MB", func() bool { out, _ := m.TrySQL("show work_mem"); return out == "7MB" })
	}
	harness.Quick(t, "a new setting is in force everywhere, in less than loop_wait", harness.Since(begin), 8*time.Second)
	for _, m := range c.Members {
		harness.Eventually(t, harness.Patience, m.Name+" shows that max_connections waits for a restart", func() bool {
			s := m.Status()
			return s != nil && s.PendingRestart && s.PendingRestartReason["max_connections"] == client.PendingParameter{Old: "50", New: "60"}
		})
	}
	for _, m := range c.Members {
		harness.Eventually(t, harness.Patience, m.Name+" has announced that a restart is due", func() bool {
			s, err := c.Keys.Snapshot(t.Context())
			if err != nil {
				return false
			}
			published, _ := s.Member(m.Name)
			return published.PendingRestart
		})
	}
	harness.Quick(t, "everybody announces a pending restart, in less than loop_wait", harness.Since(begin), 8*time.Second)
	if leader.Postmaster() != before {
		t.Error("PostgreSQL was restarted for a setting")
	}
	for _, m := range []*harness.Member{replica, leader} { // a replica with less than its leader would have to stop
		if said, err := m.API.Restart(limited(t), client.RestartRequest{RestartPending: true}); err != nil {
			t.Fatalf("restart %s: %v %s", m.Name, err, said)
		}
		if have := m.SQL(t, "show max_connections"); have != "60" {
			t.Errorf("have max_connections %s on %s after the restart, want 60", have, m.Name)
		}
		harness.Eventually(t, harness.Patience, m.Name+" waits for no restart", func() bool { s := m.Status(); return s != nil && !s.PendingRestart })
	}
	if now := c.Healthy(t, harness.Patience); now != leader || leader.Now(t).Timeline != 1 {
		t.Errorf("have leader %s, want %s on timeline 1", now.Name, leader.Name)
	}
	for m, role := range map[*harness.Member]string{leader: "primary", replica: "replica"} {
		for _, want := range []string{"on_reload " + role + " " + c.Scope(), "on_restart " + role + " " + c.Scope()} {
			harness.Eventually(t, harness.Patience, m.Name+" has had the callback "+want, func() bool { return strings.Contains(called(m), want) })
		}
	}

	// Pause: the agent may come and go, and what is stopped stays stopped.
	patch(t, leader, harness.Map{"pause": true})
	for _, m := range c.Members {
		harness.Eventually(t, harness.Patience, m.Name+" is paused", func() bool { s := m.Status(); return s != nil && s.Pause })
	}
	before = leader.Postmaster()
	restarted := time.Now()
	leader.SignalAgent(t, syscall.SIGTERM)
	if code := leader.AwaitExit(t, harness.Patience); code != 0 {
		t.Errorf("have exit code %d of an agent that was asked to leave in pause", code)
	}
	w.Advance(t, 10, harness.Patience)
	leader.Start(t)
	harness.Eventually(t, harness.Patience, "the agent is back and holds the lock", func() bool {
		return leader.Ready("primary") && leader.LeaseLeft() > 0 && c.Leader() == leader
	})
	if leader.Postmaster() != before {
		t.Error("PostgreSQL was restarted with the agent, in pause")
	}
	harness.Quick(t, "outage when the agent is restarted in pause, none at all", harness.OutageSince(w.Acks(), restarted), 2*time.Second)
	reached := w.Reached(t, leader, replica)
	leader.SignalPostmaster(t, syscall.SIGKILL)
	harness.Eventually(t, harness.Patience, "the lock is released", func() bool { return c.Leader() == nil })
	harness.Eventually(t, harness.Patience, "the agent says that PostgreSQL is stopped", func() bool { s := leader.Status(); return s != nil && s.State != "running" })
	if pid, s := leader.Postmaster(), replica.Now(t); pid != 0 || s.Role != "replica" || s.State != "running" {
		t.Errorf("in pause, have postmaster %d and a replica that is %+v, want PostgreSQL to stay down and the replica to stay one", pid, s)
	}
	patch(t, replica, harness.Map{"pause": nil})
	now := c.Healthy(t, harness.Patience)
	w.AdvanceOn(t, now, harness.Patience)
	w.Audit(t, reached.Since()) // it was killed: if the replica leads now, the last rows may not have been sent
}

// Planned changes of the leader, each without a lost row, and quick although loop_wait is long.
func TestSwitchovers(t *testing.T) {
	t.Parallel()
	patient := harness.Options{TTL: time.Minute, Retry: 15 * time.Second} // for that long a leader that has stopped waits for an answer of the candidate
	patient.Members, patient.LoopWait, patient.Member = 3, 10*time.Second, callbacks
	c := harness.Start(t, patient)
	first, w := c.Healthy(t, harness.Patience), c.Write(t)
	quick := func(what string, since time.Time) {
		t.Helper()
		harness.Quick(t, "outage of a "+what+", less than loop_wait", harness.OutageSince(w.Acks(), since), 8*time.Second)
	}

	begin := time.Now()
	switchover(t, c.Others(first)[0], first, "")
	second := successor(t, c, first)
	w.AdvanceOn(t, second, harness.Patience)
	c.Healthy(t, harness.Patience)
	quick("switchover to anybody", begin)

	begin = time.Now()
	switchover(t, second, second, first.Name)
	if now := successor(t, c, second); now != first {
		t.Fatalf("have leader %s, want %s", now.Name, first.Name)
	}
	w.AdvanceOn(t, first, harness.Patience)
	c.Healthy(t, harness.Patience)
	quick("switchover to "+first.Name, begin)
	harness.Eventually(t, harness.Patience, "callbacks of a leader that stepped down and came back", func() bool {
		have := called(first)
		return strings.Contains(have, "on_role_change replica "+c.Scope()) && strings.HasSuffix(have, "on_role_change primary "+c.Scope())
	})

	// Refused: somebody who is not there.
	if said, err := first.API.Switchover(limited(t), client.SwitchoverRequest{Leader: first.Name, Candidate: "nobody"}); client.Code(err) != 412 {
		t.Errorf("switchover to nobody: have %q, %v, want 412", said, err)
	}
	// Refused by the leader: somebody who lags by more than maximum_lag_on_failover, which is 1 MiB.
	late := c.Others(first)[0]
	sender := backend(t, first, "select pid from pg_stat_replication where application_name = '"+late.Name+"'")
	kill(t, sender, syscall.SIGSTOP)
	first.SQL(t, "create table ballast as select repeat(md5(i::text), 30) as text from generate_series(1, 20000) i")
	begin = time.Now()
	before := first.Postmaster()
	said, err := first.API.Switchover(limited(t), client.SwitchoverRequest{Leader: first.Name, Candidate: late.Name})
	kill(t, sender, syscall.SIGCONT)
	if client.Code(err) != 503 {
		t.Errorf("switchover to a member that lags: have %q, %v, want 503", said, err)
	}
	if c.Leader() != first || first.Postmaster() != before {
		t.Error("a switchover to a member that lags has touched the leader")
	}
	c.Healthy(t, harness.Patience)
	quick("refused switchover", begin)

	// Scheduled.
	asked := time.Now()
	at := asked.Add(10 * time.Second)
	if said, err := first.API.Switchover(limited(t), client.SwitchoverRequest{Leader: first.Name, Candidate: late.Name, ScheduledAt: &at}); err != nil {
		t.Fatalf("schedule a switchover: %v %s", err, said)
	}
	harness.Eventually(t, harness.Patience, "the scheduled switchover is shown", func() bool {
		v, err := first.API.Cluster(limited(t))
		return err == nil && v.ScheduledSwitchover != nil && v.ScheduledSwitchover.To == late.Name
	})
	w.AdvanceOn(t, late, harness.Patience)
	if early := at.Sub(harness.FirstAcked(w.Acks(), late, asked)); early > 0 {
		t.Errorf("the scheduled switchover came %s too early", early)
	}
	quick("scheduled switchover", at)
	c.Healthy(t, harness.Patience)

	// The leader's agent is asked to leave: it hands over first.
	begin = time.Now()
	late.SignalAgent(t, syscall.SIGTERM)
	if code := late.AwaitExit(t, harness.Patience); code != 0 {
		t.Errorf("have exit code %d of an agent that was asked to leave", code)
	}
	third := c.HealthyWith(t, harness.Patience, c.Others(late)...)
	w.AdvanceOn(t, third, harness.Patience)
	quick("hand-over of a leaving agent", begin)
	if late.Postmaster() != 0 {
		t.Error("PostgreSQL runs although its agent has left")
	}
	late.Start(t)
	c.Healthy(t, harness.Patience)
	w.Advance(t, 5, harness.Patience)

	var history []client.HistoryEntry
	harness.Eventually(t, harness.Patience, "the history has four timelines that ended", func() bool {
		history, err = third.API.History(limited(t))
		return err == nil && len(history) >= 4
	})
	if len(history) != 4 {
		t.Errorf("have history %v, want four timelines that ended", history)
	}
	for i, want := range []string{second.Name, first.Name, late.Name, third.Name} {
		if i < len(history) && (history[i].NewLeader != want || history[i].Timeline != uint32(i+1) || history[i].LSN == 0 || history[i].Timestamp == "") {
			t.Errorf("have entry %+v, want timeline %d to end with %s", history[i], i+1, want)
		}
	}
	table := c.Command(t, "history")
	for _, name := range []string{second.Name, first.Name, late.Name, third.Name} {
		if !strings.Contains(table, name) {
			t.Errorf("regent history does not name %s:\n%s", name, table)
		}
	}
	w.Audit(t, 0)
}

// The candidate dies in the middle of the switchover, when the leader waits for it to receive the last WAL. The leader leads
// again; nothing is lost.
func TestCandidateKilledInSwitchover(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{LoopWait: 10 * time.Second})
	leader, w := c.Healthy(t, harness.Patience), c.Write(t)
	candidate := c.Others(leader)[0]
	sender := backend(t, leader, "select pid from pg_stat_replication where application_name = '"+candidate.Name+"'")
	kill(t, sender, syscall.SIGSTOP)
	begin := time.Now()
	answer := make(chan error, 1)
	go func() {
		_, err := leader.API.Switchover(limited(t), client.SwitchoverRequest{Leader: leader.Name, Candidate: candidate.Name})
		answer <- err
	}()
	harness.Eventually(t, harness.Patience, "the leader stops: it lets nobody in", func() bool {
		_, err := leader.TrySQL("select 1")
		return leader.Logged("reason=switchover ") && err != nil && !pgconn.Timeout(err)
	})
	candidate.KillAll(t)
	kill(t, sender, syscall.SIGCONT)
	w.AdvanceOn(t, leader, harness.Patience)
	harness.Quick(t, "outage when the candidate dies, less than loop_wait", harness.OutageSince(w.Acks(), begin), 9*time.Second)
	if err := <-answer; err == nil {
		t.Error("the switchover to a dead candidate is reported as a success")
	}
	candidate.Start(t)
	if now := c.Healthy(t, harness.Patience); now != leader {
		t.Errorf("have leader %s, want %s", now.Name, leader.Name)
	}
	w.Audit(t, 0)
}

// The leader is dead and an operator names who is to lead: it does when the dead one's lock ends, and nobody else.
func TestFailoverToCandidate(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Members: 3})
	dead, w := c.Healthy(t, harness.Patience), c.Write(t)
	candidate := c.Others(dead)[1]
	reached := w.Reached(t, dead, candidate)
	dead.KillAll(t)
	gone := time.Now()
	// The answer is waited for during ttl, which is about when the dead one's lock ends.
	if said, err := candidate.API.Failover(limited(t), candidate.Name); err != nil && !unknown(err) {
		t.Errorf("failover: %v %s", err, said)
	}
	w.AdvanceOn(t, candidate, harness.Patience)
	harness.Quick(t, "the candidate writes, after ttl and a little", harness.Since(gone), 25*time.Second)
	dead.Start(t)
	if now := c.Healthy(t, harness.Patience); now != candidate {
		t.Errorf("have leader %s, want %s", now.Name, candidate.Name)
	}
	w.Audit(t, reached.Since()) // rows that the dead one had not sent
}
