package integration

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/test/integration/harness"
)

// slotAt is where a slot of a member is: restart_lsn, or what was confirmed of a logical one; 0: it is not there, or nobody answers.
func slotAt(m *harness.Member, name string) cluster.LSN {
	text, err := m.TrySQL("select coalesce(confirmed_flush_lsn, restart_lsn) from pg_replication_slots where slot_name = '" + name + "'")
	if err != nil {
		return 0
	}
	at, _ := cluster.ParseLSN(text)
	return at
}

// hasSlot says whether a member has that slot; known is false when it does not answer.
func hasSlot(m *harness.Member, name string) (has, known bool) {
	n, err := m.TrySQL("select count(*) from pg_replication_slots where slot_name = '" + name + "'")
	return n == "1", err == nil
}

// A permanent physical slot is on every member, follows its consumer there, never past it, and is there after a switchover. What the configuration
// does not know goes, what it says to ignore stays.
func TestPermanentSlots(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Members: 3, Dynamic: harness.Map{
		"slots": harness.Map{
			"backup":    harness.Map{"type": "physical"},
			"here":      harness.Map{"type": "physical", "cluster_type": "primary"},
			"elsewhere": harness.Map{"type": "physical", "cluster_type": "standby"},
		},
		"ignore_slots": []any{harness.Map{"name": "mine", "type": "physical"}},
	}})
	leader := c.Healthy(t, harness.Patience)
	for _, m := range c.Members {
		for _, name := range []string{"backup", "here"} {
			harness.Eventually(t, harness.Patience, m.Name+" has slot "+name, func() bool { has, _ := hasSlot(m, name); return has })
		}
	}
	leader.SQL(t, "select pg_create_physical_replication_slot('mine'), pg_create_physical_replication_slot('stray')")
	harness.Eventually(t, harness.Patience, "the slot that nobody knows goes", func() bool { has, known := hasSlot(leader, "stray"); return known && !has })
	if has, _ := hasSlot(leader, "mine"); !has {
		t.Error("the slot that is to be ignored is gone")
	}

	w := c.Write(t)
	var confirmed cluster.LSN
	consume := func() {
		w.Advance(t, 10, harness.Patience)
		confirmed, _ = cluster.ParseLSN(leader.SQL(t, "select end_lsn from pg_replication_slot_advance('backup', pg_current_wal_flush_lsn())"))
		for _, m := range c.Others(leader) {
			harness.Eventually(t, harness.Patience, fmt.Sprintf("the slot of %s follows to %s", m.Name, confirmed), func() bool { return slotAt(m, "backup") == confirmed })
		}
	}
	consume()
	consume()
	next := c.Others(leader)[0]
	switchover(t, leader, leader, next.Name)
	harness.Eventually(t, harness.Patience, next.Name+" leads", func() bool { return next.Ready("primary") })
	leader = c.Healthy(t, harness.Patience)
	if have := slotAt(leader, "backup"); have != confirmed {
		t.Errorf("the new leader's slot is at %s, its consumer at %s", have, confirmed)
	}
	consume()

	patch(t, leader, harness.Map{"slots": harness.Map{"backup": nil}})
	for _, m := range c.Members {
		harness.Eventually(t, harness.Patience, "the slot goes from "+m.Name+" with its entry", func() bool { has, known := hasSlot(m, "backup"); return known && !has })
		harness.Eventually(t, harness.Patience, m.Name+" keeps the slot of this kind of cluster", func() bool { has, _ := hasSlot(m, "here"); return has })
		if has, _ := hasSlot(m, "elsewhere"); has {
			t.Errorf("%s has the slot of standby clusters", m.Name)
		}
	}
	w.Audit(t, 0)
}

// ready says whether a standby has the logical slot and could go on with it.
func ready(m *harness.Member, slot string) bool {
	s := m.Status()
	has, _ := hasSlot(m, slot)
	return has && s != nil && s.Regent != nil && s.Regent.Reason == "following" && !strings.Contains(strings.Join(s.Regent.UnreadySlots, " "), slot)
}

// failovers is how many of them the consumer goes through: REGENT_FAILOVERS, or a few.
func failovers(t *testing.T) int {
	t.Helper()
	text := os.Getenv("REGENT_FAILOVERS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A consumer of changes reads a permanent logical slot from whoever leads, through switchovers and the deaths of leaders in turn, while
// applications write. It gets every acknowledged row, and none twice over one connection. What comes again after a failover is what it had not confirmed to the
// slot in time: it knows it by its number. REGENT_FAILOVERS=20 says how often.
func TestChangesThroughFailovers(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Dynamic: harness.Map{
		"synchronous_mode": true,
		"slots":            harness.Map{"cdc": harness.Map{"type": "logical", "database": "postgres", "plugin": "test_decoding"}},
		"postgresql": harness.Map{"use_pg_rewind": true, "parameters": harness.Map{
			"wal_level": "logical", "max_connections": 50, "shared_buffers": "16MB", "max_wal_size": "256MB", "wal_keep_size": "64MB", "timezone": "UTC",
		}},
	}})
	leader := c.Healthy(t, harness.Patience)
	harness.Eventually(t, harness.Patience, "the leader has the slot", func() bool { return slotAt(leader, "cdc") != 0 })
	w := c.Write(t)
	consumer := c.Consume(t, "cdc")
	for round := range failovers(t) {
		settled(t, c, leader, 1)
		other := c.Others(leader)[0]
		harness.Eventually(t, harness.Patience, other.Name+" is ready to go on with the slot", func() bool { return ready(other, "cdc") })
		consumer.Has(t, w.Acks())
		before := slotAt(leader, "cdc")
		harness.Eventually(t, harness.Patience, fmt.Sprintf("the slot of %s follows its consumer to %s", other.Name, before), func() bool { return before != 0 && slotAt(other, "cdc") >= before })
		if round%3 < 2 {
			switchover(t, leader, leader, other.Name)
			harness.Eventually(t, harness.Patience, other.Name+" leads", func() bool { return other.Ready("primary") })
		} else {
			leader.KillAll(t)
			successor(t, c, leader)
			leader.Start(t)
		}
		leader = c.Healthy(t, harness.Patience)
		w.AdvanceOn(t, leader, harness.Patience)
	}
	w.Audit(t, 0)
	consumer.Has(t, w.Acks())
	consumer.Audit(t, w)
}
