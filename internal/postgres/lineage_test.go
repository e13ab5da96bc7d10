package postgres

import (
	"os"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// A standby once fetched the history of a timeline 2 that it could not follow, and whose leader is lost. The present leader is on timeline
// 4, which fits; numbers in between were skipped.
func TestALostLeadersHistoryDoesNotKeepAStandbyFromStarting(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	b := cloned(t, a, "pg2")
	a.sql(t, "CREATE TABLE t (i int)")
	caughtUp(t, b, a)
	stopFast(t, a)
	stopFast(t, b)
	must(t, a.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby}))
	must(t, a.Promote(within(t, 20*time.Second), 3, nil))
	must(t, a.releaseNumbers()) // as its next start does
	a.sql(t, "INSERT INTO t VALUES (1)")
	must(t, os.WriteFile(b.historyFile(2), []byte("1\t0/1000028\tno recovery target specified\n"), 0o600))
	if err := b.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby, Upstream: upstreamFrom(a)}); err == nil {
		t.Fatal("the standby starts although timeline 2 is no child of its history: nothing is shown here")
	}
	verdict(t, b, a, 4, NotNeeded)
	follow(t, b, a)
	caughtUp(t, b, a)
	if text, err := os.ReadFile(b.historyFile(2)); err != nil || len(text) == 0 || text[0] != '1' {
		t.Errorf("have %q, %v; want the file that was there left alone", text, err)
	}
}

// The same, and nobody leads: this member may have the newest data that there is. What it begins is no second timeline 2.
func TestALostLeadersHistoryDoesNotKeepTheLastMemberFromLeading(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	b := cloned(t, a, "pg2")
	a.sql(t, "CREATE TABLE t (i int)")
	caughtUp(t, b, a)
	stopFast(t, a)
	stopFast(t, b)
	must(t, os.WriteFile(b.historyFile(2), []byte("1\t0/1000028\tno recovery target specified\n"), 0o600))
	must(t, b.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby}))
	stopFast(t, b)
	must(t, b.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby}))
	must(t, b.Promote(within(t, 20*time.Second), 0, nil))
	if have := b.sql(t, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"); have != "00000003" {
		t.Errorf("have timeline %s, want 00000003", have)
	}
	if text, err := os.ReadFile(b.historyFile(2) + ".aside"); err != nil || len(text) == 0 || text[0] != '1' {
		t.Errorf("have %q, %v; want the file that was there moved aside", text, err)
	}
}

// The leader is on timeline 1, after a store was restored from a backup, say, and the history of the timeline 2 that there was came along with a
// rewind. A standby would not start on it, or wait for it.
func TestANewerHistoryDoesNotKeepAStandbyFromItsLeader(t *testing.T) {
	t.Parallel()
	a := bootstrapped(t)
	b := cloned(t, a, "pg2")
	a.sql(t, "CREATE TABLE t (i int)")
	caughtUp(t, b, a)
	stopFast(t, b)
	must(t, os.WriteFile(b.historyFile(2), []byte("1\t0/1000028\tno recovery target specified\n"), 0o600))
	if err := b.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby, Upstream: upstreamFrom(a)}); err == nil {
		t.Fatal("the standby starts although timeline 2 is no child of its history: nothing is shown here")
	}
	verdict(t, b, a, 1, NotNeeded)
	follow(t, b, a)
	caughtUp(t, b, a)
	if text, err := os.ReadFile(b.historyFile(2) + ".aside"); err != nil || len(text) == 0 || text[0] != '1' {
		t.Errorf("have %q, %v; want the file that was there moved aside", text, err)
	}
}

func TestWhichHistoriesLeadOn(t *testing.T) {
	history := []cluster.HistoryEntry{{Timeline: 1, LSN: 0x1000}, {Timeline: 3, LSN: 0x2000}}
	for _, c := range []struct {
		name    string
		control cluster.Control
		want    bool
	}{
		{"on timeline 1 before it was left", cluster.Control{Checkpoint: 0xfff, CheckpointTLI: 1}, true},
		{"on timeline 1 after it was left", cluster.Control{Checkpoint: 0x1000, CheckpointTLI: 1}, false},
		{"on timeline 3", cluster.Control{Checkpoint: 0x1000, CheckpointTLI: 3}, true},
		{"on a timeline 2 that it never was on", cluster.Control{Checkpoint: 0x1800, CheckpointTLI: 2}, false},
		{"on timeline 4 itself", cluster.Control{Checkpoint: 0x2000, CheckpointTLI: 4}, true},
		{"consistent right where timeline 3 was left", cluster.Control{Checkpoint: 0x1800, CheckpointTLI: 3, MinRecovery: 0x2000, MinRecoveryTLI: 3}, true},
		{"consistent only after that", cluster.Control{Checkpoint: 0x1800, CheckpointTLI: 3, MinRecovery: 0x2001, MinRecoveryTLI: 3}, false},
	} {
		if have := leadsOn(history, 4, &c.control); have != c.want {
			t.Errorf("%s: have %v, want %v", c.name, have, c.want)
		}
	}
}
