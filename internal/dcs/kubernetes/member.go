package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// Announce writes what we say about ourselves into our pod, with the labels that Services select by. An unchanged one
// costs nothing. Nothing has to be renewed: the key lives as long as the pod.
func (s *Store) Announce(ctx context.Context, m cluster.Member, ttl time.Duration) error {
	if m.Name != s.config.Name || m.Name == "" {
		return fmt.Errorf("announce member %s: this store was opened for %s: a bug, nothing was done", m.Name, s.config.Name)
	}
	s.mu.Lock()
	s.ttl, s.announced = ttl, &m
	s.mu.Unlock()
	if err := s.patchPod(ctx); err != nil {
		return fmt.Errorf("announce member %s: %w", m.Name, err)
	}
	return nil
}

var errReplaced = errors.New("our pod was deleted and replaced")

// waits says whether the pod of our name waits to be placed. Where we know our address, so does Kubernetes, or at least the node: it is the
// successor of ours, which was deleted by force and lives on for some seconds.
func (c *Config) waits(pod *object) bool {
	return c.PodIP != "" && pod.Spec.NodeName == "" && pod.Status.PodIP == ""
}

// ourPod is the pod of our name, as the API server has it now.
func (s *Store) ourPod(ctx context.Context) (*object, error) {
	pod := &object{}
	if err := s.client.read(ctx, s.config.path(pods)+"/"+s.config.Name, nil, pod); err != nil {
		if says(err, http.StatusNotFound) {
			err = fmt.Errorf("%w; a member's name must be that of its pod", err)
		}
		return nil, err
	}
	if s.config.waits(pod) {
		return nil, fmt.Errorf("%w: the one of uid %s waits to be placed", errReplaced, pod.Metadata.UID)
	}
	return pod, nil
}

// patchPod brings our pod, and our address in the Endpoints, up to date.
func (s *Store) patchPod(ctx context.Context) error {
	ctx, cancel := s.client.limited(ctx)
	defer cancel()
	select {
	case s.patching <- struct{}{}:
		defer func() { <-s.patching }()
	case <-ctx.Done():
		return class(fmt.Errorf("an earlier patch of the pod is under way: %w", ctx.Err()))
	}
	s.mu.Lock()
	m, guarded := s.announced, s.guarded
	s.mu.Unlock()
	if s.config.Layout == Endpoints && !guarded {
		s.guard(ctx)
	}
	s.view.Lock()
	pod, leads, to := s.view.known[pods][m.Name], s.leading(), s.view.moved()
	s.view.Unlock()
	if to != "" {
		return fmt.Errorf("patch pod %s: %w to %s", m.Name, errMoved, to) // who leads is told there
	}
	if pod == nil || s.config.waits(pod) { // or the view is late
		var err error
		if pod, err = s.ourPod(ctx); err != nil {
			return class(fmt.Errorf("patch pod %s in namespace %s: %w", m.Name, s.config.Namespace, err))
		}
	}
	ch := change{labels: s.config.podLabels(m, leads), annotations: fields{"status": set(string(m.Encode()))}}
	if !ch.labels.applied(pod.Metadata.Labels) || !ch.annotations.applied(pod.Metadata.Annotations) {
		after, err := s.patch(ctx, pod, ch)
		if says(err, http.StatusUnprocessableEntity) { // an object's uid never changes: another pod has the name now
			if pod, err = s.ourPod(ctx); err == nil {
				after, err = s.patch(ctx, pod, ch)
			}
		}
		if err != nil {
			return class(fmt.Errorf("patch pod %s in namespace %s: %w", m.Name, s.config.Namespace, err))
		}
		s.view.apply(pods, after, true)
		pod = after
	}
	s.mu.Lock()
	s.leads = leads
	s.mu.Unlock()
	if leads {
		return s.address(ctx, pod)
	}
	return nil
}

// patch changes this pod, and no other one of its name. It is the one write without a version: nobody else writes our status.
func (s *Store) patch(ctx context.Context, pod *object, ch change) (after *object, err error) {
	ch.uid, after = pod.Metadata.UID, &object{}
	name := s.config.Name
	return after, s.client.write(ctx, http.MethodPatch, s.config.path(pods)+"/"+name, ch.body(s.config.Namespace, name, false), after)
}

// address puts our address into the leader's Endpoints, if it is another there: our pod was replaced while the lock stayed
// ours, or got its address only now.
func (s *Store) address(ctx context.Context, pod *object) error {
	where := s.config.lockID()
	s.view.Lock()
	now, leads := s.view.known[where.kind][where.name], s.leading()
	s.view.Unlock()
	if now == nil || !leads {
		return nil // what this process does not hold is not its to point at
	}
	subsets := s.config.subsetsFor(now.Subsets, pod)
	if subsets == nil {
		return nil
	}
	_, err := s.change(ctx, where, now, change{labels: plain(s.config.labels()), subsets: subsets})
	if err == nil || settles(err) { // the next renewal carries it
		return nil
	}
	return class(err)
}

// podLabels are the labels of our pod (dcs.md section 3.5.3).
func (c *Config) podLabels(m *cluster.Member, leads bool) fields {
	var role, plainRole *string
	switch {
	case leads && m.Role == cluster.StandbyLeader:
		role, plainRole = &c.StandbyLeaderValue, set("primary")
	case leads:
		role, plainRole = &c.LeaderValue, set("primary")
	case m.State == cluster.Running && m.Role == cluster.Replica:
		role, plainRole = &c.FollowerValue, set("replica")
	case m.State == cluster.Running && m.Role != cluster.Primary:
		role, plainRole = set(string(m.Role)), set(string(m.Role))
	}
	all := fields{c.RoleLabel: role}
	if c.TmpRoleLabel != "" {
		all[c.TmpRoleLabel] = plainRole
	}
	for name, value := range c.BootstrapLabels {
		all[name] = nil
		switch m.State {
		case cluster.InitializingCluster, cluster.CustomBootstrap, cluster.StartingAfterCustom, cluster.CreatingReplica:
			all[name] = &value
		}
	}
	return all
}

// tend keeps the role in the pod's labels true: they change with the lock, not with the next announcement.
func (s *Store) tend(ctx context.Context) {
	pause := time.Duration(0)
	for s.view.Wait(ctx, func() bool {
		leads := s.leading()
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.announced != nil && s.leads != leads && s.view.moved() == ""
	}) {
		if err := s.patchPod(ctx); err == nil {
			pause = 0
		} else if ctx.Err() == nil {
			s.config.Log.Warn("label our pod with its role", "pod", s.config.Name, "error", err)
			pause = min(2*pause+time.Second/2, 10*time.Second)
			s.client.pause(ctx, pause)
		}
	}
}

// guard creates the headless Service without which the control plane may delete Endpoints <scope>-config. Who may not
// create it has an operator who does.
func (s *Store) guard(ctx context.Context) {
	ch := change{labels: plain(s.config.labels()), spec: map[string]any{"clusterIP": "None"}}
	path := "/api/v1/namespaces/" + s.config.Namespace + "/services"
	err := s.client.write(ctx, http.MethodPost, path, ch.body(s.config.Namespace, s.config.base()+"-config", true), &object{})
	if err == nil || says(err, http.StatusConflict) || says(err, http.StatusForbidden) {
		s.mu.Lock()
		s.guarded = true
		s.mu.Unlock()
		return
	}
	s.config.Log.Warn("create the Service that keeps the configuration's Endpoints; without it the control plane may delete them",
		"service", s.config.base()+"-config", "error", err)
}

// learnServers keeps the list of API servers for bypass_api_service.
func (s *Store) learnServers(ctx context.Context) {
	for {
		_, wait, _ := s.config.Timing()
		list := &object{}
		limited, cancel := s.client.limited(ctx)
		err := s.client.send(limited, http.MethodGet, "/api/v1/namespaces/default/endpoints/kubernetes", nil, nil, list)
		cancel()
		switch {
		case says(err, http.StatusForbidden):
			s.config.Log.Warn("bypass_api_service is off: we may not read Endpoints kubernetes in namespace default", "error", err)
			return
		case err != nil && ctx.Err() == nil:
			s.client.learn(nil) // the Service knows which ones are left
			wait = time.Second
		case err == nil:
			s.client.learn(servers(list.Subsets))
		}
		if !s.client.pause(ctx, max(wait, time.Second)) {
			return
		}
	}
}

// servers are the https addresses of the API servers.
func servers(subsets []subset) (all []string) {
	for _, s := range subsets {
		for _, p := range s.Ports {
			if p.Name != "https" || p.Protocol != "" && p.Protocol != "TCP" {
				continue
			}
			for _, a := range s.Addresses {
				all = append(all, net.JoinHostPort(a.IP, strconv.Itoa(p.Port)))
			}
		}
	}
	return all
}
