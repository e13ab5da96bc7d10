package postgres

import (
	"os"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// pair is a primary and its standby, which has replayed everything.
func pair(t *testing.T) (primary, standby *Instance) {
	primary = bootstrapped(t)
	standby = cloned(t, primary, "pg2")
	primary.sql(t, "CREATE TABLE t (i int)")
	caughtUp(t, standby, primary)
	return primary, standby
}

// lostTimeline is the history file of a timeline 2 that left ours in the past, and whose leader is lost.
const lostTimeline = "1\t0/1000028\tno recovery target specified\n"

func knowsLostTimeline(t *testing.T, p *Instance) {
	must(t, os.WriteFile(p.historyFile(2), []byte(lostTimeline), 0o600))
}

func hasLostTimeline(t *testing.T, file string) {
	t.Helper()
	if text, err := os.ReadFile(file); err != nil || string(text) != lostTimeline {
		t.Errorf("have %q, %v in %s; want the history that was there", text, err, file)
	}
}

func doesNotStart(t *testing.T, standby, primary *Instance) {
	t.Helper()
	if err := standby.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby, Upstream: upstreamFrom(primary)}); err == nil {
		t.Fatal("the standby starts although timeline 2 is no child of its history: nothing is shown here")
	}
}

// A standby once fetched the history of a timeline 2 that it could not follow, and whose leader is lost. The present leader is on timeline
// 4, which fits; numbers in between were skipped.
func TestALostLeadersHistoryDoesNotKeepAStandbyFromStarting(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	stopFast(t, a)
	stopFast(t, b)
	must(t, a.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby}))
	must(t, a.Promote(within(t, 20*time.Second), 3, nil))
	must(t, a.releaseNumbers()) // as its next start does
	a.sql(t, "INSERT INTO t VALUES (1)")
	knowsLostTimeline(t, b)
	doesNotStart(t, b, a)
	verdict(t, b, a, 4, NotNeeded)
	follow(t, b, a)
	caughtUp(t, b, a)
	hasLostTimeline(t, b.historyFile(2))
}

// The same, and nobody leads: this member may have the newest data that there is. What it begins is no second timeline 2.
func TestALostLeadersHistoryDoesNotKeepTheLastMemberFromLeading(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	stopFast(t, a)
	stopFast(t, b)
	knowsLostTimeline(t, b)
	must(t, b.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby}))
	stopFast(t, b)
	must(t, b.Start(within(t, 20*time.Second), StartOptions{Mode: AsStandby}))
	must(t, b.Promote(within(t, 20*time.Second), 0, nil))
	if have := b.sql(t, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"); have != "00000003" {
		t.Errorf("have timeline %s, want 00000003", have)
	}
	hasLostTimeline(t, b.historyFile(2)+".aside")
}

// The leader is on timeline 1, after a store was restored from a backup, say, and the history of the timeline 2 that there was came along with a
// rewind. A standby would not start on it, or wait for it.
func TestANewerHistoryDoesNotKeepAStandbyFromItsLeader(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	stopFast(t, b)
	knowsLostTimeline(t, b)
	doesNotStart(t, b, a)
	verdict(t, b, a, 1, NotNeeded)
	follow(t, b, a)
	caughtUp(t, b, a)
	hasLostTimeline(t, b.historyFile(2)+".aside")
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
