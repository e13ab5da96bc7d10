package config

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The system's own probes, on loopback and with a program of our own.
func TestSystemProbes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	bins := fakeBins(t)
	if err := os.WriteFile(filepath.Join(bins, "postgres"), []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 11.22'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "restapi: {listen: '" + l.Addr().String() + "'}\npostgresql: {bin_dir: " + bins + "}\netcd3: {host: '" + l.Addr().String() + "'}\n"
	have := strings.Join(validateText(t, text, Probes{}), "\n")
	for _, want := range []string{"is already in use.", "PostgreSQL 11 is too old"} {
		if !strings.Contains(have, want) {
			t.Errorf("have %s, want also %s", have, want)
		}
	}
	if strings.Contains(have, "not reachable") {
		t.Errorf("have %s, want the listener reachable", have)
	}
	l.Close()
	if have := strings.Join(validateText(t, text, Probes{}), "\n"); strings.Contains(have, "in use") || !strings.Contains(have, "not reachable") {
		t.Errorf("have %s, want the port free and the store unreachable", have)
	}
}

func TestMajorVersion(t *testing.T) {
	for text, want := range map[string]int{"postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)": 15, "postgres (PostgreSQL) 19devel": 19,
		"postgres (PostgreSQL) 18beta1": 18, "postgres (PostgreSQL) 9.6.24": 9, "postgres (EnterpriseDB Advanced Server) 16.2.0": 16, "": 0, "none": 0} {
		if have := majorVersion(text); have != want {
			t.Errorf("%q: have %d, want %d", text, have, want)
		}
	}
}
