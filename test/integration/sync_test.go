package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/quorum"
	"github.com/regent-ha/regent/test/integration/harness"
)

// synchronous are the settings of the mode.
func synchronous(more harness.Map) harness.Options {
	o := harness.Options{Dynamic: harness.Map{"synchronous_mode": true}}
	for name, value := range more {
		o.Dynamic[name] = value
	}
	return o
}

// key is what /sync says.
func key(t *testing.T, c *harness.Cluster) cluster.Sync {
	t.Helper()
	s, err := c.Keys.Snapshot(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	return s.Sync
}

// settled waits until /sync is the leader's and names so many standbys.
func settled(t *testing.T, c *harness.Cluster, leader *harness.Member, standbys int) (s cluster.Sync) {
	t.Helper()
	harness.Eventually(t, harness.Patience, "/sync is "+leader.Name+"'s, with all its standbys", func() bool {
		s = key(t, c)
		return s.Leader == leader.Name && len(s.Standbys) == standbys
	})
	return s
}

// Five times the leader's machine dies while applications write. Who is in /sync takes over, and has every row that was acknowledged.
func TestSynchronousNodeDeath(t *testing.T) {
	t.Parallel()
	o := synchronous(nil)
	o.Members = 3
	c := harness.Start(t, o)
	leader := c.Healthy(t, harness.Patience)
	settled(t, c, leader, 1)
	w := c.Write(t)
	for round := range 5 {
		standbys := settled(t, c, leader, 1).Standbys
		leader.KillAll(t)
		dead := leader
		leader = successor(t, c, dead)
		if !slices.Contains(standbys, leader.Name) {
			t.Fatalf("round %d: %s leads, want one of %v, which /sync named", round, leader.Name, standbys)
		}
		w.AdvanceOn(t, leader, harness.Patience)
		if lost := w.Missing(t, slices.DeleteFunc(w.Acks(), func(a harness.Ack) bool { return a.Member != dead.Name })); len(lost) > 0 {
			t.Fatalf("round %d: %d rows that %s acknowledged are missing on %s, the first is %+v", round, len(lost), dead.Name, leader.Name, lost[0])
		}
		dead.Start(t)
		c.Healthy(t, harness.Patience)
	}
	w.Audit(t, 0)
}

// quorate are the settings of quorum mode.
func quorate(members int) harness.Options {
	return harness.Options{Members: members, Dynamic: harness.Map{"synchronous_mode": "quorum"}}
}

// Five times the leader's machine dies while applications write. Commits wait for any one of two standbys; who takes over has been agreed to by the other
// one, and has every row that was acknowledged.
func TestQuorumNodeDeath(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, quorate(3))
	leader := c.Healthy(t, harness.Patience)
	voting := func() {
		harness.Eventually(t, harness.Patience, "one of both standbys must agree to the other", func() bool {
			s := key(t, c)
			return s.Leader == leader.Name && len(s.Standbys) == 2 && s.Quorum == 1
		})
	}
	voting()
	w := c.Write(t)
	for round := range 5 {
		voting()
		leader.KillAll(t)
		dead := leader
		leader = successor(t, c, dead)
		w.AdvanceOn(t, leader, harness.Patience)
		if lost := w.Missing(t, slices.DeleteFunc(w.Acks(), func(a harness.Ack) bool { return a.Member != dead.Name })); len(lost) > 0 {
			t.Fatalf("round %d: %d rows that %s acknowledged are missing on %s, the first is %+v", round, len(lost), dead.Name, leader.Name, lost[0])
		}
		dead.Start(t)
		c.Healthy(t, harness.Patience)
	}
	voting()
	w.Audit(t, 0)
}

// A standby dies and commits go on without a break; the other one is left to lead alone. What people and machines see of the mode, and a switchover, which needs no votes.
func TestQuorumStandbyDies(t *testing.T) {
	t.Parallel()
	o := quorate(3)
	o.TTL, o.Retry = time.Minute, 15*time.Second
	c := harness.Start(t, o)
	leader := c.Healthy(t, harness.Patience)
	others := c.Others(leader)
	settled(t, c, leader, 2)
	want := quorum.AnyOf(1, []string{others[0].Name, others[1].Name}, false).String()
	harness.Eventually(t, harness.Patience, "synchronous_standby_names are "+want, func() bool {
		have, err := leader.TrySQL("show synchronous_standby_names")
		return err == nil && have == want
	})
	for path, want := range map[string]int{"quorum": 200, "read-only-quorum": 200, "synchronous": 503, "asynchronous": 503} {
		harness.Eventually(t, harness.Patience, "the standby answers as one that /sync names: GET /"+path, func() bool {
			code, _, err := others[0].API.Health(limited(t), "/"+path)
			return err == nil && code == want
		})
	}
	harness.Eventually(t, harness.Patience, "the table has two Quorum Standby", func() bool { return strings.Count(c.Command(t, "list"), "Quorum Standby") == 2 })
	w := c.Write(t)
	w.Advance(t, 5, harness.Patience)
	others[1].KillAll(t)
	w.Advance(t, 20, harness.Patience)
	settled(t, c, leader, 1)
	others[1].Start(t)
	c.Healthy(t, harness.Patience)
	settled(t, c, leader, 2)
	switchover(t, others[0], leader, others[0].Name)
	harness.Eventually(t, harness.Patience, "the candidate leads", func() bool { return c.Leader() == others[0] && others[0].Ready("primary") })
	settled(t, c, others[0], 2)
	w.AdvanceOn(t, others[0], harness.Patience)

	patch(t, others[0], harness.Map{"synchronous_mode": true}) // one standby that has everything
	harness.Eventually(t, harness.Patience, "one standby has everything", func() bool { s := key(t, c); return len(s.Standbys) == 1 && s.Quorum == 0 })
	patch(t, others[0], harness.Map{"synchronous_mode": false})
	harness.Eventually(t, harness.Patience, "nothing is left of the mode", func() bool {
		names, err := others[0].TrySQL("show synchronous_standby_names")
		return err == nil && names == "" && key(t, c).Leader == ""
	})
	c.Healthy(t, harness.Patience)
	w.Audit(t, 0)
}

// What people and machines see: names, roles, health checks; and what the modes do when the standby dies: commits go on without it, or in
// strict mode wait until it is back.
func TestSynchronousStandbyDies(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, synchronous(nil))
	leader := c.Healthy(t, harness.Patience)
	standby := c.Others(leader)[0]
	settled(t, c, leader, 1)
	if have := leader.SQL(t, "show synchronous_standby_names"); have != standby.Name {
		t.Errorf("have synchronous_standby_names %q, want %q", have, standby.Name)
	}
	for path, want := range map[string]int{"synchronous": 200, "sync": 200, "read-only-sync": 200, "asynchronous": 503, "async": 503} {
		// It hears of the key by its own watch.
		harness.Eventually(t, harness.Patience, "the standby answers as one that /sync names: GET /"+path, func() bool {
			code, _, err := standby.API.Health(limited(t), "/"+path)
			return err == nil && code == want
		})
	}
	harness.Eventually(t, harness.Patience, "the table has a Sync Standby", func() bool { return strings.Contains(c.Command(t, "list"), "Sync Standby") })
	w := c.Write(t)
	standby.KillAll(t)
	w.Advance(t, 20, harness.Patience) // after its last row the leader has given it up
	settled(t, c, leader, 0)
	w.Advance(t, 20, harness.Patience)

	patch(t, leader, harness.Map{"synchronous_mode_strict": true})
	waiting := func() bool {
		n, err := leader.TrySQL("select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep'")
		return err == nil && n == "t"
	}
	harness.Eventually(t, harness.Patience, "commits wait", waiting)
	blocked := time.Now()
	harness.Eventually(t, harness.Patience, "a session has given up", func() bool { return time.Since(blocked) > 4*time.Second && waiting() })
	back := time.Now()
	standby.Start(t)
	w.Advance(t, 20, harness.Patience)
	for _, a := range w.Acks() {
		if a.Sent.After(blocked) && a.Acked.Before(back) {
			t.Fatalf("strict: %+v was acknowledged while there was no standby", a)
		}
	}
	settled(t, c, leader, 1)

	patch(t, leader, harness.Map{"synchronous_mode": false})
	harness.Eventually(t, harness.Patience, "nothing is left of the mode", func() bool {
		names, err := leader.TrySQL("show synchronous_standby_names")
		return err == nil && names == "" && key(t, c).Leader == ""
	})
	c.Healthy(t, harness.Patience)
	w.Audit(t, 0)
}
