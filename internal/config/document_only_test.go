package config

import (
	"errors"
	"slices"
	"testing"
)

// A document alone is judged without a look at the machine: what it has no place, name, port or program for is another's question.
func TestValidateDocumentOnly(t *testing.T) {
	v, err := ParseYAML("m.yml", []byte(`scope: s
name: n
nane: x
restapi: {listen: 'nowhere.invalid:1', connect_address: 'nowhere.invalid:1'}
etcd3: {hosts: 'nowhere.invalid:2379'}
postgresql:
  listen: nowhere.invalid:5432
  connect_address: 127.0.0.1:5432
  data_dir: /nowhere/data
  bin_dir: /nowhere/bin
  use_pg_rewind: perhaps
  authentication:
    superuser: {username: postgres, password: a}
    replication: {username: replicator, password: b}
`))
	if err != nil {
		t.Fatal(err)
	}
	asked := func(what string) { t.Errorf("the system was asked for %s", what) }
	probes := Probes{
		Resolve:   func(host string) error { asked(host); return errors.New("asked") },
		Answers:   func(address string) bool { asked(address); return false },
		Version:   func(postgres string) string { asked(postgres); return "" },
		LookupBin: func(name string) string { asked(name); return "" },
	}
	var have []string
	for _, p := range Validate(&File{Document: v.(*Map)}, Options{DocumentOnly: true, Probes: probes}) {
		have = append(have, p.Path)
	}
	slices.Sort(have)
	if want := []string{"nane", "postgresql.use_pg_rewind"}; !slices.Equal(have, want) {
		t.Errorf("have problems with %v, want %v", have, want)
	}
}
