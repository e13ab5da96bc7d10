package ctl

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/config"
)

// installed is a Patroni installation with data of a cluster.
func installed(t *testing.T, s *scene, more, id, version string) *Installation {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(data, "global"), 0o700); err != nil {
		t.Fatal(err)
	}
	var number uint64
	fmt.Sscan(id, &number)
	for name, text := range map[string][]byte{"PG_VERSION": []byte(version + "\n"), "global/pg_control": binary.NativeEndian.AppendUint64(nil, number)} {
		if err := os.WriteFile(filepath.Join(data, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := "{name: node2, scope: demo, postgresql: {data_dir: " + data + ", listen: '127.0.0.1:1'}, restapi: {listen: '127.0.0.1:2'}"
	v, err := config.ParseYAML("test", []byte(text+more+"}"))
	if err != nil {
		t.Fatal(err)
	}
	i := &Installation{Path: "/etc/patroni.yml", File: &config.File{Document: v.(*config.Map)}}
	i.Settings, _ = i.File.ClientSettings()
	if i.Site = s.site; s.site == nil {
		i.SiteErr = errors.New("zookeeper: this store is not built yet")
	}
	return i
}

func TestAdopt(t *testing.T) {
	const id = "7711126859218734810"
	replica := fmt.Sprintf(replicaStatus, 90)
	for name, c := range map[string]struct {
		more, id, version string
		change            func(s *scene, i *Installation)
		verdict, want     string
		plan              string
	}{
		"as it should be": {", etcd3: {host: e}", id, "15", nil, fine, "system identifier " + id + ", 3 members", "then on the machine of node2, then of node3, then of node1:"},
		"some are Regent's": {"", id, "15", func(s *scene, _ *Installation) {
			s.rewrite("members/node3", "{", `{"regent":"0.1",`)
		}, fine, "3 members", "then on the machine of node2, then of node1:"},
		"all are Regent's": {"", id, "15", func(s *scene, _ *Installation) {
			for _, n := range []string{"1", "2", "3"} {
				s.rewrite("members/node"+n, "{", `{"regent":"0.1",`)
			}
		}, fine, "3 members", "nothing is left to do"},
		"a wrong key": {"", id, "15", func(_ *scene, i *Installation) {
			i.Problems = []config.Problem{{Path: "bootsrap", Message: "is not a known setting", Warning: true}}
		}, warning, "is not a known setting", "resume demo"},
		"a wrong value": {"", id, "15", func(_ *scene, i *Installation) {
			i.Problems = []config.Problem{{Path: "restapi.listen", Value: "x", Message: "contains a wrong value"}}
		}, warning, "x contains a wrong value", "resume demo"},
		"no start with it": {"", id, "15", func(_ *scene, i *Installation) { i.Impossible = errors.New("restapi.listen is not defined") }, problem, "restapi.listen is not defined", ""},
		"raft":             {", raft: {}", id, "15", nil, problem, "the two do not mix", ""},
		"citus":            {", citus: {group: 0}", id, "15", nil, problem, "Citus is not supported", ""},
		"another store":    {", zookeeper: {}", id, "15", func(s *scene, i *Installation) { i.Site, i.SiteErr = nil, errors.New("not built yet") }, problem, "not built yet", ""},
		"the store is off": {"", id, "15", func(s *scene, _ *Installation) { s.site.Open = failing(s.site.Open) }, problem, "refused", ""},
		"old PostgreSQL":   {"", id, "12", nil, problem, "PostgreSQL 12", ""},
		"no data here":     {"", id, "15", func(_ *scene, i *Installation) { i.Settings.Postgres.DataDir = "/nowhere" }, warning, "there is no data", "resume demo"},
		"foreign data":     {"", "7711126859218734811", "15", nil, problem, "the data here have system identifier 7711126859218734811", ""},
		"no such cluster":  {"", id, "15", func(s *scene, _ *Installation) { clear(s.store.keys) }, problem, "the store knows no such cluster", ""},
		"another name":     {"", id, "15", func(_ *scene, i *Installation) { i.Settings.Name = "node9" }, warning, "no member is called node9", "resume demo"},
		"standby cluster":  {"", id, "15", dynamic(`{"standby_cluster":{"host":"h"}}`), fine, "3 members", "resume demo"},
		"failsafe":         {"", id, "15", dynamic(`{"failsafe_mode":true}`), fine, "3 members", "resume demo"},
		"slots":            {"", id, "15", dynamic(`{"slots":{"a":{"type":"physical"}}}`), fine, "3 members", "resume demo"},
		"old Patroni": {"", id, "15", func(s *scene, _ *Installation) {
			s.rewrite("members/node3", "4.1.4", "2.1.7")
		}, warning, "runs Patroni 2.1.7", "resume demo"},
		"nobody leads": {"", id, "15", func(s *scene, _ *Installation) { delete(s.store.keys, "/service/demo/leader") }, problem, "nobody holds the lock", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := replay(t, readVector(t, "list/idle-pretty.txt"))
			answering(s, map[string]string{"node1": primaryStatus, "node2": replica, "node3": replica})
			i := installed(t, s, c.more, c.id, c.version)
			if c.change != nil {
				c.change(s, i)
			}
			var out, errs bytes.Buffer
			run := func(args ...string) int {
				p := &Program{Name: "regent", In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now,
					Install: func(path string, _ Options) (*Installation, error) { return i, nil }}
				root := p.Root("test")
				root.AddCommand(p.Own()...)
				return Run(t.Context(), root, append([]string{"adopt", i.Path}, args...), &errs)
			}
			exit := run("--output", "json")
			var a Adoption
			if err := json.Unmarshal(out.Bytes(), &a); err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			var v any
			_ = json.Unmarshal(out.Bytes(), &v)
			for _, p := range outputSchemas(t).Check("adoption", v) {
				t.Error(p)
			}
			hit := false
			for _, f := range a.Findings {
				hit = hit || f.Verdict == c.verdict && strings.Contains(f.Found, c.want)
			}
			if plan := strings.Join(a.Plan, "\n"); !hit || (exit == 0) != (c.plan != "") || !strings.Contains(plan, c.plan) || (plan == "") != (c.plan == "") {
				t.Errorf("have exit %d, %s\nwant %s: %s, and the plan %q", exit, out.String(), c.verdict, c.want, c.plan)
			}
			out.Reset()
			if run(); !strings.Contains(out.String(), c.want) || !strings.Contains(out.String(), c.plan) {
				t.Errorf("for people: %s", out.String())
			}
		})
	}
}

// rewrite changes a key.
func (s *scene) rewrite(name, old, new string) {
	kv := s.store.keys["/service/demo/"+name]
	kv.Value = bytes.Replace(kv.Value, []byte(old), []byte(new), 1)
	s.store.keys["/service/demo/"+name] = kv
}

func dynamic(document string) func(*scene, *Installation) {
	return func(s *scene, _ *Installation) {
		kv := s.store.keys["/service/demo/config"]
		kv.Value = []byte(document)
		s.store.keys["/service/demo/config"] = kv
	}
}
