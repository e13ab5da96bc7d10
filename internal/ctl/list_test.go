package ctl

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// syntheticStore is hand-written DCS content whose outputs are fully known.
func syntheticStore(t *testing.T) *fakeStore {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "synthetic", "dcs.json"))
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]string
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	return newFakeStore(keys)
}

func TestSyntheticClustersPrintAsPatroni(t *testing.T) {
	for _, v := range vectors(t, "synthetic/*.txt") {
		store := syntheticStore(t)
		site := &Site{Open: store.open, Groups: store.groups, Wide: true, Caller: &fakeMembers{}}
		if strings.Contains(v.name, "citus") {
			site.Scope, site.Citus = "citus", true
		}
		stdout, stderr, exit := play(t, v, site)
		compare(t, v, stdout, stderr, exit)
	}
}

func TestNarrowLayoutIsTheOneOfPatroni2(t *testing.T) {
	for _, name := range []string{"cluster", "stdports"} {
		v := readVector(t, "old-releases/v2.1.7-"+name+"-pretty.txt")
		store := syntheticStore(t)
		for key, kv := range store.keys { // 2.1 did not say that a replica recovers from the archive
			kv.Value = []byte(strings.ReplaceAll(string(kv.Value), "in archive recovery", "streaming"))
			store.keys[key] = kv
		}
		stdout, stderr, exit := play(t, v, &Site{Open: store.open})
		compare(t, v, stdout, stderr, exit)
	}
}

// Release 3.3 has the narrow layout with every optional column, but says streaming of replicas.
func TestNarrowLayoutWithEveryColumn(t *testing.T) {
	v := readVector(t, "old-releases/v3.3.0-mixed-pretty.txt")
	v.stdout = strings.ReplaceAll(v.stdout, "streaming", "running  ")
	store := syntheticStore(t)
	stdout, stderr, exit := play(t, v, &Site{Open: store.open})
	compare(t, v, stdout, stderr, exit)
}
