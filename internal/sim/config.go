package sim

import (
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/quorum"
)

// configure computes what counts now, as internal/agent's settings.go does from the same document.
func (a *agent) configure() {
	d := &a.dynamic
	a.timing, _ = d.Timing()
	if a.limits.Paused && !d.Paused() && a.m.writes {
		a.m.hears()
	}
	slots, _ := d.SlotRules()
	a.limits = ha.Limits{
		TTL: a.timing.TTL, LoopWait: a.timing.LoopWait, RetryTimeout: a.timing.RetryTimeout,
		Reserve:       reserve(a.timing.TTL),
		MaxLag:        cluster.LSN(max(d.MaximumLagOnFailover(), 0)),
		PrimaryStart:  d.PrimaryStartTimeout(),
		CheckTimeline: d.CheckTimeline(),
		Paused:        d.Paused(),
		Type:          d.Type(),
		Failsafe:      d.FailsafeMode(),
		Sync: quorum.Settings{
			Mode: d.SynchronousMode(), Strict: d.SynchronousModeStrict(), Wanted: d.SynchronousNodeCount(),
			MaxLag: cluster.LSN(max(d.MaximumLagOnSyncNode(), 0)),
		},
		Survive:               d.Survive(),
		CanBootstrap:          true,
		HasConfig:             true,
		UseSlots:              d.UseSlots(),
		SlotsTTL:              d.MemberSlotsTTL(),
		Slots:                 slots,
		UseRewind:             a.m.local.UseRewind,
		RemoveOnRewindFailure: a.m.local.RemoveOnRewindFailure,
		RemoveOnDivergence:    a.m.local.RemoveOnDivergence,
	}
	if s := d.StandbyCluster(); s != nil {
		a.limits.Remote = cluster.Upstream{Host: s.Host, Port: s.PortNumber()}
	}
	a.loop.Configure(a.limits, a.m.tags)
	a.remindOfPromises()
}

// reserve is internal/agent's: a quarter of the ttl, between one and five seconds.
func reserve(ttl time.Duration) time.Duration {
	return min(max(ttl/4, time.Second), 5*time.Second)
}

// settings are what a run's dynamic configuration says at first.
type settings struct {
	TTL, LoopWait, RetryTimeout int // seconds
	MaxLag                      int64
	PrimaryStart                int // seconds
	CheckTimeline               bool
	Slots                       bool
}

// synchronous turns the mode on, by chances of its own, so that all else about the seed stays.
func synchronous(doc cluster.Value, seed uint64, mode cluster.SyncMode) cluster.Value {
	r := newRandom(seed ^ 0x5c)
	doc = doc.Set(cluster.Text(string(mode)), "synchronous_mode")
	doc = doc.Set(cluster.Flag(r.chance(25)), "synchronous_mode_strict")
	return doc.Set(cluster.Int(int64(choose(&r, 1, 1, 1, 2, 3))), "synchronous_node_count")
}

func (s settings) document() cluster.DynamicConfig {
	doc := cluster.Value{Kind: cluster.Object}
	doc = doc.Set(cluster.Int(int64(s.TTL)), "ttl")
	doc = doc.Set(cluster.Int(int64(s.LoopWait)), "loop_wait")
	doc = doc.Set(cluster.Int(int64(s.RetryTimeout)), "retry_timeout")
	doc = doc.Set(cluster.Int(s.MaxLag), "maximum_lag_on_failover")
	doc = doc.Set(cluster.Int(int64(s.PrimaryStart)), "primary_start_timeout")
	doc = doc.Set(cluster.Flag(s.CheckTimeline), "check_timeline")
	doc = doc.Set(cluster.Flag(s.Slots), "postgresql", "use_slots")
	return cluster.DynamicConfig{Document: doc, Usable: true}
}
