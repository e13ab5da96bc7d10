package sim

import (
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
)

// request is an operator's wish that something happens to a member: V15 allows it in pause.
func (w *World) request(key string, change func(*cluster.Snapshot) []byte) {
	w.oracle.requested = w.now
	w.operate(key, change)
}

// operate is what an operator's tool does: read, change, write if nobody was faster.
func (w *World) operate(key string, change func(*cluster.Snapshot) []byte) {
	if w.storeDown > 0 {
		return
	}
	s := w.peek()
	if value := change(s); value != nil {
		if key == cluster.KeyFailover {
			w.oracle.named = w.now
		}
		w.server.Write(root+"/"+key, value)
		w.storeChanged()
	}
}

func (w *World) setConfig(value cluster.Value, path ...string) {
	w.configured = w.now
	w.operate(cluster.KeyConfig, func(s *cluster.Snapshot) []byte {
		if !s.Config.Usable {
			return nil
		}
		return s.Config.Document.Set(value, path...).Encode()
	})
}

func pause(w *World, _ *Member, f *Fault) func() {
	w.setConfig(cluster.Flag(true), "pause")
	return func() { w.setConfig(cluster.Flag(false), "pause") }
}

func switchover(w *World, m *Member, f *Fault) func() {
	w.request(cluster.KeyFailover, func(s *cluster.Snapshot) []byte {
		r := cluster.Failover{From: s.Leader.Name}
		if s.Leader.Name == "" {
			return nil
		}
		if f.Value&1 == 1 && m.name != s.Leader.Name {
			r.Candidate = m.name
		}
		if f.Value&6 == 6 {
			at := epoch.Add(time.Duration(w.now) + time.Duration(f.Value%30)*time.Second)
			r.ScheduledAt = &at
		}
		return r.Encode()
	})
	return nil
}

func failover(w *World, m *Member, f *Fault) func() {
	w.request(cluster.KeyFailover, func(s *cluster.Snapshot) []byte {
		if m.name == s.Leader.Name {
			return nil
		}
		return cluster.Failover{Candidate: m.name}.Encode()
	})
	return nil
}

func restart(w *World, m *Member, f *Fault) func() {
	a := m.agent
	if a == nil || a.frozen > 0 || a.job != nil {
		return nil
	}
	w.oracle.requested = w.now
	a.requests++
	asked := a.loop.Asked
	asked.Restart = &ha.Restart{ID: a.requests}
	a.tell(loop.Ask{Asked: asked})
	return nil
}

func reinitialize(w *World, m *Member, f *Fault) func() {
	a := m.agent
	if a == nil || a.frozen > 0 || a.loop.Store == nil || a.loop.Store.Leader.Name == "" { // the leader is asked, too, and refuses
		return nil
	}
	w.oracle.requested = w.now
	a.requests++
	asked := a.loop.Asked
	asked.Reinitialize = &ha.Reinitialize{ID: a.requests}
	a.tell(loop.Ask{Asked: asked})
	return nil
}

func leave(w *World, m *Member, f *Fault) func() {
	a := m.agent
	if a == nil || a.frozen > 0 {
		return nil
	}
	w.oracle.requested = w.now
	m.silent = true
	a.leave()
	return func() {
		m.silent = false
		if m.down == 0 {
			m.startAgent(0)
		}
	}
}

func setTiming(w *World, m *Member, f *Fault) func() {
	switch f.Value % 3 {
	case 0:
		w.setConfig(cluster.Int(int64(20+f.Value%20)), "ttl")
	case 1:
		w.setConfig(cluster.Int(int64(1+f.Value%10)), "loop_wait")
	default:
		w.setConfig(cluster.Int(int64(3+f.Value%6)), "retry_timeout")
	}
	return nil
}
