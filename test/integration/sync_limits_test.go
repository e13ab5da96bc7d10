package integration

import (
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/test/integration/harness"
)

// What synchronous mode does not promise, as docs/operations/synchronous.md says: a replica may lack what was acknowledged; and a commit whose wait
// somebody cancelled is told to be done, with a warning, is seen by others, and is gone with the leader.
func TestSynchronousLimits(t *testing.T) {
	t.Parallel()
	// No timeout ends a replication that stands still.
	c := harness.Start(t, synchronous(harness.Map{"postgresql": harness.Map{"use_pg_rewind": true, "parameters": harness.Map{
		"max_connections": 50, "shared_buffers": "16MB", "wal_keep_size": "64MB", "wal_sender_timeout": 0, "wal_receiver_timeout": 0,
	}}}))
	leader := c.Healthy(t, harness.Patience)
	standby := c.Others(leader)[0]
	settled(t, c, leader, 1)
	leader.SQL(t, "create table promise (what text)")
	has := func(m *harness.Member, what string) bool {
		t.Helper()
		return m.SQL(t, "select count(*) from promise where what = '"+what+"'") == "1"
	}
	harness.Eventually(t, harness.Patience, "the standby has the table", func() bool {
		_, err := standby.TrySQL("select from promise")
		return err == nil
	})

	// Not pg_wal_replay_pause: the agent takes that back.
	replay := backend(t, standby, "select pid from pg_stat_activity where backend_type = 'startup'")
	kill(t, replay, syscall.SIGSTOP)
	leader.SQL(t, "insert into promise values ('acknowledged')")
	if !has(leader, "acknowledged") {
		t.Error("the leader does not show what it has acknowledged")
	}
	if has(standby, "acknowledged") {
		t.Error("the standby shows what it has not replayed")
	}
	kill(t, replay, syscall.SIGCONT)
	harness.Eventually(t, harness.Patience, "the standby shows it", func() bool { return has(standby, "acknowledged") })

	sender := backend(t, leader, "select pid from pg_stat_replication")
	kill(t, sender, syscall.SIGSTOP)
	var remarks sync.Map
	session := leader.Open(t, func(n *pgconn.Notice) { remarks.Store(n.Message, n.Detail) })
	told := make(chan error, 1)
	go func() {
		_, err := session.Exec(limited(t), "insert into promise values ('cancelled')")
		told <- err
	}()
	var pid string
	harness.Eventually(t, harness.Patience, "its commit waits for the standby", func() bool {
		var err error
		pid, err = leader.TrySQL("select pid from pg_stat_activity where wait_event = 'SyncRep' and query like '%cancelled%'")
		return err == nil && pid != ""
	})
	if has(leader, "cancelled") {
		t.Error("others see a row whose commit waits")
	}
	leader.SQL(t, "select pg_cancel_backend("+pid+")")
	if err := <-told; err != nil {
		t.Errorf("a cancelled wait: have %v, want the commit to be told as done", err)
	}
	warned := false
	remarks.Range(func(message, detail any) bool {
		warned = warned || strings.Contains(message.(string), "canceling wait for synchronous replication") && strings.Contains(detail.(string), "might not have been replicated")
		return true
	})
	if !warned {
		t.Error("the session was not warned that its row may not have been replicated")
	}
	if !has(leader, "cancelled") {
		t.Error("others do not see a row whose wait was cancelled")
	}

	leader.KillAll(t)
	next := successor(t, c, leader)
	if !has(next, "acknowledged") {
		t.Errorf("%s lacks what was acknowledged", next.Name)
	}
	if has(next, "cancelled") {
		t.Errorf("%s has what no standby had received", next.Name)
	}
	leader.Start(t)
	c.Healthy(t, harness.Patience)
}
