package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestKubernetesSettings(t *testing.T) {
	for _, c := range []struct{ name, section, want string }{
		{"defaults", "kubernetes: {labels: {app: x}}", "configmaps default map[app:x] cluster-name role primary replica primary [] []"},
		{"endpoints", "kubernetes: {labels: {app: x}, use_endpoints: 'on', namespace: n, ports: [{name: pg, port: 7432}, {port: 1}], retriable_http_codes: 401}",
			"endpoints n map[app:x] cluster-name role primary replica primary [{pg 7432 } { 1 }] [401]"},
		{"a layout of our own", "kubernetes: {labels: {app: x}, use_endpoints: 'on', layout: lease, retriable_http_codes: '401, 502'}",
			"lease default map[app:x] cluster-name role primary replica primary [] [401 502]"},
		{"top-level namespace wins", "namespace: top\nkubernetes: {labels: {app: x}, namespace: n, role_label: r, leader_label_value: master}",
			"configmaps top map[app:x] cluster-name r master replica primary [] []"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := settings(t, c.section+"\n"+minimal)
			k := s.DCS.Kubernetes
			have := fmt.Sprintln(k.Layout, k.Namespace, k.Labels, k.ScopeLabel, k.RoleLabel, k.LeaderValue, k.FollowerValue, k.StandbyLeaderValue, k.Ports, k.RetriableCodes)
			if strings.TrimSpace(have) != c.want || s.DCS.Kind != InKubernetes {
				t.Errorf("have %s of %s\nwant %s", have, s.DCS.Kind, c.want)
			}
		})
	}
}

// The environment alone is enough, as in the sample StatefulSet (config.md 8.1).
func TestKubernetesFromTheEnvironment(t *testing.T) {
	doc, _, problems := FromEnviron([]string{
		"PATRONI_KUBERNETES_LABELS={app: x, cluster-name: demo}", "PATRONI_KUBERNETES_USE_ENDPOINTS=true", "PATRONI_KUBERNETES_NAMESPACE=stackgres",
		"PATRONI_KUBERNETES_POD_IP=10.1.2.3", "PATRONI_KUBERNETES_PORTS=[{name: pgport, port: 7432}]", "PATRONI_KUBERNETES_BOOTSTRAP_LABELS=booting: yes-it-is",
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	k, err := readKubernetes(doc, doc.Map("kubernetes"))
	have := fmt.Sprintln(k.Layout, k.Namespace, k.Labels, k.PodIP, k.Ports, k.BootstrapLabels, err)
	if want := "endpoints stackgres map[app:x cluster-name:demo] 10.1.2.3 [{pgport 7432 }] map[booting:yes-it-is] <nil>\n"; have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}
