// Package kubernetes is a store in the objects of a Kubernetes namespace, with Patroni's layouts (dcs.md section 3.5).
//
// All state is in annotations: the pod of a member carries the member, one object each carries the lock with the
// status, the configuration, a requested switchover, and the synchronous set. The objects are Endpoints or ConfigMaps; in
// the third layout, Regent's own, the lock is a Lease and the rest are ConfigMaps.
//
// Nothing in Kubernetes expires. An observer takes a lock for ended when its record has not changed for its ttl, counted
// on the observer's own boot-time clock from when it saw the last change, and confirmed by a read that began after that.
// Every write names the resourceVersion that it is based on. A refusal (409 and all other 4xx) means that nothing was done,
// so the object is read again and the write decided anew; after a lost answer or a 5xx nobody knows, and it is not repeated.
// A member's key lasts as long as its pod.
//
// A revision of a key is the resourceVersion at which this store saw its value change: objects hold several keys, and the
// renewals of the lock must not make conflicts for the status beside it.
//
// Sources: Kubernetes, "API concepts" (resource versions, watches, bookmarks), "Endpoints", "Leases", "Strategic merge patch".
package kubernetes

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// Layout says which objects hold the keys.
type Layout string

const (
	ConfigMaps Layout = "configmaps" // Patroni's default; the lock in <scope>-leader
	Endpoints  Layout = "endpoints"  // Patroni's use_endpoints; the lock in Endpoints <scope>, with the address of the leader
	Lease      Layout = "lease"      // the lock in Lease <scope>-leader, all else as in ConfigMaps
)

// Port is one port of the leader's Endpoints. Its name must be that of the Service's port.
type Port struct {
	Name     string `json:"name,omitempty"`
	Port     int    `json:"port"`
	Protocol string `json:"protocol,omitempty"` // empty: TCP
}

// Config says which namespace, and which objects in it (config.md section 2.14).
type Config struct {
	Access    Access
	Layout    Layout // empty: ConfigMaps
	Namespace string // empty: default
	Scope     string
	Group     *int   // of a Citus cluster; nil: none
	Name      string // our member name, which is our pod's; empty for a store that only reads and writes plain keys

	Labels     map[string]string // select pods and objects; at least one
	ScopeLabel string            // holds the scope; empty: cluster-name

	RoleLabel          string            // empty: role
	LeaderValue        string            // empty: primary
	FollowerValue      string            // empty: replica
	StandbyLeaderValue string            // empty: primary
	TmpRoleLabel       string            // second label with the plain role; empty: none
	BootstrapLabels    map[string]string // on the pod while its data is being made

	PodIP          string // the address in the Endpoints; empty: the pod's status
	Ports          []Port // none: 5432
	RetriableCodes []int  // HTTP codes to try again at, beside 429, 500, 503 and 504

	// Timing returns the current settings; nil: Patroni's defaults 30 s, 10 s, 10 s. retryTimeout bounds a call whose
	// context has no deadline.
	Timing func() (ttl, loopWait, retryTimeout time.Duration)
	Clock  dcs.Clock    // nil: boottime.Now
	Log    *slog.Logger // nil: slog.Default()
}

func (c *Config) complete() error {
	text := func(field *string, otherwise string) {
		if *field == "" {
			*field = otherwise
		}
	}
	text(&c.Namespace, "default")
	text(&c.ScopeLabel, "cluster-name")
	text(&c.RoleLabel, "role")
	text(&c.LeaderValue, "primary")
	text(&c.FollowerValue, "replica")
	text(&c.StandbyLeaderValue, "primary")
	text((*string)(&c.Layout), string(ConfigMaps))
	if len(c.Ports) == 0 {
		c.Ports = []Port{{Port: 5432}}
	}
	if c.Timing == nil {
		t := cluster.DefaultTiming
		c.Timing = func() (ttl, loopWait, retryTimeout time.Duration) { return t.TTL, t.LoopWait, t.RetryTimeout }
	}
	if c.Clock == nil {
		c.Clock = boottime.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	var problems []error
	if c.Scope == "" {
		problems = append(problems, errors.New("have no scope, want the cluster's name"))
	}
	if len(c.Labels) == 0 {
		problems = append(problems, errors.New("have no labels, want at least one that selects the cluster's pods"))
	}
	if !slices.Contains([]Layout{ConfigMaps, Endpoints, Lease}, c.Layout) {
		problems = append(problems, fmt.Errorf("have layout %s, want configmaps, endpoints or lease", c.Layout))
	}
	return errors.Join(problems...)
}

// base is the beginning of all objects' names.
func (c *Config) base() string {
	if c.Group != nil {
		return c.Scope + "-" + strconv.Itoa(*c.Group)
	}
	return c.Scope
}

// labels is what every object of ours carries.
func (c *Config) labels() map[string]string {
	all := maps.Clone(c.Labels)
	all[c.ScopeLabel] = c.Scope
	if c.Group != nil {
		all["citus-group"] = strconv.Itoa(*c.Group)
	}
	return all
}

// selector finds pods and objects. Other Citus groups are found too; names tell them apart.
func (c *Config) selector() string {
	all := maps.Clone(c.Labels)
	all[c.ScopeLabel] = c.Scope
	var terms []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		terms = append(terms, name+"="+all[name])
	}
	return strings.Join(terms, ",")
}

// kind is a type of object, each with a cache of its own.
type kind int

const (
	pods kind = iota
	objects
	leases
	kinds // how many there are
)

// resource is the path of a kind below its API group.
func (c *Config) resource(k kind) string {
	switch {
	case k == pods:
		return "pods"
	case k == leases:
		return "leases"
	case c.Layout == Endpoints:
		return "endpoints"
	default:
		return "configmaps"
	}
}

// path is where objects of a kind are.
func (c *Config) path(k kind) string {
	group := "/api/v1"
	if k == leases {
		group = "/apis/coordination.k8s.io/v1"
	}
	return group + "/namespaces/" + c.Namespace + "/" + c.resource(k)
}

// id names one object.
type id struct {
	kind kind
	name string
}

// lockID is the object with the leader lock.
func (c *Config) lockID() id {
	if c.Layout == Lease {
		return id{leases, c.base() + "-leader"}
	}
	return c.statusID()
}

// statusID is the object with status and failsafe.
func (c *Config) statusID() id {
	if c.Layout == Endpoints {
		return id{objects, c.base()}
	}
	return id{objects, c.base() + "-leader"}
}

// followed are the kinds that this layout uses.
func (c *Config) followed() []kind {
	if c.Layout == Lease {
		return []kind{pods, objects, leases}
	}
	return []kind{pods, objects}
}
