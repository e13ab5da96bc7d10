package postgres

import (
	"os"
	"testing"
	"time"
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
