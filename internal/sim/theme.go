package sim

import "time"

// theme is a few faults that mean more together than each alone; chance alone brings them together too seldom. They strike
// in this order within seconds, and each lasts through the next ones.
type theme []struct {
	kind string
	who  int // Leader, or 1, 2 …: the same other member each time
}

var themes = []theme{
	{{"replay-stall", 2}, {"stream-stall", 1}, {"host-lost", Leader}},             // who has more WAL, and who has replayed more?
	{{"stream-stall", 1}, {"both-frozen", Leader}},                                // lag
	{{"stream-stall", 1}, {"switchover", 1}},                                      // to somebody who lags
	{{"pause", Leader}, {"cut-store", Leader}, {"failover", 1}, {"host-lost", 1}}, // an old primary comes back to a free lock
	{{"pause", Leader}, {"agent-killed", Leader}, {"failover", 1}, {"postgres-killed", Leader}},
	{{"fail-promote", 1}, {"host-lost", Leader}},
	{{"fail-start", Leader}, {"postgres-killed", Leader}},
	{{"slow-start", Leader}, {"postgres-killed", Leader}},
	{{"slow-stop", Leader}, {"restart", Leader}, {"agent-frozen", Leader}}, // it goes on without a lock
	{{"slow-stop", Leader}, {"leave", Leader}},
	{{"slow-stop", Leader}, {"stream-stall", 1}, {"switchover", Leader}},
	{{"slow-stop", Leader}, {"switchover", Leader}, {"agent-killed", Leader}},
	{{"slow-promote", 1}, {"host-lost", Leader}, {"cut-store", 1}},               // a promotion that nobody wants any more
	{{"guard-killed", Leader}, {"agent-killed", Leader}, {"store-down", Leader}}, // an adopted primary without a lock
	{{"agent-killed", Leader}, {"cut-store", Leader}},
	{{"postgres-frozen", Leader}, {"cut-store", Leader}},
	{{"fail-rewind", Leader}, {"cut-off", Leader}, {"postgres-killed", 1}},
	{{"store-down", Leader}, {"host-lost", 1}},
	{{"cut-store-way", Leader}, {"agent-killed", Leader}},
	{{"slow-promote", 1}, {"host-lost", Leader}},
	{{"disk-swapped", 1}, {"host-lost", Leader}},
}

// themed draws one of them.
func (w *World) themed(r *random, span time.Duration) (list []Fault) {
	at, first := r.between(0, span), r.below(len(w.Members))
	for _, part := range themes[r.below(len(themes))] {
		k := kinds[part.kind]
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
