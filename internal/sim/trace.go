package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/ha"
)

func (w *World) stamp() string { return fmt.Sprintf("%11.3f", time.Duration(w.now).Seconds()) }

func (w *World) note(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%s %s\n", w.stamp(), fmt.Sprintf(format, args...))
	}
}

// traceEvent notes what happened to a member.
func (w *World) traceEvent(m *Member, what string) {
	if w.trace != nil {
		w.note("%-4s %s", m.name, what)
	}
}

// traceDecision notes a decision that acts or whose reason is new.
func (w *World) traceDecision(a *agent) {
	d := &a.loop.Decision
	var actions []string
	quiet := len(d.Actions) > 0 && a.told == d.Reason
	for _, action := range d.Actions {
		switch action.(type) {
		case ha.WriteStatus, ha.SyncSlots, ha.AskPeers:
		default:
			quiet = false
		}
		actions = append(actions, action.String())
	}
	a.told = d.Reason
	if quiet {
		return
	}
	v := &a.loop.View
	leader := "-"
	if v.Store != nil {
		leader = v.Store.Leader.Name
	}
	w.note("%-4s %s: %s %v leader=%s held=%v at=%s/%d %s %s", a.m.name, d.Reason, d.Detail, actions, leader, v.Lock.Held, v.Postgres.Position(), v.Postgres.Timeline, a.m.state(), strings.Join(a.loop.Errors, "; "))
}
