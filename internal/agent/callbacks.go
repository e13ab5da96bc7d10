package agent

import (
	"sync"

	"github.com/regent-ha/regent/internal/cluster"
)

// callbackMemory turns events into callbacks: a role change replaces on_start and on_restart, and is only recognised
// when some callback was called before (ha.md 2.25).
type callbackMemory struct {
	mu   sync.Mutex
	role cluster.Role // of the last callback; empty before the first
}

// next says which callback an event leads to; empty: none.
func (c *callbackMemory) next(event string, role cluster.Role) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := c.role != "" && c.role != role
	switch {
	case event == "on_stop" || event == "on_reload":
		return event
	case event == "on_role_change" && c.role == role:
		return ""
	case changed && (event == "on_start" || event == "on_restart"):
		event = "on_role_change"
	}
	c.role = role
	return event
}

// leadership says whether a running standby begins or ends with that role to lead a standby cluster.
func (c *callbackMemory) leadership(role cluster.Role) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return role != c.role && (role == cluster.StandbyLeader || c.role == cluster.StandbyLeader)
}

// callback runs the command that belongs to an event. It does not wait for it.
func (a *Agent) callback(event string, role cluster.Role) {
	if name := a.callbacks.next(event, role); name != "" {
		a.pg.RunCallback(name, role)
	}
}
