package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// endpoint replaces the path of a member's API URL (ctl.md section 3).
func endpoint(m cluster.Member, path string) (string, error) {
	u, err := url.Parse(m.APIURL)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("member %s publishes no usable api_url (%q)", m.Name, m.APIURL)
	}
	return u.Scheme + "://" + u.Host + path, nil
}

// call sends a request to an endpoint of a member; a null body is none.
func (s *Site) call(ctx context.Context, m cluster.Member, method, path string, body value) (status int, reply string, err error) {
	u, err := endpoint(m, path)
	if err != nil {
		return 0, "", err
	}
	var text []byte
	if body.Kind != cluster.Null {
		text = body.Encode()
	}
	if method == http.MethodGet {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, MemberTimeout)
		defer cancel()
	}
	status, b, err := s.Caller.Call(ctx, method, u, text)
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return 0, "", errAborted
	}
	return status, strings.TrimRight(string(b), "\n"), err
}

// object makes a request body from names and values; a null value is written as null.
func object(pairs ...any) value {
	v := value{Kind: cluster.Object}
	for i := 0; i < len(pairs); i += 2 {
		v.Fields = append(v.Fields, cluster.Field{Name: pairs[i].(string), Value: pairs[i+1].(value)})
	}
	return v
}

// orNull is a text, or null when it is empty.
func orNull(s string) value {
	if s == "" {
		return value{}
	}
	return cluster.Text(s)
}

// roles are the values of -r.
var roles = []string{"leader", "primary", "standby-leader", "replica", "standby", "any"}

// withRole returns the members that have a role (ctl.md 1.4).
func withRole(parts []part, role string) []shown {
	var list []shown
	for _, p := range parts {
		for _, m := range p.members() {
			if m.has(role) {
				list = append(list, m)
			}
		}
	}
	return list
}

func (s shown) has(role string) bool {
	switch role {
	case "leader":
		return s.holdsLock
	case "primary":
		return s.holdsLock && s.Role != cluster.StandbyLeader
	case "standby-leader":
		return s.holdsLock && s.Role != cluster.Primary
	case "replica", "standby":
		return !s.holdsLock
	default:
		return true
	}
}

// leaderFirst returns the members that can be called, the leader before the others.
func (p part) leaderFirst() []cluster.Member {
	list := slices.DeleteFunc(slices.Clone(p.Members), func(m cluster.Member) bool { return m.APIURL == "" })
	slices.SortStableFunc(list, func(a, b cluster.Member) int {
		switch p.Leader.Name {
		case a.Name:
			return -1
		case b.Name:
			return 1
		}
		return 0
	})
	return list
}

// target is the one cluster that a command works on.
type target struct {
	site  *Site
	scope string
	group *int
	part
}

// open reads the cluster that was named, or the configured one; of a Citus cluster the group that was
// given, or else the configured one.
func (p *Program) open(ctx context.Context, names []string, group *int) (target, error) {
	site, err := p.Connect(p.options)
	if err != nil {
		return target{}, err
	}
	scope, err := clusterName(site, names)
	if err != nil {
		return target{}, err
	}
	if group == nil {
		group = site.Group
	}
	snapshot, err := p.snapshot(ctx, site, scope, group)
	return target{site, scope, group, part{group, snapshot}}, err
}

// reread replaces what is known of the cluster.
func (p *Program) reread(ctx context.Context, t *target) (err error) {
	t.part.Snapshot, err = p.snapshot(ctx, t.site, t.scope, t.group)
	return err
}

// put writes a key if it is still at the revision.
func (t *target) put(ctx context.Context, key string, text []byte, prev cluster.Revision) error {
	store, err := t.site.Open(ctx, t.scope, t.group)
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = bounded(ctx, func(ctx context.Context) (cluster.Revision, error) { return store.Put(ctx, key, text, prev) })
	return err
}
