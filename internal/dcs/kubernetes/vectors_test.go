package kubernetes

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// vectors are recordings of Patroni on Kubernetes (dcs.md section 8).
type vectors struct {
	Kubernetes struct {
		Config struct {
			Labels          map[string]string `json:"labels"`
			ScopeLabel      string            `json:"scope_label"`
			RoleLabel       string            `json:"role_label"`
			TmpRoleLabel    string            `json:"tmp_role_label"`
			BootstrapLabels map[string]string `json:"bootstrap_labels"`
			Ports           []Port            `json:"ports"`
			PodIP           string            `json:"pod_ip"`
		} `json:"config_used"`
		Endpoints  []recorded `json:"endpoints_mode"`
		ConfigMaps []recorded `json:"configmaps_mode"`
		Requests   []struct {
			What, Method, Path string
			Query              map[string]string
			ContentType        string `json:"content_type"`
			Body               json.RawMessage
		}
	}
}

type recorded struct {
	State   string
	Objects []struct {
		Kind, Name          string
		Labels, Annotations map[string]string
		Subsets             []subset
	}
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	text, err := os.ReadFile("../../cluster/testdata/dcs-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *vectors) config(t *testing.T, layout Layout, scope, name string) *Config {
	t.Helper()
	k := v.Kubernetes.Config
	c := &Config{Layout: layout, Scope: scope, Name: name, Labels: k.Labels, ScopeLabel: k.ScopeLabel, RoleLabel: k.RoleLabel,
		TmpRoleLabel: k.TmpRoleLabel, BootstrapLabels: k.BootstrapLabels, Ports: k.Ports, PodIP: k.PodIP}
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	return c
}

// snapshotOf reads recorded objects as a store would.
func snapshotOf(t *testing.T, c *Config, r recorded) *cluster.Snapshot {
	t.Helper()
	v := newView(c)
	var lists [kinds][]*object
	for i, o := range r.Objects {
		k := objects
		switch o.Kind {
		case "Service":
			continue
		case "Pod":
			k = pods
		}
		lists[k] = append(lists[k], &object{Metadata: metadata{Name: o.Name, ResourceVersion: fmt.Sprint(1000 + i), Labels: o.Labels, Annotations: o.Annotations}, Subsets: o.Subsets})
	}
	for _, k := range c.followed() {
		if !v.load(k, lists[k], 2000, 0, c.Clock()) {
			t.Fatalf("load %s: refused", c.resource(k))
		}
		v.start(k, func() {}, false)
	}
	s := v.snapshot()
	if s == nil {
		t.Fatal("have no snapshot of followed kinds")
	}
	return s
}

func describe(s *cluster.Snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "leader %s, initialize %s, optime %d, retain %s, timeline %d\n", s.Leader.Name, s.Initialize.SystemID, s.Status.Optime, strings.Join(s.Status.RetainSlots, ","), s.History.ClusterTimeline())
	for _, m := range s.Members {
		fmt.Fprintf(&b, "%s: %s %s %d %s\n", m.Name, m.State, m.Role, m.XlogLocation, m.APIURL)
	}
	fmt.Fprintf(&b, "sync %s %s, failover %s %s, pause %v, problems %d", s.Sync.Leader, strings.Join(s.Sync.Standbys, ","), s.Failover.From, s.Failover.Candidate, s.Config.Paused(), len(s.Problems))
	return b.String()
}

func TestReadsWhatPatroniWrote(t *testing.T) {
	v := readVectors(t)
	want := map[string]string{
		"e1-idle": `leader kdemo-0, initialize 7711123923448740796, optime 50331744, retain kdemo_0,kdemo_1,kdemo_2, timeline 0
kdemo-0: running primary 50331744 http://127.0.0.1:23021/patroni
kdemo-1: running replica 50331744 http://127.0.0.1:23022/patroni
kdemo-2: unknown  0 
sync  , failover  , pause false, problems 0`,
		"e3-scheduled": `leader kdemo-0, initialize 7711123923448740796, optime 50331840, retain kdemo_0,kdemo_1,kdemo_2, timeline 0
kdemo-0: running primary 50331840 http://127.0.0.1:23021/patroni
kdemo-1: running replica 50331840 http://127.0.0.1:23022/patroni
kdemo-2: unknown  0 
sync kdemo-0 kdemo-1, failover kdemo-0 kdemo-1, pause false, problems 0`,
		"e5-after-switchover": `leader kdemo-1, initialize 7711123923448740796, optime 50332456, retain kdemo_0,kdemo_1,kdemo_2, timeline 2
kdemo-0: running replica 50332456 http://127.0.0.1:23021/patroni
kdemo-1: running primary 50332456 http://127.0.0.1:23022/patroni
kdemo-2: unknown  0 
sync kdemo-1 kdemo-0, failover  , pause false, problems 0`,
		"e6-paused-syncoff": `leader kdemo-1, initialize 7711123923448740796, optime 50332552, retain kdemo_0,kdemo_1,kdemo_2, timeline 2
kdemo-0: running replica 50332552 http://127.0.0.1:23021/patroni
kdemo-1: running primary 50332552 http://127.0.0.1:23022/patroni
kdemo-2: unknown  0 
sync  , failover  , pause true, problems 0`,
		"c1-quorum": `leader kcm-0, initialize 7711124441638042357, optime 50331840, retain kcm_0,kcm_1, timeline 0
kcm-0: running primary 50331840 http://127.0.0.1:23023/patroni
kcm-1: running replica 50331840 http://127.0.0.1:23024/patroni
sync kcm-0 kcm-1, failover  , pause false, problems 0`,
	}
	seen := 0
	for layout, states := range map[Layout][]recorded{Endpoints: v.Kubernetes.Endpoints, ConfigMaps: v.Kubernetes.ConfigMaps} {
		for _, r := range states {
			scope, _, _ := strings.Cut(r.Objects[0].Name, "-")
			have := snapshotOf(t, v.config(t, layout, scope, ""), r)
			if text := describe(have); want[r.State] != "" && text != want[r.State] {
				t.Errorf("%s: have\n%s\nwant\n%s", r.State, text, want[r.State])
			} else if want[r.State] != "" {
				seen++
			}
			if strings.HasSuffix(r.State, "stopped") && have.Locked() || len(have.Problems) > 0 {
				t.Errorf("%s: have leader %q, problems %v", r.State, have.Leader.Name, have.Problems)
			}
		}
	}
	if seen != len(want) {
		t.Errorf("have %d of %d states as expected", seen, len(want))
	}
}

// Every key that was recorded comes out of a reading and a writing as it went in.
func TestWritesBackWhatItRead(t *testing.T) {
	v := readVectors(t)
	written := 0
	for layout, states := range map[Layout][]recorded{Endpoints: v.Kubernetes.Endpoints, ConfigMaps: v.Kubernetes.ConfigMaps} {
		for _, r := range states {
			scope, _, _ := strings.Cut(r.Objects[0].Name, "-")
			c := v.config(t, layout, scope, "")
			for _, o := range r.Objects {
				for _, key := range plainKeys {
					if where, _ := c.place(key); where.name != o.Name || o.Kind == "Service" || o.Kind == "Pod" {
						continue
					}
					text := value(key, o.Annotations)
					if text == nil {
						continue
					}
					f, err := annotations(key, text)
					if err != nil {
						t.Errorf("%s: %s: %v", r.State, key, err)
						continue
					}
					written++
					if !f.applied(o.Annotations) {
						t.Errorf("%s: %s: have %v, recorded %v", r.State, key, show(f), o.Annotations)
					}
				}
			}
		}
	}
	if written < 30 {
		t.Errorf("have %d keys, want at least 30 for this to show anything", written)
	}
}

func show(f fields) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if f[name] == nil {
			all = append(all, name+"=null")
			continue
		}
		all = append(all, name+"="+strconv.Quote(*f[name]))
	}
	return strings.Join(all, " ")
}

// bodyOf is the body that a recorded request must have, made by our writers from what was to be written.
func bodyOf(t *testing.T, v *vectors, method, to string, body []byte) []byte {
	t.Helper()
	var asked struct {
		Metadata struct {
			Name, ResourceVersion string
			Annotations           fields
		}
		Subsets *[]subset
	}
	var o object
	if err := json.Unmarshal(body, &asked); err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(body, &o) // nulls are no texts, and are in asked
	name := asked.Metadata.Name
	scope := strings.SplitN(name, "-", 2)[0]
	layout := Endpoints
	if strings.Contains(to, "/configmaps") {
		layout = ConfigMaps
	}
	a := asked.Metadata.Annotations
	has := func(key string) bool { _, ok := a[key]; return ok }
	text := func(key string) string {
		if a[key] == nil {
			return ""
		}
		return *a[key]
	}
	c := v.config(t, layout, scope, text("leader"))
	ch := change{labels: plain(c.labels()), annotations: fields{}, version: asked.Metadata.ResourceVersion}
	add := func(key string, value []byte) {
		f, err := annotations(key, value)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(ch.annotations, f)
	}
	switch {
	case strings.Contains(to, "/services"):
		ch.annotations, ch.spec = nil, map[string]any{"clusterIP": "None"}
	case strings.Contains(to, "/pods"):
		m, err := cluster.DecodeMember(name, []byte(text("status")), 1, "")
		if err != nil {
			t.Fatal(err)
		}
		leads := o.Metadata.Labels["role"] == "primary"
		ch.labels, ch.annotations = c.podLabels(&m, leads), fields{"status": set(string(m.Encode()))}
	case strings.HasSuffix(name, "-failover"), strings.HasSuffix(name, "-sync"):
		key := cluster.KeySync
		if strings.HasSuffix(name, "-failover") {
			key = cluster.KeyFailover
		}
		add(key, value(key, plainTexts(a)))
	case strings.HasSuffix(name, "-config"):
		for key := range a {
			add(key, []byte(text(key)))
		}
	default:
		if has("leader") && a["leader"] == nil {
			ch = c.releaseChange(asked.Metadata.ResourceVersion)
		} else if has("leader") {
			r := record{text("leader"), text("ttl"), text("renewTime"), text("acquireTime"), text("transitions")}
			ttl, _ := strconv.Atoi(r.ttl)
			at, err := time.Parse(time.RFC3339, r.renewed)
			if err != nil {
				t.Fatal(err)
			}
			before := record{holder: "other", acquired: "before", transitions: "0"}
			if r.transitions == "0" {
				before = record{}
			}
			made := before.taken(c.Name, time.Duration(ttl)*time.Second, c.stamp(at))
			if r.renewed != r.acquired {
				before = r
				before.renewed = ""
				made = before.prolonged(time.Duration(ttl)*time.Second, c.stamp(at))
			}
			var subsets *[]subset
			if asked.Subsets != nil {
				known := (*asked.Subsets)[0].Addresses[0]
				pod := &object{Metadata: metadata{Name: c.Name, UID: known.TargetRef.UID, ResourceVersion: known.TargetRef.ResourceVersion}}
				pod.Spec.Hostname, pod.Spec.NodeName = known.Hostname, known.NodeName
				subsets = c.subsetsFor(nil, pod)
			}
			ch = c.lockChange(made, asked.Metadata.ResourceVersion, subsets)
		}
		if has("optime") && has("slots") {
			add(cluster.KeyStatus, value(cluster.KeyStatus, plainTexts(a)))
		} else if has("optime") { // only Patroni writes it without the slots beside it
			if ch.annotations == nil {
				ch.annotations = fields{}
			}
			ch.annotations["optime"] = a["optime"]
		}
		if has("failsafe") {
			add(cluster.KeyFailsafe, []byte(text("failsafe")))
		}
	}
	return ch.body("default", name, method == "POST")
}

func plainTexts(f fields) map[string]string {
	all := map[string]string{}
	for name, v := range present(f) {
		all[name] = *v
	}
	return all
}

func TestRequestsAreAsPatronis(t *testing.T) {
	v := readVectors(t)
	compared := 0
	for _, r := range v.Kubernetes.Requests {
		scope := "kdemo"
		layout := Endpoints
		if strings.Contains(r.Path, "/configmaps") {
			scope, layout = "kcm", ConfigMaps
		}
		c := v.config(t, layout, scope, "")
		if len(r.Body) == 0 || string(r.Body) == "null" {
			if want := r.Query["labelSelector"]; c.selector() != want {
				t.Errorf("%s: have selector %s, want %s", r.What, c.selector(), want)
			}
			if p := r.Path; p != c.path(pods) && p != c.path(objects) {
				t.Errorf("%s: have path %s, want one of ours, such as %s", r.What, p, c.path(objects))
			}
			continue
		}
		var want, have any
		if err := json.Unmarshal(r.Body, &want); err != nil {
			t.Fatal(err)
		}
		text := bodyOf(t, &v, r.Method, r.Path, r.Body)
		if err := json.Unmarshal(text, &have); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s (%s): have\n%s\nwant\n%s", r.What, path.Base(r.Path), text, r.Body)
		}
		compared++
	}
	if compared < 35 {
		t.Errorf("have %d bodies, want at least 35 for this to show anything", compared)
	}
}
