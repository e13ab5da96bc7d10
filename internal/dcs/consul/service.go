package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// service is what the agent was told of our service last.
type service struct {
	told  string // all that a registration depends on; empty: nothing was told, or it failed
	there bool   // it is registered, as far as we know
	seen  bool   // Consul's servers have what was told
}

// ServiceName is the cluster's name as a service: of what a DNS name may have, at most 230 characters.
func ServiceName(scope string) string {
	var out strings.Builder
	for _, c := range strings.ToLower(scope) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
			out.WriteRune(c)
		case c == '.', c == '_', c == ' ':
			out.WriteByte('-')
		default:
			fmt.Fprintf(&out, "u%04d", c)
		}
	}
	return out.String()[:min(out.Len(), 230)]
}

// registration is Consul's, of a service with its health check.
type registration struct {
	ID, Name          string
	Address           string
	Port              int `json:",omitempty"`
	Tags              []string
	EnableTagOverride bool
	Check             check
}

type check struct {
	HTTP, Interval                 string
	DeregisterCriticalServiceAfter string
	TLSServerName                  string `json:",omitempty"`
}

// registration of a running member; ok is false when its role is none that clients ask for.
func (s *Store) registration(m cluster.Member, ttl time.Duration, tags []string) (r registration, ok bool) {
	if m.State != cluster.Running || !slices.Contains([]cluster.Role{cluster.Primary, cluster.Replica, cluster.StandbyLeader}, m.Role) {
		return r, false
	}
	at, err1 := url.Parse(m.ConnURL)
	api, err2 := url.Parse(m.APIURL)
	if err1 != nil || err2 != nil || at.Hostname() == "" || api.Host == "" {
		return r, false
	}
	role := strings.ReplaceAll(string(m.Role), "_", "-")
	port, _ := strconv.Atoi(at.Port())
	api.Path = "/" + role
	r = registration{
		ID: s.serviceID(), Name: ServiceName(s.config.Scope), Address: at.Hostname(), Port: port,
		Tags: append(slices.Clone(tags), role), EnableTagOverride: true,
		Check: check{
			HTTP: api.String(), Interval: s.config.ServiceCheckInterval, TLSServerName: s.config.ServiceCheckTLSServerName,
			DeregisterCriticalServiceAfter: seconds(10 * (ttl / 2)),
		},
	}
	if m.Role == cluster.Primary {
		r.Tags = append(r.Tags, "master")
	}
	return r, true
}

func (s *Store) serviceID() string { return s.config.Scope + "/" + s.config.Name }

// serviceWait bounds a registration.
const serviceWait = 2 * time.Second

// tellService registers the member as a service, or takes it away, when something has changed since the agent was told. What fails is said, and tried
// again with the next announcement: clients find the member by it, but no decision rests on it.
func (s *Store) tellService(ctx context.Context, m cluster.Member, ttl time.Duration) {
	live := s.config.Live()
	s.mu.Lock()
	before := s.service
	s.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, serviceWait) // the loop waits for it
	defer cancel()
	now, path, body := service{}, "", any(nil)
	r, ok := s.registration(m, ttl, live.ServiceTags)
	switch {
	case !live.RegisterService || m.State == cluster.Stopped:
		if !before.there {
			return
		}
		path = "/v1/agent/service/deregister/" + s.serviceID()
	case !ok:
		return
	default:
		now, path, body = service{told: fmt.Sprintf("%+v %s", r, live.Token), there: true}, "/v1/agent/service/register", r
	}
	if now.told == before.told && now.there == before.there {
		if before.seen || !now.there {
			return
		}
		if now.seen = s.registered(limited, r); now.seen {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.service = now
			return
		}
	}
	a, err := s.client.do(limited, "service", http.MethodPut, path, nil, body)
	if err == nil && a.status != http.StatusOK && body != nil {
		err = fmt.Errorf("have status %d: %s", a.status, a.body)
	}
	if err != nil {
		now = service{there: before.there || now.there} // it may have been done
		if !errors.Is(ctx.Err(), context.Canceled) {
			s.config.Log.Warn("Consul's agent did not take the member's service", "service", ServiceName(s.config.Scope), "denied", errors.Is(err, dcs.ErrDenied), "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.service = now
}

// registered says whether Consul's servers have the service with our tags. An agent that is about to compare its services with theirs puts their
// tags in the place of what it has just been told, since tags may be overridden there, and leaves it at that.
func (s *Store) registered(ctx context.Context, r registration) bool {
	a, err := s.client.do(ctx, "service", http.MethodGet, "/v1/catalog/service/"+r.Name, nil, nil)
	if err != nil {
		return errors.Is(err, dcs.ErrDenied) // who may not look has to believe it
	}
	var list []struct {
		ServiceID   string
		ServiceTags []string
	}
	if a.status != http.StatusOK || json.Unmarshal(a.body, &list) != nil {
		return false
	}
	for _, have := range list {
		lacks := func(tag string) bool { return !slices.Contains(have.ServiceTags, tag) }
		if have.ServiceID == r.ID && !slices.ContainsFunc(r.Tags, lacks) {
			return true
		}
	}
	return false
}
