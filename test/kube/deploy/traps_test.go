package deploy

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// TestTraps: what real clusters punish is avoided in every variant of the chart and in the kustomize base.
func TestTraps(t *testing.T) {
	base, err := os.ReadFile(filepath.Join(base, "cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"kustomize base": string(base)}
	for name, values := range variants {
		texts[name] = run(t, "", "helm", append([]string{"template", "cluster", chart}, set(values)...)...)
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			var set apps.StatefulSet
			services := map[string]core.Service{}
			for _, raw := range documents(t, text) {
				var s core.Service
				switch kindOf(t, raw) {
				case "StatefulSet":
					decode(t, raw, &set)
				case "Service":
					decode(t, raw, &s)
					services[s.Name] = s
				}
			}
			// Members find each other before they are ready.
			if s := services[set.Spec.ServiceName]; s.Spec.ClusterIP != core.ClusterIPNone || !s.Spec.PublishNotReadyAddresses {
				t.Errorf("Service %q of the pods: have clusterIP %q and publishNotReadyAddresses %v, want it headless and with all addresses", set.Spec.ServiceName, s.Spec.ClusterIP, s.Spec.PublishNotReadyAddresses)
			}
			pod := set.Spec.Template.Spec
			agent := pod.Containers[0]
			// A shell as process 1 swallows SIGTERM.
			if len(agent.Command) == 0 || agent.Command[0] != "patroni" || pod.ShareProcessNamespace != nil && *pod.ShareProcessNamespace {
				t.Errorf("have command %q, want the agent as process 1", agent.Command)
			}
			// fsGroup opens a volume to the group at every mount.
			if p := pod.SecurityContext; p.FSGroup == nil || p.FSGroupChangePolicy == nil || *p.FSGroupChangePolicy != core.FSGroupChangeOnRootMismatch {
				t.Errorf("have %+v, want an fsGroup that is set once", p)
			}
			// What the volume's root has of its own (lost+found) is no data directory's.
			mount := slices.IndexFunc(agent.VolumeMounts, func(m core.VolumeMount) bool { return m.Name == "data" })
			dir := slices.IndexFunc(agent.Env, func(e core.EnvVar) bool { return e.Name == "PATRONI_POSTGRESQL_DATA_DIR" })
			if mount < 0 || dir < 0 || filepath.Dir(agent.Env[dir].Value) != agent.VolumeMounts[mount].MountPath {
				t.Error("want the data directory one below the mount point of its volume")
			}
		})
	}
}

func documents(t *testing.T, text string) (all []json.RawMessage) {
	t.Helper()
	for decoder := yaml.NewYAMLToJSONDecoder(strings.NewReader(text)); ; {
		var one json.RawMessage
		switch err := decoder.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

func kindOf(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var o struct{ Kind string }
	decode(t, raw, &o)
	return o.Kind
}

func decode(t *testing.T, raw json.RawMessage, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}
