package cluster

// Continue returns the history that the leader of a timeline publishes: local is its history file, h what the key has. The entry
// before the timeline gets the leader's name; older ones keep the time and the leader that are stored for them (ha.md 2.10a P3).
//
// PostgreSQL skips the number of a timeline that it has heard of and was never on. Readers count on the last entry being the one
// before the leader's own timeline, so the skipped numbers are entered as ending where the one before them ended.
func (h History) Continue(local []HistoryEntry, tl Timeline, leader string) []HistoryEntry {
	var list []HistoryEntry
	for _, e := range local {
		if e.Timeline == tl-1 {
			e.NewLeader = leader
		} else {
			e.Timestamp = ""
			for _, old := range h.Entries {
				if old.Timeline == e.Timeline && old.LSN == e.LSN {
					e.Timestamp, e.NewLeader = old.Timestamp, old.NewLeader
				}
			}
		}
		list = append(list, e)
	}
	for n := len(list); n > 0 && list[n-1].Timeline < tl-1; n = len(list) {
		e := list[n-1]
		e.Timeline, e.Reason, e.NewLeader = e.Timeline+1, "number skipped", ""
		if e.Timeline == tl-1 {
			e.NewLeader = leader
		}
		list = append(list, e)
	}
	return list
}
