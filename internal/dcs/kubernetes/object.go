package kubernetes

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// object is what we need of a Pod, Endpoints, ConfigMap or Lease.
type object struct {
	Metadata metadata `json:"metadata"`
	Subsets  []subset `json:"subsets"` // of Endpoints; null is none
	Spec     struct {
		Hostname string `json:"hostname"` // of a Pod
		NodeName string `json:"nodeName"`
		leaseSpec
	} `json:"spec"`
	Status struct {
		PodIP string `json:"podIP"`
	} `json:"status"`
}

type metadata struct {
	Name            string            `json:"name"`
	UID             string            `json:"uid"`
	ResourceVersion string            `json:"resourceVersion"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
}

// leaseSpec is the lock of layout lease (Kubernetes, "Leases").
type leaseSpec struct {
	HolderIdentity       string `json:"holderIdentity"`
	LeaseDurationSeconds int64  `json:"leaseDurationSeconds"`
	AcquireTime          string `json:"acquireTime"`
	RenewTime            string `json:"renewTime"`
	LeaseTransitions     int64  `json:"leaseTransitions"`
}

// version is the resourceVersion as a number; 0: none. The API promises that versions of one type compare as integers.
func (o *object) version() cluster.Revision {
	if o == nil {
		return 0
	}
	return version(o.Metadata.ResourceVersion)
}

func version(text string) cluster.Revision {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return cluster.Revision(n)
}

type subset struct {
	Addresses []address `json:"addresses"`
	Ports     []Port    `json:"ports"`
}

type address struct {
	IP        string     `json:"ip"`
	Hostname  string     `json:"hostname,omitempty"`
	NodeName  string     `json:"nodeName,omitempty"`
	TargetRef *targetRef `json:"targetRef,omitempty"`
}

type targetRef struct {
	Kind            string `json:"kind"`
	UID             string `json:"uid"`
	Namespace       string `json:"namespace"`
	Name            string `json:"name"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

// fields are labels or annotations in a patch; nil removes one.
type fields map[string]*string

func set(value string) *string { return &value }

func plain(values map[string]string) fields {
	all := fields{}
	for name, value := range values {
		all[name] = &value
	}
	return all
}

// change is the body of a POST or of a strategic merge PATCH.
type change struct {
	uid                 string // of the object that it is for; empty: whatever has the name
	labels, annotations fields
	version             string    // resourceVersion that it is based on; empty: whatever there is
	subsets             *[]subset // nil: as they are
	spec                any       // of a Lease or Service; nil: as it is
}

// body encodes a change of the object of that name. What would be null is left out when the object is being created.
func (c change) body(namespace, name string, create bool) []byte {
	type meta struct {
		Namespace       string `json:"namespace"`
		Name            string `json:"name"`
		UID             string `json:"uid,omitempty"`
		Labels          fields `json:"labels,omitempty"`
		Annotations     fields `json:"annotations,omitempty"`
		ResourceVersion string `json:"resourceVersion,omitempty"`
	}
	m := meta{namespace, name, c.uid, c.labels, c.annotations, c.version}
	if create {
		m.Labels, m.Annotations, m.ResourceVersion = present(m.Labels), present(m.Annotations), ""
	}
	text, err := json.Marshal(struct {
		Metadata meta      `json:"metadata"`
		Subsets  *[]subset `json:"subsets,omitempty"`
		Spec     any       `json:"spec,omitempty"`
	}{m, c.subsets, c.spec})
	if err != nil {
		panic(fmt.Sprintf("encode a change of %s: %v: a bug", name, err)) // nothing in it can fail
	}
	return text
}

// merged is a with the values of b on top.
func merged(a, b fields) fields {
	all := fields{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

func present(all fields) fields {
	all = maps.Clone(all)
	maps.DeleteFunc(all, func(_ string, v *string) bool { return v == nil })
	return all
}

// applied says whether the values already have all that is asked for.
func (f fields) applied(values map[string]string) bool {
	for name, want := range f {
		have, ok := values[name]
		if want == nil && ok || want != nil && (!ok || have != *want) {
			return false
		}
	}
	return true
}

// subsetsFor are the Endpoints' subsets that name us as the leader; nil: leave them alone. have is what they are now,
// pod is ours, or nil when it is not known.
func (c *Config) subsetsFor(have []subset, pod *object) *[]subset {
	ip := c.PodIP
	if ip == "" && pod != nil {
		ip = pod.Status.PodIP
	}
	if c.Layout != Endpoints || ip == "" || named(have, ip, c.Ports) {
		return nil
	}
	a := address{IP: ip}
	if pod != nil {
		a.Hostname, a.NodeName = pod.Spec.Hostname, pod.Spec.NodeName
		a.TargetRef = &targetRef{"Pod", pod.Metadata.UID, c.Namespace, pod.Metadata.Name, pod.Metadata.ResourceVersion}
	}
	for _, s := range have { // one and the same pod keeps its reference
		for _, known := range s.Addresses {
			if known.IP == ip && known.TargetRef != nil && known.TargetRef.Name == c.Name && (pod == nil || known.TargetRef.UID == pod.Metadata.UID) {
				a.TargetRef = known.TargetRef
			}
		}
	}
	return &[]subset{{Addresses: []address{a}, Ports: c.Ports}}
}

// named says whether subsets are just this address with these ports.
func named(have []subset, ip string, ports []Port) bool {
	if len(have) != 1 || len(have[0].Addresses) != 1 || have[0].Addresses[0].IP != ip {
		return false
	}
	normal := func(list []Port) []Port {
		list = slices.Clone(list)
		for i := range list {
			if list[i].Protocol == "" {
				list[i].Protocol = "TCP"
			}
		}
		slices.SortFunc(list, func(a, b Port) int { return strings.Compare(a.Name, b.Name) })
		return list
	}
	return slices.Equal(normal(have[0].Ports), normal(ports))
}
