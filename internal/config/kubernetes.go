package config

import (
	"errors"
	"fmt"
	"net/netip"
)

// Kubernetes is the namespace that holds the cluster's objects (config.md 2.14).
type Kubernetes struct {
	Layout             string            // endpoints (use_endpoints), configmaps, or Regent's own lease; default configmaps
	Namespace          string            // default: the top-level namespace if there is one, as at Patroni, else "default"
	Labels             map[string]string // of pods and objects; required
	ScopeLabel         string            // holds the scope; default cluster-name
	RoleLabel          string            // on pods; default role
	LeaderValue        string            // of RoleLabel; default primary
	FollowerValue      string            // default replica
	StandbyLeaderValue string            // default primary
	TmpRoleLabel       string            // second label with the plain role; default none
	BootstrapLabels    map[string]string // on a pod while its data is being made
	PodIP              string            // into the leader's Endpoints; default the pod's own
	Ports              []KubernetesPort  // of the leader's Endpoints; default 5432
	RetriableCodes     []int             // HTTP codes to retry beside 429, 500, 503 and 504
	BypassService      bool              // talk to the API servers themselves; default false
	CACert             string            // of the API server; default the service account's
	Context            string            // of the kubeconfig, outside of a pod
}

// KubernetesPort is one port of the leader's Endpoints; its name must be that of the Service's port.
type KubernetesPort struct {
	Name     string
	Port     int
	Protocol string // empty: TCP
}

func readKubernetes(d, m *Map) (Kubernetes, error) {
	k := Kubernetes{
		Layout: oneOf(word(m, "layout", ""), "configmaps", "endpoints", "lease"),
		// A top-level namespace is copied into the section at Patroni, and wins.
		Namespace: word(d, "namespace", word(m, "namespace", "default")),
		Labels:    table(m, "labels"), ScopeLabel: word(m, "scope_label", "cluster-name"), RoleLabel: word(m, "role_label", "role"),
		LeaderValue: word(m, "leader_label_value", "primary"), FollowerValue: word(m, "follower_label_value", "replica"),
		StandbyLeaderValue: word(m, "standby_leader_label_value", "primary"),
		TmpRoleLabel:       word(m, "tmp_role_label", ""), BootstrapLabels: table(m, "bootstrap_labels"),
		PodIP: word(m, "pod_ip", ""), BypassService: flag(m, "bypass_api_service", false),
		CACert: word(m, "cacert", ""), Context: word(m, "context", ""),
	}
	if word(m, "layout", "") == "" && flag(m, "use_endpoints", false) {
		k.Layout = "endpoints"
	}
	codes := words(m, "retriable_http_codes")
	if codes == nil && m.Get("retriable_http_codes") != nil {
		codes = []string{word(m, "retriable_http_codes", "")}
	}
	for _, text := range codes {
		if n, ok := parseInt(text, ""); ok {
			k.RetriableCodes = append(k.RetriableCodes, int(n))
		}
	}
	ports, _ := m.Get("ports").([]any)
	for _, item := range ports {
		p, _ := item.(*Map)
		if n := number(p, "port", 5432); n > 0 && n < 1<<16 {
			k.Ports = append(k.Ports, KubernetesPort{word(p, "name", ""), int(n), word(p, "protocol", "")})
		}
	}
	if len(k.Labels) == 0 {
		return k, errors.New("kubernetes.labels is not defined: expected the labels that all pods of the cluster have")
	}
	return k, nil
}

var kubernetesSchema = object(
	required("labels", dictionary), optional("namespace", isText), optional("scope_label", isText), optional("role_label", isText),
	optional("leader_label_value", isText), optional("follower_label_value", isText), optional("standby_leader_label_value", isText),
	optional("tmp_role_label", isText), optional("bootstrap_labels", dictionary), optional("use_endpoints", isBool),
	optional("layout", enum("endpoints", "configmaps", "lease")), optional("pod_ip", isAddress),
	optional("ports", listOf(object(optional("name", isText), required("port", between(1, 65535, "")), optional("protocol", isText)))),
	optional("cacert", isText), optional("context", isText), optional("bypass_api_service", isBool),
	optional("retriable_http_codes", httpCodes))

func isAddress(v *validation, path string, value any) {
	if _, err := netip.ParseAddr(Text(value)); err != nil {
		v.refuse(path, value, "Is not a valid ipv4 address")
	}
}

// httpCodes are a number, a list of them, or text with commas.
func httpCodes(v *validation, path string, value any) {
	m := NewMap()
	m.Set("codes", value)
	codes := words(m, "codes")
	if codes == nil {
		codes = []string{Text(value)}
	}
	for _, text := range codes {
		if n, ok := parseInt(text, ""); !ok || n < 400 || n > 599 {
			v.refuse(path, value, "want HTTP status codes from 400 to 599, have %s", fmt.Sprint(text))
		}
	}
}
