package sim

import "time"

// theme is a few faults that mean more together than each alone; chance alone brings them together too seldom. They strike
// in this order within seconds, and each lasts through the next ones.
type theme []struct {
	kind string
	who  int           // Leader, or 1, 2 …: the same other member each time
	wait time.Duration // after the one before, at least
}

const (
	soon   = 0
	ending = 10 * time.Second // a lock that cannot be renewed runs out
	later  = 30 * time.Second // somebody else leads by now
)

var themes = []theme{
	{{"replay-stall", 2, soon}, {"stream-stall", 1, soon}, {"host-lost", Leader, soon}},                    // who has more WAL, and who has replayed more?
	{{"stream-stall", 1, soon}, {"both-frozen", Leader, soon}},                                             // lag
	{{"stream-stall", 1, soon}, {"switchover", 1, soon}},                                                   // to somebody who lags
	{{"pause", Leader, soon}, {"cut-store", Leader, soon}, {"failover", 1, soon}, {"host-lost", 1, later}}, // an old primary comes back to a free lock
	{{"pause", Leader, soon}, {"agent-killed", Leader, soon}, {"failover", 1, soon}, {"postgres-killed", Leader, soon}},
	{{"fail-promote", 1, soon}, {"host-lost", Leader, soon}},
	{{"fail-start", Leader, soon}, {"postgres-killed", Leader, soon}},
	{{"slow-start", Leader, soon}, {"postgres-killed", Leader, soon}},
	{{"slow-stop", Leader, soon}, {"restart", Leader, soon}, {"agent-frozen", Leader, soon}}, // it goes on without a lock
	{{"slow-stop", Leader, soon}, {"leave", Leader, soon}},
	{{"slow-stop", Leader, soon}, {"stream-stall", 1, soon}, {"switchover", Leader, soon}},
	{{"slow-stop", Leader, soon}, {"switchover", Leader, soon}, {"agent-killed", Leader, soon}},
	{{"slow-promote", 1, soon}, {"host-lost", Leader, soon}, {"cut-store", 1, soon}},               // a promotion that nobody wants any more
	{{"guard-killed", Leader, soon}, {"agent-killed", Leader, soon}, {"store-down", Leader, soon}}, // an adopted primary without a lock
	{{"agent-killed", Leader, soon}, {"cut-store", Leader, soon}},
	{{"postgres-frozen", Leader, soon}, {"cut-store", Leader, soon}},
	{{"fail-rewind", Leader, soon}, {"cut-off", Leader, soon}, {"postgres-killed", 1, soon}},
	{{"store-down", Leader, soon}, {"host-lost", 1, soon}},
	{{"cut-store-way", Leader, soon}, {"agent-killed", Leader, soon}},
	{{"slow-promote", 1, soon}, {"host-lost", Leader, soon}},
	{{"disk-swapped", 1, soon}, {"host-lost", Leader, soon}},
}

// rarer ones are drawn last, so that all else about a seed stays.
var rarer = []theme{
	{{"pause", Leader, soon}, {"cut-store", Leader, later}},                       // it does not hear that the pause is over
	{{"cut-store", Leader, soon}, {"postgres-killed", Leader, ending}},            // is there time to start it again?
	{{"stream-stall", 1, soon}, {"switchover", 1, later}},                         // it lags by more than may be lost
	{{"host-lost", Leader, soon}, {"host-lost", 1, soon}, {"host-lost", 2, soon}}, // who comes back first knows nobody
	{{"cut-peers", Leader, soon}, {"lease-lost", Leader, soon}},                   // another one takes a lock that still looks alive
}

// themed draws one of them.
func (w *World) themed(r *random, span time.Duration, themes []theme) (list []Fault) {
	at, first := r.between(0, span), r.below(len(w.Members))
	for _, part := range themes[r.below(len(themes))] {
		k := kinds[part.kind]
		at += part.wait
		f := Fault{At: at.Truncate(time.Millisecond), Kind: part.kind, Member: part.who, Other: r.below(len(w.Members)), Value: r.below(10000)}
		if part.who != Leader {
			f.Member = (first + part.who) % len(w.Members)
		}
		if k.top > 0 {
			f.For = r.between(max(k.low, k.top*2/3), k.top).Truncate(time.Millisecond)
		}
		list = append(list, f)
		at += r.between(0, 8*time.Second)
	}
	return list
}
