package ha

import (
	"fmt"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Heartbeat is a leader that has lost the store and asks us not to take the lock (ha.md 2.18, rest-api.md section 10), and what we
// know when it does.
type Heartbeat struct {
	From      string // who asks
	To, Scope string // who is meant, and in which cluster: an address may have become somebody else's, and what a stranger promises is worth nothing. Empty: Patroni does not say

	Slots map[string]cluster.LSN // where its consumers are

	Now       time.Time
	Self      string // our member name ...
	Cluster   string // ... and our cluster's
	Failsafe  bool   // failsafe_mode is on here
	Store     *cluster.Snapshot
	Postgres  cluster.Postgres
	Fenced    bool // the guard stands over our PostgreSQL
	Promotion bool // one was asked for that may still come true
	Lock      Lock
	Asking    bool // the store is asked for the lock, or to renew it, at the moment
}

// Refusal is why we do not promise it.
type Refusal string

const (
	FailsafeOff  Refusal = "failsafe-off"
	NotMeant     Refusal = "not-meant"
	MayLead      Refusal = "may-lead" // we lead, are about to, or cannot rule it out
	AnotherLeads Refusal = "another-leads"
)

// Refuse says whether a leader may not count on us, and why; empty: we promise. Nobody may promise who could be a primary, now or by
// what is on its way: from the moment in which we ask for the lock (ha.md G19, D-4), and until a lock that we held has run out.
func (h *Heartbeat) Refuse() (Refusal, string) {
	p := &h.Postgres
	switch {
	case !h.Failsafe:
		return FailsafeOff, "failsafe mode is off"
	case h.To != "" && (h.To != h.Self || h.Scope != h.Cluster):
		return NotMeant, fmt.Sprintf("%s of %s is meant, this is %s of %s", h.To, h.Scope, h.Self, h.Cluster)
	case h.From == h.Self:
		return NotMeant, "the sender bears our name"
	case p.Dir == "":
		return MayLead, "PostgreSQL was not looked at yet"
	case p.Dir == cluster.DirPresent && !p.StandbySignal && !(p.Queried && p.InRecovery):
		return MayLead, "the data directory is a primary's"
	case h.Fenced:
		return MayLead, "the guard stands over PostgreSQL"
	case h.Promotion:
		return MayLead, "a promotion may still come true"
	case h.Asking:
		return MayLead, "we ask for the lock"
	case h.Lock.Held && h.Now.Before(h.Lock.Deadline):
		return MayLead, "the lock is ours"
	case h.Store != nil && h.Store.Leader.Name != h.From && h.Store.Failsafe[h.Store.Leader.Name] != "": // who is not listed cannot lead
		return AnotherLeads, fmt.Sprintf("the lock is %s's", h.Store.Leader.Name)
	}
	return "", ""
}
