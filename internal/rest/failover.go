package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// action is which of the two a request asks for; its words are those of the answers.
type action struct{ name, title, done, instead string }

var (
	switchoverAction = action{"switchover", "Switchover", "Successfully switched over to", "Switched over to"}
	failoverAction   = action{"failover", "Failover", "Successfully failed over to", "Failed over to"}
)

// refusal is an answer before anything was done.
type refusal struct {
	code int
	text string
}

func (s *Server) switchover(w http.ResponseWriter, r *http.Request) {
	s.handOver(w, r, switchoverAction)
}

func (s *Server) failover(w http.ResponseWriter, r *http.Request) {
	s.handOver(w, r, failoverAction)
}

// handOver answers POST /switchover and /failover: checks, the failover key, then the outcome (rest-api.md 9.1).
func (s *Server) handOver(w http.ResponseWriter, r *http.Request, a action) {
	body, ok := s.object(w, r, mandatory)
	if !ok {
		return
	}
	wish, at, ok := parseWish(body)
	if !ok {
		s.page(w, r, http.StatusBadRequest)
		return
	}
	if no := s.checkWish(a, &wish, at); no != nil {
		s.text(w, r, no.code, no.text)
		return
	}
	if wish.Switchover() {
		a = switchoverAction // also where it was called a failover: the leader that is named must agree
	}
	status := s.control.Status()
	leader := ""
	if wish.ScheduledAt == nil {
		snapshot, ok := s.read(w, r)
		if !ok {
			return
		}
		leader = snapshot.Leader.Name
		if why := s.precheck(r.Context(), snapshot, a, wish); why != "" {
			s.text(w, r, http.StatusPreconditionFailed, why)
			return
		}
	}
	ctx, cancel := s.bounded(r, status.Timing.RetryTimeout)
	err := s.control.RequestFailover(ctx, wish)
	cancel()
	switch {
	case err != nil:
		s.log.Warn("cannot write the failover key", "error", err)
		s.text(w, r, http.StatusServiceUnavailable, "failed to write failover key into DCS")
	case wish.ScheduledAt != nil:
		s.text(w, r, http.StatusAccepted, a.title+" scheduled")
	default:
		code, message := s.outcome(r.Context(), a, leader, wish.Candidate, status.Timing.LoopWait)
		s.text(w, r, code, message)
	}
}

// parseWish reads the body; ok is false when a name is no text.
func parseWish(body cluster.Value) (wish cluster.Failover, at cluster.Value, ok bool) {
	for name, into := range map[string]*string{"leader": &wish.From, "candidate": &wish.Candidate} {
		v, _ := body.Get(name)
		if name == "candidate" && !v.Truthy() {
			v, _ = body.Get("member")
		}
		if v.Kind != cluster.Null && v.Kind != cluster.String {
			return wish, at, false
		}
		*into = v.Text
	}
	at, _ = body.Get("scheduled_at")
	return wish, at, true
}

// checkWish are the checks that need nobody else, in Patroni's order. It sets the schedule.
func (s *Server) checkWish(a action, wish *cluster.Failover, at cluster.Value) *refusal {
	paused := s.control.Status().Pause
	switch {
	case a == failoverAction && wish.Candidate == "":
		return &refusal{http.StatusBadRequest, "Failover could be performed only to a specific candidate"}
	case a == switchoverAction && wish.From == "":
		return &refusal{http.StatusBadRequest, "Switchover could be performed only from a specific leader"}
	case a == failoverAction && at.Truthy():
		return &refusal{http.StatusBadRequest, "Failover can't be scheduled"}
	case at.Truthy() && paused:
		return &refusal{http.StatusBadRequest, "Can't schedule switchover in the paused state"}
	}
	if at.Truthy() {
		t, no := s.schedule(at, a.name)
		if no != nil {
			return no
		}
		wish.ScheduledAt = &t
	}
	switch {
	case paused && wish.Candidate == "":
		return &refusal{http.StatusBadRequest, "Switchover is possible only to a specific candidate in a paused state"}
	case wish.From != "" && wish.From == wish.Candidate:
		return &refusal{http.StatusBadRequest, "Switchover target and source are the same"}
	}
	return nil
}

// precheck says why an immediate hand-over cannot work; empty: it may.
func (s *Server) precheck(ctx context.Context, snapshot *cluster.Snapshot, a action, wish cluster.Failover) string {
	synchronous := snapshot.Config.SynchronousMode() == cluster.SyncOn
	leader := snapshot.Leader.Name
	if wish.From != "" && wish.From != leader {
		return "leader name does not match"
	}
	var considered []cluster.Member
	if wish.Candidate != "" {
		if a == switchoverAction && synchronous && !snapshot.Sync.HasStandby(wish.Candidate) {
			return "candidate name does not match with sync_standby"
		}
		m, ok := snapshot.Member(wish.Candidate)
		if !ok {
			return "candidate does not exists"
		}
		considered = append(considered, m)
	} else {
		for _, m := range snapshot.Members {
			if m.Name != leader && m.APIURL != "" && (!synchronous || snapshot.Sync.HasStandby(m.Name)) {
				considered = append(considered, m)
			}
		}
		switch {
		case len(considered) == 0 && synchronous:
			return a.name + " is not possible: can not find sync_standby"
		case len(considered) == 0:
			return a.name + " is not possible: cluster does not have members except leader"
		}
	}
	for _, peer := range s.control.Peers(ctx, considered) {
		if peer.Reachable && !peer.NoFailover && !peer.WatchdogFailed {
			return ""
		}
	}
	return a.name + " is not possible: no good candidates have been found"
}

// outcome waits until the lock has another holder, or the request is gone without one. It is bounded as in Patroni:
// twice loop_wait, and not below twenty seconds; only that we look five times a second.
func (s *Server) outcome(ctx context.Context, a action, leader, candidate string, loopWait time.Duration) (code int, message string) {
	limit := 2 * max(10*time.Second, loopWait)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return http.StatusServiceUnavailable,
				fmt.Sprintf("%s status unknown after %d seconds; operation may still be in progress", a.title, int(limit.Seconds()))
		case <-tick.C:
		}
		snapshot, err := s.control.Snapshot(ctx)
		switch {
		case err != nil: // the store may be what fails over
			continue
		case snapshot.Locked() && snapshot.Leader.Name != leader:
			now := snapshot.Leader.Name
			if candidate == "" || candidate == now {
				return http.StatusOK, fmt.Sprintf("%s \"%s\"", a.done, now)
			}
			return http.StatusOK, fmt.Sprintf("%s \"%s\" instead of \"%s\"", a.instead, now, candidate)
		case !snapshot.Failover.Requested():
			return http.StatusServiceUnavailable, a.title + " failed"
		}
	}
}

// cancelSwitchover answers DELETE /switchover (rest-api.md 9.2).
func (s *Server) cancelSwitchover(w http.ResponseWriter, r *http.Request) {
	snapshot, ok := s.read(w, r)
	if !ok {
		return
	}
	if snapshot.Failover.ScheduledAt == nil {
		s.text(w, r, http.StatusNotFound, "no switchover is scheduled")
		return
	}
	ctx, cancel := s.bounded(r, s.control.Status().Timing.RetryTimeout)
	defer cancel()
	switch err := s.control.CancelFailover(ctx, snapshot.Failover.Revision); {
	case errors.Is(err, dcs.ErrConflict):
		s.page(w, r, http.StatusConflict)
	case err != nil:
		s.text(w, r, http.StatusServiceUnavailable, "delete the scheduled switchover: "+err.Error())
	default:
		s.text(w, r, http.StatusOK, "scheduled switchover deleted")
	}
}

// reinitialize answers POST /reinitialize. Unlike in Patroni a body that cannot be read starts nothing (rest-api.md 9.7).
func (s *Server) reinitialize(w http.ResponseWriter, r *http.Request) {
	body, ok := s.object(w, r, optional)
	if !ok {
		return
	}
	snapshot, ok := s.read(w, r)
	if !ok {
		return
	}
	status := s.control.Status()
	force := truth(body, "force")
	switch {
	case !snapshot.Locked():
		s.text(w, r, http.StatusServiceUnavailable, "Cluster has no leader, can not reinitialize")
	case snapshot.Leader.Name == status.Name:
		s.text(w, r, http.StatusServiceUnavailable, "I am the leader, can not reinitialize")
	case status.Job != nil && !force:
		s.text(w, r, http.StatusServiceUnavailable, busy(status.Job))
	default:
		if err := s.control.Reinitialize(r.Context(), force, truth(body, "from_leader")); err != nil {
			s.refuse(w, r, "", err)
			return
		}
		s.text(w, r, http.StatusOK, "reinitialize started")
	}
}

// refuse answers what the agent did not do.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, prefix string, err error) {
	job := s.control.Status().Job
	switch {
	case errors.Is(err, agent.ErrBusy) && job != nil:
		s.text(w, r, http.StatusServiceUnavailable, busy(job))
	default:
		s.text(w, r, http.StatusServiceUnavailable, prefix+err.Error())
	}
}

func busy(j *agent.JobStatus) string { return j.Name + " already in progress" }

// truth reads a boolean, also one that is written as a word.
func truth(body cluster.Value, name string) bool {
	v, _ := body.Get(name)
	on, _ := cluster.ParseBool(v.String())
	return on
}
