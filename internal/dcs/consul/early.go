package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// lastLock is the lock of a Regent member as the view saw it last. Its holder believes in it until a ttl after the request for it left, which was before
// we saw it.
type lastLock struct {
	holder  string
	session string
	index   uint64
	until   time.Time
	off     bool // tests end sessions as if their time had come
}

// maxTTL in milliseconds keeps a stranger's flags from adding up to an overflow.
const maxTTL = 24 * 60 * 60 * 1000

// see takes note of the lock in an answer.
func (l *lastLock) see(all map[string]pair, now time.Time) {
	p, ok := all[cluster.KeyLeader]
	if ok && p.ModifyIndex != l.index {
		// A Patroni member leaves the flags at 0, and renews its lock without our seeing it.
		l.holder, l.session, l.index, l.until = string(p.Value), p.Session, p.ModifyIndex, now.Add(time.Duration(min(p.Flags, maxTTL))*time.Millisecond)
	}
}

// endedEarly refuses a lock whose holder may still believe in it. Consul ends the sessions of a node that leaves, as an agent does that is
// stopped in order, and whatever session anybody destroys, long before their time: but then the session is gone as well as the lock, while whoever
// gives the lock up deletes the key and leaves the session. What is left of the time is waited for, if the caller has that much.
func (s *Store) endedEarly(ctx context.Context) error {
	s.view.Lock()
	l := s.view.lock
	s.view.Unlock()
	left := l.until.Sub(s.config.Clock())
	if l.off || l.session == "" || l.holder == s.config.Name || left <= 0 {
		return nil
	}
	a, err := s.client.do(ctx, "get", http.MethodGet, "/v1/session/info/"+l.session, url.Values{"consistent": {""}}, nil)
	if err != nil {
		return err
	}
	var found []struct{ ID string }
	if err := json.Unmarshal(a.body, &found); err != nil {
		return unavailable("get", fmt.Errorf("session %s: %w", l.session, err))
	}
	if len(found) > 0 {
		return nil
	}
	if end, bounded := ctx.Deadline(); !bounded || left < time.Until(end) {
		select {
		case <-time.After(left):
			return nil
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("the session of %s was ended before its time, so it may believe in the lock for another %s: %w", l.holder, left.Round(time.Millisecond), dcs.ErrHeld)
}
