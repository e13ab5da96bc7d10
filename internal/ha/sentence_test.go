package ha

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
)

const (
	sentencesList = "../../docs/reference/compat/log.txt"
	sentencesPage = "../../docs/reference/log.md"
)

// Each sentence of Patroni's is in the table, or the list says why not; and nothing else is in the table.
func TestSentences(t *testing.T) {
	list, err := os.ReadFile(sentencesList)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) > 1 && cells[1] == "TestSentences" {
			listed[cells[0]] = true
		}
	}
	said := map[string]bool{}
	for _, s := range sentences {
		for _, line := range strings.Split(s.text, "\n") {
			said[line] = true
			if !listed[line] {
				t.Errorf("%s: %q is not in %s", s.reason, line, sentencesList)
			}
		}
	}
	for line := range listed {
		if !said[line] {
			t.Errorf("%q is listed, and no reason has it", line)
		}
	}
}

// The page for operators is made from the table. Rewrite it with -rewrite.
func TestSentencesPage(t *testing.T) {
	var page strings.Builder
	page.WriteString(`# What the log says

Where Patroni has a sentence for a decision, the record's message is that sentence; else it is ` + "`decided`" + `. Ours follows as attributes: the
[reason](reasons.md), its values, what was done, and where PostgreSQL was:

    2026-01-31 12:00:00,123 INFO: promoted self to leader by acquiring session lock reason=healthiest detail="nobody is ahead of 0/5000060" actions="[acquire-leader promote]" at=0/5000060

A decision is logged when it acts or its reason is new, and before it a line ` + "`Lock owner: pg1; I am pg2`" + `. What begins with ` + "`no action.`" + ` is said again
in each cycle, at most every half loop_wait, unless ` + "`log.deduplicate_heartbeat_logs`" + ` is set. Under a pause the sentence begins with ` + "`PAUSE: `" + `. If an action
failed the message is ` + "`decided`" + `, with the errors. The sentences of Patroni that are not here stand in [compatibility.md](compatibility.md#log) with what says the same.

| Reason | Where | Sentence |
|---|---|---|
`)
	for _, s := range sentences {
		fmt.Fprintf(&page, "| `%s` | %s | %s |\n", s.reason, s.when, strings.ReplaceAll(s.text, "\n", "<br>"))
	}
	if flag.Lookup("rewrite").Value.String() == "true" {
		if err := os.WriteFile(sentencesPage, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(sentencesPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page.String() {
		t.Errorf("%s is not what sentence.go says; run: go test ./internal/ha -run SentencesPage -rewrite", sentencesPage)
	}
}

func TestSayLines(t *testing.T) {
	store := func(leader string, f cluster.Failover) *cluster.Snapshot {
		return &cluster.Snapshot{Leader: cluster.Leader{Name: leader}, Failover: f}
	}
	with := func(s *cluster.Snapshot, name string) *cluster.Snapshot {
		s.Members = []cluster.Member{{Name: name, ConnURL: "postgres://10.0.0.1:5432/postgres"}}
		return s
	}
	none := cluster.Failover{}
	follows := Limits{Type: cluster.FollowsAnother, Remote: cluster.Upstream{Host: "far", Port: 5432}}
	for name, tt := range map[string]struct {
		v         View
		d         Decision
		want      string // lines, then the sentence
		heartbeat bool
	}{
		"leader at rest":            {View{Self: "pg1", Store: store("pg1", none)}, Decision{Reason: HealthyPrimary, Actions: []Action{WriteStatus{}}}, "no action. I am (pg1), the leader with the lock", true},
		"replica at rest":           {View{Self: "pg2", Store: store("pg1", none)}, Decision{Reason: Following}, "no action. I am (pg2), a secondary, and following a leader (pg1)", true},
		"under a pause":             {View{Self: "pg2", Store: store("pg1", none), Limits: Limits{Paused: true}}, Decision{Reason: Following}, "PAUSE: no action. I am (pg2), a secondary, and following a leader (pg1)", true},
		"election won":              {View{Self: "pg2", Store: store("", none)}, Decision{Reason: Healthiest, Actions: []Action{AcquireLeader{}, Promote{}}}, "Lock owner: None; I am pg2\npromoted self to leader by acquiring session lock", false},
		"named candidate":           {View{Self: "pg2", Store: store("", cluster.Failover{From: "pg1", Candidate: "pg2"})}, Decision{Reason: CandidateIsMe, Actions: []Action{AcquireLeader{}, WriteFailover{}, Promote{}}}, "Lock owner: None; I am pg2\nCleaning up failover key after acquiring leader lock...\npromoted self to leader by acquiring session lock", false},
		"under a pause, from whom":  {View{Self: "pg2", Store: store("", none)}, Decision{Reason: CandidateIsMe, Actions: []Action{AcquireLeader{}, WriteFailover{cluster.Failover{Candidate: "pg2"}}, Promote{}}}, "Lock owner: None; I am pg2\nUpdating failover key after acquiring leader lock...\npromoted self to leader by acquiring session lock", false},
		"too far behind":            {View{Self: "pg2", Store: store("", none)}, Decision{Reason: LagTooHigh}, "Lock owner: None; I am pg2\nMy wal position exceeds maximum replication lag\nfollowing a different leader because i am not the healthiest node", false},
		"switchover":                {View{Self: "pg1", Store: store("pg1", cluster.Failover{From: "pg1", Candidate: "pg2"})}, Decision{Reason: SwitchoverStart, Actions: []Action{Demote{Mode: Graceful}}}, "Lock owner: pg1; I am pg1\nDemoting self (graceful)\nswitchover: demoting myself", false},
		"failover by hand":          {View{Self: "pg1", Store: store("pg1", cluster.Failover{Candidate: "pg2"})}, Decision{Reason: RequestImpossible, Actions: []Action{WriteFailover{}}}, "Lock owner: pg1; I am pg1\nCleaning up failover key\nmanual failover: no healthy members found, failover is not possible", false},
		"handed over":               {View{Self: "pg1", Store: store("pg1", none)}, Decision{Reason: HandOver, Actions: []Action{ReleaseLeader{}}}, "Leader key released\n", false},
		"lost the lock":             {View{Self: "pg1", Store: store("pg2", none)}, Decision{Reason: LockLost, Actions: []Action{Demote{Mode: NoLock}}}, "Lock owner: pg2; I am pg1\nDemoting self (immediate-nolock)\ndemoting self because I do not have the lock and I was a leader", false},
		"without the store":         {View{Self: "pg1"}, Decision{Reason: LockExpiring, Actions: []Action{Demote{Mode: Offline}}}, "Demoting self (offline)\ndemoting self because DCS is not accessible and I was a leader", false},
		"a job":                     {View{Self: "pg1", Store: store("pg1", none), Lock: Lock{Held: true}, Job: &Job{Name: JobPromote}}, Decision{Reason: Busy}, "Lock owner: pg1; I am pg1\nupdated leader lock during promote", false},
		"a replica's job":           {View{Self: "pg2", Store: with(store("pg1", none), "pg1"), Job: &Job{Name: JobRewind}}, Decision{Reason: Busy}, "Lock owner: pg1; I am pg2\nrunning pg_rewind from pg1 in progress", false},
		"standby leader at rest":    {View{Self: "pg1", Store: store("pg1", none), Limits: follows}, Decision{Reason: StandbyLeading}, "no action. I am (pg1), the standby leader with the lock", true},
		"its replica at rest":       {View{Self: "pg2", Store: store("pg1", none), Limits: follows}, Decision{Reason: Following}, "no action. I am (pg2), a secondary, and following a standby leader (pg1)", true},
		"standby election won":      {View{Self: "pg2", Store: store("", none), Limits: follows}, Decision{Reason: Healthiest, Actions: []Action{AcquireLeader{}}}, "Lock owner: None; I am pg2\npromoted self to a standby leader by acquiring session lock", false},
		"standby leader rewinds":    {View{Self: "pg1", Store: store("pg1", none), Limits: follows}, Decision{Reason: RewindNeeded, Actions: []Action{Rewind{}}}, "Lock owner: pg1; I am pg1\nrunning pg_rewind from far:5432", false},
		"a job that has no name":    {View{Self: "pg2", Store: store("pg1", none), Job: &Job{Name: JobDivergence}}, Decision{Reason: Busy}, "", false},
		"a reason that has no word": {View{Self: "pg2", Store: store("pg1", none)}, Decision{Reason: LockFree}, "", false},
	} {
		lines, say, heartbeat := tt.d.Say(&tt.v)
		if have := strings.Join(slices.Concat(lines, []string{say}), "\n"); have != tt.want || heartbeat != tt.heartbeat {
			t.Errorf("%s: have %q, heartbeat %v; want %q, %v", name, have, heartbeat, tt.want, tt.heartbeat)
		}
	}
}
